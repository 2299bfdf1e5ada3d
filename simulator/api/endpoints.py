"""What each endpoint of the exchange does, apart from how it is reached.

One table, ``ENDPOINTS``, serves REST and the websocket API: path, method name, weight, parameters, handler. A handler
takes a ``Call`` and returns JSON, or raises ``ApiError``.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from simulator.api import market_data, weights, wire
from simulator.api.call import Answer, Call, Handler
from simulator.api.weights import Weight
from simulator.core.exchange import Order, Request
from simulator.core.matching import BUY, SELL
from simulator.core.rules import (
    CLIENT_ID_PATTERN,
    DEFAULT_STP,
    STP_MODES,
    ApiError,
    SymbolRules,
    mandatory,
)
from simulator.doors.params import SIGNING, Params
from simulator.venue import fills_of

MAX_SPAN_MS = 86_400_000
STOP_TYPES = {
    "STOP_LOSS": "Stop loss orders",
    "STOP_LOSS_LIMIT": "Stop loss limit orders",
    "TAKE_PROFIT": "Take profit orders",
    "TAKE_PROFIT_LIMIT": "Take profit limit orders",
}


def account(call: Call) -> Answer:
    """Balances and permissions."""
    call.venue.advance()
    assert call.customer is not None
    return wire.account(call.customer, call.params.flag("omitZeroBalances"))


def place_order(call: Call) -> Answer:
    """A new order."""
    ask, form = _order_request(call)
    call.limits.check_orders(call.api_key, call.venue.wall())
    order = call.venue.place(ask)
    rules = call.venue.exchange.symbols[ask.symbol]
    return {"ACK": wire.ack, "RESULT": wire.result, "FULL": wire.full}[form](rules, order)


def get_order(call: Call) -> Answer:
    """One order, open or not."""
    rules = call.rules()
    order = _find(call, rules)
    if order is None:
        raise ApiError(-2013, "Order does not exist.")
    return wire.query(rules, order)


def cancel_order(call: Call) -> Answer:
    """Cancel one open order."""
    rules = call.rules()
    cancel_id = call.params.text("newClientOrderId", CLIENT_ID_PATTERN) or _new_client_id()
    restriction = call.params.text("cancelRestrictions")
    if restriction not in (None, "ONLY_NEW", "ONLY_PARTIALLY_FILLED"):
        raise ApiError(-1145, "Invalid cancelRestrictions")
    order = _find(call, rules)
    if order is None or not order.is_open:
        raise ApiError(-2011, "Unknown order sent.")
    if restriction and restriction != f"ONLY_{order.status}":
        raise ApiError(-2011, "Order was not canceled due to cancel restrictions.")
    call.venue.cancel([order], cancel_id)
    return wire.canceled(rules, order, cancel_id)


def open_orders(call: Call) -> Answer:
    """Open orders of one symbol or all."""
    call.venue.advance()
    symbol = call.params.symbol(call.venue.exchange.symbols, required=False)
    return _queried(call, call.venue.exchange.open_orders(call.api_key, symbol))


def cancel_open_orders(call: Call) -> Answer:
    """Cancel all open orders of a symbol."""
    rules = call.rules()
    call.venue.advance()
    orders = call.venue.exchange.open_orders(call.api_key, rules.symbol)
    if not orders:
        raise ApiError(-2011, "Unknown order sent.")
    cancel_id = _new_client_id()
    call.venue.cancel(orders, cancel_id)
    return [wire.canceled(rules, order, cancel_id) for order in orders]


def all_orders(call: Call) -> Answer:
    """Orders of a symbol in any state, oldest first."""
    rules = call.rules()
    call.venue.advance()
    start, end = _span(call.params)
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
    start, end = _span(call.params)
    limit, from_id = call.params.limit(500, 1000), call.params.integer("fromId")
    order_id = call.params.integer("orderId")
    orders = [
        order
        for order in call.venue.exchange.by_account[call.api_key]
        if order.placed.symbol == rules.symbol and (order_id is None or order.placed.order_id == order_id)
    ]
    fills = [
        (order, fill)
        for order, fill in fills_of(orders)
        if (from_id is None or fill.trade_id >= from_id)
        and (start is None or fill.time_ms >= start)
        and (end is None or fill.time_ms <= end)
    ]
    kept = fills[:limit] if start is not None or from_id is not None else fills[-limit:]
    return [wire.my_trade(rules, order, fill) for order, fill in kept]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation. *free* ones cost nothing when they succeed."""

    method: str
    path: str
    ws_method: str
    weight: Weight
    handler: Handler
    params: frozenset[str] = frozenset()
    signed: bool = False
    free: bool = False

    def cost(self, params: Params) -> int:
        """Request weight of a call with *params*."""
        return weights.cost_of(self.weight, params)


