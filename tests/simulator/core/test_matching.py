"""What a market trade fills, what an arriving order meets, and what is shown."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from simulator.core.crowd import LEVELS
from simulator.core.matching import BUY, MARKET, SELL, Book, Match, Move, Offer, touch_after
from simulator.market.candles import Trade
from tests.simulator.core.desk import FlatCrowd


def sold(price: int, qty: int = 10) -> Trade:
    """A market trade whose aggressor sold."""
    return Trade(1, 0, price, qty, True)


def bought(price: int, qty: int = 10) -> Trade:
    return Trade(1, 0, price, qty, False)


def a_book(*orders: tuple[int, ...], touch: Trade | None = None, crowd: int = 50) -> Book:
    """*orders* are (id, side, price, lots[, lots ahead])."""
    book = Book(FlatCrowd(crowd))
    book.touch = None if touch is None else touch_after(touch)
    for order in orders:
        book.rest(*order)
    return book


def matches(book: Book, trade: Trade) -> list[Match]:
    return book.matches(trade)[0]


def met(book: Book, side: str, limit: int | None, lots: int) -> list[Offer]:
    """What an order of *lots* takes."""
    taken = []
    for offer in book.offers(side, limit, 0):
        part = min(lots, offer.qty)
        taken.append(offer._replace(qty=part))
        lots -= part
        if not lots:
            break
    return taken


# the tape


def test_the_side_that_was_hit_is_at_the_trades_price():
    assert touch_after(bought(100))[:2] == (99, 100)
    assert touch_after(sold(100))[:2] == (100, 101)


def test_a_trade_through_the_price_fills_whoever_was_the_aggressor():
    book = a_book((1, BUY, 101, 5), (2, SELL, 110, 5))

    assert matches(book, sold(100)) == [Match(1, 101, 5)]
    assert matches(book, bought(100)) == [Match(1, 101, 5)]
    assert matches(book, sold(111)) == [Match(2, 110, 5)]
    assert matches(book, bought(111)) == [Match(2, 110, 5)]


def test_a_trade_at_the_price_fills_only_against_the_right_aggressor():
    book = a_book((1, BUY, 100, 5), (2, SELL, 110, 5))

    assert matches(book, sold(100)) == [Match(1, 100, 5)]
    assert matches(book, bought(100)) == []
    assert matches(book, bought(110)) == [Match(2, 110, 5)]
    assert matches(book, sold(110)) == []


def test_a_trade_short_of_the_price_fills_nothing():
    assert a_book((1, BUY, 100, 5), (2, SELL, 110, 5)).matches(sold(105)) == ([], [])


def test_the_better_price_goes_first_and_then_the_earlier_order():
    book = a_book((1, BUY, 100, 4), (2, BUY, 101, 4), (3, BUY, 100, 4))

    assert matches(book, sold(99, 10)) == [Match(2, 101, 4), Match(1, 100, 4), Match(3, 100, 2)]


def test_volume_is_given_away_once():
    book = a_book((1, BUY, 105, 8), (2, SELL, 95, 8))

    assert matches(book, sold(100, 10)) == [Match(1, 105, 8), Match(2, 95, 2)]


def test_an_order_taken_away_is_never_matched_again():
    book = a_book((1, BUY, 100, 5), (2, BUY, 100, 5))
    book.reduce(1, BUY, 100, 5)
    book.reduce(2, BUY, 100, 2)

    assert matches(book, sold(100)) == [Match(2, 100, 3)]


def test_a_level_can_empty_and_fill_again():
    book = a_book((1, SELL, 100, 5))
    book.reduce(1, SELL, 100, 5)
    book.rest(2, SELL, 100, 1)

    assert matches(book, bought(100)) == [Match(2, 100, 1)]


# the queue


def test_an_order_waits_until_what_was_there_before_it_is_traded():
    book = a_book((1, BUY, 100, 5, 25))

    assert book.matches(sold(100, 10)) == ([], [Move(1, 15)])
    book.requeue(1, BUY, 100, 15)
    assert book.matches(sold(100, 17)) == ([Match(1, 100, 2)], [Move(1, 0)])


def test_orders_behind_share_the_queue_before_them():
    """20 of the crowd, 5 of the first, 10 more of the crowd, 5 of the second: 36 lots reach one of the last."""
    book = a_book((1, BUY, 100, 5, 20), (2, BUY, 100, 5, 30))

    assert book.matches(sold(100, 36)) == ([Match(1, 100, 5), Match(2, 100, 1)], [Move(2, 0)])


def test_a_trade_beyond_the_price_leaves_no_queue():
    book = a_book((1, BUY, 100, 5, 1000), (2, BUY, 100, 5, 1000))

    assert book.matches(sold(99, 7)) == ([Match(1, 100, 5), Match(2, 100, 2)], [Move(2, 0)])


def test_an_order_inside_the_spread_has_nobody_before_it():
    book = a_book(touch=bought(100), crowd=50)

    assert [book.queue_at(BUY, price, 0) for price in (98, 99, 100)] == [50, 50, 0]
    assert [book.queue_at(SELL, price, 0) for price in (99, 100, 101)] == [0, 50, 50]


# what arrives


def test_a_market_without_a_trade_offers_nothing():
    assert list(a_book().offers(BUY, None, 0)) == []


def test_an_arriving_order_walks_the_crowd_price_by_price():
    book = a_book(touch=bought(100), crowd=50)

    assert met(book, BUY, None, 120) == [Offer(100, 50, MARKET), Offer(101, 50, MARKET), Offer(102, 20, MARKET)]
    assert met(book, SELL, None, 60) == [Offer(99, 50, MARKET), Offer(98, 10, MARKET)]


def test_a_limit_ends_the_walk():
    book = a_book(touch=bought(100), crowd=50)

    assert met(book, BUY, 101, 500) == [Offer(100, 50, MARKET), Offer(101, 50, MARKET)]
    assert met(book, BUY, 99, 500) == []


def test_customers_stand_in_their_place_among_the_crowd():
    book = a_book((7, SELL, 101, 5, 20), (8, SELL, 101, 6, 30), touch=bought(100), crowd=50)

    assert list(book.offers(BUY, 101, 0)) == [
        Offer(100, 50, MARKET),
        Offer(101, 20, MARKET), Offer(101, 5, 7), Offer(101, 10, MARKET), Offer(101, 6, 8), Offer(101, 20, MARKET),
    ]  # fmt: skip


def test_a_customer_inside_the_spread_is_met_first():
    book = a_book((7, SELL, 95, 5), touch=bought(100), crowd=50)

    assert met(book, BUY, None, 30) == [Offer(95, 5, 7), Offer(100, 25, MARKET)]


def test_the_crowd_keeps_away_from_an_order_that_the_market_ran_over():
    book = a_book((7, BUY, 100, 5), touch=sold(90), crowd=50)

    assert (book.crowd_best(-1), book.crowd_best(1)) == (101, 90)
    assert met(book, BUY, None, 1) == [Offer(101, 1, MARKET)]
    bids, asks = book.levels(2, 0)
    assert (bids, asks) == ([(100, 5), (90, 50)], [(101, 50), (102, 50)])


def test_what_was_taken_is_gone_until_the_crowd_draws_again():
    book = a_book(touch=bought(100), crowd=50)
    book.take(-1, 100, 50, 0)
    book.take(-1, 101, 20, 0)

    assert met(book, BUY, None, 40) == [Offer(101, 30, MARKET), Offer(102, 10, MARKET)]
    assert book.levels(2, 0)[1] == [(101, 30), (102, 50)]
    assert met(book, SELL, None, 10) == [Offer(99, 10, MARKET)]
    later = next(iter(book.offers(BUY, None, 8)))
    assert later == Offer(100, 50, MARKET)


def test_a_moment_in_which_many_prices_are_asked_for_and_taken_stays_cheap():
    asked = 0

    class Counting(FlatCrowd):
        def epoch(self, price: int, second: int) -> int:
            nonlocal asked
            asked += 1
            return super().epoch(price, second)

    book = Book(Counting(50))
    book.touch = touch_after(sold(100_000))
    for price in range(1, 10_001):
        assert book.queue_at(BUY, price, 0) == 50
        if price % 2:
            book.take(1, price, 20, 0)
            assert book.queue_at(BUY, price, 0) == 30
    assert asked < 10_000 * 10


def test_the_crowd_ends_somewhere():
    book = a_book(touch=bought(100_000), crowd=50)
    assert sum(offer.qty for offer in book.offers(BUY, None, 0)) == LEVELS * 50


def test_there_is_no_price_below_one_tick():
    assert list(a_book(touch=bought(3), crowd=50).offers(SELL, None, 0)) == [Offer(2, 50, MARKET), Offer(1, 50, MARKET)]
    assert a_book(touch=bought(1), crowd=50).levels(5, 0)[0] == []


orders = st.lists(
    st.tuples(st.sampled_from([BUY, SELL]), st.integers(90, 110), st.integers(1, 20), st.integers(0, 30)), max_size=30
)
trades = st.lists(st.tuples(st.integers(88, 112), st.integers(1, 40), st.booleans()), max_size=30)


@given(orders=orders, trades=trades)
def test_no_trade_gives_more_than_its_volume_and_no_order_gets_more_than_it_asked(orders, trades):
    book = a_book(*((n, *order) for n, order in enumerate(orders)))
    left = {n: order[2] for n, order in enumerate(orders)}
    ahead = {n: order[3] for n, order in enumerate(orders)}

    for price, qty, maker in trades:
        found, moves = book.matches(Trade(1, 0, price, qty, maker))
        assert sum(match.qty for match in found) <= qty
        for move in moves:
            assert 0 <= move.ahead < ahead[move.order_id]
            ahead[move.order_id] = move.ahead
            book.requeue(move.order_id, *orders[move.order_id][:2], move.ahead)
        for match in found:
            side, limit, _, _ = orders[match.order_id]
            assert match.price == limit
            assert price <= limit if side == BUY else price >= limit
            assert not ahead[match.order_id] or left[match.order_id] == match.qty
            left[match.order_id] -= match.qty
            book.reduce(match.order_id, side, limit, match.qty)

    assert all(qty >= 0 for qty in left.values())


@given(orders=orders, last=st.integers(80, 120), maker=st.booleans(), lots=st.integers(1, 500),
       side=st.sampled_from([BUY, SELL]))  # fmt: skip
def test_an_arriving_order_meets_ever_worse_prices_and_all_that_is_shown(orders, last, maker, lots, side):
    book = a_book(*((n, *order) for n, order in enumerate(orders, 1)), touch=Trade(1, 0, last, 1, maker))
    worse = 1 if side == BUY else -1

    offers = list(book.offers(side, None, 0))

    steps = [worse * (b.price - a.price) for a, b in pairwise(offers)]
    assert all(step >= 0 for step in steps)
    assert offers == [] or all(book.reaches(side, offer.price) for offer in offers)
    assert not book.reaches(side, offers[0].price - worse) if offers else True
    shown = book.levels(10_000, 0)[1 if side == BUY else 0]
    by_price: dict[int, int] = {}
    for offer in offers:
        by_price[offer.price] = by_price.get(offer.price, 0) + offer.qty
    assert list(by_price.items()) == shown
