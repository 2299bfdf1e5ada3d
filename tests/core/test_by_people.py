"""One-shot commands are carried out once; a halt says when it has done its work."""

from __future__ import annotations

from typing import Any

from bots.core.messages import CommandGiven, ControlChanged
from shared.states import DesiredState, PositionState, Side
from tests.core.builders import ENTER, Desk, a_config

RUN, PAUSE, STOP = (ControlChanged(desired=DesiredState(d)) for d in ("running", "paused", "stopped"))
HALT = ControlChanged(desired=DesiredState.RUNNING, halted=True, halt_reason="kill switch, by ann: odd fills")
FLATTEN = ControlChanged(desired=DesiredState.RUNNING, halted=True, close_positions=True)


def close_all(number: int = 1) -> CommandGiven:
    return CommandGiven(number=number, verb="close_positions")


def close_one(key: int, number: int = 1) -> CommandGiven:
    return CommandGiven(number=number, verb="close_position", position_key=key)


def done(desk: Desk) -> list[tuple[int, str]]:
    return [(fact.number, fact.result) for fact in desk.facts_of("command.done")]


def halts(desk: Desk) -> list[tuple[bool, int, int, int, int]]:
    return [(h.halted, h.waiting, h.unknown, h.positions, h.without_stop) for h in desk.facts_of("halt")]


def sells(desk: Desk, price: str = "100") -> Any:
    """The exchange cancels what rests and fills the market exit."""
    target = next(o for o in reversed(desk.orders) if o.side is Side.SELL)
    desk.answer("cancelled", order=target)
    return desk.answer("filled", (price, "1"), fee="0")


# --- closing ----------------------------------------------------------------------------------------------------------


def test_closing_cancels_the_target_sells_at_market_and_is_acknowledged_once_it_is_sold():
    desk = Desk()
    desk.holds()
    target = desk.orders[-1]

    desk.feed(close_all())
    assert [c.client_order_id for c in desk.cancels] == [target.client_order_id]
    assert done(desk) == []
    sells(desk)

    assert (desk.position.status, desk.position.exit_reason) == (PositionState.CLOSED, "by_hand")
    assert done(desk) == [(1, "closed 1")]


def test_closing_withdraws_an_entry_that_is_not_filled():
    desk = Desk()
    desk.enters()
    desk.answer("new")

    desk.feed(close_all())
    desk.answer("cancelled", order=desk.orders[0])

    assert (desk.position.status, desk.position.exit_reason) == (PositionState.CANCELLED, "by_hand")
    assert done(desk) == [(1, "closed 1")]


def test_nothing_is_entered_until_the_command_is_done_and_then_a_running_bot_trades_on():
    desk = Desk()
    desk.holds()
    desk.feed(close_all())

    desk.candle(decide=ENTER)
    assert desk.trader.entry_hold == "closing positions"
    assert len([o for o in desk.orders if o.side is Side.BUY]) == 1
    sells(desk)

    assert desk.trader.entry_hold is None
    desk.enters()


def test_a_paused_bot_closes_and_stays_paused():
    desk = Desk()
    desk.holds()
    desk.feed(PAUSE)

    desk.feed(close_all())
    sells(desk)

    assert done(desk) == [(1, "closed 1")]
    assert desk.trader.entry_hold == "paused"


def test_a_command_that_comes_again_is_carried_out_once():
    desk = Desk()
    desk.holds()
    desk.feed(close_all())
    desk.feed(close_all())
    sells(desk)
    desk.feed(close_all())
    desk.holds()
    desk.feed(close_all())

    assert desk.position.exiting is None
    assert done(desk) == [(1, "closed 1")]


def test_one_position_is_closed_and_the_other_stays():
    desk = Desk()
    first = desk.holds()
    second = desk.holds()

    desk.feed(close_one(first.position_key))

    exiting = {p.position_key: p.exiting for p in desk.trader.orders.positions.values()}
    assert exiting == {first.position_key: "by_hand", second.position_key: None}


def test_what_is_not_there_needs_no_closing_and_a_verb_of_a_newer_server_blocks_nothing():
    desk = Desk()

    desk.feed(close_all(1))
    desk.feed(close_one(77, 2))
    desk.feed(CommandGiven(number=3, verb="dance"))

    assert [number for number, _ in done(desk)] == [1, 2, 3]
    assert [result for _, result in done(desk)][1:] == ["nothing to close", "not done: this bot does not know 'dance'"]
    assert desk.trader.entry_hold is None


def test_commands_are_acknowledged_in_the_order_of_their_numbers():
    desk = Desk()
    first = desk.holds()
    desk.feed(close_one(first.position_key, 1))
    desk.feed(close_one(77, 2))
    assert done(desk) == []

    sells(desk)

    assert [number for number, _ in done(desk)] == [1, 2]


