"""What a trader does with candles, people and the shell around it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bots.core.candles import Candle
from bots.core.messages import ConfigChanged, ControlChanged, Gate, Quote, Refusal
from bots.core.strategy import Action, Decision
from bots.core.trader import Trader
from shared.states import DesiredState, OrderType, PositionState, Side
from tests.core.builders import ENTER, EXIT, NOON_MS, RULES, Desk, Scripted, a_candle, a_config, at, d

STOP = ControlChanged(desired=DesiredState.STOPPED)
PAUSE = ControlChanged(desired=DesiredState.PAUSED)
HALT = ControlChanged(desired=DesiredState.RUNNING, halted=True)
RUN = ControlChanged(desired=DesiredState.RUNNING)


def held_back(desk, code):
    return desk.trader.blocked.get(code, 0)


# --- entries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry_order_type", "entry_price", "offset", "order_type", "price", "quantity"),
    [
        # 100 QUOTE at the close of 99.987, down to the tick 99.98: 1.0002 BASE, in lots 1.000
        ("limit_maker", "close", 0, OrderType.LIMIT_MAKER, "99.98", "1"),
        ("limit", "close", 0, OrderType.LIMIT, "99.98", "1"),
        # at the bid of 99.5: 100 ÷ 99.5 = 1.00502…
        ("limit_maker", "bid", 0, OrderType.LIMIT_MAKER, "99.5", "1.005"),
        # ten ticks below it: 100 ÷ 99.4 = 1.00603…
        ("limit_maker", "bid", 10, OrderType.LIMIT_MAKER, "99.4", "1.006"),
        # at market sized with the ask of 100.3: 100 ÷ 100.3 = 0.99700…
        ("market", "bid", 10, OrderType.MARKET, None, "0.997"),
    ],
)
def test_an_entry_is_priced_and_sized_as_configured(entry_order_type, entry_price, offset, order_type, price, quantity):
    config = a_config(entry_order_type=entry_order_type, entry_price=entry_price, entry_offset_ticks=offset)
    desk = Desk(config)
    desk.feed(Quote(bid=99.5, ask=100.3))

    order = desk.enters(99.987)

    assert (order.side, order.order_type) == (Side.BUY, order_type)
    assert (order.price, order.quantity) == (d(price) if price else None, d(quantity))


def test_without_a_quote_an_entry_at_the_bid_is_placed_at_the_close():
    desk = Desk(a_config(entry_price="bid"))

    assert desk.enters(99.987).price == d("99.98")


def test_an_offset_below_nothing_is_held_back():
    desk = Desk(a_config(entry_offset_ticks=10_000))

    desk.candle(100, decide=ENTER)

    assert desk.orders == []
    assert desk.facts_of("risk")[-1].code == "no_price"


def test_an_entry_tells_its_signal_and_what_it_was_decided_on():
    desk = Desk()
    desk.strategy.values = {"rsi": 12.5, "broken": float("nan")}

    desk.enters(99.5)

    signal = desk.facts_of("signal")[0]
    assert (signal.decision_ms, signal.action, signal.price, signal.score, signal.threshold) == (
        at(1),
        "enter",
        99.5,
        0.7,
        0.4,
    )
    assert signal.values == {"rsi": 12.5}
    position = desk.position
    assert (position.position_key, position.opened_ms, position.confidence) == (at(1), at(1), 0.7)
    assert position.entry_logic == "scripted"
    assert position.exit_logic == "target +1%, stop -2%, after 600 s"


def test_two_positions_may_be_open_and_no_third():
    desk = Desk(a_config(max_positions=2))
    desk.enters()
    desk.enters()

    desk.candle(decide=ENTER)

    assert len(desk.orders) == 2
    assert held_back(desk, "max_positions") == 1
    assert desk.facts_of("risk") == []


def test_one_candle_stops_two_positions():
    desk = Desk(a_config(max_positions=2, profit_target_pct=None))
    desk.holds()
    desk.holds()

    desk.candle(90)

    assert [o.side for o in desk.orders[2:]] == [Side.SELL, Side.SELL]
    assert desk.orders[2].client_order_id != desk.orders[3].client_order_id


def test_an_entry_costs_no_more_than_is_free():
    desk = Desk()
    desk.sees_account(quote="42")

    assert desk.enters(100).quantity == d("0.42")


def test_a_back_filled_candle_never_enters():
    desk = Desk()

    desk.candle(decide=ENTER, backfilled=True)

    assert desk.orders == []
    assert held_back(desk, "backfilled") == 1
    assert desk.trader.tally.decisions == 0


def test_a_candle_that_comes_twice_or_late_is_nothing():
    desk = Desk()
    desk.enters(100)
    desk.candle(101)
    desk.strategy.next = ENTER

    assert desk.feed(a_candle(1, 50)) == []
    assert desk.feed(a_candle(2, 50)) == []
    assert desk.strategy.next is ENTER
    assert desk.trader.orders.price == d("101.0")


def test_a_decision_time_that_was_already_lived_through_never_enters_again():
    desk = Desk()
    first = desk.enters()
    desk.refuse(Refusal.POST_ONLY)
    desk.die_and_return()
    desk.strategy.next = ENTER

    desk.feed(a_candle(1))

    assert desk.orders == [first]


BEHIND = (
    "market time is 2023-11-15T12:00:01Z, and this bot has traded until 2023-11-15T13:00:01Z: no entries and no "
    "guard over positions before that; play the market from there on, or create a new bot"
)


def a_desk_an_hour_ahead_of_its_market(**changes):
    desk = Desk(a_config(**changes))
    desk.second = 3600
    desk.candle()
    desk.start(desk.trader.snapshot())
    desk.second = 0
    return desk


def test_a_market_that_is_behind_the_memory_is_told_once_and_shown():
    desk = a_desk_an_hour_ahead_of_its_market()

    desk.candle(decide=ENTER)
    desk.candle(decide=ENTER)

    assert desk.orders == []
    assert held_back(desk, "market_time_behind") == 2
    assert [(r.code, r.message) for r in desk.facts_of("risk")] == [("market_time_behind", BEHIND)]
    assert desk.trader.entry_hold == BEHIND
    desk.feed(HALT)
    assert desk.trader.entry_hold == "halted"


def test_a_market_that_has_caught_up_with_the_memory_is_entered():
    desk = a_desk_an_hour_ahead_of_its_market()
    desk.candles(3)

    desk.second = 3601
    desk.enters()

    assert desk.trader.entry_hold is None


def test_history_and_the_last_minute_are_no_market_that_is_behind():
    desk = a_desk_an_hour_ahead_of_its_market()
    desk.candle(decide=ENTER, backfilled=True)
    desk.second = 3540
    desk.candle(decide=ENTER)

    assert desk.trader.entry_hold is None
    assert desk.facts_of("risk") == []
    assert held_back(desk, "backfilled") == 2


def test_there_is_no_late_entry_at_market_while_the_market_is_behind_the_memory():
    desk = Desk(a_config(on_entry_timeout="market"))
    desk.second = 3600
    desk.enters()
    desk.answer("new")
    desk.candles(59)
    desk.start(desk.trader.snapshot())
    desk.second = 0
    desk.candle()
    desk.tick(3661)

    desk.answer("cancelled", order=desk.orders[0])

    assert len(desk.orders) == 1


def test_the_strategy_sees_bars_of_the_bots_interval():
    desk = Desk(interval="1m")

    desk.candles(121)

    assert desk.strategy.seen == [at(60), at(120)]


def test_warming_up_decides_nothing():
    desk = Desk()
    desk.strategy.next = ENTER

    desk.trader.warm_up([Candle(NOON_MS - 60_000, 60_000, 1, 1, 1, 1, 1, 1, 1, 1, 1)])

    assert desk.strategy.seen == [NOON_MS]
    assert desk.trader.is_flat


def test_decisions_are_counted_and_digested():
    desk, same, other = Desk(), Desk(), Desk()
    for one in (desk, same, other):
        one.candle(decide=ENTER)
        one.candle(decide=Decision(Action.NONE, score=0.1 if one is not other else 0.2))

    tally = desk.trader.tally
    assert (tally.decisions, tally.above_threshold, tally.best_score, tally.last_decision_ms) == (2, 1, 0.7, at(2))
    assert desk.trader.digest == same.trader.digest != other.trader.digest


# --- exits by signal ----------------------------------------------------------------------------------------------


def test_an_exit_signal_sells_every_open_position_and_tells_once():
    desk = Desk(a_config(profit_target_pct=None))
    desk.holds()
    desk.holds()

    desk.candle(decide=EXIT)

    assert [o.side for o in desk.orders[2:]] == [Side.SELL, Side.SELL]
    assert [s.action for s in desk.facts_of("signal")] == ["enter", "enter", "exit"]
    assert desk.position.exiting == "signal"


@pytest.mark.parametrize(("close", "sells"), [(100.5, False), (100.51, True)])
def test_an_exit_signal_with_a_least_profit_sells_above_it_only(close, sells):
    desk = Desk()
    desk.holds(price="100")

    desk.candle(close, decide=replace(EXIT, min_profit=d("0.005")))  # above 100 × 1.005

    assert (desk.position.exiting == "signal") is sells


def test_an_exit_signal_leaves_a_pending_entry_alone():
    desk = Desk()
    desk.enters()
    desk.answer("new")

    desk.candle(decide=EXIT)

    assert desk.cancels == []


def test_a_back_filled_exit_signal_is_obeyed_at_the_next_live_candle():
    desk = Desk()
    desk.holds()
    desk.candle(100.5, decide=EXIT, backfilled=True)
    desk.candle(backfilled=True, decide=Decision(Action.NONE))
    assert desk.position.exiting is None

    desk.candle()
    assert desk.position.exiting == "signal"

    signal = desk.facts_of("signal")[-1]
    assert (signal.action, signal.decision_ms, signal.price) == ("exit", at(2), 100.5)


@pytest.mark.parametrize(("close", "sells"), [(100.5, False), (100.51, True)])
def test_a_back_filled_exit_signal_with_a_least_profit_looks_at_the_live_price_once(close, sells):
    desk = Desk()
    desk.holds(price="100")
    desk.candle(100.9, decide=replace(EXIT, min_profit=d("0.005")), backfilled=True)

    desk.candle(close)
    desk.candle(100.9)

    assert (desk.position.exiting == "signal") is sells


def test_a_back_filled_exit_signal_is_overtaken_by_a_later_entry_signal():
    desk = Desk()
    desk.holds()
    desk.candle(decide=EXIT, backfilled=True)
    desk.candle(decide=ENTER, backfilled=True)

    desk.candle()

    assert desk.position.exiting is None


def test_a_back_filled_exit_signal_leaves_a_position_alone_that_was_opened_after_it():
    desk = Desk()
    desk.enters()
    desk.candle(decide=EXIT, backfilled=True)
    desk.answer("filled", ("100", "1"), second=2)

    desk.candle()

    assert desk.position.exiting is None


def test_exit_signals_of_history_at_a_start_are_nothing():
    desk = Desk()
    desk.holds()
    desk.die_and_return()
    desk.candle(decide=EXIT, backfilled=True)

    desk.candles(2)

    assert desk.position.exiting is None


# --- limits -------------------------------------------------------------------------------------------------------


def loses(desk, exit_price):
    desk.holds()
    desk.candle(90)
    desk.answer("filled", (exit_price, "1"), fee="0")


def test_after_a_position_closed_the_next_entry_waits_for_the_cooldown():
    desk = Desk(a_config(cooldown=10, profit_target_pct=None))
    loses(desk, "99")
    closed = desk.second

    desk.candles(8)
    desk.candle(decide=ENTER)
    assert len(desk.orders) == 2
    assert held_back(desk, "cooldown") == 1
    desk.enters()

    assert desk.second == closed + 10


def test_the_daily_loss_counts_open_losses_and_ends_at_midnight():
    desk = Desk(a_config(max_daily_loss=12, profit_target_pct=None, stop_loss_pct=0.5, max_positions=3))
    loses_by_signal(desk, "91")  # −9
    desk.enters(100)
    desk.answer("filled", ("100", "1"), fee="0")

    desk.candle(97.01, decide=ENTER)  # 9 + 2.99
    assert len(desk.orders) == 4
    desk.candle(97, decide=ENTER)  # 9 + 3
    desk.candle(96, decide=ENTER)
    assert len(desk.orders) == 4
    assert [r.message for r in desk.facts_of("risk")] == ["lost 12 of at most 12 QUOTE today, until 00:00 UTC"]

    desk.second = 12 * 3600  # midnight
    desk.candle(96, decide=ENTER)
    assert len(desk.orders) > 4
    assert desk.counters.day_pnl == 0


def loses_by_signal(desk, price):
    desk.holds()
    desk.candle(float(price), decide=EXIT)
    desk.answer("filled", (price, "1"), fee="0")


def test_the_daily_trades_count_filled_entries_and_begin_anew_at_midnight():
    desk = Desk(a_config(max_daily_trades=1, max_positions=3))
    desk.holds()

    desk.candle(decide=ENTER)
    assert len(desk.orders) == 2
    desk.die_and_return()
    desk.candle(decide=ENTER)
    assert len(desk.orders) == 2
    assert desk.facts_of("risk")[-1].code == "max_daily_trades"

    desk.second = 12 * 3600
    desk.enters()


def test_an_entry_that_bought_nothing_uses_up_no_daily_trade():
    desk = Desk(a_config(max_daily_trades=1))
    desk.enters()
    desk.refuse(Refusal.POST_ONLY)
    desk.enters()
    desk.refuse(Refusal.FILTER)
    desk.candles(2)
    desk.enters()
    desk.answer("new")
    desk.candles(60)
    desk.answer("cancelled")

    desk.enters()

    assert desk.counters.day_entries == 0


def test_a_pending_entry_keeps_its_daily_trade():
    desk = Desk(a_config(max_daily_trades=1, max_positions=3))
    desk.enters()
    desk.answer("new")

    desk.candle(decide=ENTER)

    assert len(desk.orders) == 1
    assert desk.facts_of("risk")[-1].message == "0 of 1 entries today, 1 pending"


def test_an_entry_counts_once_however_many_fills_it_takes():
    desk = Desk()
    desk.enters()
    desk.answer("partially_filled", ("100", "0.4"))
    assert desk.counters.day_entries == 1
    desk.die_and_return()
    assert desk.counters.day_entries == 1

    desk.answer("filled", ("100", "0.6"))

    assert desk.counters.day_entries == 1


def test_a_symbol_that_is_not_traded_gets_no_entries():
    desk = Desk(rules=replace(RULES, status="BREAK"))

    desk.candle(decide=ENTER)

    assert desk.orders == []
    assert "BREAK" in desk.facts_of("risk")[0].message


def test_a_reason_to_hold_back_is_told_when_it_changes():
    desk = Desk()
    desk.feed(Gate(source="market", reason="no candle for more than 3 s"))
    desk.candle(decide=ENTER)
    desk.candle(decide=ENTER)
    desk.feed(PAUSE)
    desk.candle(decide=ENTER)

    assert [r.message for r in desk.facts_of("risk")] == ["no candle for more than 3 s", "paused"]
    assert held_back(desk, "held") == 3


# --- people and shell ---------------------------------------------------------------------------------------------


def test_there_is_no_entry_before_control_was_seen():
    desk = Desk(running=False)
    desk.candle(decide=ENTER)
    assert desk.orders == []

    desk.feed(RUN)
    desk.enters()


def test_a_gate_holds_entries_back_until_it_opens():
    desk = Desk()
    desk.feed(Gate(source="disk", reason="full"))
    desk.feed(Gate(source="market", reason="silent"))
    desk.feed(Gate(source="disk", reason=None))
    assert desk.trader.entry_hold == "silent"

    desk.feed(Gate(source="market", reason=None))

    assert desk.trader.entry_hold is None
    desk.enters()


@pytest.mark.parametrize(("control", "reason"), [(PAUSE, "paused"), (HALT, "halted")])
def test_pausing_and_halting_withdraw_entries_and_guard_what_is_held(control, reason):
    desk = Desk(a_config(on_entry_timeout="market"))
    desk.holds()
    entry = desk.enters()
    desk.answer("new")

    desk.feed(control)
    assert [c.client_order_id for c in desk.cancels] == [entry.client_order_id]
    desk.answer("cancelled", order=entry)

    assert (desk.position.status, desk.position.exit_reason) == (PositionState.CANCELLED, reason)
    assert desk.trader.entry_hold == reason
    assert len(desk.trader.orders.positions) == 1
    desk.candle(90)
    assert len(desk.cancels) == 2


def test_an_entry_without_an_answer_is_withdrawn_as_soon_as_it_shows():
    desk = Desk()
    entry = desk.enters()
    desk.feed(PAUSE)
    assert desk.cancels == []

    desk.answer("new")

    assert [c.client_order_id for c in desk.cancels] == [entry.client_order_id]


def test_stopping_with_close_sells_everything():
    desk = Desk(a_config(on_stop="close"))
    desk.holds()
    entry = desk.enters()
    desk.answer("partially_filled", ("100", "0.4"), fee="0")
    target = desk.orders[1]

    desk.feed(STOP)
    assert {c.client_order_id for c in desk.cancels} == {target.client_order_id, entry.client_order_id}
    desk.answer("cancelled", order=target)
    desk.answer("filled", ("100", "1"))
    desk.answer("cancelled", order=entry)
    assert not desk.trader.is_settled
    desk.answer("filled", ("100", "0.4"))

    assert desk.trader.is_settled
    assert desk.trader.is_flat
    assert desk.position.exit_reason == "bot_stopped"


def test_stopping_with_hold_leaves_positions_with_their_targets_and_withdraws_entries():
    desk = Desk(a_config(on_stop="hold"))
    desk.holds()
    entry = desk.enters()
    desk.answer("new")

    desk.feed(STOP)
    assert not desk.trader.is_settled
    desk.answer("cancelled", order=entry)

    assert desk.trader.is_settled
    assert [p.exiting for p in desk.trader.orders.positions.values()] == [None]
    assert [c.client_order_id for c in desk.cancels] == [entry.client_order_id]


def test_a_change_from_hold_to_close_while_stopping_sells_everything():
    desk = Desk(a_config(on_stop="hold"))
    desk.holds()
    desk.feed(STOP)
    assert desk.trader.is_settled

    desk.feed(ConfigChanged(version=2, config=a_config(on_stop="close")))
    desk.answer("cancelled")
    assert not desk.trader.is_settled
    desk.answer("filled", ("100", "1"))

    assert desk.trader.is_flat
    assert desk.position.exit_reason == "bot_stopped"


def test_a_change_from_close_to_hold_while_stopping_lets_sales_end_first():
    desk = Desk(a_config(on_stop="close"))
    desk.holds()
    desk.feed(STOP)
    desk.answer("cancelled")

    desk.feed(ConfigChanged(version=2, config=a_config(on_stop="hold")))

    assert not desk.trader.is_settled
    desk.answer("filled", ("100", "1"))
    assert desk.trader.is_settled


def test_a_config_before_the_first_control_withdraws_nothing():
    desk = Desk()
    desk.enters()
    desk.answer("new")
    desk.running = False
    desk.die_and_return()

    desk.feed(ConfigChanged(version=2, config=desk.config))

    assert desk.cancels == []


def test_stopping_with_hold_waits_for_orders_on_their_way_and_for_exits():
    desk = Desk(a_config(on_stop="hold"))
    desk.enters()
    desk.answer("filled", ("100", "1"), fee="0")
    desk.feed(STOP)
    assert not desk.trader.is_settled  # the target is on its way

    desk.answer("new")
    assert desk.trader.is_settled
    desk.candle(90)
    assert not desk.trader.is_settled  # the stop was touched

    desk.answer("cancelled")
    desk.answer("filled", ("90", "1"))
    assert desk.trader.is_settled


def test_a_stopped_bot_whose_position_has_no_price_yet_still_sells():
    desk = Desk(a_config(on_stop="close", profit_target_pct=None))
    desk.holds()
    desk.die_and_return()

    desk.feed(STOP)

    assert desk.orders[-1].order_type is OrderType.MARKET


def test_an_open_position_keeps_its_terms_when_the_config_changes():
    desk = Desk(a_config(stop_loss_pct=0.02, take_profit_order="watched", max_positions=2))
    desk.holds()
    changed = a_config(stop_loss_pct=0.1, take_profit_order="resting", profit_target_pct=0.5, max_positions=2)

    desk.feed(ConfigChanged(version=2, config=changed))
    second = desk.holds()
    desk.candle(97.99)

    first = desk.trader.orders.positions[at(1)]
    assert (first.exiting, first.config_version) == ("stop_loss", 1)
    assert (second.exiting, second.config_version, second.target_price) == (None, 2, d("150"))
    applied = desk.facts_of("config.applied")[0]
    assert applied.version == 2
    assert applied.changed == ["profit_target_pct", "stop_loss_pct", "take_profit_order"]


def test_a_limit_that_applies_now_acts_on_the_next_decision():
    desk = Desk(a_config(max_positions=1))
    desk.enters()
    desk.candle(decide=ENTER)
    assert len(desk.orders) == 1

    desk.feed(ConfigChanged(version=2, config=a_config(max_positions=2)))

    desk.enters()


def test_without_a_strategy_positions_are_guarded_and_nothing_is_entered():
    desk = Desk()
    desk.holds()
    trader = Trader(
        id_prefix="fabc-3", rules=RULES, interval="1s", strategy=None, config=desk.config, config_version=1,
        memory=desk.trader.snapshot(),
    )  # fmt: skip
    trader.step(RUN)

    trader.step(a_candle(5, 90))

    assert trader.bars_needed == 0
    assert [p.exiting for p in trader.orders.positions.values()] == ["stop_loss"]


class Broken(Scripted):
    def on_candle(self, bar, window, config):
        if self.next is None:
            raise ZeroDivisionError("no volume")
        return super().on_candle(bar, window, config)


def test_a_strategy_that_breaks_leaves_open_positions_guarded():
    desk = Desk()
    desk.holds()
    desk.strategy.__class__ = Broken

    desk.candle(100)
    desk.candle(100, decide=ENTER)
    desk.candle(97)

    assert desk.alerts == ["strategy_failed"]
    assert desk.trader.entry_hold == "the strategy failed: ZeroDivisionError: no volume"
    assert len(desk.orders) == 2
    assert desk.position.exiting == "stop_loss"


def test_a_strategy_that_breaks_while_nothing_is_held_ends_the_run():
    desk = Desk()
    desk.strategy.__class__ = Broken

    with pytest.raises(ZeroDivisionError):
        desk.candle()


def test_a_strategy_that_breaks_while_warming_up_leaves_open_positions_guarded():
    desk = Desk()
    desk.holds()
    desk.strategy.__class__ = Broken
    desk.die_and_return()

    desk.trader.warm_up([a_candle(0)])
    desk.candle(97)

    assert desk.alerts == ["strategy_failed"]
    assert desk.trader.entry_hold == "the strategy failed: ZeroDivisionError: no volume"
    assert desk.position.exiting == "stop_loss"


def test_a_strategy_that_breaks_while_warming_up_ends_the_run_of_a_bot_that_holds_nothing():
    desk = Desk()
    desk.strategy.__class__ = Broken

    with pytest.raises(ZeroDivisionError):
        desk.trader.warm_up([a_candle(0)])
