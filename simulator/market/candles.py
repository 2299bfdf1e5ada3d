"""Trades and candles as columns, how trades become candles, and which candles a request asks for.

Pure. Prices are ticks, volumes lots, quote volumes ticks × lots, times UTC milliseconds (seconds where named ``_s``).
``Tape`` is what a market has to offer; ``History`` answers candle requests over any tape and caches closed minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

SECOND_MS = 1000
DAY_MS = 86_400_000
HOUR_S = 3600
INTERVALS: dict[str, int] = {
    "1s": 1000,
    **{f"{n}m": n * 60_000 for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * 3_600_000 for n in (1, 2, 4, 6, 8, 12)},
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
    "1M": 31 * DAY_MS,
}
MINUTE_S = 60
MONDAY_MS = 4 * DAY_MS  # the epoch was a Thursday
CACHED_HOURS = 24 * 35
CACHED_MINUTES = 120
READY_HOURS = 2  # so many hours take some milliseconds to compute


class Trade(NamedTuple):
    """One execution in the market. `buyer_maker` means that the aggressor sold."""

    id: int
    time_ms: int
    price: int
    qty: int
    buyer_maker: bool


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades as columns of equal length, ascending in time and id."""

    id: Ints
    time_ms: Ints
    price: Ints
    qty: Ints
    buyer_maker: NDArray[np.bool_]

    def between(self, start_ms: int, end_ms: int) -> Trades:
        """Those with start_ms <= time < end_ms."""
        low, high = np.searchsorted(self.time_ms, (start_ms, end_ms))
        return self.pick(slice(low, high))

    def pick(self, key: slice) -> Trades:
        """The trades that *key* selects."""
        return Trades(*(getattr(self, field.name)[key] for field in fields(self)))

    def rows(self) -> list[Trade]:
        """The same trades, one object each."""
        columns = (getattr(self, field.name).tolist() for field in fields(self))
        return [Trade(*row) for row in zip(*columns, strict=True)]


@dataclass(frozen=True, slots=True)
class Candles:
    """Candles as columns of equal length, ascending. An idle candle has `first_id` = `last_id` = -1."""

    open_s: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    quote: Ints
    count: Ints
    taker_volume: Ints
    taker_quote: Ints
    first_id: Ints
    last_id: Ints

    def __len__(self) -> int:
        return len(self.open_s)

    def pick(self, key: slice | Ints) -> Candles:
        """The rows that *key* selects."""
        return Candles(*(getattr(self, field.name)[key] for field in fields(self)))

    def rows(self) -> list[tuple[int, ...]]:
        """One tuple per candle, in field order."""
        return list(zip(*(getattr(self, field.name).tolist() for field in fields(self)), strict=True))


EMPTY = Candles(*(np.empty(0, np.int64) for _ in fields(Candles)))


class Tape(Protocol):
    """A market's past and future: everything that is ever traded in one symbol."""

    def first_ms(self, now_ms: int) -> int:
        """Start of the history that is kept at *now_ms*, on a whole second."""

    def end_ms(self) -> int | None:
        """When the tape ends, on a whole second; ``None``: never."""

    def trades(self, start_ms: int, end_ms: int) -> Trades:
        """All trades with start_ms <= time < end_ms."""

    def last_trade(self, before_ms: int) -> Trade | None:
        """The latest trade with time < before_ms."""

    def seconds(self, start_s: int, end_s: int) -> Candles:
        """One candle for each second from start_s to end_s (exclusive), idle ones included."""


@runtime_checkable
class MinuteTape(Tape, Protocol):
    """A tape that knows its minutes without looking at every second of them."""

    def minutes(self, start_s: int, end_s: int) -> Candles:
        """One candle for each minute from start_s to end_s (exclusive, both on a minute), idle ones included."""


