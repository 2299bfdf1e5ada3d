"""A recorded candle as trades that roll up to it again, on a plausible way from its open to its close.

Guaranteed, for every candle that is `Consistent`: the trades lie inside it, the first in its first second; the first
price is its open, the last its close, the highest its high, the lowest its low; their number, their volume and the
volume that takers bought are the candle's. Its quote volume and that of the takers who bought are exact too when it
has at least `MANY` trades; with fewer, they are exact where whole ticks and lots allow it and the search finds how,
else near.

The walk goes over the extremes in the order `corners` gives, with noise around lines that are bent so that its mean is
the candle's; bids lie a tick below asks. Sizes lean to the prices that each side's value asks for. What is still amiss
draws prices towards the low or the high, a tick on some trades takes most of the rest, and one trade that is split in
two, a tick apart, the last of it. Pure: all chance is hashed
from symbol and opening time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.market.candles import SECOND_MS, Ints, Trades
from simulator.market.replay.chance import Chance
from simulator.market.replay.consistent import CORNERS, MANY
from simulator.market.replay.few import few_trades
from simulator.market.replay.numbers import Bools

Floats = NDArray[np.float64]

WANDER = 0.45  # how far the walk strays from straight lines, as a share of the candle's range
MOVES = 0.15  # share of trades with which the market moves
STEEPEST = 0.95  # how much sizes may depend on prices
STEEPEST_CHOICE, CHOICES = 2.5, 7  # how much sides may, and how often that is halved to find it
BUSY_PARTS = 600  # into so many parts a candle is cut, which differ in how much is traded


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """One candle as plain numbers; *path* are its corners, *bought* says where takers bought at them."""

    open_ms: int
    length_ms: int
    low: int
    high: int
    path: list[int]
    bought: list[bool]
    volume: int
    quote: int
    count: int
    taken: int
    taken_quote: int


@dataclass(slots=True)
class _Walk:
    """Trades in the making, in order of time: all but those that are split off at the end."""

    price: Ints
    qty: Ints
    buyer_maker: Bools


def path_of(opened: int, high: int, low: int, close: int, bought: int) -> tuple[list[int], list[bool]]:
    """The corners of one candle in order, without repetitions, and whether takers bought there."""
    way = (opened, low, high, close) if close >= opened else (opened, high, low, close)
    there = [at for at in range(CORNERS) if not at or way[at] != way[at - 1]]
    return [way[at] for at in there], [bool(bought >> at & 1) for at in there]


def trades_of(candle: Candle, chance: Chance) -> Trades:
    """The candle's trades, with ids from 1."""
    if candle.count < MANY:
        pieces = few_trades(
            candle.path, candle.low, candle.high, candle.volume, candle.quote, candle.count,
            candle.taken, candle.taken_quote,
        )  # fmt: skip
        price, qty, maker = (np.array(column) for column in zip(*pieces, strict=True))
    else:
        price, qty, maker = _many(candle, chance)
    return Trades(
        id=np.arange(1, candle.count + 1, dtype=np.int64),
        time_ms=_times(candle, chance),
        price=price.astype(np.int64),
        qty=qty.astype(np.int64),
        buyer_maker=maker.astype(np.bool_),
    )


