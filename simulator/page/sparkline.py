"""A minute of prices as a line: points for an inline SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, MARGIN = 160, 36, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Spark:
    """*points* of a polyline, the *area* below it, and its *end*, in a box of `WIDTH` × `HEIGHT`."""

    points: str
    area: str
    end: tuple[str, str]
    low: str
    high: str


def sparkline(prices: Sequence[int], low: str, high: str) -> Spark:
    """The line through *prices* (two or more), evenly spaced; *low* and *high* are how its range is written."""
    bottom, top = min(prices), max(prices)
    span = (top - bottom) or 1
    room = HEIGHT - 2 * MARGIN
    level = (lambda p: HEIGHT / 2) if top == bottom else (lambda p: HEIGHT - MARGIN - (p - bottom) / span * room)
    points = [f"{number / (len(prices) - 1) * WIDTH:.1f},{level(p):.1f}" for number, p in enumerate(prices)]
    x, y = points[-1].split(",")
    area = f"M0,{HEIGHT} L" + " L".join(points) + f" L{WIDTH},{HEIGHT}z"
    return Spark(points=" ".join(points), area=area, end=(x, y), low=low, high=high)
