"""Orders of one symbol that wait for a stop price.

Pure. A stop rises to its price (STOP_LOSS of a buyer, TAKE_PROFIT of a seller) or falls to it (the other two); the
market's last trade decides. Prices are ticks.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from simulator.core.matching import BUY
from simulator.core.orders import OrderPlaced


def is_rising(kind: str, side: str) -> bool:
    """Is the order triggered by a price at or above its stop (else at or below)?"""
    return kind.startswith("STOP_LOSS") == (side == BUY)


class Stops:
    """What waits, nearest first, in order of arrival at one price."""

    def __init__(self) -> None:
        self._rising: list[tuple[int, int]] = []  # (stop, order id)
        self._falling: list[tuple[int, int]] = []  # (−stop, order id)

    def add(self, placed: OrderPlaced) -> None:
        """Let an order wait."""
        side, entry = self._entry(placed)
        insort(side, entry)

    def remove(self, placed: OrderPlaced) -> None:
        """Triggered or ended."""
        side, entry = self._entry(placed)
        at = bisect_left(side, entry)
        if at < len(side) and side[at] == entry:
            del side[at]

    @property
    def waits(self) -> bool:
        """Is there anything that waits?"""
        return bool(self._rising or self._falling)

    def next_due(self, last: int) -> int | None:
        """The order to trigger when the last trade was at *last*: the one whose stop was reached first."""
        if self._rising and self._rising[0][0] <= last:
            return self._rising[0][1]
        if self._falling and -self._falling[0][0] >= last:
            return self._falling[0][1]
        return None

    def _entry(self, placed: OrderPlaced) -> tuple[list[tuple[int, int]], tuple[int, int]]:
        if is_rising(placed.type, placed.side):
            return self._rising, (placed.stop, placed.order_id)
        return self._falling, (-placed.stop, placed.order_id)