def _times(candle: Candle, chance: Chance) -> Ints:
    """Ascending; the first in the first second, the last in the last one if there are more than one."""
    parts = min(BUSY_PARTS, candle.length_ms // 100)
    activity = np.cumsum(0.15 + chance.draw("activity", parts) ** 3)
    at = np.sort(chance.draw("time", candle.count)) * activity[-1]
    edges = np.linspace(0, candle.length_ms, parts + 1)
    time = np.interp(at, np.concatenate([np.zeros(1), activity]), edges).astype(np.int64)
    time[0] = min(int(time[0]), int(chance.draw("first", 1)[0] * SECOND_MS))
    if candle.count > 1:
        time[-1] = max(int(time[-1]), candle.length_ms - 1 - int(chance.draw("last", 1)[0] * SECOND_MS))
    return candle.open_ms + np.clip(time, 0, candle.length_ms - 1)


def _many(candle: Candle, chance: Chance) -> tuple[Ints, Ints, Bools]:
    """Price, quantity and side of at least `MANY` trades."""
    free = candle.count - len(candle.path)
    buys_at = [price for price, is_buy in zip(candle.path, candle.bought, strict=True) if is_buy]
    sells_at = [price for price, is_buy in zip(candle.path, candle.bought, strict=True) if not is_buy]
    buy_lots, sell_lots = candle.taken - len(buys_at), candle.volume - candle.taken - len(sells_at)
    buys = round(free * (buy_lots / (buy_lots + sell_lots)))
    buys = min(max(buys, min(buy_lots, 2), free - sell_lots), buy_lots, free - min(sell_lots, 2))
    sells = free - buys
    size = free - (buys > 1) - (sells > 1) + len(candle.path)  # one of each side is split off later

    at = _places(candle, size, chance)
    is_corner = np.zeros(size, np.bool_)
    is_corner[at] = True
    weight = chance.draw("size", size) ** 2 / (chance.draw("tail", size) + 0.05)
    way = _bent(candle, _way(candle, at, size, chance), at, weight)
    is_buy = _sides(candle, way, weight, is_corner, buys - (buys > 1), chance)
    is_buy[at] = candle.bought
    walk = _Walk(np.clip(np.floor(way).astype(np.int64) + is_buy, candle.low, candle.high), _ones(size), ~is_buy)
    walk.price[at] = candle.path

    splits = []
    sides = ((True, buy_lots, buys, buys_at, candle.taken_quote),
             (False, sell_lots, sells, sells_at, candle.quote - candle.taken_quote))  # fmt: skip
    for bought, lots, number, corner_prices, value in sides:
        chosen = np.flatnonzero((is_buy == bought) & ~is_corner)
        value -= sum(corner_prices)
        extra = _corner_extra(candle, len(corner_prices), lots, number, value, sum(corner_prices))
        walk.qty[is_corner & (is_buy == bought)] += extra
        lots -= extra * len(corner_prices)
        value -= extra * sum(corner_prices)
        if number:
            walk.qty[chosen] = _shared_out(lots, _tilted(weight[chosen], walk.price[chosen], value / lots))
            splits += _fit(walk, chosen, value, candle.low, candle.high, split=number > 1)
    return _split(walk, splits)


def _ones(size: int) -> Ints:
    return np.ones(size, np.int64)


def _corner_extra(candle: Candle, corners: int, lots: int, number: int, value: int, worth: int) -> int:
    """Lots that each corner of a side may have beyond its one, up to a usual size, if the rest stays possible."""
    extra = lots // (2 * max(number, 1) + corners)
    rest, left = lots - extra * corners, value - extra * worth
    return extra if rest >= number > 0 and candle.low * rest <= left <= candle.high * rest else 0


def _places(candle: Candle, size: int, chance: Chance) -> Ints:
    """Which trades are the corners: the first, the last, and those between wherever chance puts them."""
    inner = len(candle.path) - 2
    if inner < 0:
        return np.zeros(1, np.int64)
    cuts = np.sort(chance.draw("corner", inner)) if inner else np.empty(0)
    places = 1 + (cuts * (size - 2 - inner)).astype(np.int64) + np.arange(inner)
    return np.concatenate([[0], places, [size - 1]]).astype(np.int64)


def _way(candle: Candle, at: Ints, size: int, chance: Chance) -> Floats:
    """The middle of the market at each trade, in ticks, inside the candle's range."""
    index = np.arange(size)
    straight = np.interp(index, at, np.array(candle.path, np.float64))
    noise = np.cumsum((chance.draw("step", size) - 0.5) * (chance.draw("move", size) < MOVES))
    noise -= np.interp(index, at, noise[at])
    reach = np.abs(noise).max()
    stray = straight + (noise / reach * WANDER * (candle.high - candle.low) if reach else 0.0)
    stray = np.where(stray > candle.high, 2 * candle.high - stray, stray)
    return np.clip(np.where(stray < candle.low, 2 * candle.low - stray, stray), candle.low, candle.high)


def _bent(candle: Candle, way: Floats, at: Ints, weight: Floats) -> Floats:
    """The way, bent up or down between its corners until its mean is the candle's, as far as that goes."""
    index = np.arange(len(way))
    leg = np.clip(np.searchsorted(at, index, side="right") - 1, 0, max(len(at) - 2, 0))
    start, end = at[leg], at[np.minimum(leg + 1, len(at) - 1)]
    part = (index - start) / np.maximum(end - start, 1)
    gap = candle.quote / candle.volume - (way * weight).sum() / weight.sum()
    room = 4 * part * (1 - part) * ((candle.high if gap > 0 else candle.low) - way)
    reach = (room * weight).sum() / weight.sum()
    return way + room * min(gap / reach, 1.0) if reach else way


def _tilted(weight: Floats, price: Ints, mean: float) -> Floats:
    """*weight*, shifted to higher or lower prices until their mean is *mean*, as far as that goes."""
    middle, reach = (price.max() + price.min()) / 2, (price.max() - price.min()) / 2
    if not reach:
        return weight
    off = (price - middle) / reach
    steep = (weight * off * (price - mean)).sum()
    tilt = -(weight * (price - mean)).sum() / steep if steep else 0.0
    return weight * (1 + np.clip(tilt, -STEEPEST, STEEPEST) * off)


def _sides(candle: Candle, way: Floats, weight: Floats, is_corner: Bools, buys: int, chance: Chance) -> Bools:
    """*buys* of the trades that are no corners are bought: sooner where the price is about to rise, and at such prices
    that their mean comes near the one that takers paid."""
    ahead = np.append(way[1:], way[-1]) - way
    score = chance.draw("side", len(way)) - 0.25 * np.sign(ahead)
    score[is_corner] = np.inf
    is_buy = np.zeros(len(way), np.bool_)
    if not buys:
        return is_buy
    height = (way - candle.low) / max(candle.high - candle.low, 1)
    mean, dear, cheap = candle.taken_quote / candle.taken, -STEEPEST_CHOICE, STEEPEST_CHOICE
    over = weight * (way - mean)
    for _ in range(CHOICES):
        slope = (dear + cheap) / 2
        leaning = score + slope * height
        if over[leaning <= np.partition(leaning, buys - 1)[buys - 1]].sum() > 0:
            dear = slope
        else:
            cheap = slope
    is_buy[np.argsort(score + slope * height, kind="stable")[:buys]] = True
    return is_buy


def _shared_out(lots: int, weight: Floats) -> Ints:
    """*lots* in whole parts of at least one, about in proportion to *weight*."""
    spare = lots - len(weight)
    share = (weight / weight.sum() * spare).astype(np.int64)
    share[weight.argmax()] += spare - int(share.sum())
    return share + 1


def _fit(walk: _Walk, chosen: Ints, value: int, low: int, high: int, *, split: bool) -> list[tuple[int, int, int]]:
    """Move the prices of the *chosen* trades inside [low, high] until they are worth *value*.

    With *split*, returns the one to split: which, how many lots of it, and by how many ticks those lie off.
    """
    price, qty = walk.price[chosen], walk.qty[chosen]
    gap = value - int((price * qty).sum())
    room = (high if gap > 0 else low) - price
    reach = int((room * qty).sum())
    if gap and reach:
        price += np.trunc(room * min(gap / reach, 1.0)).astype(np.int64)
        gap = value - int((price * qty).sum())
    part = None
    while gap:
        step = 1 if gap > 0 else -1
        able = np.flatnonzero(price < high) if step > 0 else np.flatnonzero(price > low)
        if not len(able):
            raise ValueError(f"{value} cannot be reached with {int(qty.sum())} lots between {low} and {high}")
        upto = np.cumsum(qty[able])
        whole = int(np.searchsorted(upto, abs(gap), side="right"))
        price[able[:whole]] += step
        gap -= step * int(upto[whole - 1]) if whole else 0
        if whole < len(able) and gap:
            part, gap = (int(chosen[able[whole]]), abs(gap), step), 0
    walk.price[chosen] = price
    if not split:
        return []
    if part is None:
        largest = int(chosen[qty.argmax()])
        part = (largest, int(walk.qty[largest]) // 2, 0)
    return [part]


def _split(walk: _Walk, splits: list[tuple[int, int, int]]) -> tuple[Ints, Ints, Bools]:
    """The finished columns. Of a split trade the part that the taker meets first comes first."""
    splits = sorted(splits)
    at = np.array([where for where, _, _ in splits], np.int64)
    lots = np.array([lots for _, lots, _ in splits], np.int64)
    step = np.array([step for _, _, step in splits], np.int64)
    walk.qty[at] -= lots
    off, away = walk.price[at] + step, np.where(walk.buyer_maker[at], -step, step)
    after = at + (away >= 0)
    return (
        np.insert(walk.price, after, off),
        np.insert(walk.qty, after, lots),
        np.insert(walk.buyer_maker, after, walk.buyer_maker[at]),
    )
