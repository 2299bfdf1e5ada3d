"""Orders as the exchange tells of them, in any order and any number of times."""

from __future__ import annotations

from dataclasses import replace

from bots.core.messages import OrderAbsent
from shared.events import FillBooked, OrderIntent
from shared.states import OrderState, Role, Side
from tests.core.builders import ENTER, Desk, a_config, at, d


def test_a_repeated_report_books_nothing_and_orders_nothing():
    desk = Desk()
    desk.enters()
    report = desk.report("filled", ("100", "1"))
    desk.feed(report)
    written = len(desk.journal)

    outputs = desk.feed(report)

    assert outputs == []
    assert len(desk.journal) == written


def test_a_late_report_does_not_move_an_order_back():
    desk = Desk()
    desk.enters()
    new = desk.report("new", executed="0")
    desk.answer("partially_filled", ("100", "0.4"))

    assert desk.feed(new) == []
    assert desk.position.legs[0].status is OrderState.PARTIALLY_FILLED


def test_executions_that_a_report_does_not_list_are_asked_for_and_awaited():
    desk = Desk()
    entry = desk.enters()
    full = desk.report("filled", ("100", "1"), fee="0")

    desk.feed(replace(full, executions=()))

    assert [q.client_order_id for q in desk.questions] == [entry.client_order_id]
    assert desk.orders == [entry]
    desk.feed(full)
    assert desk.orders[-1].side is Side.SELL
    assert len(desk.facts_of("fill")) == 1


def test_a_report_on_someone_elses_order_is_nothing():
    desk = Desk()
    desk.enters()
    report = desk.report("filled", ("100", "1"))

    assert desk.feed(replace(report, client_order_id="web_123")) == []
    assert desk.feed(replace(report, client_order_id="fabc-33-1700049601000-e1")) == []


def test_a_fill_after_the_position_was_finished_alerts_once():
    desk = Desk()
    entry = desk.enters()
    desk.feed(OrderAbsent(entry.client_order_id))
    assert desk.trader.is_flat

    filled = desk.report("filled", ("100", "1"), order=entry)
    desk.feed(filled)
    desk.feed(filled)

    assert desk.alerts == ["order_not_placed", "stray_fill"]


def test_a_late_repetition_after_the_position_was_finished_is_nothing():
    desk = Desk(a_config(profit_target_pct=None))
    desk.holds()
    desk.candle(97)
    filled = desk.report("filled", ("97", "1"))
    desk.feed(filled)

    assert desk.feed(filled) == []


def test_an_intent_is_written_before_its_order_goes_out_and_the_position_after_its_intent():
    desk = Desk()

    outputs = desk.candle(decide=ENTER)

    kinds = [type(o).__name__ for o in outputs]
    assert kinds == ["SignalTaken", "OrderIntent", "Position", "PlaceOrder"]


def test_a_fill_carries_its_worth_and_where_it_belongs():
    desk = Desk()
    entry = desk.enters()
    desk.answer("filled", ("100", "1"))

    fill = desk.facts_of("fill")[0]
    assert isinstance(fill, FillBooked)
    assert (fill.client_order_id, fill.role, fill.side) == (entry.client_order_id, Role.ENTRY, Side.BUY)
    assert (fill.fee, fill.fee_asset, fill.fee_quote) == (d("0.001"), "BASE", d("0.1"))


def test_client_order_ids_are_short_and_say_whose_they_are():
    desk = Desk()
    desk.holds()

    ids = [i.client_order_id for i in desk.journal if isinstance(i, OrderIntent)]
    assert ids == [f"fabc-3-{at(1)}-e1", f"fabc-3-{at(1)}-t1"]


def test_a_cancel_that_may_have_been_lost_in_a_crash_is_sent_again_at_once():
    desk = Desk()
    desk.holds()
    desk.candle(97)
    assert len(desk.cancels) == 1

    desk.die_and_return()
    desk.candle(97)

    assert len(desk.cancels) == 2
