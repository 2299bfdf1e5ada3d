"""A recorded market as a tape: its parts in order of time, moved in time, and repeated if asked to.

A part is a file's trades, or candles whose trades are made when somebody asks for their time, the same ones every
time; the latest candles' trades are kept. Reads no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Protocol

import numpy as np

from simulator.core.rules import SymbolRules
from simulator.market.candles import EMPTY, SECOND_MS, Candles, Ints, Trade, Trades, join, roll_up, second_candles
from simulator.market.replay.chance import Chance
from simulator.market.replay.consistent import MANY, Consistent
from simulator.market.replay.walk import Candle, path_of, trades_of

MINUTE_MS = 60_000
KEPT_TRADES = 4_000_000  # of the candles asked for last; 33 bytes each
KEPT_CANDLES = 4096


class Part(Protocol):
    """Some recorded time in one symbol."""

    def span_ms(self) -> tuple[int, int]:
        """Its beginning and its end, on whole seconds; there is a trade in its first second."""

    def count(self) -> int:
        """How many trades it has; their ids run from 1 to that."""

    def between(self, start_ms: int, end_ms: int) -> Trades:
        """Those with start_ms <= time < end_ms."""

    def last_trade(self, before_ms: int) -> Trade | None:
        """The latest with time < before_ms."""

    def busy(self, start_s: int, end_s: int, step_s: int) -> Candles:
        """Candles of *step_s* seconds each that have trades and open in [start_s, end_s), both multiples of it."""


@dataclass(frozen=True, slots=True)
class TradePart:
    """Trades as they were recorded."""

    trades: Trades

    def span_ms(self) -> tuple[int, int]:
        """From the first trade's second to the end of the last one's."""
        time = self.trades.time_ms
        return int(time[0]) // SECOND_MS * SECOND_MS, (int(time[-1]) // SECOND_MS + 1) * SECOND_MS

    def count(self) -> int:
        """As many as were recorded."""
        return len(self.trades.id)

    def between(self, start_ms: int, end_ms: int) -> Trades:
        """Those with start_ms <= time < end_ms."""
        return self.trades.between(start_ms, end_ms)

    def last_trade(self, before_ms: int) -> Trade | None:
        """The latest with time < before_ms."""
        at = int(np.searchsorted(self.trades.time_ms, before_ms))
        return _row(self.trades, at - 1) if at else None

    def busy(self, start_s: int, end_s: int, step_s: int) -> Candles:
        """Candles of *step_s* seconds each that have trades and open in [start_s, end_s), both multiples of it."""
        return _busy(self.between(start_s * SECOND_MS, end_s * SECOND_MS), step_s)


class CandlePart:
    """Trades that roll up to recorded candles of one symbol, made when they are asked for."""

    def __init__(self, symbol: str, candles: Consistent) -> None:
        self.candles = candles
        self._symbol = symbol
        self._upto = np.cumsum(candles.count)
        self._is_exact = (candles.count >= MANY) | (candles.low == candles.high)
        kept = max(2, min(KEPT_CANDLES, KEPT_TRADES // int(candles.count.max())))
        self._trades = lru_cache(maxsize=kept)(self._made)

    def span_ms(self) -> tuple[int, int]:
        """From the first candle's opening to the last one's end."""
        candles = self.candles
        return int(candles.open_ms[0]), int(candles.open_ms[-1] + candles.length_ms[-1])

    def count(self) -> int:
        """All candles' trades."""
        return int(self._upto[-1])

    def between(self, start_ms: int, end_ms: int) -> Trades:
        """Those with start_ms <= time < end_ms."""
        first, last = self._touched(start_ms, end_ms)
        if last - first == 1:
            return self._trades(first).between(start_ms, end_ms)
        return joined([self._trades(at) for at in range(first, last)]).between(start_ms, end_ms)

    def last_trade(self, before_ms: int) -> Trade | None:
        """The latest with time < before_ms."""
        at = int(np.searchsorted(self.candles.open_ms, before_ms)) - 1
        while at >= 0:
            number = int(np.searchsorted(self._trades(at).time_ms, before_ms))
            if number:
                return _row(self._trades(at), number - 1)
            at -= 1
        return None

    def busy(self, start_s: int, end_s: int, step_s: int) -> Candles:
        """Candles of *step_s* seconds each that have trades and open in [start_s, end_s), both multiples of it."""
        first, last = self._touched(start_s * SECOND_MS, end_s * SECOND_MS)
        step_ms, rows = step_s * SECOND_MS, slice(first, last)
        fits = (self.candles.length_ms[rows] == step_ms) & (self.candles.open_ms[rows] % step_ms == 0)
        told = fits & self._is_exact[rows]  # these need no trades to be known
        made = [self._trades(at) for at in (first + np.flatnonzero(~told)).tolist()]
        rest = _busy(joined(made).between(start_s * SECOND_MS, end_s * SECOND_MS), step_s)
        both = join([self._told(first + np.flatnonzero(told)), rest])
        both = both.pick(np.flatnonzero((both.open_s >= start_s) & (both.open_s < end_s)))
        return both.pick(np.argsort(both.open_s, kind="stable"))

    def _told(self, at: Ints) -> Candles:
        c = self.candles
        return Candles(
            open_s=c.open_ms[at] // SECOND_MS, open=c.open[at], high=c.high[at], low=c.low[at], close=c.close[at],
            volume=c.volume[at], quote=c.quote[at], count=c.count[at], taker_volume=c.taker_volume[at],
            taker_quote=c.taker_quote[at], first_id=self._upto[at] - c.count[at] + 1, last_id=self._upto[at],
        )  # fmt: skip

    def _touched(self, start_ms: int, end_ms: int) -> tuple[int, int]:
        """The candles [first, last) that may have trades in [start_ms, end_ms)."""
        first = max(int(np.searchsorted(self.candles.open_ms, start_ms, side="right")) - 1, 0)
        return first, int(np.searchsorted(self.candles.open_ms, end_ms))

    def _made(self, at: int) -> Trades:
        c = self.candles
        path, bought = path_of(int(c.open[at]), int(c.high[at]), int(c.low[at]), int(c.close[at]), int(c.bought[at]))
        candle = Candle(
            open_ms=int(c.open_ms[at]), length_ms=int(c.length_ms[at]), low=int(c.low[at]), high=int(c.high[at]),
            path=path, bought=bought, volume=int(c.volume[at]), quote=int(c.quote[at]), count=int(c.count[at]),
            taken=int(c.taker_volume[at]), taken_quote=int(c.taker_quote[at]),
        )  # fmt: skip
        made = trades_of(candle, Chance(self._symbol, candle.open_ms))
        return replace(made, id=made.id + (int(self._upto[at]) - candle.count))


