"""The crowd: what the rest of the market has in the book, made up around the touch.

Pure, and a function of (key, side, price, second): every price has a quantity that is drawn anew every `REDRAWN_S`
seconds, each price at a moment of its own. Round prices hold more. Nothing is stored, so a restart finds the same
book; what customers took away since the last draw is the book's to remember.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = 1000  # prices on each side of the touch that the crowd quotes
REDRAWN_S = 8
_MASK = (1 << 64) - 1
_PRICE, _EPOCH, _SELL = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Crowd:
    """The crowd of one symbol. *key* chooses the world; *typical* is the size of a usual trade in lots."""

    def __init__(self, key: int, typical: int) -> None:
        self._key = key & _MASK
        self._unit = max(1, typical) * 4

    def epoch(self, price: int, second: int) -> int:
        """Which draw of *price* holds at *second*."""
        return (second + price * 5) // REDRAWN_S

    def lots(self, sign: int, price: int, second: int) -> int:
        """Lots at *price*; *sign* is 1 for bids, -1 for asks. At least 1, on average 1.3 typical trades."""
        mixed = self._key + price * _PRICE + (second + price * 5) // REDRAWN_S * _EPOCH
        if sign < 0:
            mixed += _SELL
        mixed &= _MASK
        mixed = ((mixed ^ mixed >> 30) * _MIX_1) & _MASK
        mixed = ((mixed ^ mixed >> 27) * _MIX_2) & _MASK
        part = (mixed ^ mixed >> 31) >> 48
        lots = 1 + (self._unit * (part * part >> 16) >> 16)
        if price % 100 == 0:
            lots *= 12 if price % 1000 == 0 else 4
        return lots

    def ladder(self, sign: int, prices: NDArray[np.int64], second: int) -> NDArray[np.int64]:
        """`lots` of many prices at once."""
        epochs = (second + prices * 5) // REDRAWN_S
        start = np.uint64((self._key + (_SELL if sign < 0 else 0)) & _MASK)
        mixed = prices.astype(np.uint64) * np.uint64(_PRICE) + epochs.astype(np.uint64) * np.uint64(_EPOCH) + start
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_MIX_1)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_MIX_2)
        part = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(48)).astype(np.int64)
        lots = 1 + (self._unit * (part * part >> 16) >> 16)
        return lots * np.where(prices % 1000 == 0, 12, np.where(prices % 100 == 0, 4, 1))
