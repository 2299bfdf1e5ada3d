"""Orders and executions of the account that signed: place, try, replace, cancel, ask."""

from __future__ import annotations

from simulator.api import order_wire, weights
from simulator.api.call import Answer, Call, Endpoint, signed, trading
from simulator.api.order_request import ORDER_PARAMS, new_client_id, order_request
from simulator.core.orders import Order
from simulator.core.rules import CLIENT_ID_PATTERN, ApiError, SymbolRules, not_valid
from simulator.doors.params import Params
from simulator.venue import fills_of

MAX_SPAN_MS = 86_400_000
Json = order_wire.Json


def place_order(call: Call) -> Answer:
    """A new order."""
    ask, form = order_request(call)
    call.limits.check_orders(call.api_key, call.venue.wall())
    order = call.venue.place(ask)
    return order_wire.FORMS[form](call.venue.exchange.symbols[ask.symbol], order)


def try_order(call: Call) -> Answer:
    """Check an order without sending it to the engine."""
    ask, _ = order_request(call)
    wants_rates = call.params.flag("computeCommissionRates")
    call.venue.check_filters(ask)
    if not wants_rates:
        return {}
    rates = _rates(call, call.venue.exchange.symbols[ask.symbol])
    return {
        "standardCommissionForOrder": {name: rates["standardCommission"][name] for name in ("maker", "taker")},
        "specialCommissionForOrder": {"maker": order_wire.ZERO, "taker": order_wire.ZERO},
        "taxCommissionForOrder": {"maker": order_wire.ZERO, "taker": order_wire.ZERO},
        "discount": rates["discount"],
    }


def get_order(call: Call) -> Answer:
    """One order, open or not."""
    rules = call.rules()
    order = _find(call, rules, "orderId", "origClientOrderId")
    if order is None:
        raise ApiError(-2013, "Order does not exist.")
    return order_wire.query(rules, order)


def cancel_order(call: Call) -> Answer:
    """Cancel one open order, and its list with it."""
    rules = call.rules()
    cancel_id = call.params.text("newClientOrderId", CLIENT_ID_PATTERN) or new_client_id(call, "cancel")
    order = _find(call, rules, "orderId", "origClientOrderId")
    _check_restrictions(call, order)
    return _cancel(call, rules, order, cancel_id)


def replace_order(call: Call) -> Answer:
    """Cancel an order and place another, which may fail each for itself. Filters are checked before the cancel."""
    params, rules = call.params, call.rules()
    modes = ("STOP_ON_FAILURE", "ALLOW_FAILURE")
    mode = params.choice("cancelReplaceMode", modes, not_valid("cancelReplaceMode"))
    exceeded = ("DO_NOTHING", "CANCEL_ONLY")
    on_limit = params.choice(
        "orderRateLimitExceededMode", exceeded, not_valid("orderRateLimitExceededMode"), "DO_NOTHING"
    )
    ask, form = order_request(call)
    cancel_id = params.text("cancelNewClientOrderId", CLIENT_ID_PATTERN) or new_client_id(call, "cancel")
    old = _find(call, rules, "cancelOrderId", "cancelOrigClientOrderId")
    call.venue.check_filters(ask)
    if on_limit == "DO_NOTHING":
        call.limits.check_orders(call.api_key, call.venue.wall())

    answer: Json = {"cancelResult": "SUCCESS", "newOrderResult": "SUCCESS"}
    try:
        _check_restrictions(call, old)
        answer["cancelResponse"] = _cancel(call, rules, old, cancel_id)
    except ApiError as error:
        answer |= {"cancelResult": "FAILURE", "cancelResponse": error.body()}
    if answer["cancelResult"] == "FAILURE" and mode == "STOP_ON_FAILURE":
        call.limits.count_orders(call.api_key, 1, call.venue.wall())
        answer |= {"newOrderResult": "NOT_ATTEMPTED", "newOrderResponse": None}
    else:
        try:
            call.limits.check_orders(call.api_key, call.venue.wall())
            order = call.venue.place(ask)
            answer["newOrderResponse"] = order_wire.FORMS[form](rules, order)
        except ApiError as error:
            answer |= {"newOrderResult": "FAILURE", "newOrderResponse": error.body()}
    answer = {name: answer[name] for name in ("cancelResult", "newOrderResult", "cancelResponse", "newOrderResponse")}
    results = {answer["cancelResult"], answer["newOrderResult"]}
    if results == {"SUCCESS"}:
        return answer
    if "SUCCESS" in results:
        raise ApiError(-2021, "Order cancel-replace partially failed.", 409, data=answer)
    raise ApiError(-2022, "Order cancel-replace failed.", 400, data=answer)