def join(parts: Sequence[Candles]) -> Candles:
    """The rows of *parts*, one after another."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return EMPTY
    return Candles(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Candles)))


def second_candles(trades: Trades, start_s: int, count: int, last_close: int) -> Candles:
    """One candle per second from *trades*, which must all lie in those *count* seconds. *last_close* fills a head
    without trades."""
    edges = np.searchsorted(trades.time_ms, (start_s + np.arange(count + 1, dtype=np.int64)) * SECOND_MS)
    numbers = np.diff(edges).astype(np.int64)
    busy = numbers > 0
    at, last = edges[:-1][busy], edges[1:][busy] - 1
    value = trades.price * trades.qty
    taken = np.where(trades.buyer_maker, 0, trades.qty)
    zeros = np.zeros(count, np.int64)

    def spread(values: Ints, idle: Ints) -> Ints:
        column = idle.copy()
        column[busy] = values
        return column

    def totals(values: Ints) -> Ints:
        return spread(np.add.reduceat(values, at) if len(at) else values[:0], zeros)

    filled = np.maximum.accumulate(np.where(busy, np.arange(count), -1))
    close = spread(trades.price[last], zeros)
    carried = np.where(filled >= 0, close[filled], last_close)
    nothing = zeros - 1
    return Candles(
        open_s=start_s + np.arange(count, dtype=np.int64),
        open=spread(trades.price[at], carried),
        high=spread(np.maximum.reduceat(trades.price, at) if len(at) else at, carried),
        low=spread(np.minimum.reduceat(trades.price, at) if len(at) else at, carried),
        close=carried,
        volume=totals(trades.qty),
        quote=totals(value),
        count=numbers,
        taker_volume=totals(taken),
        taker_quote=totals(taken * trades.price),
        first_id=spread(trades.id[at], nothing),
        last_id=spread(trades.id[last], nothing),
    )


def roll_up(candles: Candles, open_s: Ints) -> Candles:
    """Longer candles from shorter ones; *open_s* gives, for each short candle, the opening second of its long one. The
    price that an idle short candle carries over counts only when the whole long one is idle."""
    if not len(candles):
        return EMPTY
    at = np.flatnonzero(np.diff(open_s, prepend=open_s[0] - 1))
    last = np.append(at[1:], len(candles)) - 1
    never = np.iinfo(np.int64).max
    busy = candles.count > 0
    count = np.add.reduceat(candles.count, at)
    begun = np.minimum.reduceat(np.where(busy, np.arange(len(candles)), never), at)
    first_id = np.minimum.reduceat(np.where(candles.first_id < 0, never, candles.first_id), at)
    carried = candles.open[at]
    return Candles(
        open_s=open_s[at],
        open=candles.open[np.where(count > 0, begun, at)],
        high=np.where(count > 0, np.maximum.reduceat(np.where(busy, candles.high, -1), at), carried),
        low=np.where(count > 0, np.minimum.reduceat(np.where(busy, candles.low, never), at), carried),
        close=candles.close[last],
        volume=np.add.reduceat(candles.volume, at),
        quote=np.add.reduceat(candles.quote, at),
        count=count,
        taker_volume=np.add.reduceat(candles.taker_volume, at),
        taker_quote=np.add.reduceat(candles.taker_quote, at),
        first_id=np.where(first_id == never, -1, first_id),
        last_id=np.maximum.reduceat(candles.last_id, at),
    )


def open_of(interval: str, time_ms: int, offset_ms: int = 0) -> int:
    """Opening time of the candle that holds *time_ms*. *offset_ms* is a time zone's, ahead of UTC."""
    local_ms = time_ms + offset_ms
    if interval == "1M":
        at = datetime.fromtimestamp(local_ms // 1000, UTC)
        return int(datetime(at.year, at.month, 1, tzinfo=UTC).timestamp()) * 1000 - offset_ms
    shift = MONDAY_MS if interval == "1w" else 0
    step = INTERVALS[interval]
    return (local_ms - shift) // step * step + shift - offset_ms


def next_open(interval: str, open_ms: int, offset_ms: int = 0) -> int:
    """Opening time of the candle after the one that opens at *open_ms*."""
    length_ms = INTERVALS[interval]
    return open_of(interval, open_ms + length_ms, offset_ms) if interval == "1M" else open_ms + length_ms


def _opens_s(interval: str, seconds: Ints, offset_s: int) -> Ints:
    """For each of *seconds*, the opening second of its candle."""
    local = seconds + offset_s
    if interval == "1M":
        months = local.astype("datetime64[s]").astype("datetime64[M]")
        return months.astype("datetime64[s]").astype(np.int64) - offset_s
    shift = MONDAY_MS // SECOND_MS if interval == "1w" else 0
    step = INTERVALS[interval] // SECOND_MS
    return (local - shift) // step * step + shift - offset_s


class History:
    """Candles of one symbol, as far as they have happened. Keeps the minutes of hours that are over; may be asked from
    several threads at once."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.stopped = False  # set from outside: a long computation gives up at the next hour
        self._hours: dict[int, Candles] = {}  # hour -> its minutes
        self._closed: dict[int, Candles] = {}  # minute -> its candle, for the hour that is still open

    def klines(
        self, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int, offset_ms: int = 0
    ) -> Candles:
        """At most *limit* candles that open in [start_ms, end_ms]: the oldest ones when *start_ms* is given, else the
        newest. The last may still be open at *now_ms*. *offset_ms* is the time zone in which they open."""
        end = self.tape.end_ms()
        newest = min(at for at in (now_ms, end_ms, None if end is None else end - 1) if at is not None)
        earliest = open_of(interval, self.tape.first_ms(now_ms), offset_ms)
        step = INTERVALS[interval]
        if start_ms is not None and start_ms > newest:
            return EMPTY
        if start_ms is None:
            first = max(earliest, open_of(interval, max(0, newest - (limit - 1) * step), offset_ms))
        else:
            first = open_of(interval, max(start_ms, earliest), offset_ms)
            first = first if first >= start_ms else next_open(interval, first, offset_ms)
        if first > newest:
            return EMPTY
        until = min(newest, first + (limit + 1) * step) if start_ms is not None else newest
        rows = self._range(interval, first, until, now_ms, offset_ms)
        return rows.pick(slice(None, limit) if start_ms is not None else slice(-limit, None))

    def candle(self, interval: str, open_ms: int, now_ms: int, offset_ms: int = 0) -> Candles:
        """The one candle that opens at *open_ms*, as it stands at *now_ms* (inclusive)."""
        until = min(now_ms, next_open(interval, open_ms, offset_ms) - 1)
        return self._range(interval, open_ms, until, now_ms, offset_ms)

    def minutes(self, start_ms: int, stop_ms: int) -> Candles:
        """Candles of the minutes from *start_ms* (on a minute); the last counts only trades before *stop_ms*."""
        start_s = max(start_ms // SECOND_MS, self.tape.first_ms(stop_ms) // SECOND_MS // MINUTE_S * MINUTE_S)
        hour, last_hour = start_s // HOUR_S, stop_ms // SECOND_MS // HOUR_S
        parts = []
        for closed in range(hour, last_hour):
            if self.stopped:
                break
            minutes = self._hour(closed)
            parts.append(minutes.pick(np.flatnonzero(minutes.open_s >= start_s)) if closed == hour else minutes)
        open_s = stop_ms // SECOND_MS // MINUTE_S * MINUTE_S
        live_s = max(start_s, last_hour * HOUR_S)
        parts += [self._minute(second // MINUTE_S) for second in range(live_s, open_s, MINUTE_S)]
        live = self._live_seconds(max(live_s, open_s), stop_ms)
        if len(live):
            parts.append(roll_up(live, live.open_s // MINUTE_S * MINUTE_S))
        return join([part for part in parts if len(part)])

    def is_ready(self, start_ms: int, stop_ms: int) -> bool:
        """Would `minutes` answer at once? If not, it had better be asked beside the event loop."""
        start_ms = max(start_ms, self.tape.first_ms(stop_ms))
        hours = range(start_ms // SECOND_MS // HOUR_S, stop_ms // SECOND_MS // HOUR_S)
        return sum(hour not in self._hours for hour in hours) <= READY_HOURS

    def cost_s(self, interval: str, limit: int) -> int:
        """Upper bound of the seconds that have to be computed for a request."""
        return INTERVALS[interval] // 1000 * limit

    def _range(self, interval: str, first_ms: int, until_ms: int, now_ms: int, offset_ms: int) -> Candles:
        end = self.tape.end_ms()
        stop_ms = min(next_open(interval, open_of(interval, until_ms, offset_ms), offset_ms), now_ms + 1)
        stop_ms = stop_ms if end is None else min(stop_ms, end)
        if interval == "1s":
            return self._live_seconds(first_ms // SECOND_MS, stop_ms)
        minutes = self.minutes(first_ms, stop_ms)
        return roll_up(minutes, _opens_s(interval, minutes.open_s, offset_ms // SECOND_MS))

    def _live_seconds(self, start_s: int, stop_ms: int) -> Candles:
        """Seconds from *start_s*; the last one counts only trades before *stop_ms*."""
        start_s = max(start_s, self.tape.first_ms(stop_ms) // SECOND_MS)
        whole_s, rest_ms = divmod(stop_ms, SECOND_MS)
        closed = self.tape.seconds(start_s, whole_s)
        if not rest_ms or whole_s < start_s:
            return closed
        previous = closed if len(closed) else self.tape.seconds(whole_s - 1, whole_s)
        trades = self.tape.trades(whole_s * SECOND_MS, stop_ms)
        last_close = int(previous.close[-1]) if len(previous) else 0
        if not last_close and not len(trades.id):
            return closed
        last_close = last_close or int(trades.price[0])
        return join([closed, second_candles(trades, whole_s, 1, last_close)])

    def _hour(self, hour: int) -> Candles:
        known = self._hours.get(hour)
        if known is None:
            known = _kept(self._hours, hour, self._computed(hour * HOUR_S, (hour + 1) * HOUR_S), CACHED_HOURS)
        return known

    def _minute(self, minute: int) -> Candles:
        known = self._closed.get(minute)
        if known is None:
            candle = self._computed(minute * MINUTE_S, (minute + 1) * MINUTE_S)
            known = _kept(self._closed, minute, candle, CACHED_MINUTES)
        return known

    def _computed(self, start_s: int, end_s: int) -> Candles:
        if isinstance(self.tape, MinuteTape):
            return self.tape.minutes(start_s, end_s)
        seconds = self.tape.seconds(start_s, end_s)
        return roll_up(seconds, seconds.open_s // MINUTE_S * MINUTE_S)


def _kept(cache: dict[int, Candles], key: int, value: Candles, size: int) -> Candles:
    """*value*, after it went into *cache* and pushed out what came first."""
    cache[key] = value
    for old in list(cache)[:-size]:
        cache.pop(old, None)
    return value
