"""What a bot remembers from its journal, wherever that was cut off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bots.core.candles import Candle
from bots.core.memory import recall
from bots.core.messages import CancelOrder, OrderUnknown, Refusal, Tick
from shared.events import Heartbeat, Payload, Position, Snapshot, Stats
from shared.positions import Counters
from shared.states import OrderState
from tests.core.builders import ENTER, Desk, a_config, at, d, through_a_file


def a_heartbeat(last_candle_ms):
    return Heartbeat(
        last_candle_ms=last_candle_ms, last_price=1.0, loop_lag_ms=0, latency_p50_us=None, latency_p99_us=None,
        decisions=0, above_threshold=0, blocked={}, best_score=None, last_decision_ms=None, decision_digest="",
        open_orders=0, positions=0, unrealised_pnl=d(0), rss_mib=1, cpu_s=1, config_version=1, errors={}, streams={},
    )  # fmt: skip


def a_life() -> Desk:
    """Two positions, one of which closes with a profit and one of which the exchange refuses; then a third."""
    desk = Desk()
    desk.holds()
    desk.candles(3)
    desk.answer("filled", ("101", "1"), fee="0.101")
    desk.enters()
    desk.refuse(Refusal.POST_ONLY)
    desk.holds()
    return desk


def test_nothing_is_remembered_without_a_snapshot():
    assert recall([]) is None
    assert recall(a_life().journal[1:4]) is None


def test_the_memory_of_a_journal_is_the_traders_snapshot():
    desk = a_life()

    memory = recall(desk.journal)

    now = desk.trader.snapshot()
    assert memory is not None
    assert (memory.positions, memory.counters) == (now.positions, now.counters)
    assert memory.last_event_ms == now.last_event_ms
    assert (memory.counters.trades, memory.counters.day_entries, memory.counters.pnl) == (1, 2, d("0.899"))


def test_a_later_snapshot_replaces_what_was_before():
    desk = a_life()
    empty = Snapshot(last_event_ms=7, counters=Counters(trades=9), positions=[])

    assert recall([*desk.journal, empty]) == empty


def test_the_memory_leaves_the_journals_own_facts_alone():
    desk = a_life()
    before = replace(desk.journal[0].counters)

    recall(desk.journal)

    assert desk.journal[0].counters == before


def test_a_heartbeat_moves_market_time():
    snapshot = Snapshot(last_event_ms=at(5), counters=Counters(), positions=[])

    assert recall([snapshot, a_heartbeat(at(65))]).last_event_ms == at(65)
    assert recall([snapshot, a_heartbeat(None)]).last_event_ms == at(5)


def test_a_journal_cut_between_a_closed_position_and_its_totals_still_counts_it_once():
    desk = Desk()
    desk.holds()
    desk.candles(3)
    desk.answer("filled", ("101", "1"), fee="0.101")
    assert isinstance(desk.journal[-1], Stats)
    assert isinstance(desk.journal[-2], Position)

    cut = recall(desk.journal[:-1])

    assert cut.counters == recall(desk.journal).counters
    assert (cut.counters.trades, cut.counters.pnl, cut.counters.last_closed_ms) == (1, d("0.899"), at(4))


def test_a_journal_cut_after_an_entrys_first_fill_still_counts_it():
    desk = Desk()
    desk.enters()
    assert recall(desk.journal).counters.day_entries == 0
    desk.answer("partially_filled", ("100", "0.4"))
    assert isinstance(desk.journal[-1], Stats)

    assert recall(desk.journal[:-1]).counters.day_entries == 1
    assert recall(desk.journal).counters.day_entries == 1


class Recorded(Desk):
    """A desk that keeps what went in and what came out of each step."""

    def feed(self, event):
        if not hasattr(self, "steps"):
            self.steps = []
        outputs = super().feed(event)
        facts = through_a_file([o for o in outputs if isinstance(o, Payload)])
        self.steps.append((event, self.trader.tally.decisions, facts, outputs[len(facts) :]))
        return outputs


def an_eventful_life() -> Recorded:
    """Partial fills, a time-out, a lost answer, a target, a stop, an exit that is refused and one that expires."""
    desk = Recorded(a_config(maker_order_timeout=5, max_positions=3))
    first = desk.enters()
    desk.answer("new")
    desk.answer("partially_filled", ("100", "0.4"))
    second = desk.enters(99)
    desk.feed(OrderUnknown(client_order_id=second.client_order_id, reason="time-out"))
    desk.candles(5)
    desk.answer("cancelled", order=first)
    target = desk.orders[-1]
    desk.answer("new", order=target)
    desk.answer("filled", ("99", "1.01"), order=second, fee="0")
    desk.answer("new")
    desk.answer("partially_filled", ("101", "0.1"), order=target)
    desk.candle(90)
    desk.answer("cancelled", order=target)
    desk.refuse(Refusal.OTHER)
    desk.answer("cancelled", order=desk.orders[3])
    desk.candles(3, close=90)
    desk.answer("expired", ("90", "0.5"), order=desk.orders[4])
    desk.candles(3, close=90)
    for order in desk.orders[5:]:
        leg = desk.leg(order)
        if leg is not None and not leg.status.is_final:
            desk.answer("filled", ("89", str(order.quantity)), order=order)
    return desk


LIFE = an_eventful_life()


def test_the_eventful_life_ends_flat():
    assert LIFE.trader.is_flat
    assert len(LIFE.orders) >= 7


@pytest.mark.parametrize("cut", range(1, len(LIFE.steps)))
def test_a_bot_restored_between_any_two_events_goes_on_as_if_nothing_had_happened(cut):
    opening = Snapshot(last_event_ms=0, counters=Counters(), positions=[])
    before = [fact for _, _, facts, _ in LIFE.steps[:cut] for fact in facts]
    desk = Desk(LIFE.config, memory=recall(through_a_file([opening, *before])))
    decisions = LIFE.steps[cut - 1][1]
    desk.feed(Tick(max((e.end_ms for e, *_ in LIFE.steps[:cut] if isinstance(e, Candle)), default=0)))

    for event, decided, facts, commands in LIFE.steps[cut:]:
        desk.strategy.next = ENTER if decided > decisions else None
        decisions = decided
        outputs = desk.feed(event)
        again = [o for o in outputs if o not in commands and isinstance(o, CancelOrder)]
        told = through_a_file([o for o in outputs if isinstance(o, Payload)])
        assert [o for o in outputs[len(told) :] if o not in again] == commands
        assert [f for f in told if f.type != "position"] == [f for f in facts if f.type != "position"]

    assert desk.trader.is_flat
    assert desk.counters == LIFE.counters


def test_a_position_restored_with_an_unanswered_order_sends_nothing_twice():
    desk = Desk()
    entry = desk.enters()
    desk.feed(OrderUnknown(client_order_id=entry.client_order_id, reason="time-out"))

    desk.die_and_return()
    desk.candles(30)

    assert desk.orders == [entry]
    assert desk.position.legs[0].status is OrderState.UNKNOWN
    assert [q.client_order_id for q in desk.trader.unsettled()] == [entry.client_order_id]
