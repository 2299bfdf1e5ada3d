"""The order book as it is displayed: one sequence of update ids that REST, depth streams and bookTicker share.

Pure. What is on the book is asked from a callable; what was last shown is remembered here, and only the difference
moves the update id. A diff tells every level that changed since the one before it, so whoever applies all diffs to a
snapshot has what REST shows. Nothing is computed unless somebody asks. Prices are ticks, quantities lots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_LEVELS = 5000  # per side; what lies deeper is not shown

Level = tuple[int, int]  # price, quantity
Sides = tuple[list[Level], list[Level]]  # bids and asks, best first
NOTHING: Level = (0, 0)


class Snapshot(NamedTuple):
    """The best levels of each side, best first, as of `update_id`."""

    update_id: int
    bids: list[Level]
    asks: list[Level]


class Diff(NamedTuple):
    """Absolute quantities of the levels that changed in updates `first_id` to `update_id`; 0 removes a level."""

    first_id: int
    update_id: int
    bids: list[Level]
    asks: list[Level]


class Best(NamedTuple):
    """Best bid and ask, as of `update_id`. An empty side is `NOTHING`."""

    update_id: int
    bid: Level
    ask: Level


@dataclass(slots=True)
class _Follower:
    """What a diff stream has yet to tell."""

    told_id: int
    touched: tuple[set[int], set[int]] = field(default_factory=lambda: (set(), set()))


class ShownBook:
    """The displayed book of one symbol. *levels* gives up to so many levels of each side; *update_id* is where to
    count from: it must lie above whatever was shown before."""

    def __init__(self, levels: Callable[[int], Sides], update_id: int) -> None:
        self.update_id = update_id
        self._levels = levels
        self._sides: Sides = ([], [])
        self._shown: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._best = (NOTHING, NOTHING)
        self._followers: dict[str, _Follower] = {}

    def snapshot(self, limit: int) -> Snapshot:
        """The book now."""
        self.refresh()
        bids, asks = self._sides
        return Snapshot(self.update_id, bids[:limit], asks[:limit])

    def best(self) -> Best:
        """Best bid and ask now, which is far cheaper than a snapshot."""
        self._see_best(self._levels(1))
        return Best(self.update_id, *self._best)

    def refresh(self) -> None:
        """Show what is on the book now; each level that changed is one update."""
        sides = self._levels(MAX_LEVELS)
        before = self.update_id
        for side in (0, 1):
            levels, shown = dict(sides[side]), self._shown[side]
            if levels == shown:
                continue
            changed = {price for price, _ in levels.items() ^ shown.items()}
            self.update_id += len(changed)
            for follower in self._followers.values():
                follower.touched[side].update(changed)
            shown.clear()
            shown.update(levels)
        self._sides = sides
        if before == self.update_id:
            self._see_best(sides)
        else:
            self._best = _best_of(sides)

    def follow(self, stream: str) -> None:
        """Collect changes for *stream* from now on, if it does not already."""
        if stream not in self._followers:
            self.refresh()
            self._followers[stream] = _Follower(self.update_id)

    def leave(self, stream: str) -> None:
        """Stop collecting."""
        self._followers.pop(stream, None)

    def diff(self, stream: str) -> Diff | None:
        """What changed for *stream* since its last diff, as last shown; ``None`` when nothing did."""
        follower = self._followers[stream]
        bids, asks = follower.touched
        if not bids and not asks:
            return None
        shown_bids, shown_asks = self._shown
        told = Diff(
            follower.told_id + 1,
            self.update_id,
            [(price, shown_bids.get(price, 0)) for price in sorted(bids, reverse=True)],
            [(price, shown_asks.get(price, 0)) for price in sorted(asks)],
        )
        self._followers[stream] = _Follower(self.update_id)
        return told

    def _see_best(self, sides: Sides) -> None:
        best = _best_of(sides)
        if best != self._best:
            self._best = best
            self.update_id += 1


def _best_of(sides: Sides) -> tuple[Level, Level]:
    bids, asks = sides
    return (bids[0] if bids else NOTHING, asks[0] if asks else NOTHING)
