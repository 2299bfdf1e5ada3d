"""What happens to a position between its decision and its end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bots.core.messages import OrderAbsent, OrderUnknown, PriceSeen, Refusal
from shared.states import OrderState, OrderType, PositionState, Side
from tests.core.builders import ENTER, RULES, Desk, a_candle, a_config, at, d

# --- the entry's time-out -----------------------------------------------------------------------------------------


def test_an_entry_that_nobody_fills_is_cancelled_at_its_time_out():
    desk = Desk(a_config(maker_order_timeout=60))
    entry = desk.enters()
    desk.answer("new")

    desk.candles(59)
    assert desk.cancels == []
    desk.candle()
    assert [c.client_order_id for c in desk.cancels] == [entry.client_order_id]
    assert desk.position.status is PositionState.PENDING
    desk.answer("cancelled")

    assert desk.position.status is PositionState.CANCELLED
    assert desk.position.exit_reason == "entry_timeout"
    assert desk.trader.is_flat
    assert desk.alerts == []


def test_the_time_out_also_comes_while_the_stream_is_silent():
    desk = Desk(a_config(maker_order_timeout=60))
    desk.enters()
    desk.answer("new")

    desk.tick(60.9)
    assert desk.cancels == []
    desk.tick(61)

    assert len(desk.cancels) == 1


def test_a_cancel_without_an_end_is_asked_for_again_after_ten_seconds():
    desk = Desk(a_config(maker_order_timeout=60))
    desk.enters()
    desk.answer("new")

    desk.candles(60 + 9)
    assert len(desk.cancels) == 1
    desk.candle()

    assert len(desk.cancels) == 2


def test_what_is_filled_by_the_time_out_is_kept_and_gets_its_target():
    desk = Desk(a_config(maker_order_timeout=60, profit_target_pct=0.01))
    desk.enters()
    desk.answer("new")
    desk.answer("partially_filled", ("100", "0.4"), fee="0")
    desk.candles(60)

    desk.answer("cancelled", order=desk.orders[0])

    target = desk.orders[1]
    assert (target.side, target.order_type) == (Side.SELL, OrderType.LIMIT)
    assert (target.quantity, target.price) == (d("0.4"), d("101.00"))  # 100 × 1.01
    assert desk.position.status is PositionState.ACTIVE


def test_a_partial_fill_is_guarded_at_once_while_the_rest_of_the_entry_waits():
    desk = Desk(a_config(stop_loss_pct=0.02))
    entry = desk.enters()
    desk.answer("partially_filled", ("100", "0.4"), fee="0")

    desk.candle(97.99, low=97.99)  # stop at 100 × 0.98 = 98

    assert [c.client_order_id for c in desk.cancels] == [entry.client_order_id]
    desk.answer("cancelled", ("100", "0.1"), order=entry, fee="0")
    sale = desk.orders[-1]
    assert (sale.side, sale.order_type, sale.quantity) == (Side.SELL, OrderType.MARKET, d("0.5"))


def test_a_stop_survives_the_lost_answer_to_the_entrys_cancel():
    desk = Desk(a_config(stop_loss_pct=0.02))
    entry = desk.enters()
    desk.answer("partially_filled", ("100", "0.4"), fee="0")
    desk.candle(97, low=97)

    desk.candles(10, close=97)
    assert len(desk.cancels) == 2
    assert desk.orders == [entry]
    desk.answer("cancelled", order=entry)

    assert (desk.orders[-1].order_type, desk.orders[-1].quantity) == (OrderType.MARKET, d("0.4"))


def test_a_target_that_is_reached_while_the_entry_waits_withdraws_the_rest_of_the_entry():
    desk = Desk(a_config(profit_target_pct=0.01))
    entry = desk.enters()
    desk.answer("partially_filled", ("100", "0.4"), fee="0")

    desk.candle(101.5)
    assert [c.client_order_id for c in desk.cancels] == [entry.client_order_id]
    desk.candle(101.5)
    assert len(desk.cancels) == 1
    desk.answer("cancelled", order=entry)

    target = desk.orders[-1]
    assert (target.order_type, target.quantity, target.price) == (OrderType.LIMIT, d("0.4"), d("101"))


def test_with_on_entry_timeout_market_an_empty_entry_is_bought_at_market_for_no_more_money():
    desk = Desk(a_config(maker_order_timeout=60, on_entry_timeout="market", capital_per_trade=100))
    desk.enters(100)
    desk.answer("new")
    desk.candles(60, close=105)

    desk.answer("cancelled", order=desk.orders[0])

    late = desk.orders[1]
    assert late.client_order_id.endswith("-e2")
    assert (late.side, late.order_type, late.price) == (Side.BUY, OrderType.MARKET, None)
    assert late.quantity == d("0.952")  # 100 ÷ 105 = 0.9523…, in lots of 0.001


def test_a_late_market_entry_is_no_larger_than_one_market_order_may_be():
    desk = Desk(a_config(on_entry_timeout="market"), rules=replace(RULES, market_maximum=d("0.7005")))
    desk.enters(100)
    desk.answer("new")
    desk.candles(60)

    desk.answer("cancelled", order=desk.orders[0])

    assert desk.orders[1].quantity == d("0.7")


def test_a_late_market_entry_is_given_its_own_time():
    desk = Desk(a_config(maker_order_timeout=60, on_entry_timeout="market"))
    desk.enters()
    desk.answer("new")
    desk.candles(60)
    desk.answer("cancelled", order=desk.orders[0])

    desk.answer("new")
    desk.candle()
    assert len(desk.cancels) == 1
    desk.answer("filled", ("100", "1"))

    assert desk.position.status is PositionState.ACTIVE


def test_a_partial_fill_is_never_topped_up_at_market():
    desk = Desk(a_config(on_entry_timeout="market"))
    desk.enters()
    desk.answer("partially_filled", ("100", "0.4"))
    desk.candles(60)

    desk.answer("cancelled", order=desk.orders[0])

    assert [o.side for o in desk.orders] == [Side.BUY, Side.SELL]


def test_there_is_no_late_market_entry_while_entries_are_held_back():
    desk = Desk(a_config(on_entry_timeout="market"))
    desk.enters()
    desk.answer("new")
    desk.candles(60)
    desk.running = False
    desk.die_and_return()
    desk.candle()

    desk.answer("cancelled", order=desk.orders[0])

    assert len(desk.orders) == 1
    assert desk.position.status is PositionState.CANCELLED


def test_an_entry_cancelled_by_someone_else_before_its_time_out_ends_the_position():
    desk = Desk(a_config(on_entry_timeout="market"))
    desk.enters()
    desk.answer("new")

    desk.answer("cancelled")

    assert len(desk.orders) == 1
    assert (desk.position.status, desk.position.exit_reason) == (PositionState.CANCELLED, "cancelled")


# --- entries that the exchange does not take ----------------------------------------------------------------------


def test_a_post_only_rejection_is_no_alert():
    desk = Desk()
    desk.enters()

    desk.refuse(Refusal.POST_ONLY, "Order would immediately match and take.")

    assert (desk.position.status, desk.position.exit_reason) == (PositionState.CANCELLED, "post_only")
    assert desk.alerts == []
    assert desk.enters().client_order_id != desk.orders[0].client_order_id


@pytest.mark.parametrize(
    ("kind", "alert"),
    [
        (Refusal.BALANCE, "order_insufficient_balance"),
        (Refusal.FILTER, "order_filter"),
        (Refusal.OTHER, "order_refused"),
    ],
)
def test_any_other_refusal_of_an_entry_is_an_alert(kind, alert):
    desk = Desk()
    desk.enters()

    desk.refuse(kind)

    assert desk.alerts == [alert]
    assert desk.trader.is_flat


def test_entries_that_the_exchange_refuses_come_more_and_more_rarely():
    desk = Desk()
    tried = []
    for _ in range(40):
        before = len(desk.orders)
        desk.candle(decide=ENTER)
        if len(desk.orders) > before:
            tried.append(desk.second)
            desk.refuse(Refusal.FILTER)

    assert tried == [1, 3, 7, 15, 31]  # 2, 4, 8, 16 s apart
    assert [fact.code for fact in desk.facts_of("risk")] == ["entries_refused"] * 5


def test_an_accepted_entry_ends_the_pause_between_entries():
    desk = Desk()
    desk.enters()
    desk.refuse(Refusal.FILTER)
    desk.candles(2)
    desk.enters()
    desk.answer("new")
    desk.answer("cancelled")
    desk.enters()
    desk.refuse(Refusal.FILTER)

    desk.candle()
    assert desk.enters()  # two seconds later, not four


def test_an_order_without_an_answer_waits_for_the_firm_outcome():
    desk = Desk()
    entry = desk.enters()

    desk.feed(OrderUnknown(client_order_id=entry.client_order_id, reason="time-out"))
    desk.candles(120)

    assert (desk.orders, desk.cancels) == ([entry], [])
    assert desk.facts_of("order")[-1].status is OrderState.UNKNOWN
    assert desk.facts_of("order")[-1].reason == "time-out"
    assert [q.client_order_id for q in desk.trader.unsettled()] == [entry.client_order_id]


def test_an_order_that_turns_out_to_be_in_the_book_past_its_time_is_cancelled():
    desk = Desk()
    entry = desk.enters()
    desk.feed(OrderUnknown(client_order_id=entry.client_order_id, reason="time-out"))
    desk.candles(120)

    desk.answer("new")

    assert [c.client_order_id for c in desk.cancels] == [entry.client_order_id]


def test_an_order_that_never_arrived_ends_the_position_with_an_alert():
    desk = Desk()
    entry = desk.enters()
    desk.feed(OrderUnknown(client_order_id=entry.client_order_id, reason="time-out"))

    desk.feed(OrderAbsent(entry.client_order_id))

    assert (desk.position.status, desk.position.exit_reason) == (PositionState.CANCELLED, "not_placed")
    assert desk.alerts == ["order_not_placed"]


def test_an_exchange_that_forgets_a_partly_filled_order_leaves_what_was_booked():
    desk = Desk()
    entry = desk.enters()
    desk.answer("partially_filled", ("100", "0.4"), executed="0.6", fee="0")

    desk.feed(OrderAbsent(entry.client_order_id))

    assert desk.position.quantity == d("0.4")
    assert (desk.orders[-1].side, desk.orders[-1].quantity) == (Side.SELL, d("0.4"))
    assert desk.trader.unsettled()[0].client_order_id == desk.orders[-1].client_order_id


# --- take-profit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fills", "fee_asset", "quantity", "price"),
    [
        # 1 BASE less 0.1 % is 0.999; 100 × 1.01 = 101
        ([("100", "1")], "BASE", "0.999", "101.00"),
        # 0.5 less 0.0005 is 0.4995, in lots 0.499; 100.01 × 1.01 = 101.0101, up to 101.02
        ([("100.01", "0.5")], "BASE", "0.499", "101.02"),
        # mean (100 × 0.3 + 99 × 0.7) ÷ 1 = 99.3; × 1.01 = 100.293, up to 100.30; the fee is in quote
        ([("100", "0.3"), ("99", "0.7")], "QUOTE", "1", "100.30"),
    ],
)
def test_a_target_rests_above_the_mean_entry_price_for_what_is_held_after_fees(fills, fee_asset, quantity, price):
    desk = Desk(a_config(profit_target_pct=0.01))
    desk.enters()

    bought = sum(d(q) for _, q in fills)
    desk.answer("filled", *fills, fee_asset=fee_asset, executed=str(bought))

    target = desk.orders[-1]
    assert (target.side, target.order_type) == (Side.SELL, OrderType.LIMIT)
    assert (target.quantity, target.price) == (d(quantity), d(price))


def test_a_filled_target_closes_the_position_with_its_profit():
    desk = Desk(a_config(profit_target_pct=0.01))
    desk.enters()
    desk.answer("filled", ("100", "1"))  # fee 0.001 BASE
    desk.candles(5)

    desk.answer("filled", ("101", "0.999"))  # fee 0.1 % of 100.899

    position = desk.position
    assert (position.status, position.exit_reason) == (PositionState.CLOSED, "take_profit")
    assert position.pnl == d("0.999") * 101 - d("0.100899") - 100  # sells − fee − cost: all of it was sold
    assert (position.dust_quantity, position.closed_ms) == (d(0), at(6))
    assert (desk.counters.trades, desk.counters.wins, desk.counters.pnl) == (1, 1, position.pnl)


def test_what_is_no_whole_lot_after_the_sale_is_dust_at_its_share_of_the_cost():
    desk = Desk()
    desk.enters()
    desk.answer("filled", ("100", "0.5"), executed="0.5")  # held 0.4995
    desk.answer("filled", ("101", "0.499"), fee="0")

    position = desk.position
    assert position.dust_quantity == d("0.0005")
    assert position.dust_cost == d("0.05005005")  # 50 × 0.0005 ÷ 0.4995 = 0.050050050…, down
    assert position.pnl == d("50.399") - (50 - d("0.05005005"))
    assert desk.alerts == []


def test_a_watched_target_sells_at_market_once_a_close_reaches_it():
    desk = Desk(a_config(take_profit_order="watched", profit_target_pct=0.01))
    desk.holds()

    desk.candle(100.99, high=103)
    assert len(desk.orders) == 1
    desk.candle(101.0)

    sale = desk.orders[-1]
    assert (sale.order_type, sale.quantity) == (OrderType.MARKET, d(1))
    assert desk.position.exiting == "take_profit"


def test_without_a_target_no_order_rests():
    desk = Desk(a_config(profit_target_pct=None))
    desk.holds()

    desk.candle(1000)

    assert len(desk.orders) == 1


def test_a_target_that_someone_else_cancels_is_watched_from_then_on():
    desk = Desk(a_config(profit_target_pct=0.01))
    desk.holds()

    desk.answer("cancelled")
    desk.answer("cancelled")
    assert desk.alerts == ["target_lost"]
    desk.candle(101)

    assert [o.client_order_id.rpartition("-")[2] for o in desk.orders] == ["e1", "t1", "x1"]


def test_a_target_that_the_exchange_refuses_is_watched_from_then_on():
    desk = Desk(a_config(profit_target_pct=0.01))
    desk.enters()
    desk.answer("filled", ("100", "1"), fee="0")

    desk.refuse(Refusal.FILTER, "PERCENT_PRICE_BY_SIDE")

    assert desk.alerts == ["order_filter"]
    desk.candles(3)
    assert len(desk.orders) == 2
    desk.candle(101.5)
    assert (desk.orders[-1].order_type, desk.orders[-1].quantity) == (OrderType.MARKET, d(1))


# --- stop-loss ----------------------------------------------------------------------------------------------------


def test_a_stop_cancels_the_target_first_and_sells_once_the_cancel_is_final():
    desk = Desk(a_config(stop_loss_pct=0.02))
    desk.holds()
    target = desk.orders[-1]

    desk.candle(99, low=98.01)
    assert desk.cancels == []
    desk.candle(99, low=98.0)
    assert [c.client_order_id for c in desk.cancels] == [target.client_order_id]
    assert desk.orders[-1] is target
    desk.answer("cancelled", order=target)

    sale = desk.orders[-1]
    assert (sale.side, sale.order_type, sale.quantity) == (Side.SELL, OrderType.MARKET, d(1))
    desk.answer("filled", ("98.50", "1"), fee="0")
    assert (desk.position.exit_reason, desk.position.pnl) == ("stop_loss", d("-1.5"))


def test_a_target_filled_while_its_cancel_is_under_way_is_a_profit_and_nothing_is_sold_twice():
    desk = Desk()
    desk.holds()
    target = desk.orders[-1]
    desk.candle(97)

    desk.answer("filled", ("101", "1"), order=target, fee="0")

    assert desk.orders[-1] is target
    assert (desk.position.status, desk.position.exit_reason, desk.position.pnl) == (
        PositionState.CLOSED,
        "take_profit",
        d(1),
    )


def test_a_target_partly_filled_before_its_cancel_leaves_the_rest_to_sell():
    desk = Desk()
    desk.holds()
    desk.candle(97)

    desk.answer("cancelled", ("101", "0.3"), fee="0")

    assert desk.orders[-1].quantity == d("0.7")
    desk.answer("filled", ("97", "0.7"), fee="0")
    assert desk.position.exit_reason == "stop_loss"
    assert desk.position.pnl == d("0.3") * 101 + d("0.7") * 97 - 100  # −1.8


def test_the_stop_hangs_on_the_mean_entry_price_and_rounds_down():
    desk = Desk(a_config(stop_loss_pct=0.02))
    desk.enters()
    desk.answer("filled", ("100.01", "0.5"), ("100", "0.5"))

    assert desk.position.stop_price == d("98.00")  # 100.005 × 0.98 = 98.0049


def test_candles_from_before_the_first_fill_stop_nothing():
    desk = Desk(a_config(take_profit_order="watched"))
    desk.candles(9)
    desk.holds()
    desk.die_and_return()

    for second in range(2, 10):
        desk.feed(a_candle(second, 200, low=50, backfilled=True))

    assert desk.position.exiting is None


def test_a_stop_that_was_touched_while_the_bot_was_away_sells_when_it_returns():
    desk = Desk()
    desk.holds()
    desk.die_and_return()

    desk.feed(a_candle(2, 99, low=97, backfilled=True))

    assert desk.position.exiting == "stop_loss"


def test_a_target_that_was_passed_while_the_bot_was_away_is_not_sold_at_todays_price():
    desk = Desk(a_config(take_profit_order="watched"))
    desk.holds()
    desk.die_and_return()

    desk.feed(a_candle(2, 105, backfilled=True))

    assert desk.position.exiting is None


def test_a_rest_price_guards_while_the_stream_is_silent():
    desk = Desk()
    desk.holds()

    desk.feed(PriceSeen(at(20), 97.0))

    assert desk.position.exiting == "stop_loss"


# --- holding time -------------------------------------------------------------------------------------------------


def test_the_holding_time_counts_from_the_first_fill():
    desk = Desk(a_config(holding_time=600, maker_order_timeout=60))
    desk.enters()
    desk.answer("new")
    desk.candles(9)
    desk.answer("partially_filled", ("100", "0.2"), second=10.4)
    desk.candles(20)
    desk.answer("filled", ("100", "0.8"), executed="1")
    desk.answer("new")

    assert desk.position.exit_deadline_ms == at(610.4)
    desk.tick(610.3)
    assert desk.cancels == []
    desk.tick(610.4)
    assert desk.position.exiting == "holding_time"


def test_fills_that_come_in_the_wrong_order_do_not_move_the_deadline():
    desk = Desk(a_config(holding_time=600))
    desk.enters()
    first = desk.report("partially_filled", ("100", "0.2"), second=3)
    second = desk.report("filled", ("100", "0.8"), executed="1", second=5)

    desk.feed(second)
    assert len(desk.questions) == 1
    assert desk.position.exit_deadline_ms == at(605)
    desk.feed(first)

    assert desk.position.exit_deadline_ms == at(603)
    assert desk.position.quantity == d("0.999")


def test_a_restart_does_not_change_the_deadline():
    desk = Desk(a_config(holding_time=600))
    desk.holds()
    deadline = desk.position.exit_deadline_ms
    desk.config = a_config(holding_time=5)

    desk.die_and_return()
    desk.candles(20)

    assert desk.position.exiting is None
    assert desk.trader.orders.positions[desk.position.position_key].exit_deadline_ms == deadline
