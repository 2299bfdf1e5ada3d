"""The two clocks: the API's is the wall, the market's is the wall times a speed from an anchor.

``MarketClock`` is plain arithmetic on milliseconds it is given; only ``wall_ms`` reads the machine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace


def wall_ms() -> int:
    """UTC milliseconds of this machine."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class MarketClock:
    """Market time is *market_ms* when the wall shows *wall_ms* (and before), and runs *speed* times as fast after; with
    speed 0 it stands still until somebody moves it."""

    wall_ms: int
    market_ms: int
    speed: float

    def at(self, wall_ms: int) -> int:
        """Market time in milliseconds."""
        return self.market_ms + int(max(0, wall_ms - self.wall_ms) * self.speed)

    def wall_at(self, market_ms: int) -> float:
        """Wall time in milliseconds at which the market reaches *market_ms*; infinite if it stands still."""
        if not self.speed:
            return float("inf")
        return self.wall_ms + (market_ms - self.market_ms) / self.speed

    def moved(self, by_ms: int) -> MarketClock:
        """The same clock, *by_ms* later."""
        return replace(self, market_ms=self.market_ms + by_ms)