def open_orders(call: Call) -> Answer:
    """Open orders of one symbol or all."""
    call.venue.advance()
    symbol = call.params.symbol(call.venue.exchange.symbols, required=False)
    return _queried(call, call.venue.exchange.open_orders(call.api_key, symbol))


def cancel_open_orders(call: Call) -> Answer:
    """Cancel all open orders of a symbol; order lists come as lists."""
    rules, exchange = call.rules(), call.venue.exchange
    call.venue.advance()
    orders = exchange.open_orders(call.api_key, rules.symbol)
    if not orders:
        raise ApiError(-2011, "Unknown order sent.")
    ended = call.venue.cancel(orders, new_client_id(call, "cancel"))
    answer: list[Json] = []
    told: set[int] = set()
    for order in ended:
        number = order.placed.list_id
        if number < 0:
            answer.append(order_wire.canceled(rules, order))
        elif number not in told:
            told.add(number)
            legs = exchange.legs(exchange.lists[number])
            reports = [order_wire.canceled(rules, leg) for leg in legs]
            answer.append(order_wire.order_list(exchange.lists[number], legs, reports))
    return answer


def all_orders(call: Call) -> Answer:
    """Orders of a symbol in any state, oldest first."""
    rules = call.rules()
    call.venue.advance()
    start, end = span(call.params)
    limit, from_id = call.params.limit(500, 1000), call.params.integer("orderId")
    orders = [
        order
        for order in call.venue.exchange.by_account[call.api_key]
        if order.placed.symbol == rules.symbol
        and (from_id is None or order.placed.order_id >= from_id)
        and (start is None or order.placed.time_ms >= start)
        and (end is None or order.placed.time_ms <= end)
    ]
    return _queried(call, orders[:limit] if start is not None or from_id is not None else orders[-limit:])


def my_trades(call: Call) -> Answer:
    """Executions of a symbol, oldest first."""
    rules = call.rules()
    call.venue.advance()
    start, end = span(call.params)
    limit, from_id = call.params.limit(500, 1000), call.params.integer("fromId")
    fills = [
        (order, fill)
        for order, fill in fills_of(_orders_of(call, rules))
        if (from_id is None or fill.trade_id >= from_id)
        and (start is None or fill.time_ms >= start)
        and (end is None or fill.time_ms <= end)
    ]
    kept = fills[:limit] if start is not None or from_id is not None else fills[-limit:]
    return [order_wire.my_trade(rules, order, fill) for order, fill in kept]


def my_prevented_matches(call: Call) -> Answer:
    """What self-trade prevention took off the account's orders in a symbol."""
    rules, params = call.rules(), call.params
    call.venue.advance()
    one, order_id = params.integer("preventedMatchId"), params.integer("orderId")
    from_id, limit = params.integer("fromPreventedMatchId"), params.limit(500, 1000)
    if one is None and order_id is None:
        raise ApiError(-1102, "Param 'preventedMatchId' or 'orderId' must be sent, but both were empty/null!")
    found = {
        prevented.match_id: (order, call.venue.exchange.orders[prevented.against], prevented)
        for order in _orders_of(call, rules)
        for _, prevented in order.preventions
        if one in (None, prevented.match_id) and (from_id is None or prevented.match_id >= from_id)
    }
    rows = [found[number] for number in sorted(found)][:limit]
    return [
        order_wire.prevented_match(rules, *((other, order) if prevented.is_maker else (order, other)), prevented)
        for order, other, prevented in rows
    ]


def account(call: Call) -> Answer:
    """Balances and permissions."""
    call.venue.advance()
    assert call.customer is not None
    return order_wire.account(call.customer, call.params.flag("omitZeroBalances"))


def commission(call: Call) -> Answer:
    """What the account pays in a symbol."""
    return _rates(call, call.rules())


def order_limits(call: Call) -> Answer:
    """How much of its order limits the account has used."""
    return call.limits.order_counts(call.api_key, call.venue.wall())


def span(params: Params) -> tuple[int | None, int | None]:
    """``startTime`` and ``endTime``, at most 24 hours apart."""
    start, end = params.time_ms("startTime"), params.time_ms("endTime")
    if start is not None and end is not None and end - start > MAX_SPAN_MS:
        raise ApiError(-1127, "More than 24 hours between startTime and endTime.")
    return start, end


