"""Order lists: one-cancels-the-other pairs in the present and the older form. Others are refused."""

from __future__ import annotations

from simulator.api import order_wire
from simulator.api.call import Answer, Call, Endpoint, signed, trading
from simulator.api.order_request import (
    BAD_SIDE,
    BAD_TYPE,
    TYPES,
    answer_form,
    new_client_id,
    not_with,
    refuse_trailing_and_iceberg,
    stp_mode,
    time_in_force,
)
from simulator.api.orders import span
from simulator.core.matching import BUY, SELL
from simulator.core.orders import OrderList, Request
from simulator.core.rules import CLIENT_ID_PATTERN, ApiError, mandatory, rejected
from simulator.doors.params import Params

_STOPS = ("STOP_LOSS", "STOP_LOSS_LIMIT")
_GAINS = ("LIMIT_MAKER", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT")
_LEG = "ClientOrderId IcebergQty Price StopPrice TrailingDelta TimeInForce"
NO_LIST = ApiError(-2018, "Order list does not exist.")


def place_oco(call: Call) -> Answer:
    """A pair, each order with a type of its own."""
    params, rules = call.params, call.rules()
    side = params.choice("side", (BUY, SELL), ApiError(*BAD_SIDE))
    qty = params.atoms("quantity")
    if qty is None:
        raise mandatory("quantity")
    kinds = {name: params.choice(f"{name}Type", TYPES, ApiError(*BAD_TYPE)) for name in ("above", "below")}
    _check_types(side, kinds["above"], kinds["below"])
    form = answer_form(params, "ACK")
    common = {"api_key": call.api_key, "symbol": rules.symbol, "side": side, "qty": qty, "stp": stp_mode(params)}
    legs = [_leg(call, params, name, kind, common) for name, kind in kinds.items()]
    return _place(call, legs[0], legs[1], form)


def place_old_oco(call: Call) -> Answer:
    """The older form: a maker-only order at ``price`` and a stop at ``stopPrice``."""
    params, rules = call.params, call.rules()
    side = params.choice("side", (BUY, SELL), ApiError(*BAD_SIDE))
    refuse_trailing_and_iceberg(params, "trailingDelta", "limitIcebergQty")
    refuse_trailing_and_iceberg(params, "trailingDelta", "stopIcebergQty")
    found = {name: params.atoms(name) for name in ("quantity", "price", "stopPrice")}
    for name, value in found.items():
        if value is None:
            raise mandatory(name)
    stop_price = params.atoms("stopLimitPrice")
    if stop_price is None:
        not_with(params, "stopLimitTimeInForce")
    tif = "GTC" if stop_price is None else time_in_force(params, "stopLimitTimeInForce")
    form = answer_form(params, "ACK")
    common = {
        "api_key": call.api_key, "symbol": rules.symbol, "side": side, "qty": found["quantity"],
        "stp": stp_mode(params), "quote_qty": None,
    }  # fmt: skip
    limit_id = params.text("limitClientOrderId", CLIENT_ID_PATTERN) or new_client_id(call, "limit")
    stop_id = params.text("stopClientOrderId", CLIENT_ID_PATTERN) or new_client_id(call, "stop")
    maker = Request(type="LIMIT_MAKER", tif="GTC", price=found["price"], client_id=limit_id, **common)  # type: ignore[arg-type]
    kind = "STOP_LOSS" if stop_price is None else "STOP_LOSS_LIMIT"
    stop = Request(
        type=kind, tif=tif, price=stop_price, stop=found["stopPrice"], client_id=stop_id, **common  # type: ignore[arg-type]
    )  # fmt: skip
    return _place(call, maker, stop, form) if side == SELL else _place(call, stop, maker, form)


def cancel_list(call: Call) -> Answer:
    """Cancel an order list."""
    rules, params = call.rules(), call.params
    cancel_id = params.text("newClientOrderId", CLIENT_ID_PATTERN) or new_client_id(call, "cancel")
    found = _find(call, "listClientOrderId")
    if found is None or found.is_done or found.opened.symbol != rules.symbol:
        raise ApiError(-2011, "Unknown order list sent.")
    legs = call.venue.exchange.legs(found)
    call.venue.cancel([leg for leg in legs if leg.is_open], cancel_id)
    return order_wire.order_list(found, legs, [order_wire.canceled(rules, leg) for leg in legs])


def get_list(call: Call) -> Answer:
    """One order list, done or not."""
    found = _find(call, "origClientOrderId")
    if found is None:
        raise NO_LIST
    return order_wire.order_list(found, call.venue.exchange.legs(found))


def open_lists(call: Call) -> Answer:
    """Order lists that are not done."""
    call.venue.advance()
    return _written(call, [one for one in call.venue.exchange.lists_by_account[call.api_key] if not one.is_done])


def all_lists(call: Call) -> Answer:
    """Order lists in any state, oldest first."""
    call.venue.advance()
    start, end = span(call.params)
    limit, from_id = call.params.limit(500, 1000), call.params.integer("fromId")
    if from_id is not None and (start is not None or end is not None):
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    found = [
        one
        for one in call.venue.exchange.lists_by_account[call.api_key]
        if (from_id is None or one.opened.list_id >= from_id)
        and (start is None or one.opened.time_ms >= start)
        and (end is None or one.opened.time_ms <= end)
    ]
    return _written(call, found[:limit] if start is not None or from_id is not None else found[-limit:])


def unsupported(call: Call) -> Answer:
    """What this exchange does not offer."""
    raise ApiError(-1020, "This operation is not supported.")


def _check_types(side: str, above: str, below: str) -> None:
    """Which two types make a pair."""
    if above not in _STOPS + _GAINS or below not in _STOPS + _GAINS:
        raise ApiError(-1158, "Order type not supported in OCO.")
    if above == below == "LIMIT_MAKER":
        raise ApiError(-1168, "At least one OCO order must be contingent.")
    if side == BUY and above == "LIMIT_MAKER":
        raise ApiError(-1165, "A limit order in a buy OCO must be below.")
    if side == SELL and below == "LIMIT_MAKER":
        raise ApiError(-1166, "A limit order in a sell OCO must be above.")
    upper, lower = (_GAINS, _STOPS) if side == SELL else (_STOPS, _GAINS)
    if above not in upper or below not in lower:
        raise rejected("The relationship of the prices for the orders is not correct.")


def _leg(call: Call, params: Params, name: str, kind: str, common: dict[str, object]) -> Request:
    refuse_trailing_and_iceberg(params, f"{name}TrailingDelta", f"{name}IcebergQty")
    values = {"price": params.atoms(f"{name}Price"), "stop": params.atoms(f"{name}StopPrice")}
    needed = {"price": kind == "LIMIT_MAKER" or kind.endswith("_LIMIT"), "stop": kind != "LIMIT_MAKER"}
    for field, parameter in (("price", f"{name}Price"), ("stop", f"{name}StopPrice")):
        if needed[field] and values[field] is None:
            raise mandatory(parameter)
        if not needed[field]:
            not_with(params, parameter)
    tif = "GTC"
    if kind.endswith("_LIMIT"):
        tif = time_in_force(params, f"{name}TimeInForce")
    else:
        not_with(params, f"{name}TimeInForce")
    client_id = params.text(f"{name}ClientOrderId", CLIENT_ID_PATTERN) or new_client_id(call, name)
    return Request(type=kind, tif=tif, client_id=client_id, quote_qty=None, **values, **common)  # type: ignore[arg-type]


def _place(call: Call, above: Request, below: Request, form: str) -> Answer:
    list_id = call.params.text("listClientOrderId", CLIENT_ID_PATTERN) or new_client_id(call, "list")
    call.limits.check_orders(call.api_key, call.venue.wall())
    found = call.venue.place_oco(above, below, list_id)
    legs, rules = call.venue.exchange.legs(found), call.venue.exchange.symbols[above.symbol]
    return order_wire.order_list(found, legs, [order_wire.FORMS[form](rules, leg) for leg in legs])


def _find(call: Call, client_id_name: str) -> OrderList | None:
    list_id = call.params.integer("orderListId")
    client_id = call.params.text(client_id_name, CLIENT_ID_PATTERN)
    if list_id is None and client_id is None:
        raise ApiError(-1102, f"Param '{client_id_name}' or 'orderListId' must be sent, but both were empty/null!")
    call.venue.advance()
    return call.venue.exchange.find_list(call.api_key, list_id, client_id)


def _written(call: Call, lists: list[OrderList]) -> Answer:
    return [order_wire.order_list(one, call.venue.exchange.legs(one)) for one in lists]


def _refused(method: str, path: str, ws_method: str, weight: int = 1) -> Endpoint:
    return Endpoint(method, "/api/v3/" + path, ws_method, weight, unsupported, None, signed=True)


_LEGS = " ".join(f"{name}Type " + " ".join(name + part for part in _LEG.split()) for name in ("above", "below"))
ENDPOINTS: tuple[Endpoint, ...] = (
    trading(
        "POST", "orderList/oco", "orderList.place.oco", 1, place_oco,
        f"symbol listClientOrderId side quantity {_LEGS} newOrderRespType selfTradePreventionMode",
    ),
    trading(
        "POST", "order/oco", "orderList.place", 1, place_old_oco,
        "symbol listClientOrderId side quantity limitClientOrderId price limitIcebergQty trailingDelta "
        "stopClientOrderId stopPrice stopLimitPrice stopIcebergQty stopLimitTimeInForce newOrderRespType "
        "selfTradePreventionMode",
    ),
    trading(
        "DELETE", "orderList", "orderList.cancel", 1, cancel_list,
        "symbol orderListId listClientOrderId newClientOrderId",
    ),
    signed("GET", "orderList", "orderList.status", 4, get_list, "orderListId origClientOrderId"),
    signed("GET", "openOrderList", "openOrderLists.status", 6, open_lists),
    signed("GET", "allOrderList", "allOrderLists", 20, all_lists, "fromId startTime endTime limit"),
    _refused("POST", "orderList/oto", "orderList.place.oto"),
    _refused("POST", "orderList/otoco", "orderList.place.otoco"),
    _refused("POST", "orderList/opo", "orderList.place.opo"),
    _refused("POST", "orderList/opoco", "orderList.place.opoco"),
    _refused("PUT", "order/amend/keepPriority", "order.amend.keepPriority", 4),
    _refused("POST", "sor/order", "sor.order.place"),
    _refused("POST", "sor/order/test", "sor.order.test"),
)  # fmt: skip
