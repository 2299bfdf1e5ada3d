"""Recorded candles made complete and possible, so that whole trades can add up to them exactly.

A candle as an exchange recorded it passes through unchanged. What gives way otherwise, in this order:

* A volume finer than today's lot loses the rest; if fewer lots are left than the candle has prices to visit, it gets
  one lot for each. Its quote volume shrinks or grows in proportion.
* The number of trades is at least what prices and sides need, and at most the number of lots and `MAX_TRADES`.
* A quote volume that no trades between low and high could have is moved to the nearest possible one; then that of
  the takers who bought.
* Columns that are empty are filled in: half of the volume is bought (all or nothing where there are fewer than
  `MANY` trades), the quote volume is what the mean of open, high, low and close gives, and there are two trades per
  second and six more.

Prices always stay as recorded. Pure; prices in ticks, volumes in lots, quote volumes in ticks × lots.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from simulator.market.candles import SECOND_MS, Ints
from simulator.market.replay.numbers import Bools

MANY = 8  # trades: four to visit the prices, and two for each side to meet its value
MAX_TRADES = 250_000  # of one candle
CORNERS = 4


@dataclass(frozen=True, slots=True)
class Recorded:
    """Candles as columns of equal length, ascending; every one has volume. -1 stands for what was not recorded."""

    open_ms: Ints
    length_ms: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    quote: Ints
    count: Ints
    taker_volume: Ints
    taker_quote: Ints

    def __len__(self) -> int:
        return len(self.open_ms)

    def pick(self, rows: Bools) -> Recorded:
        """The chosen candles."""
        return Recorded(*(getattr(self, field.name)[rows] for field in fields(Recorded)))


@dataclass(frozen=True, slots=True)
class Consistent(Recorded):
    """Candles with nothing missing. *bought* says, as bits, which of a candle's corners takers bought at."""

    bought: Ints


@dataclass(frozen=True, slots=True)
class Corners:
    """The prices that candles must visit, in order: open, the nearer extreme, the other, close; without repetitions.
    *price* and *there* have one row per corner; *number* counts those that are there."""

    price: Ints
    there: Bools
    number: Ints


def corners(candles: Recorded) -> Corners:
    """A candle that rose visits its low first, one that fell its high."""
    rose = candles.close >= candles.open
    first, second = np.where(rose, candles.low, candles.high), np.where(rose, candles.high, candles.low)
    price = np.stack([candles.open, first, second, candles.close])
    there = np.ones(price.shape, np.bool_)
    there[1:] = price[1:] != price[:-1]
    return Corners(price, there, there.sum(axis=0))


def made_consistent(candles: Recorded) -> Consistent:
    """*candles*, each with nothing missing and possible. Their volumes must be at least their corners' number."""
    visit = corners(candles)
    volume, low, high = candles.volume, candles.low, candles.high
    bounds = (low * volume, high * volume)
    moved = np.where(visit.there, visit.price - low, 0).sum(axis=0)
    least = bounds[0] + moved
    most = bounds[1] - np.where(visit.there, high - visit.price, 0).sum(axis=0)

    seconds = candles.length_ms // SECOND_MS
    count = np.where(candles.count < 0, 2 * seconds + MANY - 2, candles.count)
    count = np.clip(count, visit.number, np.minimum(volume, MAX_TRADES))
    alone = np.where(candles.close >= candles.open, volume, 0)
    taken = np.where(candles.taker_volume < 0, np.where(count < MANY, alone, volume // 2), candles.taker_volume)
    count = np.maximum(count, 1 + ((taken > 0) & (taken < volume)))

    above = (candles.open - low) + (high - low) + (candles.close - low)
    middle = bounds[0] + (above / 4 * volume).astype(np.int64)
    quote = np.clip(np.where(candles.quote < 0, middle, candles.quote), least, most)
    share = low * taken + ((quote - bounds[0]) * (taken / volume)).astype(np.int64)
    taken_quote = np.where(candles.taker_quote < 0, share, candles.taker_quote)
    bought, taken_quote = _sides(candles, visit, taken, quote, taken_quote)
    return Consistent(
        candles.open_ms, candles.length_ms, candles.open, high, low, candles.close,
        volume, quote, count, taken, taken_quote, bought,
    )  # fmt: skip


def _sides(candles: Recorded, visit: Corners, taken: Ints, quote: Ints, taken_quote: Ints) -> tuple[Ints, Ints]:
    """Who was the taker at each corner, as bits, and the taker's quote volume moved to where that is possible.

    Each corner takes one lot of a side's volume; what remains of it must be worth between low and high. Among the
    possible ways the most natural is taken: highs are bought and lows are sold.
    """
    natural = np.stack([visit.price[at] * 2 > candles.low + candles.high for at in range(CORNERS)])
    chosen = np.zeros(len(candles), np.int64)
    cost = np.full(len(candles), np.inf)
    value = taken_quote.copy()
    for bits in range(1 << CORNERS):
        is_bought = np.array([[bool(bits >> at & 1)] for at in range(CORNERS)])
        bought, sold = visit.there & is_bought, visit.there & ~is_bought
        free_lots = taken - bought.sum(axis=0)
        free_rest = candles.volume - taken - sold.sum(axis=0)
        bought_worth = np.where(bought, visit.price, 0).sum(axis=0)
        sold_worth = np.where(sold, visit.price, 0).sum(axis=0)
        least = np.maximum(
            bought_worth + candles.low * free_lots, quote - sold_worth - candles.high * free_rest
        )  # fmt: skip
        most = np.minimum(bought_worth + candles.high * free_lots, quote - sold_worth - candles.low * free_rest)
        possible = (free_lots >= 0) & (free_rest >= 0) & (least <= most) & ~(is_bought & ~visit.there).any(axis=0)
        nearest = np.clip(taken_quote, least, np.maximum(least, most))
        odd = ((bought & ~natural) | (sold & natural)).sum(axis=0)
        price = np.where(possible, odd + CORNERS * 2.0 * np.abs(nearest - taken_quote), np.inf)
        better = price < cost
        cost = np.where(better, price, cost)
        chosen, value = np.where(better, bits, chosen), np.where(better, nearest, value)
    return chosen, value
