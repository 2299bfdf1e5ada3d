"""What a market did over a stretch of time: first, highest, lowest and last price, volumes, counts and ids.

Pure. Whole minutes come from ``History``, which keeps them; only the pieces of minutes at either end are added up from
trades, so that a day of half a million trades costs well under a millisecond. Prices are ticks, volumes lots, quote
volumes ticks × lots. How it is written is ``api.market_wire``'s business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from simulator.market.candles import DAY_MS, SECOND_MS, Candles, History, join, second_candles

MINUTE_MS = 60_000
AVERAGE_MINS = 5
WINDOW_PATTERN = r"^([1-9]|[1-5][0-9])m$|^([1-9]|1[0-9]|2[0-3])h$|^[1-7]d$"
_UNIT_MS = {"m": MINUTE_MS, "h": 60 * MINUTE_MS, "d": DAY_MS}
_WINDOW = re.compile(WINDOW_PATTERN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Trades of one symbol from `open_ms` to `close_ms`, both included. Without a trade, prices and volumes are 0 and
    ids −1."""

    open_ms: int
    close_ms: int
    open: int = 0
    high: int = 0
    low: int = 0
    close: int = 0
    volume: int = 0
    quote: int = 0
    count: int = 0
    first_id: int = -1
    last_id: int = -1


def window_ms(size: str) -> int | None:
    """Length of a window such as 5m, 4h or 7d; ``None`` when there is no such window."""
    return int(size[:-1]) * _UNIT_MS[size[-1]] if _WINDOW.fullmatch(size) else None


def rolling_open(window: int, now_ms: int) -> int:
    """Where a rolling window of *window* milliseconds opens: on a minute, up to 59 999 ms earlier than its length."""
    return (now_ms - window) // MINUTE_MS * MINUTE_MS


def stats(history: History, open_ms: int, now_ms: int, close_ms: int | None = None) -> Stats:
    """What was traded from *open_ms* to *now_ms*. *close_ms* is the end to be named when it is not *now_ms*."""
    close_ms = now_ms if close_ms is None else close_ms
    rows = _rows(history, open_ms, now_ms)
    rows = rows.pick(rows.count.nonzero()[0])
    if not len(rows):
        return Stats(open_ms=open_ms, close_ms=close_ms)
    return Stats(
        open_ms=open_ms,
        close_ms=close_ms,
        open=int(rows.open[0]),
        high=int(rows.high.max()),
        low=int(rows.low.min()),
        close=int(rows.close[-1]),
        volume=int(rows.volume.sum()),
        quote=int(rows.quote.sum()),
        count=int(rows.count.sum()),
        first_id=int(rows.first_id[0]),
        last_id=int(rows.last_id[-1]),
    )


def average_price(history: History, now_ms: int) -> tuple[int, int] | None:
    """Quote volume and volume of the last `AVERAGE_MINS` minutes; when nothing was traded, of the last trade ever.
    ``None`` before the first."""
    recent = stats(history, now_ms - AVERAGE_MINS * MINUTE_MS, now_ms)
    if recent.volume:
        return recent.quote, recent.volume
    last = history.tape.last_trade(now_ms + 1)
    return None if last is None else (last.price, 1)


def _rows(history: History, open_ms: int, now_ms: int) -> Candles:
    """Candles, not all of one length, that together hold the trades of [open_ms, now_ms] and no others."""
    end = history.tape.end_ms()
    start = max(open_ms, history.tape.first_ms(now_ms))
    stop = now_ms + 1 if end is None else min(now_ms + 1, end)
    if start >= stop:
        return join([])
    whole = -(-start // MINUTE_MS) * MINUTE_MS
    parts = []
    if start < whole:
        trades = history.tape.trades(start, min(whole, stop))
        parts.append(second_candles(trades, whole // SECOND_MS - 60, 60, 0))
    if whole < stop:
        parts.append(history.minutes(whole, stop))
    return join(parts)
