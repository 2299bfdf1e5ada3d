"""One symbol's book: customers' resting orders among the crowd's, in price-time priority.

Pure. Prices are ticks, quantities lots. The market itself is a tape of trades that nobody here moves; its last trade
gives the *touch*: the side that was hit trades at that price, the other side is one tick away, and from there outwards
the crowd (``crowd.py``) quotes every price. An arriving order meets crowd and customers price by price, and at one
price in order of arrival: each resting order knows how many lots of the crowd were there *ahead* of it. What rests is
filled by trades of the tape through its price, or at its price when the aggressor came from the other side, once the
lots ahead are used up; no lot of market volume fills two orders. What customers take from the crowd is gone until the
crowd draws that price anew. Customers that were not filled completely are never crossed: the crowd keeps away from
them. Knows nothing of balances, accounts and order types.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from simulator.core.crowd import LEVELS, Crowd
from simulator.market.candles import Trade

BUY, SELL = "BUY", "SELL"
MARKET = 0  # stands for the crowd where an order id is expected
MAX_REMEMBERED = 4096  # prices with something taken, before those are forgotten that were drawn anew since
NO_LIMIT = 1 << 62
Level = dict[int, list[int]]  # order id -> [open lots, lots ahead], in order of arrival


class Touch(NamedTuple):
    """Best bid and ask of the crowd in ticks, and the market trade they were read from."""

    bid: int
    ask: int
    last: Trade


def touch_after(trade: Trade) -> Touch:
    """The touch that a market trade leaves behind."""
    if trade.buyer_maker:
        return Touch(trade.price, trade.price + 1, trade)
    return Touch(trade.price - 1, trade.price, trade)


class Match(NamedTuple):
    """A resting order gets *qty* lots at *price* ticks from the tape."""

    order_id: int
    price: int
    qty: int


class Move(NamedTuple):
    """A resting order has only *ahead* lots in front of it now."""

    order_id: int
    ahead: int


class Offer(NamedTuple):
    """What an arriving order meets next: *qty* lots at *price* of a resting order, or of the crowd (`MARKET`)."""

    price: int
    qty: int
    order_id: int


class Side:
    """Resting orders of one side by price, each level in order of arrival."""

    __slots__ = ("best", "keys", "levels", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign  # +1 for buys: the highest price is best; -1 for sells
        self.best: int | None = None  # price of the best resting order
        self.levels: dict[int, Level] = {}
        self.keys: list[int] = []  # −sign × price of every level, ascending: the best is first

    def add(self, order_id: int, price: int, qty: int, ahead: int) -> None:
        """Rest *qty* lots behind what is already at *price*."""
        level = self.levels.get(price)
        if level is None:
            level = self.levels[price] = {}
            insort(self.keys, -self.sign * price)
            self.best = -self.sign * self.keys[0]
        level[order_id] = [qty, ahead]

    def reduce(self, order_id: int, price: int, qty: int) -> None:
        """Take *qty* lots off an order, and the order off the book when nothing is left."""
        level = self.levels[price]
        entry = level[order_id]
        if entry[0] > qty:
            entry[0] -= qty
            return
        del level[order_id]
        if not level:
            del self.levels[price]
            del self.keys[bisect_left(self.keys, -self.sign * price)]
            self.best = -self.sign * self.keys[0] if self.keys else None


class Book:
    """Resting orders and the touch of one symbol."""

    def __init__(self, crowd: Crowd) -> None:
        self.touch: Touch | None = None
        self.crowd = crowd
        self._sides = {BUY: Side(1), SELL: Side(-1)}
        # Who arrives -> second, keys from … up to: there the crowd has nothing left.
        self._dry = {BUY: (-1, 0, 0), SELL: (-1, 0, 0)}
        # Where customers took from the crowd: sign × price -> (epoch, lots that are left).
        self._left: dict[int, tuple[int, int]] = {}
        self._room = MAX_REMEMBERED

    # resting orders

    def rest(self, order_id: int, side: str, price: int, qty: int, ahead: int = 0) -> None:
        """Put an order on the book, behind others at its price and *ahead* lots of the crowd."""
        self._sides[side].add(order_id, price, qty, ahead)

    def reduce(self, order_id: int, side: str, price: int, qty: int) -> None:
        """Take *qty* lots of a resting order away: filled, prevented or cancelled."""
        self._sides[side].reduce(order_id, price, qty)

    def requeue(self, order_id: int, side: str, price: int, ahead: int) -> None:
        """Move an order forward: *ahead* lots are left in front of it."""
        self._sides[side].levels[price][order_id][1] = ahead

    def ahead_of(self, order_id: int, side: str, price: int) -> int:
        """Lots of the crowd in front of a resting order."""
        return self._sides[side].levels[price][order_id][1]

    def queue_at(self, side: str, price: int, second: int) -> int:
        """Lots of the crowd that an order resting at *price* from now on has ahead of it: none inside the spread."""
        touch = self.touch
        if touch is None or (price > touch.bid if side == BUY else price < touch.ask):
            return 0
        return self._crowd_left(1 if side == BUY else -1, price, second)

    # what arrives

    def offers(self, side: str, limit: int | None, second: int) -> Iterator[Offer]:
        """What an arriving order of *side* meets up to *limit*, best first. The book must not change meanwhile."""
        if self.touch is None:
            return
        other = self._sides[SELL if side == BUY else BUY]
        sign, keys, levels, at = other.sign, other.keys, other.levels, 0
        crowd_key = -sign * self.crowd_best(sign)
        last_key = crowd_key + LEVELS - 1 if sign < 0 else min(crowd_key + LEVELS - 1, -1)
        limit_key = NO_LIMIT if limit is None else -sign * limit
        last_key = min(last_key, limit_key)
        dry_from = crowd_key
        dry = self._dry[side]
        if dry[0] == second and dry[1] <= crowd_key < dry[2]:
            dry_from, crowd_key = dry[1], dry[2]
        is_dry = True
        while True:
            key = keys[at] if at < len(keys) else NO_LIMIT
            while crowd_key < key and crowd_key <= last_key:
                price = -sign * crowd_key
                lots = self._crowd_left(sign, price, second)
                if lots:
                    if is_dry:
                        is_dry, self._dry[side] = False, (second, dry_from, crowd_key)
                    crowd_key += 1
                    yield Offer(price, lots, MARKET)
                else:
                    crowd_key += 1
            if key > limit_key or key == NO_LIMIT:
                return
            price = -sign * key
            crowd = 0
            if key == crowd_key <= last_key:
                crowd = self._crowd_left(sign, price, second)
                if crowd and is_dry:
                    is_dry, self._dry[side] = False, (second, dry_from, crowd_key)
                crowd_key += 1
            yield from _queue(price, levels[price], crowd)
            at += 1

    def reaches(self, side: str, limit: int) -> bool:
        """Might an arriving order with that limit meet anything? Cheaper than to look, and never wrongly no."""
        if self.touch is None:
            return False
        if side == BUY:
            best = self._sides[SELL].best
            return limit >= self.crowd_best(-1) or (best is not None and limit >= best)
        best = self._sides[BUY].best
        return limit <= self.crowd_best(1) or (best is not None and limit <= best)

    def take(self, sign: int, price: int, qty: int, second: int) -> None:
        """Customers took *qty* lots of the crowd's bids (*sign* 1) or asks (-1) at *price*."""
        left = self._crowd_left(sign, price, second)
        self._left[sign * price] = (self.crowd.epoch(price, second), max(0, left - qty))
        if len(self._left) > self._room:
            epoch_of = self.crowd.epoch
            self._left = {k: v for k, v in self._left.items() if v[0] == epoch_of(abs(k), second)}
            self._room = max(MAX_REMEMBERED, 2 * len(self._left))

    def moves_at(self, side: str, price: int, used: int) -> list[Move]:
        """How orders of *side* at *price* move up when *used* lots of the crowd in front of them are gone."""
        level = self._sides[side].levels.get(price)
        if level is None or not used:
            return []
        return [Move(order_id, max(0, entry[1] - used)) for order_id, entry in level.items() if entry[1]]

    # the tape

    def matches(self, trade: Trade) -> tuple[list[Match], list[Move]]:
        """What a market trade fills and how queues move up. Nothing changes: the caller reports it all back."""
        bids, asks = self._sides[BUY], self._sides[SELL]
        matches: list[Match] = []
        moves: list[Move] = []
        if not bids.keys and not asks.keys:
            return matches, moves
        left = trade.qty
        hit, other = (bids, asks) if trade.buyer_maker else (asks, bids)
        for side in (hit, other):
            key_at = -side.sign * trade.price
            for key in side.keys:
                if not left or key > key_at or (key == key_at and side is other):
                    break
                level = side.levels[-side.sign * key]
                if key == key_at:
                    left = _use_queue(level, -side.sign * key, left, matches, moves)
                else:
                    left = _run_over(level, -side.sign * key, left, matches, moves)
        return matches, moves

    # what is shown

    def crowd_best(self, sign: int) -> int:
        """The crowd's best bid (*sign* 1) or ask (-1): the touch, but never across a resting order."""
        touch = self.touch
        assert touch is not None
        if sign > 0:
            best_ask = self._sides[SELL].best
            return touch.bid if best_ask is None or touch.bid < best_ask else best_ask - 1
        best_bid = self._sides[BUY].best
        return touch.ask if best_bid is None or touch.ask > best_bid else best_bid + 1

    def levels(self, count: int, second: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The best *count* bids and asks as (price, lots), customers and crowd together, best first."""
        if self.touch is None:
            return [], []
        return self._side_levels(self._sides[BUY], count, second), self._side_levels(self._sides[SELL], count, second)

    def _side_levels(self, side: Side, count: int, second: int) -> list[tuple[int, int]]:
        sign, best = side.sign, self.crowd_best(side.sign)
        # Prices that customers took empty do not show, so more are looked at.
        prices = best - sign * np.arange(min(LEVELS, count + len(self._left)), dtype=np.int64)
        prices = prices[prices > 0]
        lots = dict(zip(prices.tolist(), self.crowd.ladder(sign, prices, second).tolist(), strict=True))
        for signed, (epoch, left) in self._left.items():
            price = signed * sign
            if price in lots and epoch == self.crowd.epoch(price, second):
                lots[price] = left
        for key in side.keys[:count]:
            price = -sign * key
            lots[price] = lots.get(price, 0) + sum(entry[0] for entry in side.levels[price].values())
        shown = [(price, qty) for price, qty in lots.items() if qty]
        shown.sort(key=lambda level: -sign * level[0])
        return shown[:count]

    def _crowd_left(self, sign: int, price: int, second: int) -> int:
        known = self._left.get(sign * price)
        if known is not None and known[0] == self.crowd.epoch(price, second):
            return known[1]
        return self.crowd.lots(sign, price, second)


def _queue(price: int, level: Level, crowd: int) -> Iterator[Offer]:
    """A price with customers and *crowd* lots, in order of arrival."""
    passed = 0
    for order_id, (qty, ahead) in level.items():
        upto = min(ahead, crowd)
        if upto > passed:
            yield Offer(price, upto - passed, MARKET)
            passed = upto
        yield Offer(price, qty, order_id)
    if crowd > passed:
        yield Offer(price, crowd - passed, MARKET)


def _use_queue(level: Level, price: int, left: int, matches: list[Match], moves: list[Move]) -> int:
    """A trade at the price: the lots ahead go first. Returns what is left of the trade."""
    used = 0
    for order_id, (qty, ahead) in level.items():
        step = min(max(0, ahead - used), left)
        used += step
        left -= step
        part = min(left, qty) if used >= ahead else 0
        if part:
            left -= part
            matches.append(Match(order_id, price, part))
        if used and ahead and part < qty:
            moves.append(Move(order_id, max(0, ahead - used)))
    return left


def _run_over(level: Level, price: int, left: int, matches: list[Match], moves: list[Move]) -> int:
    """A trade beyond the price: nothing of the crowd can be left there. Returns what is left of the trade."""
    for order_id, (qty, ahead) in level.items():
        part = min(left, qty)
        left -= part
        if part:
            matches.append(Match(order_id, price, part))
        if ahead and part < qty:
            moves.append(Move(order_id, 0))
    return left
