"""Orders as customers ask for them: every parameter that needs no market, checked with the exchange's own refusals."""

from __future__ import annotations

from hashlib import blake2b

from simulator.api.call import Call
from simulator.core.matching import BUY, SELL
from simulator.core.orders import Request
from simulator.core.rules import CLIENT_ID_PATTERN, DEFAULT_STP, STP_MODES, ApiError, mandatory, not_valid, rejected
from simulator.doors.params import Params

ORDER_PARAMS = (
    "symbol side type timeInForce quantity quoteOrderQty price newClientOrderId newOrderRespType "
    "selfTradePreventionMode stopPrice trailingDelta icebergQty"
)
TYPES = (
    "LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT",
)  # fmt: skip
_FORMS = ("ACK", "RESULT", "FULL")
BAD_SIDE, BAD_TYPE, BAD_TIF = (-1117, "Invalid side."), (-1116, "Invalid orderType."), (-1115, "Invalid timeInForce.")


def order_request(call: Call) -> tuple[Request, str]:
    """The order asked for and the form of the answer."""
    params, rules = call.params, call.rules()
    side = params.choice("side", (BUY, SELL), ApiError(*BAD_SIDE))
    kind = params.choice("type", TYPES, ApiError(*BAD_TYPE))
    refuse_trailing_and_iceberg(params, "trailingDelta", "icebergQty")
    is_limit, is_stop = kind.startswith("LIMIT") or kind.endswith("_LIMIT"), kind.startswith(("STOP", "TAKE"))
    tif = "GTC"
    if kind == "LIMIT" or kind.endswith("_LIMIT"):
        tif = time_in_force(params, "timeInForce")
    else:
        not_with(params, "timeInForce")
    if not is_limit:
        not_with(params, "price")
    if not is_stop:
        not_with(params, "stopPrice")
    qty, quote_qty, price = params.atoms("quantity"), params.atoms("quoteOrderQty"), params.atoms("price")
    stop = params.atoms("stopPrice")
    if kind == "MARKET":
        if qty is None and quote_qty is None:
            raise ApiError(-1102, "Param 'quantity' or 'quoteOrderQty' must be sent, but both were empty/null!")
        if qty is not None:
            not_with(params, "quoteOrderQty")
    else:
        not_with(params, "quoteOrderQty")
        needed = [("quantity", qty)] + [("price", price)] * is_limit + [("stopPrice", stop)] * is_stop
        for name, value in needed:
            if value is None:
                raise mandatory(name)
    form = answer_form(params, "FULL" if kind in ("LIMIT", "MARKET") else "ACK")
    client_id = params.text("newClientOrderId", CLIENT_ID_PATTERN) or new_client_id(call)
    ask = Request(
        api_key=call.api_key, symbol=rules.symbol, side=side, type=kind, tif=tif, qty=qty, quote_qty=quote_qty,
        price=price, client_id=client_id, stp=stp_mode(params), stop=stop,
    )  # fmt: skip
    return ask, form


def refuse_trailing_and_iceberg(params: Params, trailing: str, iceberg: str) -> None:
    """Trailing stops and icebergs are not supported."""
    if trailing in params:
        raise rejected("Trailing stop orders are not supported for this symbol.")
    if iceberg in params:
        raise rejected("Iceberg orders are not supported for this symbol.")


def time_in_force(params: Params, name: str) -> str:
    """A required time in force."""
    return params.choice(name, ("GTC", "IOC", "FOK"), ApiError(*BAD_TIF))


def stp_mode(params: Params) -> str:
    """``selfTradePreventionMode``, by default the symbol's."""
    name = "selfTradePreventionMode"
    mode = params.choice(name, ("NONE", "TRANSFER", *STP_MODES), not_valid(name), DEFAULT_STP)
    if mode not in STP_MODES:
        raise ApiError(-1013, "This symbol does not allow the specified self-trade prevention mode.")
    return mode


def answer_form(params: Params, default: str) -> str:
    """``newOrderRespType``."""
    return params.choice("newOrderRespType", _FORMS, not_valid("newOrderRespType"), default)


def not_with(params: Params, name: str) -> None:
    """-1106: a parameter that does not go with the others."""
    if name in params:
        raise ApiError(-1106, f"Parameter '{name}' sent when not required.")


def new_client_id(call: Call, use: str = "order") -> str:
    """An id for who sent none: 22 characters, the same in each run that comes to the same point."""
    exchange = call.venue.exchange
    text = f"{use}/{len(exchange.orders)}/{len(exchange.lists)}/{exchange.last_trade_id}/{call.api_key}"
    return blake2b(text.encode(), digest_size=11).hexdigest()
