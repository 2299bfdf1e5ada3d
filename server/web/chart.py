"""The chart of a bot: candles with what the bot did on them, as data for the script and as a table.

All times are market time. What a candle shows of the bot (fills, results, config changes, scores) comes from the rows
of the same stretch of time; the candles come from the exchange.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from flask import Response, jsonify, request
from sqlalchemy import Connection, Row, select

from server.api.market import limit_calls, market
from server.api.wire import engine
from server.market import MAX_CANDLES, Bar, ExchangeSilent
from server.security.roles import Role, needs
from server.storage.engine import read
from server.storage.market_time import events_within
from server.storage.models import Event, Fill, TradingOrder
from server.storage.queries import OPEN
from server.web.bot_read import BotSeen, any_bot_row
from server.web.formats import clock, pnl, price
from server.web.shell import web
from shared.errors import FlotillaError
from shared.intervals import INTERVAL_MS
from shared.states import PositionState, Side
from shared.units import ZERO, exact, plain

INTERVALS: Final = ("1s", "1m", "5m")
RANGES: Final = {"30m": 1_800_000, "2h": 7_200_000, "8h": 28_800_000, "1d": 86_400_000}
RANGE_WORDS: Final = {"30m": "30 m", "2h": "2 h", "8h": "8 h", "1d": "1 d"}
_LINED = 5
_MARKS_READ = 1_000
_SCORES_READ = 1_500
_RETRY_AFTER_S = 3
TABLE_ROWS: Final = 120
_LIVE_BARS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What the chart shows: candles of *interval*, over *range* back from now."""

    interval: str
    range: str

    @property
    def interval_ms(self) -> int:
        """Length of a candle."""
        return INTERVAL_MS[self.interval]

    @property
    def wanted(self) -> int:
        """How many candles fill the range."""
        return RANGES[self.range] // self.interval_ms

    @property
    def loaded(self) -> int:
        """How many candles are loaded at first: half a range more than is in sight, as far as one answer goes."""
        return min(MAX_CANDLES, self.wanted + max(60, self.wanted // 2))


def span_of(interval: str, range_: str) -> Span:
    """What an address asks for; one-minute candles over two hours if it names nothing known."""
    return Span(interval=interval if interval in INTERVALS else "1m", range=range_ if range_ in RANGES else "2h")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One candle of the table, with what the bot did in it."""

    open_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    score: str
    did: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleTable:
    """The chart as a table, newest first. *why_none* says why there is no row; *older* is where the next page ends."""

    rows: tuple[TableRow, ...] = ()
    why_none: str = ""
    words: str = ""
    older: int | None = None
    lines: tuple[str, ...] = ()


@web.get("/bots/<int(max=2147483647):bot_id>/chart")
@needs(Role.VIEWER)
@limit_calls
def chart_data(bot_id: int) -> Response:
    """Candles and marks for the script; with ``before`` (UTC ms) those that open before it."""
    span = span_of(request.args.get("i", ""), request.args.get("r", ""))
    before = time_of(request.args.get("before", ""))
    with read(engine()) as connection:
        bot = any_bot_row(connection, bot_id)
    try:
        limit = span.loaded if before is None else min(MAX_CANDLES, max(300, span.wanted))
        bars = market().candles(bot.exchange, bot.symbol, span.interval, limit=limit, before_ms=before)
    except ExchangeSilent as silence:
        return _no_candles(no_candles_text(silence.since_ms), 503, silence.retry_s)
    except FlotillaError as error:
        return _no_candles(error.message, error.http_status)
    with read(engine()) as connection:
        found = marks_of(connection, bot, bars, before)
    return jsonify({"bars": [bar_row(bar) for bar in bars], **found})


def time_of(text: str) -> int | None:
    """A time in an address (UTC ms); None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 15 else None


def _no_candles(words: str, status: int, retry_s: int | None = None) -> Response:
    response = jsonify({"message": words})
    response.status_code = status
    if retry_s is not None:
        response.headers["Retry-After"] = str(max(_RETRY_AFTER_S, retry_s))
    return response


def no_candles_text(since_ms: int) -> str:
    """What stands where candles should be while the exchange is silent."""
    return f"No candles: the exchange does not answer since {clock(since_ms)[11:]}."


def bar_row(bar: Bar) -> list[Any]:
    """A candle as the script takes it: open time in ms, open, high, low, close, volume."""
    return [bar.open_ms, *(float(value) for value in (bar.open, bar.high, bar.low, bar.close, bar.volume))]


def marks_of(connection: Connection, bot: Row[Any], bars: Sequence[Bar], before_ms: int | None) -> dict[str, Any]:
    """What the bot did while *bars* formed: trades, config changes, scores with the threshold."""
    if not bars:
        return {"trades": [], "marks": [], "scores": [], "lines": lines_of(connection, bot.id)}
    start, end = bars[0].open_ms, before_ms
    return {
        "trades": trades_of(connection, bot.id, start, end),
        "marks": _config_marks(connection, bot, start, end),
        "scores": scores_of(connection, bot.id, start, end),
        "lines": lines_of(connection, bot.id),
    }


def trades_of(connection: Connection, bot_id: int, start_ms: int, end_ms: int | None) -> list[dict[str, Any]]:
    """Buys and sells by position since *start_ms*, oldest first; a sell carries the position's net result."""
    fills = select(Fill).where(Fill.bot_id == bot_id, Fill.time_ms >= start_ms)
    closed = select(TradingOrder.id, TradingOrder.position_key, TradingOrder.pnl).where(
        TradingOrder.bot_id == bot_id, TradingOrder.closed_ms >= start_ms
    )
    if end_ms is not None:
        fills, closed = fills.where(Fill.time_ms < end_ms), closed.where(TradingOrder.closed_ms < end_ms)
    rows = connection.execute(fills.order_by(Fill.time_ms.desc()).limit(_MARKS_READ)).all()
    results = {row.position_key: row for row in connection.execute(closed)}
    groups: dict[tuple[int, str], list[Row[Any]]] = {}
    for row in reversed(rows):
        groups.setdefault((row.position_key, row.side), []).append(row)
    found = [_trade(key, side, group, results.get(key)) for (key, side), group in groups.items()]
    return sorted(found, key=lambda trade: trade["time"])


def _trade(key: int, side: str, fills: Sequence[Row[Any]], result: Any) -> dict[str, Any]:
    quantity = sum((fill.quantity for fill in fills), ZERO)
    worth = sum((fill.quantity * fill.price for fill in fills), ZERO)
    trade: dict[str, Any] = {
        "position": key,
        "time": fills[-1].time_ms,
        "side": "buy" if side == Side.BUY else "sell",
        "price": float(worth / quantity) if quantity else None,
        "quantity": plain(quantity),
    }
    if side != Side.BUY and result is not None and result.pnl is not None:
        trade["pnl"] = pnl(result.pnl).text
        trade["result"] = float(result.pnl)
    return trade


def _config_marks(connection: Connection, bot: Row[Any], start_ms: int, end_ms: int | None) -> list[dict[str, Any]]:
    offset = bot.heartbeat_ms - bot.market_ms if bot.heartbeat_ms and bot.market_ms else 0
    wanted = select(Event.ts, Event.data).where(
        Event.bot_id == bot.id, Event.type == "config.applied", Event.ts >= start_ms + offset
    )
    if end_ms is not None:
        wanted = wanted.where(Event.ts < end_ms + offset)
    events = connection.execute(wanted.order_by(Event.id.desc()).limit(100)).all()
    return [
        {"time": event.ts - offset, "text": f"v{event.data.get('version', '?')}"}
        for event in reversed(events)
        if event.data.get("changed")
    ]


def scores_of(connection: Connection, bot_id: int, start_ms: int, end_ms: int | None) -> list[list[float]]:
    """``[time, score, threshold]`` of each recorded decision of this time, oldest first; signals are decisions that led
    to something. Of more than `_SCORES_READ` twice over, those in the middle are left out."""
    events = events_within(connection, bot_id, "signal", start_ms, end_ms, most=_SCORES_READ)
    return _points((event.data for event in events), start_ms, end_ms)


def _newest_scores(connection: Connection, bot_id: int, start_ms: int) -> list[list[float]]:
    """Those of the last decisions."""
    wanted = select(Event.data).where(Event.bot_id == bot_id, Event.type == "signal")
    events = connection.execute(wanted.order_by(Event.id.desc()).limit(_LIVE_BARS)).scalars()
    return _points(events, start_ms, None)


def _points(signals: Iterable[Mapping[str, Any]], start_ms: int, end_ms: int | None) -> list[list[float]]:
    points: dict[int, list[float]] = {}
    for data in signals:
        at, score, threshold = data.get("decision_ms"), data.get("score"), data.get("threshold")
        if at is None or score is None or at < start_ms or (end_ms is not None and at >= end_ms):
            continue
        points[int(at)] = [int(at), float(score)] + ([float(threshold)] if threshold is not None else [])
    return [points[at] for at in sorted(points)]


def lines_of(connection: Connection, bot_id: int) -> list[dict[str, Any]]:
    """Entry, target and stop of the newest open positions, for price lines."""
    wanted = TradingOrder.bot_id == bot_id, TradingOrder.status.in_(OPEN)
    rows = connection.execute(select(TradingOrder).where(*wanted).order_by(TradingOrder.id.desc()).limit(_LINED)).all()
    return [line for row in rows for line in _lines(row, len(rows) > 3)]


def _lines(row: Row[Any], many: bool) -> list[dict[str, Any]]:
    document, is_pending = row.document, row.status == PositionState.PENDING
    entry, since = row.entry_price, document.get("activated_ms") or row.opened_ms
    if is_pending:
        legs = [leg for leg in document.get("legs", []) if leg.get("role") == "entry" and leg.get("price") is not None]
        entry = Decimal(str(legs[-1]["price"])) if legs else None
    levels = [("entry", entry, "waits" if is_pending else "entry")]
    for name, kind in (("target_price", "target"), ("stop_price", "stop")):
        if document.get(name) is not None and not is_pending:
            level = Decimal(str(document[name]))
            levels.append(
                (kind, level, kind + (f" {(level / entry - 1) * 100:+.2f} %".replace("-", "−") if entry else ""))
            )
    return [
        {
            "position": row.position_key,
            "since": since,
            "kind": kind,
            "price": float(level),
            "title": "" if many else title,
        }
        for kind, level, title in levels
        if level is not None
    ]


def live_data(connection: Connection, seen: BotSeen, interval: str) -> dict[str, str]:
    """The newest two candles, the lines, and the trades of the last candles: what a chart that is open has to add."""
    bot = seen.row
    bars = market().latest(bot.exchange, bot.symbol, interval, limit=_LIVE_BARS)
    silent = market().silent_since(bot.exchange)
    start = bars[0].open_ms if bars else seen.now - seen.offset_ms - _LIVE_BARS * INTERVAL_MS[interval]
    news = {
        "bars": [bar_row(bar) for bar in bars],
        "lines": lines_of(connection, bot.id),
        "trades": trades_of(connection, bot.id, start, None),
        "marks": _config_marks(connection, bot, start, None),
        "scores": _newest_scores(connection, bot.id, start),
        "message": "" if silent is None else no_candles_text(silent),
    }
    return {"chart": json.dumps(news, separators=(",", ":"))}


# The same as a table


def table_of(connection: Connection, seen: BotSeen, span: Span, before_ms: int | None) -> CandleTable:
    """A page of candles that open before a time (None: the newest), with what the bot did in each."""
    bot, limit = seen.row, min(span.wanted, TABLE_ROWS)
    lines = tuple(
        f"{line['title'] or line['kind']} {price(exact(line['price']))}" for line in lines_of(connection, bot.id)
    )
    try:
        bars = market().candles(bot.exchange, bot.symbol, span.interval, limit=limit, before_ms=before_ms)
    except ExchangeSilent as silence:
        return CandleTable(why_none=no_candles_text(silence.since_ms), lines=lines)
    except FlotillaError as error:
        return CandleTable(why_none=error.message, lines=lines)
    if not bars:
        return CandleTable(why_none="The exchange has no candles of this market from that time.", lines=lines)
    scores, did = _by_candle(connection, bot, bars, span, before_ms)
    which = "The newest" if before_ms is None else "These"
    return CandleTable(
        rows=tuple(_table_row(bar, scores, did) for bar in reversed(bars)),
        words=f"{which} {len(bars):,} of {span.wanted:,} candles in {RANGE_WORDS[span.range]}."
        if before_ms is None and span.wanted > len(bars)
        else f"{which} {len(bars):,} candles.",
        older=bars[0].open_ms if len(bars) == limit else None,
        lines=lines,
    )


def _by_candle(
    connection: Connection, bot: Row[Any], bars: Sequence[Bar], span: Span, before_ms: int | None
) -> tuple[dict[int, str], dict[int, list[str]]]:
    """The last score and all that the bot did, by the candle in which it was."""
    marks = marks_of(connection, bot, bars, before_ms)
    scores: dict[int, str] = {}
    for at, score, *threshold in marks["scores"]:
        scores[_candle_of(int(at), span)] = f"{score:.3g}" + (f" of {threshold[0]:.3g}" if threshold else "")
    did: dict[int, list[str]] = {}
    for trade in marks["trades"]:
        result = f", {trade['pnl']}" if "pnl" in trade else ""
        worth = "" if trade["price"] is None else f" @ {price(exact(trade['price']))}"
        did.setdefault(_candle_of(trade["time"], span), []).append(
            f"{trade['side']} {trade['quantity']}{worth}{result}"
        )
    for mark in marks["marks"]:
        did.setdefault(_candle_of(mark["time"], span), []).append(f"config {mark['text']}")
    return scores, did


def _candle_of(at_ms: int, span: Span) -> int:
    return at_ms // span.interval_ms * span.interval_ms


def _table_row(bar: Bar, scores: Mapping[int, str], did: Mapping[int, Sequence[str]]) -> TableRow:
    return TableRow(
        open_ms=bar.open_ms,
        open=price(bar.open),
        high=price(bar.high),
        low=price(bar.low),
        close=price(bar.close),
        volume=plain(bar.volume),
        score=scores.get(bar.open_ms, ""),
        did="; ".join(did.get(bar.open_ms, ())),
    )