def _endpoint(
    method: str, path: str, ws_method: str, weight: Weight, handler: Handler, params: str = "", **more: bool
) -> Endpoint:
    names = frozenset(params.split())
    signed = bool(more.get("signed"))
    return Endpoint(
        method, "/api/v3/" + path, ws_method, weight, handler, names | SIGNING if signed else names,
        signed, bool(more.get("free")),
    )  # fmt: skip


_KLINE_PARAMS = "symbol interval startTime endTime timeZone limit"
_ORDER_PARAMS = (
    "symbol side type timeInForce quantity quoteOrderQty price newClientOrderId newOrderRespType "
    "selfTradePreventionMode stopPrice trailingDelta icebergQty"
)
ENDPOINTS = (
    _endpoint("GET", "ping", "ping", 1, market_data.ping),
    _endpoint("GET", "time", "time", 1, market_data.server_time),
    _endpoint("GET", "exchangeInfo", "exchangeInfo", 20, market_data.exchange_info,
              "symbol symbols permissions showPermissionSets symbolStatus"),
    _endpoint("GET", "depth", "depth", weights.depth, market_data.depth, "symbol limit symbolStatus"),
    _endpoint("GET", "trades", "trades.recent", 25, market_data.recent_trades, "symbol limit"),
    _endpoint("GET", "historicalTrades", "trades.historical", 25, market_data.historical_trades, "symbol limit fromId"),
    _endpoint("GET", "aggTrades", "trades.aggregate", 4, market_data.agg_trades,
              "symbol fromId startTime endTime limit"),
    _endpoint("GET", "klines", "klines", 2, market_data.klines, _KLINE_PARAMS),
    _endpoint("GET", "uiKlines", "uiKlines", 2, market_data.klines, _KLINE_PARAMS),
    _endpoint("GET", "avgPrice", "avgPrice", 2, market_data.average, "symbol"),
    _endpoint("GET", "referencePrice", "referencePrice", 2, market_data.reference_price, "symbol"),
    _endpoint("GET", "ticker/24hr", "ticker.24hr", weights.day_ticker, market_data.day_ticker,
              "symbol symbols type symbolStatus"),
    _endpoint("GET", "ticker", "ticker", weights.per_symbol(4, 200), market_data.window_ticker,
              "symbol symbols windowSize type symbolStatus"),
    _endpoint("GET", "ticker/tradingDay", "ticker.tradingDay", weights.per_symbol(4, 200), market_data.trading_day,
              "symbol symbols timeZone type symbolStatus"),
    _endpoint("GET", "ticker/price", "ticker.price", weights.by_symbol(2, 4), market_data.price_ticker,
              "symbol symbols symbolStatus"),
    _endpoint("GET", "ticker/bookTicker", "ticker.book", weights.by_symbol(2, 4), market_data.book_ticker,
              "symbol symbols symbolStatus"),
    _endpoint("GET", "account", "account.status", 20, account, "omitZeroBalances", signed=True),
    _endpoint("POST", "order", "order.place", 1, place_order, _ORDER_PARAMS, signed=True, free=True),
    _endpoint("GET", "order", "order.status", 4, get_order, "symbol orderId origClientOrderId", signed=True),
    _endpoint(
        "DELETE", "order", "order.cancel", 1, cancel_order,
        "symbol orderId origClientOrderId newClientOrderId cancelRestrictions", signed=True, free=True,
    ),
    _endpoint("GET", "openOrders", "openOrders.status", weights.by_symbol(6, 80), open_orders, "symbol",
              signed=True),
    _endpoint("DELETE", "openOrders", "openOrders.cancelAll", 1, cancel_open_orders, "symbol", signed=True, free=True),
    _endpoint("GET", "allOrders", "allOrders", 20, all_orders, "symbol orderId startTime endTime limit", signed=True),
    _endpoint(
        "GET", "myTrades", "myTrades", 20, my_trades, "symbol orderId startTime endTime fromId limit", signed=True
    ),
)  # fmt: skip


