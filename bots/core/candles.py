"""Candles, the window of the last sixty seconds, and bars built from seconds.

All times are market time in UTC ms. A candle here is always closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

WINDOW: Final = 60
SECOND_MS: Final = 1_000


@dataclass(init=False, slots=True)
class Candle:
    """One closed candle. `end_ms` is the market time at which it closed; *backfilled*: it came late, from REST.

    Not frozen: a frozen one costs several times as much to build. Nobody changes a candle.
    """

    open_ms: int
    interval_ms: int
    end_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trades: int
    taker_base: float
    taker_quote: float
    backfilled: bool

    def __init__(
        self,
        open_ms: int,
        interval_ms: int,
        open: float,
        high: float,
        low: float,
        close: float,
        volume: float,
        quote_volume: float,
        trades: int,
        taker_base: float,
        taker_quote: float,
        backfilled: bool = False,
    ) -> None:
        self.open_ms = open_ms
        self.interval_ms = interval_ms
        self.end_ms = open_ms + interval_ms
        self.open = open
        self.high = high
        self.low = low
        self.close = close
        self.volume = volume
        self.quote_volume = quote_volume
        self.trades = trades
        self.taker_base = taker_base
        self.taker_quote = taker_quote
        self.backfilled = backfilled


def candle_from_kline_event(k: Mapping[str, Any]) -> Candle:
    """The candle in the ``k`` object of Binance's kline event. The caller checks that it is closed (``k["x"]``)."""
    opened = k["t"]
    return Candle(
        opened,
        k["T"] - opened + 1,
        float(k["o"]),
        float(k["h"]),
        float(k["l"]),
        float(k["c"]),
        float(k["v"]),
        float(k["q"]),
        k["n"],
        float(k["V"]),
        float(k["Q"]),
    )


def candle_from_kline_row(row: Sequence[Any], interval_ms: int, backfilled: bool) -> Candle:
    """The candle in one row of Binance's ``/klines`` (12 elements)."""
    return Candle(
        int(row[0]),
        interval_ms,
        float(row[1]),
        float(row[2]),
        float(row[3]),
        float(row[4]),
        float(row[5]),
        float(row[7]),
        int(row[8]),
        float(row[9]),
        float(row[10]),
        backfilled,
    )


class Window:
    """The last `WINDOW` one-second candles without a gap, as one plain list per column, oldest first."""

    __slots__ = ("closes", "end_ms", "full", "highs", "lows", "quote_volumes", "taker_bases", "trades", "volumes")

    def __init__(self) -> None:
        self.closes: list[float] = []
        self.highs: list[float] = []
        self.lows: list[float] = []
        self.volumes: list[float] = []
        self.quote_volumes: list[float] = []
        self.taker_bases: list[float] = []
        self.trades: list[int] = []
        self.full = False
        self.end_ms = 0

    def push(self, candle: Candle) -> None:
        """Add a one-second candle. One that does not begin where the last one ended empties the window first."""
        if candle.open_ms != self.end_ms:
            self.clear()
        self.end_ms = candle.end_ms
        closes = self.closes
        if self.full:
            del closes[0], self.highs[0], self.lows[0], self.volumes[0]
            del self.quote_volumes[0], self.taker_bases[0], self.trades[0]
        closes.append(candle.close)
        self.highs.append(candle.high)
        self.lows.append(candle.low)
        self.volumes.append(candle.volume)
        self.quote_volumes.append(candle.quote_volume)
        self.taker_bases.append(candle.taker_base)
        self.trades.append(candle.trades)
        if not self.full:
            self.full = len(closes) == WINDOW

    def clear(self) -> None:
        """Forget everything; the next candle is the first."""
        for column in (self.closes, self.highs, self.lows, self.volumes, self.quote_volumes, self.taker_bases):
            column.clear()
        self.trades.clear()
        self.full = False
        self.end_ms = 0


class BarBuilder:
    """Builds bars of *interval_ms*, aligned to market time, from one-second candles.

    Only whole bars come out: one that began before the first candle, or that misses a second, is dropped. A bar counts
    as back-filled when its last second is.
    """

    __slots__ = ("_bar", "_next_ms", "interval_ms")

    def __init__(self, interval_ms: int) -> None:
        if interval_ms < SECOND_MS or interval_ms % SECOND_MS:
            raise ValueError(f"a bar of {interval_ms} ms cannot be built from whole seconds")
        self.interval_ms = interval_ms
        self._bar: Candle | None = None
        self._next_ms = 0

    def push(self, candle: Candle) -> Candle | None:
        """The bar that *candle* closes; None while it is still forming."""
        interval_ms = self.interval_ms
        if interval_ms == SECOND_MS:
            return candle
        bar = self._bar
        if candle.open_ms % interval_ms == 0:
            bar = self._bar = Candle(
                candle.open_ms,
                interval_ms,
                candle.open,
                candle.high,
                candle.low,
                candle.close,
                candle.volume,
                candle.quote_volume,
                candle.trades,
                candle.taker_base,
                candle.taker_quote,
            )
        elif bar is None:
            return None
        elif candle.open_ms != self._next_ms:
            self._bar = None
            return None
        else:
            _merge(bar, candle)
        self._next_ms = candle.end_ms
        if candle.end_ms != bar.end_ms:
            return None
        bar.backfilled = candle.backfilled
        self._bar = None
        return bar


def _merge(bar: Candle, candle: Candle) -> None:
    if candle.high > bar.high:
        bar.high = candle.high
    if candle.low < bar.low:
        bar.low = candle.low
    bar.close = candle.close
    bar.volume += candle.volume
    bar.quote_volume += candle.quote_volume
    bar.trades += candle.trades
    bar.taker_base += candle.taker_base
    bar.taker_quote += candle.taker_quote