# --- over a restart ---------------------------------------------------------------------------------------------------


def test_a_command_that_was_done_is_not_done_again_after_a_restart_but_said_once_more():
    desk = Desk()
    desk.holds()
    desk.feed(close_all())
    sells(desk)

    desk.die_and_return()
    desk.candles(1)
    desk.holds()
    desk.feed(close_all())

    assert desk.position.exiting is None
    assert done(desk) == [(1, "closed 1"), (1, "done before")]


def test_a_command_that_was_begun_goes_on_after_a_restart():
    desk = Desk()
    desk.holds()
    desk.feed(close_all())

    desk.die_and_return()
    desk.feed(close_all())
    sells(desk)

    assert done(desk) == [(1, "closed 1")]


def test_a_later_snapshot_remembers_the_last_number():
    desk = Desk()
    desk.feed(close_all(5))
    desk.die_and_return()

    assert desk.trader.snapshot().commands_done == 5


def test_a_stopped_bot_that_holds_its_positions_is_settled_once_the_one_is_closed():
    desk = Desk(a_config(on_stop="hold"))
    first = desk.holds()
    desk.holds()
    desk.feed(close_one(first.position_key))
    desk.feed(STOP)
    assert not desk.trader.is_settled

    targets = [o for o in desk.orders if o.client_order_id.endswith("t1")]
    desk.answer("cancelled", order=targets[0])
    desk.answer("filled", ("100", "1"), fee="0")

    assert desk.trader.is_settled
    assert len(desk.trader.orders.positions) == 1


# --- forgetting -------------------------------------------------------------------------------------------------------


def test_a_forgotten_position_has_no_pnl_counts_nowhere_and_is_not_remembered():
    desk = Desk()
    desk.holds()

    desk.feed(CommandGiven(number=1, verb="forget_position", position_key=desk.position.position_key))

    assert (desk.position.status, desk.position.exit_reason, desk.position.pnl) == ("closed", "forgotten", None)
    assert desk.alerts == ["position_forgotten"]
    assert done(desk) == [(1, "forgotten")]
    assert desk.counters.trades == 0
    desk.die_and_return()
    assert desk.trader.is_flat
    assert desk.counters.trades == 0


def test_a_forgotten_entry_without_a_fill_is_cancelled():
    desk = Desk()
    desk.enters()

    desk.feed(CommandGiven(number=1, verb="forget_position", position_key=desk.position.position_key))

    assert (desk.position.status, desk.position.exit_reason) == (PositionState.CANCELLED, "forgotten")


# --- halting ----------------------------------------------------------------------------------------------------------


def test_a_halt_withdraws_entries_keeps_targets_and_says_when_no_entry_order_is_left():
    desk = Desk()
    desk.holds()
    target = desk.orders[-1]
    entry = desk.enters()
    desk.answer("new", order=entry)

    desk.feed(HALT)
    assert [c.client_order_id for c in desk.cancels] == [entry.client_order_id]
    desk.answer("cancelled", order=entry)

    assert halts(desk) == [(True, 1, 0, 1, 0), (True, 0, 0, 1, 0)]
    assert desk.facts_of("halt")[0].reason == "kill switch, by ann: odd fills"
    assert desk.leg(target).cancel_requested_ms is None


def test_an_entry_without_an_answer_is_unknown_until_it_is_known():
    desk = Desk()
    entry = desk.enters()

    desk.feed(HALT)
    desk.answer("new", order=entry)
    desk.answer("cancelled", order=entry)

    assert [h[1:3] for h in halts(desk)] == [(0, 1), (1, 0), (0, 0)]


def test_a_position_without_a_stop_is_named():
    desk = Desk(a_config(stop_loss_pct=None))
    desk.holds()

    desk.feed(HALT)

    assert halts(desk) == [(True, 0, 0, 1, 1)]


def test_a_release_is_said_once_and_a_bot_that_was_never_halted_says_nothing():
    desk = Desk()
    desk.candles(3)
    assert halts(desk) == []

    desk.feed(HALT)
    desk.feed(RUN)
    desk.candles(3)

    assert [h[0] for h in halts(desk)] == [True, False]


def test_the_kill_switch_can_close_positions_as_well_also_after_a_restart():
    desk = Desk(a_config(on_stop="hold"), running=False)
    desk.feed(RUN)
    desk.holds()
    desk.die_and_return()

    desk.feed(FLATTEN)
    sells(desk)

    assert (desk.position.status, desk.position.exit_reason) == (PositionState.CLOSED, "kill_switch")