class Recording:
    """All recorded parts of one symbol, in order of time and without overlap."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._spans = [part.span_ms() for part in parts]
        counts = [part.count() for part in parts]
        self._ids_before = [sum(counts[:number]) for number in range(len(counts))]
        self.count = sum(counts)
        self.start_ms = self._spans[0][0]
        self.end_ms = self._spans[-1][1]

    def between(self, start_ms: int, end_ms: int) -> Trades:
        """Trades with start_ms <= time < end_ms."""
        found = []
        for part, (start, end), ids in zip(self.parts, self._spans, self._ids_before, strict=True):
            if start < end_ms and start_ms < end:
                trades = part.between(start_ms, end_ms)
                found.append(replace(trades, id=trades.id + ids))
        return joined(found)

    def last_trade(self, before_ms: int) -> Trade | None:
        """The latest trade with time < before_ms."""
        for part, (start, _), ids in reversed(list(zip(self.parts, self._spans, self._ids_before, strict=True))):
            trade = part.last_trade(before_ms) if start < before_ms else None
            if trade is not None:
                return trade._replace(id=trade.id + ids)
        return None

    def busy(self, start_s: int, end_s: int, step_s: int) -> Candles:
        """Candles of *step_s* seconds each that have trades and open in [start_s, end_s), both multiples of it."""
        found = []
        for part, (start, end), ids in zip(self.parts, self._spans, self._ids_before, strict=True):
            if start < end_s * SECOND_MS and start_s * SECOND_MS < end:
                found.append(_moved(part.busy(start_s, end_s, step_s), 0, ids))
        both = join(found)
        return both if len(found) < 2 else roll_up(both, both.open_s)  # two parts may meet within a candle


@dataclass(frozen=True, slots=True)
class ReplayTape:
    """One symbol's recording. *shift_ms* moves it in time; with *span_ms* it repeats that often for ever. Both are
    whole seconds."""

    rules: SymbolRules
    recorded: Recording | Trades
    span_ms: int | None = None
    shift_ms: int = 0

    @property
    def recording(self) -> Recording:
        """What is played."""
        return self.recorded if isinstance(self.recorded, Recording) else Recording([TradePart(self.recorded)])

    def first_ms(self, now_ms: int) -> int:
        """The second of the first trade."""
        return self.recording.start_ms + self.shift_ms

    def end_ms(self) -> int | None:
        """The end of what was recorded, unless the tape repeats."""
        return self.recording.end_ms + self.shift_ms if self.span_ms is None else None

    def trades(self, start_ms: int, end_ms: int) -> Trades:
        """All trades with start_ms <= time < end_ms."""
        found = []
        for number in self._rounds(max(start_ms, self.first_ms(0)), end_ms):
            move, ids = self._moved(number)
            trades = self.recording.between(start_ms - move, end_ms - move)
            found.append(replace(trades, id=trades.id + ids, time_ms=trades.time_ms + move))
        return joined(found)

    def last_trade(self, before_ms: int) -> Trade | None:
        """The latest trade with time < before_ms."""
        if before_ms <= self.first_ms(0):
            return None
        for number in reversed(self._rounds(before_ms - 1, before_ms)):
            for earlier in (number, number - 1)[: number + 1]:
                move, ids = self._moved(earlier)
                trade = self.recording.last_trade(before_ms - move)
                if trade is not None:
                    return trade._replace(id=trade.id + ids, time_ms=trade.time_ms + move)
        return None

    def seconds(self, start_s: int, end_s: int) -> Candles:
        """One candle per second inside the tape."""
        start_s, end = max(start_s, self.first_ms(0) // SECOND_MS), self.end_ms()
        return self._candles(start_s, end_s if end is None else min(end_s, end // SECOND_MS), 1)

    def minutes(self, start_s: int, end_s: int) -> Candles:
        """One candle per minute inside the tape; *start_s* and *end_s* are on a minute."""
        start_s, end = max(start_s, self.first_ms(0) // MINUTE_MS * 60), self.end_ms()
        return self._candles(start_s, end_s if end is None else min(end_s, -(-end // MINUTE_MS) * 60), 60)

    def _candles(self, start_s: int, end_s: int, step_s: int) -> Candles:
        if end_s <= start_s:
            return EMPTY
        found = []
        for number in self._rounds(start_s * SECOND_MS, end_s * SECOND_MS):
            move, ids = self._moved(number)
            inside = start_s - move // SECOND_MS, end_s - move // SECOND_MS
            if move % (step_s * SECOND_MS):  # what was recorded as one candle belongs to two now
                busy = _rolled(_moved(self.recording.busy(*inside, 1), move // SECOND_MS, ids), step_s)
            else:
                busy = _moved(self.recording.busy(*inside, step_s), move // SECOND_MS, ids)
            found.append(busy)
        both = join(found)
        both = _rolled(both, step_s) if len(found) > 1 else both
        before = self.last_trade(start_s * SECOND_MS)
        return with_idle(both, start_s, end_s, step_s, before.price if before else int(both.open[0]))

    def _rounds(self, start_ms: int, end_ms: int) -> range:
        if self.span_ms is None:
            return range(1 if end_ms > start_ms else 0)
        first = self.first_ms(0)
        return range(max(0, (start_ms - first) // self.span_ms), max(0, -(-(end_ms - first) // self.span_ms)))

    def _moved(self, number: int) -> tuple[int, int]:
        """By how much the times and the ids of a round differ from the recorded ones."""
        return self.shift_ms + number * (self.span_ms or 0), number * self.recording.count


def with_idle(busy: Candles, start_s: int, end_s: int, step_s: int, last_close: int) -> Candles:
    """All candles of *step_s* seconds that open in [start_s, end_s): *busy*, and between them such without trades at
    the close before, which is *last_close* at first."""
    count = (end_s - start_s) // step_s
    at = (busy.open_s - start_s) // step_s
    filled = np.zeros(count, np.int64)
    filled[at] = np.arange(1, len(busy) + 1)
    filled = np.maximum.accumulate(filled)
    close = np.concatenate([[last_close], busy.close])[filled]

    def spread(values: Ints, idle: Ints) -> Ints:
        column = idle.copy()
        column[at] = values
        return column

    nothing, never = np.zeros(count, np.int64), np.full(count, -1, np.int64)
    return Candles(
        open_s=start_s + step_s * np.arange(count, dtype=np.int64),
        open=spread(busy.open, close),
        high=spread(busy.high, close),
        low=spread(busy.low, close),
        close=close,
        volume=spread(busy.volume, nothing),
        quote=spread(busy.quote, nothing),
        count=spread(busy.count, nothing),
        taker_volume=spread(busy.taker_volume, nothing),
        taker_quote=spread(busy.taker_quote, nothing),
        first_id=spread(busy.first_id, never),
        last_id=spread(busy.last_id, never),
    )


def _busy(trades: Trades, step_s: int) -> Candles:
    """Candles of *step_s* seconds that have trades."""
    if not len(trades.id):
        return EMPTY
    first, last = int(trades.time_ms[0]) // SECOND_MS, int(trades.time_ms[-1]) // SECOND_MS
    candles = second_candles(trades, first, last + 1 - first, 0)
    candles = candles.pick(np.flatnonzero(candles.count))
    return candles if step_s == 1 else _rolled(candles, step_s)


def _rolled(busy: Candles, step_s: int) -> Candles:
    return roll_up(busy, busy.open_s // step_s * step_s)


def _moved(candles: Candles, seconds: int, ids: int) -> Candles:
    """The same candles elsewhere in time, with other ids; none of them may be idle."""
    return replace(
        candles, open_s=candles.open_s + seconds, first_id=candles.first_id + ids, last_id=candles.last_id + ids
    )


def joined(parts: Sequence[Trades]) -> Trades:
    """The trades of *parts*, one after another."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return NOTHING
    return Trades(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Trades)))


def _row(trades: Trades, at: int) -> Trade:
    return Trade(
        int(trades.id[at]), int(trades.time_ms[at]), int(trades.price[at]), int(trades.qty[at]),
        bool(trades.buyer_maker[at]),
    )  # fmt: skip


_NO_INTS = np.empty(0, np.int64)
NOTHING = Trades(_NO_INTS, _NO_INTS, _NO_INTS, _NO_INTS, np.empty(0, np.bool_))
