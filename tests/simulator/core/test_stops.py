"""Stops, and pairs of which one order cancels the other: from placement over the trigger to the end."""

from __future__ import annotations

import pytest

from simulator.core.matching import BUY, SELL
from simulator.core.rules import ATOMS, SYMBOLS, ApiError
from tests.simulator.core.desk import START, Desk

# stops


@pytest.mark.parametrize(
    ("kind", "side", "stop", "short", "there"),
    [
        ("STOP_LOSS", SELL, -100, -99, -100),
        ("STOP_LOSS", BUY, 100, 99, 100),
        ("TAKE_PROFIT", SELL, 100, 99, 130),
        ("TAKE_PROFIT", BUY, -100, -99, -130),
    ],
)
def test_a_stop_becomes_a_market_order_when_its_price_is_reached(kind, side, stop, short, there):
    desk = Desk()
    order = desk.place(side, 100, kind=kind, stop=START + stop)

    desk.bought(START + short)
    assert (order.status, order.is_waiting, order.working_ms) == ("NEW", True, -1)
    desk.bought(START + there)

    assert (order.status, order.is_waiting, order.working_ms) == ("FILLED", False, desk.now)
    assert order.fills[0].price == (START + there if side == BUY else START + there - 1)
    assert desk.account.locked("USDT") == desk.account.locked("BTC") == 0


@pytest.mark.parametrize(("kind", "side", "stop"), [("STOP_LOSS", SELL, 0), ("TAKE_PROFIT", BUY, 1)])
def test_a_stop_that_is_reached_already_is_refused(kind, side, stop):
    assert Desk().refused(side, 100, kind=kind, stop=START + stop) == (-2010, "Order would trigger immediately.")


def test_a_stop_limit_rests_at_its_price_when_the_market_has_left_it_behind():
    desk = Desk()
    order = desk.place(SELL, 100, START - 90, kind="STOP_LOSS_LIMIT", stop=START - 100)
    assert desk.account.locked("BTC") == 100_000

    desk.sold(START - 500)
    assert (order.status, order.is_waiting, order.is_resting) == ("NEW", False, True)
    desk.bought(START - 80)

    assert [(fill.price, fill.is_maker) for fill in order.fills] == [(START - 90, True)]


def test_a_stop_buy_takes_what_it_costs_more_from_what_is_free():
    desk = Desk(usdt=1_000, btc=0)
    order = desk.place(BUY, 1000, kind="STOP_LOSS", stop=START + 1)  # sets 600.0001 aside
    desk.bought(START + 3_000_000)  # 900 a lot of 0.01

    assert (order.status, order.spent) == ("FILLED", 900 * ATOMS)
    poor = Desk(usdt=700, btc=0)
    order = poor.place(BUY, 1000, kind="STOP_LOSS", stop=START + 1)
    poor.bought(START + 3_000_000)
    assert (order.status, order.filled) == ("EXPIRED", 777)  # 700 / 900
    assert poor.account.locked("USDT") == 0


def test_stops_are_worked_in_the_order_in_which_their_prices_are_reached():
    desk = Desk()
    far = desk.place(SELL, 100, kind="STOP_LOSS", stop=START - 200)
    near = desk.place(SELL, 100, kind="STOP_LOSS", stop=START - 100)

    desk.sold(START - 300)

    assert near.fills[0].trade_id < far.fills[0].trade_id


# pairs


def a_pair(desk: Desk, qty: int = 100):
    above = desk.ask(SELL, qty, START + 100, kind="LIMIT_MAKER")
    below = desk.ask(SELL, qty, kind="STOP_LOSS", stop=START - 100)
    return desk.pair(above, below)


def test_a_pair_sets_its_quantity_aside_once():
    desk = Desk()
    a_pair(desk, 60_000)
    assert desk.balances()["BTC"] == (40_000_000, 60_000_000)


def test_the_first_fill_of_one_ends_the_other():
    desk = Desk(crowd=0)
    target, stop = a_pair(desk)

    desk.bought(START + 100, 30)

    assert (target.status, target.filled, stop.status) == ("PARTIALLY_FILLED", 30, "EXPIRED")
    assert stop.ended is not None
    assert stop.ended.reason == "OCO_TRIGGER"
    assert desk.account.locked("BTC") == 70_000
    desk.cancel(target)
    assert desk.account.locked("BTC") == 0
    assert desk.exchange.lists[0].is_done


def test_a_triggered_stop_ends_the_target():
    desk = Desk()
    target, stop = a_pair(desk)

    desk.sold(START - 100)

    assert (target.status, stop.status) == ("EXPIRED", "FILLED")
    assert desk.account.locked("BTC") == 0


def test_a_buying_pair_sets_the_dearer_of_both_aside():
    desk = Desk()
    above = desk.ask(BUY, 100, START + 200, kind="STOP_LOSS_LIMIT", stop=START + 100)
    below = desk.ask(BUY, 100, START - 100, kind="LIMIT_MAKER")
    stop, target = desk.pair(above, below)
    assert desk.account.locked("USDT") == SYMBOLS["BTCUSDT"].cost(START + 200, 100)

    desk.sold(START - 101, 40)

    assert (target.filled, stop.status) == (40, "EXPIRED")
    assert desk.account.locked("USDT") == SYMBOLS["BTCUSDT"].cost(START - 100, 60)


def test_cancelling_one_cancels_both():
    desk = Desk()
    target, stop = a_pair(desk)
    desk.cancel(stop)
    assert (target.status, stop.status, desk.account.locked("BTC")) == ("CANCELED", "CANCELED", 0)


def test_a_pair_whose_prices_are_wrong_way_round_is_refused():
    desk = Desk()
    above = desk.ask(SELL, 100, START + 100, kind="LIMIT_MAKER")
    below = desk.ask(SELL, 100, kind="STOP_LOSS", stop=START + 50)
    with pytest.raises(ApiError, match="would trigger immediately"):
        desk.pair(above, below)
    with pytest.raises(ApiError, match="relationship of the prices"):
        desk.pair(
            desk.ask(SELL, 9, START - 100, kind="LIMIT_MAKER"), desk.ask(SELL, 9, kind="STOP_LOSS", stop=START - 200)
        )


def test_a_pair_that_nobody_can_pay_is_refused():
    desk = Desk()
    with pytest.raises(ApiError, match="insufficient balance"):
        a_pair(desk, 100_001)
    assert desk.exchange.orders == {}