def _cancel(call: Call, rules: SymbolRules, order: Order | None, cancel_id: str) -> Json:
    if order is None or not order.is_open:
        raise ApiError(-2011, "Unknown order sent.")
    call.venue.cancel([order], cancel_id)
    return order_wire.canceled(rules, order)


def _check_restrictions(call: Call, order: Order | None) -> None:
    restriction = call.params.text("cancelRestrictions")
    if restriction not in (None, "ONLY_NEW", "ONLY_PARTIALLY_FILLED"):
        raise ApiError(-1145, "cancelRestrictions has to be either ONLY_NEW or ONLY_PARTIALLY_FILLED.")
    if restriction and order is not None and order.is_open and restriction != f"ONLY_{order.status}":
        raise ApiError(-2011, "Order was not canceled due to cancel restrictions.")


def _queried(call: Call, orders: list[Order]) -> Answer:
    symbols = call.venue.exchange.symbols
    return [order_wire.query(symbols[order.placed.symbol], order) for order in orders]


def _orders_of(call: Call, rules: SymbolRules) -> list[Order]:
    order_id = call.params.integer("orderId")
    if order_id is not None:
        order = call.venue.exchange.find(call.api_key, rules.symbol, order_id, None)
        return [] if order is None else [order]
    return [o for o in call.venue.exchange.by_account[call.api_key] if o.placed.symbol == rules.symbol]


def _find(call: Call, rules: SymbolRules, id_name: str, client_id_name: str) -> Order | None:
    order_id = call.params.integer(id_name)
    client_id = call.params.text(client_id_name, CLIENT_ID_PATTERN)
    if order_id is None and client_id is None:
        raise ApiError(-1102, f"Param '{client_id_name}' or '{id_name}' must be sent, but both were empty/null!")
    call.venue.advance()
    return call.venue.exchange.find(call.api_key, rules.symbol, order_id, client_id)


def _rates(call: Call, rules: SymbolRules) -> dict[str, Json]:
    assert call.customer is not None
    exchange, zero = call.venue.exchange, order_wire.ZERO
    maker, taker = (
        order_wire.rate(exchange.fee_ppm(call.customer, rules, is_maker)) for is_maker in (True, False)
    )  # fmt: skip
    nothing = {"maker": zero, "taker": zero, "buyer": zero, "seller": zero}
    discount: Json = {
        "enabledForAccount": call.customer.pays_in_bnb, "enabledForSymbol": True, "discountAsset": "BNB",
        "discount": "0.75000000",
    }  # fmt: skip
    return {
        "symbol": rules.symbol,  # type: ignore[dict-item]
        "standardCommission": {**nothing, "maker": maker, "taker": taker},
        "specialCommission": dict(nothing),
        "taxCommission": dict(nothing),
        "discount": discount,
    }


_REPLACE_PARAMS = (
    " cancelReplaceMode cancelOrderId cancelOrigClientOrderId cancelNewClientOrderId cancelRestrictions "
    "orderRateLimitExceededMode"
)
ENDPOINTS: tuple[Endpoint, ...] = (
    signed("GET", "account", "account.status", 20, account, "omitZeroBalances"),
    signed("GET", "account/commission", "account.commission", 20, commission, "symbol"),
    signed("GET", "rateLimit/order", "account.rateLimits.orders", 40, order_limits),
    trading("POST", "order", "order.place", 1, place_order, ORDER_PARAMS),
    signed("POST", "order/test", "order.test", weights.order_test, try_order, ORDER_PARAMS + " computeCommissionRates"),
    trading(
        "POST", "order/cancelReplace", "order.cancelReplace", 1, replace_order, ORDER_PARAMS + _REPLACE_PARAMS
    ),
    signed("GET", "order", "order.status", 4, get_order, "symbol orderId origClientOrderId"),
    trading(
        "DELETE", "order", "order.cancel", 1, cancel_order,
        "symbol orderId origClientOrderId newClientOrderId cancelRestrictions",
    ),
    signed("GET", "openOrders", "openOrders.status", weights.by_symbol(6, 80), open_orders, "symbol"),
    trading("DELETE", "openOrders", "openOrders.cancelAll", 1, cancel_open_orders, "symbol"),
    signed("GET", "allOrders", "allOrders", 20, all_orders, "symbol orderId startTime endTime limit"),
    signed(
        "GET", "myTrades", "myTrades", weights.my_trades, my_trades, "symbol orderId startTime endTime fromId limit"
    ),
    signed(
        "GET", "myPreventedMatches", "myPreventedMatches", 20, my_prevented_matches,
        "symbol preventedMatchId orderId fromPreventedMatchId limit",
    ),
)  # fmt: skip
