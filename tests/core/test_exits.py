"""Exits that the exchange refuses, forgets, fills in part, or that are too small: never twice, never too much."""

from __future__ import annotations

from dataclasses import replace

from bots.core.messages import OrderAbsent, OrderUnknown, Refusal
from shared.states import OrderState, OrderType, PositionState
from tests.core.builders import RULES, Desk, a_config, at, d


def a_stopped_desk(**config):
    desk = Desk(a_config(profit_target_pct=None, **config))
    desk.holds()
    desk.candle(97)
    assert desk.orders[-1].client_order_id.endswith("-x1")
    return desk


def test_a_refused_exit_is_tried_again_with_growing_pauses_and_fewer_alerts():
    desk = a_stopped_desk()
    tried = []
    for _ in range(200):
        if desk.leg(desk.orders[-1]).status is OrderState.INTENT:
            tried.append(desk.second)
            desk.refuse(Refusal.OTHER, "the exchange cannot be reached")
        desk.candle(97)

    assert tried == [2, 3, 5, 9, 17, 33, 65, 125, 185]  # 1, 2, 4, 8, 16, 32, 60, 60 s
    assert len(desk.alerts) == 4  # on the 1st, 2nd, 4th and 8th
    assert len({o.client_order_id for o in desk.orders}) == len(desk.orders)


def test_an_exit_refused_for_hours_does_not_make_the_position_grow():
    desk = a_stopped_desk()
    for _ in range(100):
        desk.refuse(Refusal.OTHER)
        desk.tick(desk.trader.now_ms / 1000 + 61 - at(0) / 1000)

    assert desk.orders[-1].client_order_id.endswith("-x101")
    assert len(desk.position.legs) <= 1 + 5


def test_an_exit_that_ran_out_of_book_is_followed_by_one_for_the_rest():
    desk = a_stopped_desk()

    expired = desk.report("expired", ("97", "0.6"), fee="0")
    desk.feed(expired)
    desk.feed(expired)
    desk.candle(97)

    assert desk.position.exit_attempts == 1
    assert (desk.orders[-1].client_order_id[-2:], desk.orders[-1].quantity) == ("x2", d("0.4"))
    desk.answer("filled", ("96", "0.4"), fee="0")
    assert desk.position.pnl == d("0.6") * 97 + d("0.4") * 96 - 100


def test_an_exit_without_an_answer_is_never_followed_by_a_second():
    desk = a_stopped_desk()

    desk.feed(OrderUnknown(client_order_id=desk.orders[-1].client_order_id, reason="time-out"))
    desk.candles(300, close=90)

    assert len(desk.orders) == 2
    desk.answer("filled", ("97", "1"), fee="0")
    assert desk.position.status is PositionState.CLOSED


def test_an_exit_that_never_arrived_is_sent_anew_under_another_id():
    desk = a_stopped_desk()

    desk.feed(OrderAbsent(desk.orders[-1].client_order_id))
    desk.candle(97)

    assert [o.client_order_id[-2:] for o in desk.orders] == ["e1", "x1", "x2"]


def test_missing_coins_shrink_the_exit_to_what_is_free():
    desk = a_stopped_desk()
    desk.sees_account(base="0.6")

    desk.refuse(Refusal.BALANCE)
    desk.candle(97)

    assert desk.orders[-1].quantity == d("0.6")


def test_a_position_whose_coins_are_gone_is_closed_as_external_and_sells_nothing_else():
    desk = a_stopped_desk()
    desk.sees_account(base="0.0005")

    desk.refuse(Refusal.BALANCE)
    desk.candles(62, close=97)
    assert len(desk.orders) == 2
    desk.candle(97)  # 1 + 2 + 4 + 8 + 16 + 32 = 63 s: the exchange itself is asked once more
    assert [o.quantity for o in desk.orders[1:]] == [d(1), d(1)]
    desk.refuse(Refusal.BALANCE)
    desk.candles(60, close=97)

    position = desk.position
    assert len(desk.orders) == 3
    assert (position.status, position.exit_reason) == (PositionState.CLOSED, "external")
    assert (position.pnl, position.dust_quantity, position.dust_cost) == (d(0), d(1), d(100))
    assert desk.alerts == ["order_insufficient_balance", "position_missing"]


def test_coins_that_come_back_are_sold():
    desk = a_stopped_desk()
    desk.sees_account(base="0")
    desk.refuse(Refusal.BALANCE)
    desk.candles(10, close=97)

    desk.sees_account(base="5")
    desk.candles(10, close=97)

    assert desk.orders[-1].quantity == d(1)


def test_a_market_exit_is_split_where_the_exchange_limits_market_orders():
    desk = Desk(a_config(profit_target_pct=None), rules=replace(RULES, market_maximum=d("0.7")))
    desk.holds()

    desk.candle(97)
    assert desk.orders[-1].quantity == d("0.7")
    desk.answer("filled", ("97", "0.7"), fee="0")

    assert (desk.orders[-1].client_order_id[-2:], desk.orders[-1].quantity) == ("x2", d("0.3"))


def test_a_restored_position_is_sold_before_the_first_price_is_known():
    desk = Desk(a_config(profit_target_pct=None, holding_time=600))
    desk.holds()
    desk.die_and_return()

    desk.tick(700)

    assert desk.orders[-1].order_type is OrderType.MARKET


# --- too little to sell -------------------------------------------------------------------------------------------


def test_a_partial_fill_below_the_least_order_is_dust_with_an_alert():
    desk = Desk()
    desk.enters()
    desk.answer("partially_filled", ("100", "0.04"), fee="0")  # 4 QUOTE, the least order is 5
    desk.candles(60)

    desk.answer("cancelled")

    position = desk.position
    assert (position.status, position.exit_reason) == (PositionState.CLOSED, "too_small_to_sell")
    assert (position.dust_quantity, position.dust_cost, position.pnl) == (d("0.04"), d(4), d(0))
    assert desk.alerts == ["too_small_to_sell"]
    assert len(desk.orders) == 1


def test_what_a_cancelled_target_has_sold_must_be_known_before_the_rest_is_sold():
    desk = Desk()
    desk.holds()
    target = desk.orders[-1]
    desk.candle(97)
    cancelled = desk.report("cancelled", ("101", "0.3"), order=target, fee="0")

    desk.feed(replace(cancelled, executions=()))
    desk.candles(5, close=97)
    assert desk.orders[-1] is target
    assert desk.questions[-1].client_order_id == target.client_order_id
    desk.feed(cancelled)

    assert desk.orders[-1].quantity == d("0.7")
