"""Orders that rest in the book: their place in the queue, and what of the tape fills them."""

from __future__ import annotations

import pytest

from simulator.core.matching import BUY, MARKET, SELL
from simulator.core.rules import ApiError
from tests.simulator.core.desk import START, Desk


def test_a_resting_order_locks_what_it_would_pay():
    desk = Desk()

    desk.place(BUY, 1000, START - 100)  # 0.01 × 59 999
    desk.place(SELL, 2000, START + 100)

    assert desk.account.locked("USDT") == 599_9900_0000
    assert desk.account.locked("BTC") == 2_000_000


def test_a_resting_order_fills_in_parts_at_its_own_price_as_maker_once_its_turn_has_come():
    desk = Desk(crowd=50)
    order = desk.place(BUY, 1000, START - 100)

    desk.sold(START - 100, 50)
    assert (order.status, order.filled) == ("NEW", 0)
    desk.sold(START - 100, 400)
    assert (order.status, order.filled) == ("PARTIALLY_FILLED", 400)
    desk.bought(START - 200, 900)

    assert (order.status, order.filled) == ("FILLED", 1000)
    assert [(fill.price, fill.qty, fill.is_maker, fill.against) for fill in order.fills] == [
        (START - 100, 400, True, MARKET),
        (START - 100, 600, True, MARKET),
    ]
    assert desk.account.locked("USDT") == 0


def test_makers_pay_nothing_in_usdc():
    desk = Desk()
    order = desk.place(SELL, 1000, START + 1, symbol="BTCUSDC")
    desk.bought(START + 5, 1000, symbol="BTCUSDC")

    assert order.fills[0].fee == 0


def test_a_cancel_frees_what_is_left():
    desk = Desk(crowd=50)
    order = desk.place(BUY, 1000, START - 100)
    desk.sold(START - 100, 450)

    desk.cancel(order)

    assert (order.status, order.filled, desk.account.locked("USDT")) == ("CANCELED", 400, 0)
    with pytest.raises(ApiError, match="Unknown order"):
        desk.cancel(order)


def test_a_client_id_is_free_again_when_its_order_has_ended():
    desk = Desk()
    first = desk.place(BUY, 1000, START - 100, client_id="mine")
    assert desk.refused(BUY, 1000, START - 100, client_id="mine") == (-2010, "Duplicate order sent.")
    desk.cancel(first)

    second = desk.place(BUY, 1000, START - 100, client_id="mine")

    assert desk.exchange.find("key", "BTCUSDT", None, "mine") is second
