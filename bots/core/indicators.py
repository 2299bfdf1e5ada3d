"""Recursive indicators whose value depends on the bars before it, and never on when the process started.

A recursive indicator remembers its whole past, so two that began at different bars never quite agree. `Anchored`
forgets on schedule: it begins anew at anchors (bars that end at a multiple of *span* intervals of market time), and
what began at one anchor is read from the next one on. So 2 × *span* bars of history reproduce every value bit for bit.
The formulas are TA-Lib's, whose incremental form equals its batch form bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from bots.core.candles import Candle

WARM_UP: Final = 10
"""Spans are this many times an indicator's period: by then its first bars weigh below 0.01 %."""


class Stream(Protocol):
    """An indicator that was begun on some history and takes one close after the other."""

    def update(self, close: float, /) -> float: ...


class Anchored:
    """A recursive indicator over the closes of bars of *interval_ms*; *begin* makes it from *span* closes."""

    __slots__ = ("_begin", "_closes", "_end_ms", "_stream", "interval_ms", "span")

    def __init__(self, begin: Callable[[list[float]], Stream], *, span: int, interval_ms: int) -> None:
        self.span = span
        self.interval_ms = interval_ms
        self._begin = begin
        self._closes: list[float] | None = None  # since the last anchor: what the next stream begins with
        self._stream: Stream | None = None
        self._end_ms = 0

    @property
    def bars_needed(self) -> int:
        """So many bars in a row give a value, and always the same one."""
        return 2 * self.span

    def update(self, bar: Candle) -> float | None:
        """The value at *bar*; None during the first `bars_needed` bars at most, and again after a gap."""
        if bar.open_ms != self._end_ms:
            self._closes = self._stream = None
        self._end_ms = bar.end_ms
        if bar.end_ms % (self.span * self.interval_ms) == 0:
            if self._closes is not None:
                self._stream = self._begin(self._closes)
            self._closes = []
        if self._closes is not None:
            self._closes.append(bar.close)
        return None if self._stream is None else self._stream.update(bar.close)


def rsi(period: int, interval_ms: int) -> Anchored:
    """Wilder's RSI of the closes, 0–100; 50 while the price has not moved at all."""
    # Imported only where an indicator is built: a bot that runs on a model must not pay for numpy and TA-Lib.
    import numpy
    import talib.stream

    def begin(closes: list[float]) -> Stream:
        return _Rsi(talib.stream.RSI(numpy.array(closes), timeperiod=period), closes)

    return Anchored(begin, span=WARM_UP * period, interval_ms=interval_ms)


class _Rsi:
    """TA-Lib's RSI, but 50 where it says 0 because nothing has moved: that would read as deeply oversold."""

    __slots__ = ("_first", "_moved", "_update")

    def __init__(self, stream: Any, closes: list[float]) -> None:
        self._update = stream.update
        self._first = closes[0]
        self._moved = min(closes) != max(closes)

    def update(self, close: float) -> float:
        value: float = self._update(close)
        if self._moved or close != self._first:
            self._moved = True
            return value
        return 50.0
