"""What each endpoint of the exchange does, apart from how it is reached.

One table, ``ENDPOINTS``, serves REST and the websocket API: path, method name, weight, parameters, handler. A handler
takes a ``Call`` and returns JSON, or raises ``ApiError``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

from simulator.api import wire
from simulator.api.wire import Json
from simulator.core.accounts import Account
from simulator.core.exchange import Order, Request
from simulator.core.matching import BUY, SELL
from simulator.core.rules import (
    CLIENT_ID_PATTERN,
    DEFAULT_STP,
    STP_MODES,
    ApiError,
    SymbolRules,
    mandatory,
    symbol_info,
)
from simulator.doors.limits import Limits, rate_limits
from simulator.doors.params import SIGNING, Params
from simulator.market.candles import INTERVALS, Candles
from simulator.venue import Venue, fills_of

MAX_SPAN_MS = 86_400_000
STOP_TYPES = {
    "STOP_LOSS": "Stop loss orders",
    "STOP_LOSS_LIMIT": "Stop loss limit orders",
    "TAKE_PROFIT": "Take profit orders",
    "TAKE_PROFIT_LIMIT": "Take profit limit orders",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request that passed the door. *customer* is whose key signed it, on signed endpoints."""

    venue: Venue
    limits: Limits
    params: Params
    customer: Account | None = None

    @property
    def api_key(self) -> str:
        """Key of the account that signed."""
        assert self.customer is not None
        return self.customer.api_key

    def rules(self) -> SymbolRules:
        """Rules of the required ``symbol``."""
        symbol = self.params.symbol(self.venue.exchange.symbols)
        assert symbol is not None
        return self.venue.exchange.symbols[symbol]


Answer = object
Handler = Callable[[Call], Answer | Awaitable[Answer]]


def ping(call: Call) -> Answer:
    """{}"""
    return {}


def server_time(call: Call) -> Answer:
    """The API clock, which is the wall unless a fault shifts it."""
    return {"serverTime": call.venue.api_ms()}


def exchange_info(call: Call) -> Answer:
    """Limits and listed symbols."""
    listed = call.venue.exchange.symbols
    one, many = call.params.symbol(listed, required=False), call.params.symbols(listed)
    call.params.flag("showPermissionSets")
    return {
        "timezone": "UTC",
        "serverTime": call.venue.api_ms(),
        "rateLimits": rate_limits(),
        "exchangeFilters": [],
        "symbols": [
            symbol_info(listed[name], "HALT" if call.venue.is_halted(name) else "TRADING")
            for name in (many or ([one] if one else listed))
        ],
    }


async def klines(call: Call) -> Answer:
    """Candles, ascending; the last may be open."""
    rules, params = call.rules(), call.params
    interval = params.choice("interval", INTERVALS, ApiError(-1120, "Invalid interval."))
    if (params.text("timeZone") or "0") not in ("0", "00:00", "+00:00"):
        raise ApiError(-1130, "Data sent for parameter 'timeZone' is not valid.")
    start, end = params.time_ms("startTime"), params.time_ms("endTime")
    candles: Candles = await call.venue.klines(rules.symbol, interval, start, end, params.limit(500, 1000))
    return wire.kline_rows(rules, interval, candles)


def ticker_price(call: Call) -> Answer:
    """Last price of one symbol, several or all."""
    return _per_symbol(call, lambda rules, touch: {"symbol": rules.symbol, "price": rules.price_text(touch.last.price)})


def ticker_book(call: Call) -> Answer:
    """Best bid and ask of one symbol, several or all."""
    return _per_symbol(call, wire.book_ticker)


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
    """One operation. *weight_all* is charged without ``symbol``; *free* ones cost nothing when they succeed."""

    method: str
    path: str
    ws_method: str
    weight: int
    handler: Handler
    params: frozenset[str] = frozenset()
    signed: bool = False
    weight_all: int = 0
    free: bool = False

    def cost(self, params: Params) -> int:
        """Request weight of a call with *params*."""
        return self.weight_all if self.weight_all and "symbol" not in params else self.weight


def _endpoint(
    method: str, path: str, ws_method: str, weight: int, handler: Handler, params: str = "", **more: bool | int
) -> Endpoint:
    names = frozenset(params.split())
    signed = bool(more.get("signed"))
    return Endpoint(
        method, "/api/v3/" + path, ws_method, weight, handler, names | SIGNING if signed else names,
        signed, int(more.get("weight_all", 0)), bool(more.get("free")),
    )  # fmt: skip


_ORDER_PARAMS = (
    "symbol side type timeInForce quantity quoteOrderQty price newClientOrderId newOrderRespType "
    "selfTradePreventionMode stopPrice trailingDelta icebergQty"
)
ENDPOINTS = (
    _endpoint("GET", "ping", "ping", 1, ping),
    _endpoint("GET", "time", "time", 1, server_time),
    _endpoint("GET", "exchangeInfo", "exchangeInfo", 20, exchange_info, "symbol symbols showPermissionSets"),
    _endpoint("GET", "klines", "klines", 2, klines, "symbol interval startTime endTime timeZone limit"),
    _endpoint("GET", "uiKlines", "uiKlines", 2, klines, "symbol interval startTime endTime timeZone limit"),
    _endpoint("GET", "ticker/price", "ticker.price", 2, ticker_price, "symbol symbols", weight_all=4),
    _endpoint("GET", "ticker/bookTicker", "ticker.book", 2, ticker_book, "symbol symbols", weight_all=4),
    _endpoint("GET", "account", "account.status", 20, account, "omitZeroBalances", signed=True),
    _endpoint("POST", "order", "order.place", 1, place_order, _ORDER_PARAMS, signed=True, free=True),
    _endpoint("GET", "order", "order.status", 4, get_order, "symbol orderId origClientOrderId", signed=True),
    _endpoint(
        "DELETE", "order", "order.cancel", 1, cancel_order,
        "symbol orderId origClientOrderId newClientOrderId cancelRestrictions", signed=True, free=True,
    ),
    _endpoint("GET", "openOrders", "openOrders.status", 6, open_orders, "symbol", signed=True, weight_all=80),
    _endpoint("DELETE", "openOrders", "openOrders.cancelAll", 1, cancel_open_orders, "symbol", signed=True, free=True),
    _endpoint("GET", "allOrders", "allOrders", 20, all_orders, "symbol orderId startTime endTime limit", signed=True),
    _endpoint(
        "GET", "myTrades", "myTrades", 20, my_trades, "symbol orderId startTime endTime fromId limit", signed=True
    ),
)  # fmt: skip


def _per_symbol(call: Call, row: Callable[..., Json]) -> Answer:
    call.venue.advance()
    exchange = call.venue.exchange
    one, many = call.params.symbol(exchange.symbols, required=False), call.params.symbols(exchange.symbols)
    names = many or ([one] if one else list(exchange.symbols))
    touches = [(exchange.symbols[name], exchange.books[name].touch) for name in names]
    rows = [row(rules, touch) for rules, touch in touches if touch is not None]
    if one is None:
        return rows
    if not rows:
        raise ApiError(-1112, "No orders on book for symbol.")
    return rows[0]


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