def _queried(call: Call, orders: list[Order]) -> Answer:
    symbols = call.venue.exchange.symbols
    return [wire.query(symbols[order.placed.symbol], order) for order in orders]


def _find(call: Call, rules: SymbolRules) -> Order | None:
    order_id = call.params.integer("orderId")
    client_id = call.params.text("origClientOrderId", CLIENT_ID_PATTERN)
    if order_id is None and client_id is None:
        raise ApiError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    call.venue.advance()
    return call.venue.exchange.find(call.api_key, rules.symbol, order_id, client_id)


def _span(params: Params) -> tuple[int | None, int | None]:
    start, end = params.time_ms("startTime"), params.time_ms("endTime")
    if start is not None and end is not None and end - start > MAX_SPAN_MS:
        raise ApiError(-1127, "More than 24 hours between startTime and endTime.")
    return start, end


def _order_request(call: Call) -> tuple[Request, str]:
    """The order asked for and the form of the answer, with every parameter checked that needs no market."""
    params, rules = call.params, call.rules()
    side = params.choice("side", (BUY, SELL), ApiError(-1117, "Invalid side."))
    kind = params.choice("type", ("LIMIT", "LIMIT_MAKER", "MARKET", *STOP_TYPES), ApiError(-1116, "Invalid orderType."))
    if kind in STOP_TYPES:
        raise ApiError(-2010, f"{STOP_TYPES[kind]} are not supported for this symbol.")
    tif = _time_in_force(params, kind)
    for name in ("stopPrice", "trailingDelta"):
        _not_with(params, name)
    if "icebergQty" in params:
        raise ApiError(-2010, "Iceberg orders are not supported for this symbol.")
    qty, quote_qty, price = params.atoms("quantity"), params.atoms("quoteOrderQty"), params.atoms("price")
    if kind == "MARKET":
        _not_with(params, "price")
        if qty is None and quote_qty is None:
            raise ApiError(-1102, "Param 'quantity' or 'quoteOrderQty' must be sent, but both were empty/null!")
        if qty is not None:
            _not_with(params, "quoteOrderQty")
    else:
        _not_with(params, "quoteOrderQty")
        for name, value in (("quantity", qty), ("price", price)):
            if value is None:
                raise mandatory(name)
    modes = ("NONE", *STP_MODES)
    stp = params.choice("selfTradePreventionMode", modes, _invalid("selfTradePreventionMode"), DEFAULT_STP)
    form = params.choice("newOrderRespType", ("ACK", "RESULT", "FULL"), _invalid("newOrderRespType"),
                         "ACK" if kind == "LIMIT_MAKER" else "FULL")  # fmt: skip
    client_id = params.text("newClientOrderId", CLIENT_ID_PATTERN) or _new_client_id()
    ask = Request(
        api_key=call.api_key, symbol=rules.symbol, side=side, type=kind, tif=tif, qty=qty, quote_qty=quote_qty,
        price=price, client_id=client_id, stp=stp,
    )  # fmt: skip
    return ask, form


def _time_in_force(params: Params, kind: str) -> str:
    if kind != "LIMIT":
        _not_with(params, "timeInForce")
        return "GTC"
    return params.choice("timeInForce", ("GTC", "IOC", "FOK"), ApiError(-1115, "Invalid timeInForce."))


def _not_with(params: Params, name: str) -> None:
    if name in params:
        raise ApiError(-1106, f"Parameter '{name}' sent when not required.")


def _invalid(name: str) -> ApiError:
    return ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")


def _new_client_id() -> str:
    return uuid4().hex[:22]
