"""What a market trade fills, and what an arriving order takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simulator.core.matching import BUY, SELL, Book, Match, touch_after
from simulator.market.candles import Trade


def sold(price: int, qty: int = 10) -> Trade:
    """A market trade whose aggressor sold."""
    return Trade(1, 0, price, qty, True)


def bought(price: int, qty: int = 10) -> Trade:
    return Trade(1, 0, price, qty, False)


def a_book(*orders: tuple[int, str, int, int]) -> Book:
    book = Book()
    for order_id, side, price, qty in orders:
        book.rest(order_id, side, price, qty)
    return book


def test_the_side_that_was_hit_is_at_the_trades_price():
    assert touch_after(bought(100))[:2] == (99, 100)
    assert touch_after(sold(100))[:2] == (100, 101)


def test_a_trade_through_the_price_fills_whoever_was_the_aggressor():
    book = a_book((1, BUY, 101, 5), (2, SELL, 110, 5))

    assert book.matches(sold(100)) == [Match(1, 101, 5)]
    assert book.matches(bought(100)) == [Match(1, 101, 5)]
    assert book.matches(sold(111)) == [Match(2, 110, 5)]
    assert book.matches(bought(111)) == [Match(2, 110, 5)]


def test_a_trade_at_the_price_fills_only_against_the_right_aggressor():
    book = a_book((1, BUY, 100, 5), (2, SELL, 110, 5))

    assert book.matches(sold(100)) == [Match(1, 100, 5)]
    assert book.matches(bought(100)) == []
    assert book.matches(bought(110)) == [Match(2, 110, 5)]
    assert book.matches(sold(110)) == []


def test_a_trade_short_of_the_price_fills_nothing():
    assert a_book((1, BUY, 100, 5), (2, SELL, 110, 5)).matches(sold(105)) == []


def test_the_better_price_goes_first_and_then_the_earlier_order():
    book = a_book((1, BUY, 100, 4), (2, BUY, 101, 4), (3, BUY, 100, 4))

    assert book.matches(sold(99, 10)) == [Match(2, 101, 4), Match(1, 100, 4), Match(3, 100, 2)]


def test_volume_is_given_away_once():
    book = a_book((1, BUY, 105, 8), (2, SELL, 95, 8))

    assert book.matches(sold(100, 10)) == [Match(1, 105, 8), Match(2, 95, 2)]


def test_an_order_taken_away_is_never_matched_again():
    book = a_book((1, BUY, 100, 5), (2, BUY, 100, 5))
    book.reduce(1, BUY, 100, 5)
    book.reduce(2, BUY, 100, 2)

    assert book.matches(sold(100)) == [Match(2, 100, 3)]


def test_a_level_can_empty_and_fill_again():
    book = a_book((1, SELL, 100, 5))
    book.reduce(1, SELL, 100, 5)
    book.rest(2, SELL, 100, 1)

    assert book.matches(bought(100)) == [Match(2, 100, 1)]


def test_an_arriving_order_takes_the_touch_if_its_limit_reaches_it():
    book = Book()
    assert book.taken_at(BUY, None) is None
    book.touch = touch_after(bought(100))

    assert [book.taken_at(BUY, limit) for limit in (None, 101, 100, 99)] == [100, 100, 100, None]
    assert [book.taken_at(SELL, limit) for limit in (None, 98, 99, 100)] == [99, 99, 99, None]


orders = st.lists(st.tuples(st.sampled_from([BUY, SELL]), st.integers(90, 110), st.integers(1, 20)), max_size=30)
trades = st.lists(st.tuples(st.integers(88, 112), st.integers(1, 40), st.booleans()), max_size=30)


@given(orders=orders, trades=trades)
def test_no_trade_gives_more_than_its_volume_and_no_order_gets_more_than_it_asked(orders, trades):
    book = a_book(*((n, *order) for n, order in enumerate(orders)))
    left = {n: qty for n, (_, _, qty) in enumerate(orders)}

    for price, qty, maker in trades:
        matches = book.matches(Trade(1, 0, price, qty, maker))
        assert sum(match.qty for match in matches) <= qty
        for match in matches:
            side, limit, _ = orders[match.order_id]
            assert match.price == limit
            assert price <= limit if side == BUY else price >= limit
            left[match.order_id] -= match.qty
            book.reduce(match.order_id, side, limit, match.qty)

    assert all(qty >= 0 for qty in left.values())
