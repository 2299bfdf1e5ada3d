"""The displayed book: whoever keeps a copy by the book's own recipe has what REST shows."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from simulator.market.depth import NOTHING, Diff, ShownBook, Snapshot

SIDE = st.dictionaries(st.integers(1, 12), st.integers(1, 5), max_size=8)


class Market:
    """A book that a test may change at will."""

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}

    def levels(self, count: int):
        return sorted(self.bids.items(), reverse=True)[:count], sorted(self.asks.items())[:count]


class LocalBook:
    """A client's copy, kept as the vendor's documents say."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.last_id = snapshot.update_id
        self.sides = (dict(snapshot.bids), dict(snapshot.asks))

    def apply(self, diff: Diff, first: bool) -> None:
        if diff.update_id <= self.last_id:
            return
        assert diff.first_id <= self.last_id + 1 if first else diff.first_id == self.last_id + 1
        for shown, changes in zip(self.sides, (diff.bids, diff.asks), strict=True):
            for price, qty in changes:
                if qty:
                    shown[price] = qty
                else:
                    shown.pop(price, None)
        self.last_id = diff.update_id


class ACopiedBook(RuleBasedStateMachine):
    """Changes, reads and ticks of two streams in any order, with copies begun at any moment."""

    @initialize()
    def begin(self) -> None:
        self.market = Market()
        self.book = ShownBook(self.market.levels, 1000)
        self.copies_of: dict[str, list[tuple[LocalBook, list[bool]]]] = {}
        self.seen_id = 0

    @rule(bids=SIDE, asks=SIDE)
    def trade(self, bids, asks) -> None:
        self.market.bids, self.market.asks = bids, asks

    @rule()
    def look_at_the_best(self) -> None:
        self.book.best()

    @rule(stream=st.sampled_from(["fast", "slow"]))
    def copy(self, stream) -> None:
        self.book.follow(stream)
        self.copies_of.setdefault(stream, []).append((LocalBook(self.book.snapshot(5000)), [True]))

    @rule(stream=st.sampled_from(["fast", "slow"]))
    def leave(self, stream) -> None:
        self.book.leave(stream)
        self.copies_of.pop(stream, None)

    @rule(stream=st.sampled_from(["fast", "slow"]))
    def tick(self, stream) -> None:
        if stream not in self.copies_of:
            return
        self.book.refresh()
        diff = self.book.diff(stream)
        for copy, first in self.copies_of[stream]:
            if diff is not None:
                copy.apply(diff, first[0])
                first[0] = False
            shown = self.book.snapshot(5000)
            assert copy.sides == (dict(shown.bids), dict(shown.asks))

    @invariant()
    def ids_only_grow(self) -> None:
        assert self.book.update_id >= self.seen_id
        self.seen_id = self.book.update_id


ACopiedBook.TestCase.settings = settings(max_examples=150, stateful_step_count=30)
TestACopiedBook = ACopiedBook.TestCase


@given(bids=SIDE, asks=SIDE, limit=st.integers(1, 10))
def test_a_snapshot_is_the_market_best_first(bids, asks, limit):
    market = Market()
    market.bids, market.asks = bids, asks
    shown = ShownBook(market.levels, 0).snapshot(limit)
    assert (shown.bids, shown.asks) == market.levels(limit)


def test_nothing_new_moves_no_update_id():
    market = Market()
    market.bids, market.asks = {10: 1}, {11: 2}
    book = ShownBook(market.levels, 0)
    seen = book.snapshot(5).update_id
    assert (book.best().update_id, book.snapshot(5).update_id, book.best().update_id) == (seen, seen, seen)


def test_the_best_moves_the_update_id_when_it_changes():
    market = Market()
    market.bids = {10: 1}
    book = ShownBook(market.levels, 0)
    first = book.best()
    assert (first.bid, first.ask) == ((10, 1), NOTHING)
    market.bids = {10: 2}
    assert book.best().update_id > first.update_id
    assert book.snapshot(5).update_id >= book.update_id


def test_a_level_that_came_and_went_between_two_diffs_is_told_as_it_stands():
    market = Market()
    book = ShownBook(market.levels, 0)
    book.follow("slow")
    market.bids = {10: 1}
    book.refresh()
    market.bids = {}
    book.refresh()
    assert book.diff("slow") == Diff(1, 2, [(10, 0)], [])
    assert book.diff("slow") is None
