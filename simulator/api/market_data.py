"""Public market data: what each endpoint answers that needs no key.

Everything is read off the tapes up to this moment, and the book off what is displayed. What has to be computed at
length is computed beside the event loop.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence

from simulator.api import market_wire as wire
from simulator.api import weights
from simulator.api.call import Answer, Call, Endpoint, public
from simulator.api.market_wire import Json
from simulator.core.filters import symbol_info
from simulator.core.rules import ApiError, SymbolRules, illegal, not_valid
from simulator.doors.limits import rate_limits
from simulator.doors.params import Params
from simulator.market import past_trades
from simulator.market.candles import DAY_MS, INTERVALS, Candles, Trade, open_of
from simulator.market.depth import MAX_LEVELS
from simulator.market.tickers import WINDOW_PATTERN, Stats, average_price, rolling_open, stats, window_ms

STATUSES = ("TRADING", "HALT", "BREAK")
PERMISSION = re.compile(r"SPOT|MARGIN|LEVERAGED|TRD_GRP_[0-9]{3}")
TIME_ZONE = re.compile(r"([+-]?)([0-9]{1,2})(?::([0-5][0-9]))?")
EARLIEST_ZONE_MS, LATEST_ZONE_MS = -12 * 3_600_000, 14 * 3_600_000


def ping(call: Call) -> Answer:
    """{}"""
    return {}


def server_time(call: Call) -> Answer:
    """The API clock, which is the wall."""
    return {"serverTime": call.venue.api_ms()}


def exchange_info(call: Call) -> Answer:
    """Limits and listed symbols."""
    params = call.params
    selectors = [name for name in ("symbol", "symbols", "permissions") if name in params]
    if len(selectors) > 1 or ("symbolStatus" in params and selectors[:1] in (["symbol"], ["symbols"])):
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    wanted = _permissions(params)
    _, symbols = _asked(call)
    show_sets = params.flag("showPermissionSets") or "showPermissionSets" not in params
    infos = [symbol_info(rules, call.venue.exchange.status(rules.symbol)) for rules in symbols]
    infos = [info for info in infos if wanted is None or wanted & _granted(info)]
    return {
        "timezone": "UTC",
        "serverTime": call.venue.api_ms(),
        "rateLimits": rate_limits(),
        "exchangeFilters": [],
        "symbols": [info if show_sets else {**info, "permissionSets": []} for info in infos],
    }


def depth(call: Call) -> Answer:
    """The displayed book."""
    rules = call.rules()
    limit = call.params.limit(100, MAX_LEVELS)
    _asked(call)
    call.venue.advance()
    return wire.depth_row(rules, call.venue.shown[rules.symbol].snapshot(limit))


def recent_trades(call: Call) -> Answer:
    """The newest trades."""
    rules, limit = call.rules(), call.params.limit(500, 1000)
    now = call.venue.advance()
    tape = call.venue.histories[rules.symbol].tape
    return [wire.trade_row(rules, trade) for trade in past_trades.newest(tape, now + 1, limit, now)]


async def historical_trades(call: Call) -> Answer:
    """Trades from an id on, else the newest."""
    rules, limit, trade_id = call.rules(), call.params.limit(500, 1000), call.params.integer("fromId")
    if trade_id is None:
        return recent_trades(call)
    now, tape = call.venue.advance(), call.venue.histories[rules.symbol].tape
    found = await asyncio.to_thread(past_trades.from_id, tape, trade_id, limit, now)
    return [wire.trade_row(rules, trade) for trade in found]


async def agg_trades(call: Call) -> Answer:
    """Trades from an id or a time on, or up to a time, else the newest."""
    params, rules = call.params, call.rules()
    limit, trade_id = params.limit(500, 1000), params.integer("fromId")
    start, end = params.time_ms("startTime"), params.time_ms("endTime")
    if trade_id is not None and (start is not None or end is not None):
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    now, tape = call.venue.advance(), call.venue.histories[rules.symbol].tape
    before = now + 1 if end is None else end + 1

    def find() -> list[Trade]:
        if trade_id is not None:
            return past_trades.from_id(tape, trade_id, limit, now)
        if start is not None:
            return past_trades.oldest(tape, start, before, limit, now)
        return past_trades.newest(tape, before, limit, now)

    is_recent = trade_id is None and start is None and end is None
    found = find() if is_recent else await asyncio.to_thread(find)
    return [wire.agg_trade_row(rules, trade) for trade in found]


async def klines(call: Call) -> Answer:
    """Candles, ascending; the last may be open."""
    rules, params = call.rules(), call.params
    interval = params.choice("interval", INTERVALS, ApiError(-1120, "Invalid interval."))
    offset = _offset_ms(params)
    start, end = params.time_ms("startTime"), params.time_ms("endTime")
    limit = params.limit(500, 1000)
    candles: Candles = await call.venue.klines(rules.symbol, interval, start, end, limit, offset)
    return wire.kline_rows(rules, interval, candles, offset)


def average(call: Call) -> Answer:
    """Average price of the last minutes."""
    rules = call.rules()
    now, history = call.venue.advance(), call.venue.histories[rules.symbol]
    found, last = average_price(history, now), history.tape.last_trade(now + 1)
    if found is None or last is None:
        raise ApiError(-1112, "No orders on book for symbol.")
    return wire.average_row(rules, found, last)


def reference_price(call: Call) -> Answer:
    """No symbol here has one."""
    call.rules()
    raise ApiError(-2043, "This symbol doesn't have a reference price.")


async def day_ticker(call: Call) -> Answer:
    """The last 24 hours of one symbol, several or all."""
    one, symbols = _asked(call)
    is_mini = _is_mini(call.params)
    await _warm(call, symbols, DAY_MS)
    now = call.venue.advance()

    def row(rules: SymbolRules) -> Json:
        history = call.venue.histories[rules.symbol]
        day = stats(history, now - DAY_MS, now)
        if is_mini:
            return wire.mini_row(rules, day)
        before, last = history.tape.last_trade(day.open_ms), history.tape.last_trade(now + 1)
        return wire.day_row(rules, day, before, last, call.venue.shown[rules.symbol].best())

    return _rows(one, symbols, row)


async def window_ticker(call: Call) -> Answer:
    """A rolling window of one symbol or several, which opens on a minute."""
    one, symbols = _asked(call, required=True)
    window = window_ms(call.params.text("windowSize") or "1d")
    if window is None:
        raise illegal("windowSize", WINDOW_PATTERN)
    is_mini = _is_mini(call.params)
    await _warm(call, symbols, window)
    now = call.venue.advance()
    opened = rolling_open(window, now)
    return _window_rows(call, one, symbols, is_mini, lambda history: stats(history, opened, now))


async def trading_day(call: Call) -> Answer:
    """The calendar day of a time zone, so far, of one symbol or several."""
    one, symbols = _asked(call, required=True)
    offset, is_mini = _offset_ms(call.params), _is_mini(call.params)
    await _warm(call, symbols, DAY_MS)
    now = call.venue.advance()
    opened = open_of("1d", now, offset)
    closes = opened + DAY_MS - 1
    return _window_rows(call, one, symbols, is_mini, lambda history: stats(history, opened, now, closes))


def price_ticker(call: Call) -> Answer:
    """Last price of one symbol, several or all."""
    one, symbols = _asked(call)
    call.venue.advance()
    return _rows(one, _traded(call, one, symbols), lambda rules: wire.price_row(rules, _last(call, rules)))


def book_ticker(call: Call) -> Answer:
    """Best bid and ask of one symbol, several or all."""
    one, symbols = _asked(call)
    call.venue.advance()
    shown = call.venue.shown
    return _rows(
        one, _traded(call, one, symbols), lambda rules: wire.book_row(rules, shown[rules.symbol].best())
    )


def _asked(call: Call, required: bool = False) -> tuple[bool, list[SymbolRules]]:
    """Was one ``symbol`` asked for; and the rules of it, of ``symbols``, or of all that have the ``symbolStatus``."""
    listed, params = call.venue.exchange.symbols, call.params
    one, many = params.symbol(listed, required=False), params.symbols(listed)
    if many is not None and len(set(many)) < len(many):
        raise ApiError(-1151, "Symbol is present multiple times in the list.")
    if required and one is None and many is None:
        raise ApiError(-1102, "Param 'symbol' or 'symbols' must be sent, but both were empty/null!")
    symbols = [listed[name] for name in (many or ([one] if one else listed))]
    status = params.text("symbolStatus")
    if status is not None:
        if status not in STATUSES:
            raise ApiError(-1122, "Invalid symbolStatus.")
        symbols = [rules for rules in symbols if call.venue.exchange.status(rules.symbol) == status]
        if one and not symbols:
            raise ApiError(-1220, "The symbol's status does not match the requested symbolStatus.")
    return one is not None, symbols


def _rows(one: bool, symbols: Sequence[SymbolRules], row: Callable[[SymbolRules], Json]) -> Answer:
    return row(symbols[0]) if one else [row(rules) for rules in symbols]


def _window_rows(
    call: Call, one: bool, symbols: Sequence[SymbolRules], is_mini: bool, of: Callable[..., Stats]
) -> Answer:
    form = wire.mini_row if is_mini else wire.window_row
    return _rows(one, symbols, lambda rules: form(rules, of(call.venue.histories[rules.symbol])))


def _traded(call: Call, one: bool, symbols: Sequence[SymbolRules]) -> list[SymbolRules]:
    """Those of *symbols* whose market has begun."""
    begun = [rules for rules in symbols if call.venue.exchange.books[rules.symbol].touch is not None]
    if one and not begun:
        raise ApiError(-1112, "No orders on book for symbol.")
    return begun


def _last(call: Call, rules: SymbolRules) -> Trade:
    touch = call.venue.exchange.books[rules.symbol].touch
    assert touch is not None
    return touch.last


async def _warm(call: Call, symbols: Sequence[SymbolRules], window: int) -> None:
    """Have the candles of the last *window* milliseconds at hand."""
    now = call.venue.now_ms()
    start = rolling_open(window, now)
    for rules in symbols:
        history = call.venue.histories[rules.symbol]
        if not history.is_ready(start, now):
            await asyncio.to_thread(history.minutes, start, now)


def _is_mini(params: Params) -> bool:
    return params.choice("type", ("FULL", "MINI"), ApiError(-1139, "Invalid ticker type."), "FULL") == "MINI"


def _offset_ms(params: Params) -> int:
    """``timeZone``: hours, or hours and minutes, from −12:00 to +14:00."""
    match = TIME_ZONE.fullmatch(params.text("timeZone") or "0")
    offset = 0
    if match is not None:
        offset = (int(match[2]) * 60 + int(match[3] or 0)) * 60_000 * (-1 if match[1] == "-" else 1)
    if match is None or not EARLIEST_ZONE_MS <= offset <= LATEST_ZONE_MS:
        raise not_valid("timeZone")
    return offset


def _permissions(params: Params) -> set[str] | None:
    """``permissions``: one name, or a JSON array of names."""
    text = params.text("permissions")
    if text is None:
        return None
    names: object = [text]
    if text.startswith("["):
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            names = None
    if not isinstance(names, list) or not names or not all(
        isinstance(name, str) and PERMISSION.fullmatch(name) for name in names
    ):  # fmt: skip
        raise not_valid("permissions")
    return set(names)


def _granted(info: Json) -> set[str]:
    sets = info["permissionSets"]
    assert isinstance(sets, list)
    return {name for group in sets for name in group}


_CANDLES = "symbol interval startTime endTime timeZone limit"
_SOME = "symbol symbols symbolStatus"
ENDPOINTS: tuple[Endpoint, ...] = (
    public("GET", "ping", "ping", 1, ping),
    public("GET", "time", "time", 1, server_time),
    public("GET", "exchangeInfo", "exchangeInfo", 20, exchange_info, _SOME + " permissions showPermissionSets"),
    public("GET", "depth", "depth", weights.depth, depth, "symbol limit symbolStatus"),
    public("GET", "trades", "trades.recent", 25, recent_trades, "symbol limit"),
    public("GET", "historicalTrades", "trades.historical", 25, historical_trades, "symbol limit fromId"),
    public("GET", "aggTrades", "trades.aggregate", 4, agg_trades, "symbol fromId startTime endTime limit"),
    public("GET", "klines", "klines", 2, klines, _CANDLES),
    public("GET", "uiKlines", "uiKlines", 2, klines, _CANDLES),
    public("GET", "avgPrice", "avgPrice", 2, average, "symbol"),
    public("GET", "referencePrice", "referencePrice", 2, reference_price, "symbol"),
    public("GET", "ticker/24hr", "ticker.24hr", weights.day_ticker, day_ticker, _SOME + " type"),
    public("GET", "ticker", "ticker", weights.per_symbol(4, 200), window_ticker, _SOME + " windowSize type"),
    public(
        "GET", "ticker/tradingDay", "ticker.tradingDay", weights.per_symbol(4, 200), trading_day,
        _SOME + " timeZone type",
    ),
    public("GET", "ticker/price", "ticker.price", weights.by_symbol(2, 4), price_ticker, _SOME),
    public("GET", "ticker/bookTicker", "ticker.book", weights.by_symbol(2, 4), book_ticker, _SOME),
)  # fmt: skip
