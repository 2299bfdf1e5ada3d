"""Orders from placement to their end: what is locked, filled, charged, refused; and no coin made or lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.core import decisions
from simulator.core.matching import BUY, MARKET, SELL, touch_after
from simulator.core.orders import Filled
from simulator.core.rules import ATOMS, DEFAULT_STP, STP_MODES, SYMBOLS, ApiError
from simulator.market.candles import Trade
from tests.simulator.core.desk import START, Desk, FlatCrowd, check_books

POOR = (-2010, "Account has insufficient balance for requested action.")


# taking


def test_a_market_buy_takes_the_ask_and_pays_its_fee_in_what_it_bought():
    desk = Desk()

    order = desk.place(BUY, 1000)  # 0.01 BTC at 60 000 = 600 USDT; fee 0.1 % = 0.00001 BTC

    assert (order.status, order.filled, order.spent) == ("FILLED", 1000, 600 * ATOMS)
    assert desk.balances() == {"USDT": (9_400 * ATOMS, 0), "BTC": (ATOMS + 1_000_000 - 1000, 0)}


def test_a_market_sell_takes_the_bid_and_pays_its_fee_in_the_proceeds():
    desk = Desk()

    desk.place(SELL, 1000)  # 0.01 BTC at 59 999.99 = 599.9999 USDT; fee 0.5999999

    assert desk.account.free("USDT") == 10_000 * ATOMS + 599_9999_0000 - 5999_9990
    assert desk.account.free("BTC") == ATOMS - 1_000_000


def test_a_market_order_walks_the_book_and_moves_it():
    desk = Desk(crowd=400)

    order = desk.place(BUY, 1000)
    second = desk.place(BUY, 100)

    assert [(fill.price - START, fill.qty) for fill in order.fills] == [(0, 400), (1, 400), (2, 200)]
    assert [(fill.price - START, fill.qty) for fill in second.fills] == [(2, 100)]
    assert len({fill.trade_id for fill in order.fills + second.fills}) == 4


def test_a_market_order_that_runs_out_of_book_expires_with_what_it_got():
    desk = Desk(usdt=100_000_000, crowd=1)  # 1000 prices with a lot each

    order = desk.place(BUY, 1500)

    assert (order.status, order.filled) == ("EXPIRED", 1000)
    assert order.ended is not None
    assert order.ended.reason == "INSUFFICIENT_LIQUIDITY"
    assert desk.account.locked("USDT") == 0


def test_a_quote_amount_buys_the_lots_it_pays_for():
    order = Desk().place(BUY, None, quote=100)  # 100 / 60 000 = 0.0016666… → 0.00166 BTC

    assert (order.filled, order.placed.qty, order.status) == (166, 166, "FILLED")


def test_a_quote_amount_is_spent_price_by_price():
    desk = Desk(crowd=100)

    order = desk.place(BUY, None, quote=100)  # 100 lots at 60 000.00 cost 60; 40 buy 66 at 60 000.01

    assert [(fill.price - START, fill.qty) for fill in order.fills] == [(0, 100), (1, 66)]


def test_a_limit_that_crosses_pays_the_touch_and_gets_the_difference_back():
    desk = Desk()

    desk.place(BUY, 1000, START + 1000)

    assert desk.balances()["USDT"] == (9_400 * ATOMS, 0)


def test_a_limit_takes_what_it_reaches_and_rests_with_the_rest():
    desk = Desk(crowd=300)

    order = desk.place(BUY, 1000, START + 1)

    assert (order.status, order.filled) == ("PARTIALLY_FILLED", 600)
    assert desk.account.locked("USDT") == 400 * (START + 1) * SYMBOLS["BTCUSDT"].notional_atoms
    assert desk.exchange.books["BTCUSDT"].levels(1, 1)[0] == [(START + 1, 400)]


def test_what_must_fill_at_once_expires_with_what_it_did_not_get():
    desk = Desk(crowd=300)
    assert desk.place(BUY, 1000, START - 1, tif="IOC").status == "EXPIRED"
    part = desk.place(BUY, 1000, START + 1, tif="IOC")
    assert (part.status, part.filled) == ("EXPIRED", 600)
    assert desk.place(BUY, 1000, START + 3, tif="FOK").status == "EXPIRED"
    whole = desk.place(BUY, 600, START + 3, tif="FOK")
    assert (whole.status, whole.filled) == ("FILLED", 600)
    assert desk.account.locked("USDT") == 0


def test_a_maker_only_order_that_would_take_is_refused():
    desk = Desk()
    assert desk.refused(BUY, 1000, START, kind="LIMIT_MAKER") == (-2010, "Order would immediately match and take.")
    assert desk.place(BUY, 1000, START - 1, kind="LIMIT_MAKER").status == "NEW"


# customers among themselves


def test_two_customers_trade_at_the_price_of_who_was_there_first():
    desk = Desk()
    desk.open("other", BTC=1)
    resting = desk.place(SELL, 1000, START - 50, who="other", kind="LIMIT", tif="GTC")  # takes the bid at once
    assert resting.status == "FILLED"
    offered = desk.place(SELL, 1000, START, who="other", kind="LIMIT_MAKER")  # behind 10 000 lots of the crowd

    order = desk.place(BUY, 10_500, START)

    assert [(fill.qty, fill.against) for fill in order.fills] == [(10_000, MARKET), (500, offered.placed.order_id)]
    (fill,) = offered.fills
    assert (fill.trade_id, fill.qty, fill.is_maker, fill.against) == (
        order.fills[1].trade_id, 500, True, order.placed.order_id,
    )  # fmt: skip


def test_a_crossed_customer_moves_up_as_the_crowd_before_it_is_taken():
    desk = Desk(crowd=50)
    desk.open("other", BTC=1)
    offered = desk.place(SELL, 100, START, who="other", kind="LIMIT_MAKER")

    desk.place(BUY, 30, START)

    assert desk.exchange.books["BTCUSDT"].ahead_of(offered.placed.order_id, SELL, START) == 20


@pytest.mark.parametrize("stp", STP_MODES)
def test_who_meets_himself_is_kept_apart(stp):
    """100 lots rest; 250 arrive: the mode of who arrives says which is expired whole, or what both lose."""
    desk = Desk(crowd=0)
    resting = desk.place(SELL, 100, START, kind="LIMIT_MAKER")

    order = desk.place(BUY, 250, START, stp=stp)

    expected = {
        "EXPIRE_TAKER": ("NEW", "EXPIRED_IN_MATCH", 0, 250),
        "EXPIRE_MAKER": ("EXPIRED_IN_MATCH", "NEW", 100, 0),
        "EXPIRE_BOTH": ("EXPIRED_IN_MATCH", "EXPIRED_IN_MATCH", 100, 250),
        "DECREMENT": ("EXPIRED_IN_MATCH", "NEW", 100, 100),
    }
    assert (resting.status, order.status, resting.prevented, order.prevented) == expected[stp]
    assert order.filled == resting.filled == 0
    open_buy = 0 if order.status != "NEW" else order.left
    assert desk.account.locked("USDT") == SYMBOLS["BTCUSDT"].cost(START, open_buy)
    assert desk.account.locked("BTC") == (100_000 if resting.status == "NEW" else 0)


@pytest.mark.parametrize("stp", STP_MODES)
def test_what_must_fill_whole_never_fills_in_part_for_meeting_himself(stp):
    desk = Desk(crowd=0, usdt=100_000)
    desk.open("other", BTC=1)
    desk.place(SELL, 1000, START, who="other")
    desk.place(SELL, 1000, START + 1)
    desk.place(SELL, 5000, START + 2, who="other")

    order = desk.place(BUY, 3000, START + 5, tif="FOK", stp=stp)

    expected = ("FILLED", 3000) if stp == "EXPIRE_MAKER" else ("EXPIRED", 0)
    assert (order.status, order.filled, order.prevented) == (*expected, 0)


def test_the_default_mode_lets_who_arrives_go_on():
    assert DEFAULT_STP == "EXPIRE_MAKER"
    desk = Desk(crowd=50)
    resting = desk.place(SELL, 100, START, kind="LIMIT_MAKER")

    order = desk.place(BUY, 120, START + 1)

    assert (resting.status, order.status, order.filled) == ("EXPIRED_IN_MATCH", "PARTIALLY_FILLED", 100)


# fees


def test_fees_are_paid_in_bnb_where_the_account_says_so_and_has_some():
    desk = Desk()
    desk.open("saver", pays_in_bnb=True, USDT=10_000, BNB=1)
    desk.exchange.books["BNBUSDT"].touch = touch_after(Trade(1, 0, 60_000, 1, False))  # 600.00

    order = desk.place(BUY, 1000, who="saver")  # 600 USDT × 0.1 % × ¾ = 0.45 USDT = 0.00075 BNB

    assert [(fill.fee, fill.fee_asset) for fill in order.fills] == [(75_000, "BNB")]
    assert desk.balances("saver") == {
        "USDT": (9_400 * ATOMS, 0), "BNB": (ATOMS - 75_000, 0), "BTC": (1_000_000, 0),
    }  # fmt: skip
    assert desk.exchange.fees == {"BNB": 75_000}


def test_who_keeps_enough_bnb_pays_with_it_for_the_sale_of_the_rest():
    desk = Desk()
    desk.open("saver", pays_in_bnb=True, BNB=1)
    desk.exchange.books["BNBUSDT"].touch = touch_after(Trade(1, 0, 60_000, 1, True))

    desk.place(SELL, 999, who="saver", symbol="BNBUSDT")  # 0.999 × 0.1 % × ¾ = 0.00074925

    assert desk.balances("saver")["BNB"] == (ATOMS // 1000 - 74_925, 0)


def test_who_has_too_little_bnb_pays_in_what_was_bought():
    desk = Desk()
    desk.open("saver", pays_in_bnb=True, USDT=10_000)
    order = desk.place(BUY, 1000, who="saver")
    assert [(fill.fee, fill.fee_asset) for fill in order.fills] == [(1000, "BTC")]


@pytest.mark.parametrize("crowd", [400, 10_000])
@pytest.mark.parametrize("args", [{"qty": 1000}, {"qty": 1000, "price": 59_000}, {"qty": None, "quote": 599}])
def test_who_sells_all_his_bnb_has_none_left_for_the_fee(args, crowd):
    desk = Desk(crowd=crowd)
    desk.open("saver", pays_in_bnb=True, BNB=1)
    desk.exchange.books["BNBUSDT"].touch = touch_after(Trade(1, 0, 60_000, 1, False))

    order = desk.place(SELL, symbol="BNBUSDT", who="saver", **args)

    assert order.status == "FILLED"
    assert {fill.fee_asset for fill in order.fills} <= {"USDT", "BNB"}
    assert order.fills[0].fee_asset == ("BNB" if args["qty"] is None else "USDT")
    sold = sum(fill.qty for fill in order.fills) * 100_000
    paid = sum(fill.fee for fill in order.fills if fill.fee_asset == "BNB")
    assert desk.balances("saver")["BNB"] == (ATOMS - sold - paid, 0)


# refusals


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((BUY, 20_000), POOR),
        ((SELL, 100_001), POOR),
        ((BUY, 0), (-1013, "Invalid quantity.")),
        ((BUY, 1000, 0), (-1013, "Invalid price.")),
        ((BUY, 1), (-1013, "Filter failure: NOTIONAL")),
        ((BUY, 900_000_001, START), (-1013, "Filter failure: LOT_SIZE")),
        ((BUY, 14_000_001), (-1013, "Filter failure: MARKET_LOT_SIZE")),
        ((BUY, 1000, START * 5 + 1), (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE")),
        ((BUY, 1000, START // 5 - 1), (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE")),
        ((BUY, 1000, 100_000_001), (-1013, "Filter failure: PRICE_FILTER")),
    ],
)
def test_what_breaks_a_rule_is_refused_and_changes_nothing(args, words):
    assert Desk().refused(*args) == words


def test_open_orders_are_counted():
    desk = Desk(btc=10)
    for _ in range(195):
        desk.place(BUY, 10, START - 100)
    for _ in range(5):
        desk.place(SELL, 100, kind="STOP_LOSS", stop=START - 100)
    assert desk.refused(BUY, 10, START - 100) == (-1013, "Filter failure: MAX_NUM_ORDERS")


def test_waiting_stops_are_counted_until_they_are_worked():
    desk = Desk()
    for _ in range(5):
        desk.place(SELL, 100, START - 90, kind="STOP_LOSS_LIMIT", stop=START - 100)
    too_many = (-1013, "Filter failure: MAX_NUM_ALGO_ORDERS")
    assert desk.refused(SELL, 100, kind="STOP_LOSS", stop=START - 200) == too_many
    desk.sold(START - 100, 1)
    assert desk.place(SELL, 100, kind="STOP_LOSS", stop=START - 200).is_waiting


def test_a_position_may_be_limited():
    desk = Desk(btc=0)
    desk.commit(decisions.change_symbol(desk.exchange, "BTCUSDT", None, {"max_position": "0.02"}, 1))
    desk.place(BUY, 1500, START - 100)
    assert desk.refused(BUY, 501, START - 100) == (-1013, "Filter failure: MAX_POSITION")
    desk.place(BUY, 500, START - 100)


def test_a_halted_market_takes_cancels_only_and_fills_nothing():
    desk = Desk()
    order = desk.place(BUY, 1000, START - 100)
    stop = desk.place(SELL, 100, kind="STOP_LOSS", stop=START - 100)
    desk.commit(decisions.change_symbol(desk.exchange, "BTCUSDT", "HALT", {}, 1))

    assert desk.refused(BUY, 1000) == (-2010, "Market is closed.")
    desk.sold(START - 500, 5000)
    assert (order.status, stop.is_waiting) == ("NEW", True)
    desk.cancel(order)
    desk.commit(decisions.change_symbol(desk.exchange, "BTCUSDT", "TRADING", {}, 1))
    desk.sold(START - 500, 1)
    assert stop.status == "FILLED"


def test_filters_that_change_hold_for_new_orders():
    desk = Desk()
    resting = desk.place(BUY, 15, START - 101)
    changes = {"tick_size": "0.10", "step_size": "0.001", "min_notional": "50"}
    desk.commit(decisions.change_symbol(desk.exchange, "BTCUSDT", None, changes, 1))

    assert desk.refused(BUY, 100, START - 101) == (-1013, "Filter failure: PRICE_FILTER")
    assert desk.refused(BUY, 150, START - 100) == (-1013, "Filter failure: LOT_SIZE")
    assert desk.place(BUY, 100, START - 100).status == "NEW"
    desk.sold(START - 200, 115)
    assert resting.status == "FILLED"


@pytest.mark.parametrize(
    "changes",
    [{"colour": "1"}, {"tick_size": "0"}, {"tick_size": "0.001"}, {"min_qty": "-1"}, {"min_notional": "x"},
     {"taker_fee": "1"}, {"maker_fee": "25"}],
)  # fmt: skip
def test_filters_that_cannot_be_are_refused_with_a_sentence(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        decisions.change_symbol(Desk().exchange, "BTCUSDT", None, changes, 1)


def test_a_balance_is_changed_from_outside_within_what_is_free():
    desk = Desk()
    desk.place(SELL, 60_000, START + 100)
    with pytest.raises(ValueError, match="more than the free BTC"):
        decisions.transfer(desk.exchange, "key", "BTC", -50_000_000, 1)
    desk.commit(decisions.transfer(desk.exchange, "key", "BTC", -40_000_000, 1))
    assert desk.balances()["BTC"] == (0, 60_000_000)


def test_an_order_is_not_found_under_anothers_name():
    desk = Desk()
    order = desk.place(BUY, 1000, client_id="mine")
    find = desk.exchange.find

    assert find("key", "BTCUSDT", order.placed.order_id, None) is order
    assert find("other", "BTCUSDT", order.placed.order_id, None) is None
    assert find("key", "ETHUSDT", order.placed.order_id, None) is None
    with pytest.raises(ApiError) as error:
        find("key", "BTCUSDT", order.placed.order_id, "not-mine")
    assert error.value.code == -2039


# everything at once

near = st.integers(-30, 30)
who = st.sampled_from(["key", "other", "saver"])
sides = st.sampled_from([BUY, SELL])
lots = st.integers(10, 5000)
tifs = st.sampled_from(["GTC", "IOC", "FOK"])
steps = st.one_of(
    st.tuples(st.just("market"), who, sides, lots),
    st.tuples(st.just("spend"), who, sides, st.integers(5, 500), st.sampled_from(["BTCUSDT", "BNBUSDT"])),
    st.tuples(st.just("sell bnb"), who, st.integers(10, 1000)),
    st.tuples(st.just("limit"), who, sides, lots, near, tifs, st.sampled_from(STP_MODES)),
    st.tuples(st.just("maker"), who, sides, lots, near),
    st.tuples(st.just("stop"), who, sides, lots, near, st.sampled_from(["STOP_LOSS", "TAKE_PROFIT"])),
    st.tuples(st.just("stop limit"), who, sides, lots, near, near, st.sampled_from(["STOP_LOSS", "TAKE_PROFIT"])),
    st.tuples(st.just("pair"), who, sides, lots, near, near),
    st.tuples(st.just("trade"), near, st.integers(1, 4000), st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 60)),
    st.tuples(st.just("transfer"), who, st.sampled_from(["USDT", "BTC", "BNB"]), st.integers(-(10**8), 10**8)),
    st.tuples(st.just("halt"), st.booleans()),
)  # fmt: skip


def take(desk: Desk, step: tuple) -> None:
    match step:
        case ("market", who, side, qty):
            desk.place(side, qty, who=who)
        case ("spend", who, side, quote, symbol):
            desk.place(side, None, quote=quote, who=who, symbol=symbol)
        case ("sell bnb", who, qty):
            desk.place(SELL, qty, who=who, symbol="BNBUSDT")
        case ("limit", who, side, qty, away, tif, stp):
            desk.place(side, qty, START + away, tif=tif, stp=stp, who=who)
        case ("maker", who, side, qty, away):
            desk.place(side, qty, START + away, kind="LIMIT_MAKER", who=who)
        case ("stop", who, side, qty, away, kind):
            desk.place(side, qty, kind=kind, stop=START + away, who=who)
        case ("stop limit", who, side, qty, away, beside, kind):
            desk.place(side, qty, START + away + beside, kind=f"{kind}_LIMIT", stop=START + away, who=who)
        case ("pair", who, side, qty, up, down):
            kinds = ("LIMIT_MAKER", "STOP_LOSS") if side == SELL else ("STOP_LOSS", "LIMIT_MAKER")
            prices = (START + abs(up) + 1, START - abs(down) - 1)
            legs = [
                desk.ask(side, qty, price, kind=kind, who=who) if kind == "LIMIT_MAKER"
                else desk.ask(side, qty, kind=kind, stop=price, who=who)
                for kind, price in zip(kinds, prices, strict=True)
            ]  # fmt: skip
            desk.pair(*legs, client_id=f"p{desk.last_order}")
        case ("trade", away, qty, maker):
            desk.trade(START + away, qty, maker)
        case ("cancel", number):
            orders = list(desk.exchange.orders.values())
            if orders:
                desk.cancel(orders[number % len(orders)])
        case ("transfer", who, asset, atoms):
            try:
                desk.commit(decisions.transfer(desk.exchange, who, asset, atoms, desk.now))
            except ValueError:
                pass
        case ("halt", on):
            status = "HALT" if on else "TRADING"
            desk.commit(decisions.change_symbol(desk.exchange, "BTCUSDT", status, {}, desk.now))


@settings(max_examples=150)
@given(steps=st.lists(steps, max_size=40), crowd=st.sampled_from([0, 20, 1000]))
def test_no_coin_is_made_or_lost(steps, crowd):
    desk = Desk()
    desk.open("other", USDT=500, BTC=1)
    desk.open("saver", pays_in_bnb=True, USDT=5000, BTC=1, BNB=1)
    desk.exchange.books["BTCUSDT"].crowd = FlatCrowd(crowd)
    desk.exchange.books["BNBUSDT"].touch = touch_after(Trade(1, 0, 60_000, 1, False))
    begin = {
        key: {asset: sum(pair) for asset, pair in account.balances.items()}
        for key, account in desk.exchange.accounts.items()
    }
    for step in steps:
        try:
            take(desk, step)
        except ApiError:
            pass
        moved = {key: dict(amounts) for key, amounts in begin.items()}
        for key, transfers in desk.exchange.transfers.items():
            for one in transfers:
                moved[key][one.asset] = moved[key].get(one.asset, 0) + one.atoms
        check_books(desk, moved)
    makers = {(f.trade_id, f.is_maker) for f in desk.facts if isinstance(f, Filled)}
    assert len(makers) == sum(isinstance(f, Filled) for f in desk.facts)


@settings(max_examples=50)
@given(steps=st.lists(steps, max_size=40))
def test_applying_the_facts_again_is_the_same_exchange(steps):
    desk = Desk()
    desk.open("other", USDT=500, BTC=1)
    desk.open("saver", pays_in_bnb=True, USDT=5000, BTC=1, BNB=1)
    for step in steps:
        try:
            take(desk, step)
        except ApiError:
            pass
    again = Desk()
    again.facts.clear()
    again.exchange.accounts.clear()
    again.commit(desk.facts)

    assert again.exchange.accounts == desk.exchange.accounts
    assert again.exchange.orders == desk.exchange.orders
    assert again.exchange.lists == desk.exchange.lists
    for mine, other in zip(again.exchange.books.values(), desk.exchange.books.values(), strict=True):
        mine.touch = other.touch
        assert mine.levels(1000, desk.now // 1000) == other.levels(1000, desk.now // 1000)
