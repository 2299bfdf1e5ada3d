"""Public market data."""

from __future__ import annotations

from collections.abc import Callable

from simulator.api import market_wire as wire
from simulator.api.call import Answer, Call, Endpoint, public
from simulator.api.market_wire import Json
from simulator.core.filters import symbol_info
from simulator.core.rules import ApiError, SymbolRules
from simulator.doors.limits import rate_limits
from simulator.doors.params import Params
from simulator.market.candles import INTERVALS, Candles


def ping(call: Call) -> Answer:
    """{}"""
    return {}


def server_time(call: Call) -> Answer:
    """The API clock, which is the wall."""
    return {"serverTime": call.venue.wall()}


def exchange_info(call: Call) -> Answer:
    """Limits and listed symbols."""
    listed = call.venue.exchange.symbols
    one, many = call.params.symbol(listed, required=False), call.params.symbols(listed)
    call.params.flag("showPermissionSets")
    return {
        "timezone": "UTC",
        "serverTime": call.venue.wall(),
        "rateLimits": rate_limits(),
        "exchangeFilters": [],
        "symbols": [
            symbol_info(listed[name], call.venue.exchange.status(name))
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

    def row(rules: SymbolRules) -> Json:
        touch = call.venue.exchange.books[rules.symbol].touch
        assert touch is not None
        return {"symbol": rules.symbol, "price": rules.price_text(touch.last.price)}

    return _per_symbol(call, row)


def ticker_book(call: Call) -> Answer:
    """Best bid and ask of one symbol, several or all."""
    return _per_symbol(call, lambda rules: wire.book_ticker(rules, *call.venue.book_levels(rules.symbol, 1)))


def _per_symbol(call: Call, row: Callable[[SymbolRules], Json]) -> Answer:
    call.venue.advance()
    exchange = call.venue.exchange
    one, many = call.params.symbol(exchange.symbols, required=False), call.params.symbols(exchange.symbols)
    names = many or ([one] if one else list(exchange.symbols))
    rows = [row(exchange.symbols[name]) for name in names if exchange.books[name].touch is not None]
    if one is None:
        return rows
    if not rows:
        raise ApiError(-1112, "No orders on book for symbol.")
    return rows[0]


def _some(params: Params) -> int:
    return 2 if "symbol" in params else 4


ENDPOINTS: tuple[Endpoint, ...] = (
    public("GET", "ping", "ping", 1, ping),
    public("GET", "time", "time", 1, server_time),
    public("GET", "exchangeInfo", "exchangeInfo", 20, exchange_info, "symbol symbols showPermissionSets"),
    public("GET", "klines", "klines", 2, klines, "symbol interval startTime endTime timeZone limit"),
    public("GET", "uiKlines", "uiKlines", 2, klines, "symbol interval startTime endTime timeZone limit"),
    public("GET", "ticker/price", "ticker.price", _some, ticker_price, "symbol symbols"),
    public("GET", "ticker/bookTicker", "ticker.book", _some, ticker_book, "symbol symbols"),
)
