"""The trades of a candle that had only a few: which prices and quantities add up to it exactly.

With two trades to spare on a side any possible value is met; with fewer, whole numbers may leave no way, and the
search ends with the nearest value it found. Candles that really were made by so few trades nearly always have one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

SEARCHED = 4096  # quantities, and differences in price, that are tried for a single free trade
SHIFTED = 48  # lots moved between corners before giving up


class Piece(NamedTuple):
    """A trade without a time."""

    price: int
    qty: int
    buyer_maker: bool


@dataclass(frozen=True, slots=True)
class Side:
    """What one side of the market has to add up to: *lots* worth *value*, with a trade at each of *corners*."""

    corners: tuple[int, ...]
    lots: int
    value: int
    low: int
    high: int


class Found(NamedTuple):
    """A way to fill a side: lots at its corners, further (price, lots), and by how much its value is missed."""

    missed: int
    at_corners: list[int]
    others: list[tuple[int, int]]


def few_trades(path: list[int], low: int, high: int, volume: int, quote: int, count: int, taken: int, taken_quote: int
               ) -> list[Piece]:  # fmt: skip
    """*count* trades from the first to the last price of *path* that visit all of it.

    Their volume is *volume*, that of buying takers *taken*; quote volumes are *quote* and *taken_quote* if whole
    numbers allow it, else near. *count* must be at least the length of *path*, and 2 if both sides have volume.
    """
    best: tuple[int, tuple[bool, ...], Found, Found] | None = None
    for is_bought in product((True, False), repeat=len(path)):
        at_buys = tuple(price for price, is_buy in zip(path, is_bought, strict=True) if is_buy)
        at_sells = tuple(price for price, is_buy in zip(path, is_bought, strict=True) if not is_buy)
        buys = Side(at_buys, taken, taken_quote, low, high)
        sells = Side(at_sells, volume - taken, quote - taken_quote, low, high)
        spare = count - len(path)
        for number in range(spare + 1):
            bought, sold = _filled(buys, number), _filled(sells, spare - number)
            if bought is None or sold is None:
                continue
            missed = bought.missed + sold.missed
            if best is None or missed < best[0]:
                best = (missed, is_bought, bought, sold)
            if not missed:
                return _in_order(path, is_bought, bought, sold)
    if best is None:
        raise ValueError(f"{count} trades cannot visit {path} with {taken} of {volume} lots bought")
    return _in_order(path, *best[1:])


def _in_order(path: list[int], is_bought: tuple[bool, ...], bought: Found, sold: Found) -> list[Piece]:
    """The corners in order, the others after the first of them and before the last."""
    lots = {True: iter(bought.at_corners), False: iter(sold.at_corners)}
    visits = [Piece(price, next(lots[is_buy]), not is_buy) for price, is_buy in zip(path, is_bought, strict=True)]
    others = [Piece(price, qty, is_maker) for found, is_maker in ((bought, False), (sold, True))
              for price, qty in found.others]  # fmt: skip
    return [*visits[:1], *others, *visits[1:]]


def _filled(side: Side, others: int) -> Found | None:
    """The best way to fill *side* with *others* trades beside its corners; none if its lots do not suffice."""
    number = len(side.corners)
    free = side.lots - number
    if free < others or (free > 0 and not number and not others):
        return None
    if not side.lots:
        return Found(0, [], [])
    value = side.value - sum(side.corners)
    if others == 0:
        return _at_corners(side, free, value)
    if others == 1:
        return _with_one(side, free, value)
    value, missed = _within(value, side.low * free, side.high * free)
    price, upper = divmod(value, free)
    pieces = [(price + 1, upper), (price, free - upper)] if upper else [(price, free)]
    while len(pieces) < others:
        largest = max(range(len(pieces)), key=lambda at: pieces[at][1])
        at, qty = pieces[largest]
        pieces[largest : largest + 1] = [(at, qty // 2), (at, qty - qty // 2)]
    return Found(missed, [1] * number, pieces)


def _within(value: int, low: int, high: int) -> tuple[int, int]:
    near = min(max(value, low), high)
    return near, abs(value - near)


def _at_corners(side: Side, free: int, value: int) -> Found:
    """Spread *free* lots over the corners."""
    best: Found | None = None
    for lots in _spreads(side.corners, free, value):
        missed = abs(value - sum(price * qty for price, qty in lots.items()))
        if best is None or missed < best.missed:
            left = dict(lots)
            best = Found(missed, [1 + left.pop(price, 0) for price in side.corners], [])
            if not missed:
                break
    assert best is not None
    return best


def _spreads(corners: tuple[int, ...], free: int, value: int) -> Iterator[dict[int, int]]:
    """Ways to put *free* lots on the corners' prices so that they are worth about *value*."""
    prices = sorted(set(corners))
    if len(prices) == 1:
        yield {prices[0]: free}
        return
    low, high = prices[0], prices[-1]
    between = prices[1:-1] or [low]
    for price in between:
        for lots in range(min(free, SEARCHED if len(prices) > 2 else 0) + 1):
            rest, worth = free - lots, value - lots * price
            upper = min(max((worth - rest * low) // (high - low), 0), rest)
            spread = {low: rest - upper, high: upper}
            spread[price] = spread.get(price, 0) + lots
            yield spread


def _with_one(side: Side, free: int, value: int) -> Found:
    """Spread *free* lots over the corners and one more trade, which has at least one of them."""
    number = len(side.corners)
    if not number:
        price, _ = _within((value + free // 2) // free, side.low, side.high)
        return Found(abs(value - price * free), [], [(price, free)])
    best: Found | None = None
    for base, other in product(range(number), repeat=2):
        if side.corners[base] == side.corners[other] and base != other:
            continue
        for moved in range(min(SHIFTED, free - 1) + 1 if base != other else 1):
            step = side.corners[other] - side.corners[base]
            gap = value - free * side.corners[base] - moved * step
            qty, ticks = _product(gap, free - moved, side.low - side.corners[base], side.high - side.corners[base])
            missed = abs(gap - qty * ticks)
            if best is None or missed < best.missed:
                at_corners = [1] * number
                at_corners[base] += free - moved - qty
                at_corners[other] += moved
                best = Found(missed, at_corners, [(side.corners[base] + ticks, qty)])
            if not missed:
                return best
    assert best is not None
    return best


def _product(gap: int, most: int, least_ticks: int, most_ticks: int) -> tuple[int, int]:
    """(lots, ticks) whose product is *gap*, or near it: 1 <= lots <= *most*, *least_ticks* <= ticks <= *most_ticks*."""
    lots = np.arange(1, min(most, SEARCHED) + 1)
    ticks = np.clip((2 * gap + lots) // (2 * lots), least_ticks, most_ticks)
    missed = np.abs(gap - lots * ticks)
    at = int(missed.argmin())
    first = (int(missed[at]), int(lots[at]), int(ticks[at]))
    least, upper = max(least_ticks, -SEARCHED), min(most_ticks, SEARCHED)
    ticks = np.arange(least, upper + 1)
    ticks = ticks[ticks != 0]
    if not first[0] or not len(ticks):
        return first[1:]
    lots = np.clip((2 * gap + ticks) // (2 * ticks), 1, most)
    missed = np.abs(gap - lots * ticks)
    at = int(missed.argmin())
    return min(first, (int(missed[at]), int(lots[at]), int(ticks[at])))[1:]
