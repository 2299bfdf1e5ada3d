"""One symbol's orders against its market: what an arriving order takes, what a market trade gives to resting ones.

Pure. Prices are ticks, quantities lots. The market is one synthetic level each side, the *touch*, read off its last
trade: the side that was hit trades at that price, the other side is one tick away. What arrives takes the touch,
without limit of size. What rests is filled by market trades through its price, or at its price when the aggressor
came from the other side, best price first and first come first served, until the trade's volume is used up: no lot of
market volume fills two orders. Customers trade with the market, never with one another. Knows nothing of balances and
accounts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from simulator.market.candles import Trade

BUY, SELL = "BUY", "SELL"


class Touch(NamedTuple):
    """Best bid and ask in ticks, and the market trade they were read from."""

    bid: int
    ask: int
    last: Trade

    def bid_qty(self) -> int:
        """Lots shown at the bid. A display: whatever arrives is filled in full."""
        return 1 + self.last.qty * 7 % 99_991

    def ask_qty(self) -> int:
        """Lots shown at the ask."""
        return 1 + self.last.qty * 13 % 99_989


def touch_after(trade: Trade) -> Touch:
    """The touch that a market trade leaves behind."""
    if trade.buyer_maker:
        return Touch(trade.price, trade.price + 1, trade)
    return Touch(trade.price - 1, trade.price, trade)


class Match(NamedTuple):
    """A resting order gets *qty* lots at *price* ticks."""

    order_id: int
    price: int
    qty: int


@dataclass(slots=True)
class Side:
    """Resting orders of one side by price, each level in order of arrival."""

    sign: int  # +1 for buys: the highest price is best; -1 for sells
    levels: dict[int, dict[int, int]] = field(default_factory=dict)  # price -> order id -> open lots
    heap: list[int] = field(default_factory=list)  # best price first, as -sign × price

    def add(self, order_id: int, price: int, qty: int) -> None:
        """Rest *qty* lots behind what is already at *price*."""
        level = self.levels.get(price)
        if level is None:
            level = self.levels[price] = {}
            heappush(self.heap, -self.sign * price)
        level[order_id] = qty

    def reduce(self, order_id: int, price: int, qty: int) -> None:
        """Take *qty* lots off an order, and the order off the book when nothing is left."""
        level = self.levels[price]
        if level[order_id] > qty:
            level[order_id] -= qty
            return
        del level[order_id]
        if not level:
            del self.levels[price]

    def best_first(self, limit: int) -> Iterator[tuple[int, int, int]]:
        """(order id, price, open lots) of everything at *limit* or better, in priority order."""
        while self.heap and -self.sign * self.heap[0] not in self.levels:
            heappop(self.heap)
        if not self.heap or self.heap[0] > -self.sign * limit:
            return
        for price in sorted((p for p in self.levels if self.sign * (p - limit) >= 0), reverse=self.sign > 0):
            for order_id, qty in self.levels[price].items():
                yield order_id, price, qty


class Book:
    """Resting orders and the touch of one symbol."""

    def __init__(self) -> None:
        self.touch: Touch | None = None
        self.halted = False  # the market is over: resting orders can only be cancelled
        self._sides = {BUY: Side(1), SELL: Side(-1)}

    def taken_at(self, side: str, limit: int | None) -> int | None:
        """Price at which an arriving order trades; ``None`` when there is no market or *limit* does not reach it."""
        if self.touch is None:
            return None
        price = self.touch.ask if side == BUY else self.touch.bid
        if limit is None or (price <= limit if side == BUY else price >= limit):
            return price
        return None

    def rest(self, order_id: int, side: str, price: int, qty: int) -> None:
        """Put an order on the book, behind others at its price."""
        self._sides[side].add(order_id, price, qty)

    def reduce(self, order_id: int, side: str, price: int, qty: int) -> None:
        """Take *qty* lots of a resting order away: filled or cancelled."""
        self._sides[side].reduce(order_id, price, qty)

    def matches(self, trade: Trade) -> list[Match]:
        """What *trade* fills. Nothing changes: the caller reports each match back through `reduce`."""
        buys_to, sells_to = trade.price, trade.price  # a trade at the limit needs the right aggressor
        if trade.buyer_maker:
            sells_to -= 1
        else:
            buys_to += 1
        order = ((BUY, buys_to), (SELL, sells_to)) if trade.buyer_maker else ((SELL, sells_to), (BUY, buys_to))
        left = trade.qty
        found: list[Match] = []
        for side, limit in order:
            for order_id, price, qty in self._sides[side].best_first(limit):
                if not left:
                    return found
                part = min(left, qty)
                left -= part
                found.append(Match(order_id, price, part))
        return found
