"""Orders from placement to their end: what is locked, filled, charged, refused; and no coin made or lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.core.accounts import Account
from simulator.core.exchange import AccountOpened, Exchange, Filled, Order, Request
from simulator.core.matching import BUY, SELL, touch_after
from simulator.core.rules import ATOMS, SYMBOLS, ApiError
from simulator.market.candles import Trade

START = 6_000_000  # ticks of BTC: 60 000.00


class Desk:
    """An exchange with one customer, driven by hand."""

    def __init__(self, usdt: int = 10_000, btc: int = 1) -> None:
        self.exchange = Exchange(SYMBOLS)
        self.facts: list = []
        self.commit([AccountOpened("key", "secret", "", 1, 0, {"USDT": usdt * ATOMS, "BTC": btc * ATOMS})])
        for symbol in SYMBOLS:
            self.exchange.books[symbol].touch = touch_after(Trade(1, 0, START, 1, False))

    def commit(self, facts) -> None:
        for fact in facts:
            self.exchange.apply(fact)
        self.facts += facts

    @property
    def account(self) -> Account:
        return self.exchange.accounts["key"]

    def place(
        self, side: str, qty: int | None, price: int | None = None, *, symbol: str = "BTCUSDT", kind: str = "",
        tif: str = "GTC", client_id: str = "", quote: int | None = None,
    ) -> Order:  # fmt: skip
        """*qty* in lots, *price* in ticks, *quote* in whole quote units."""
        rules = SYMBOLS[symbol]
        ask = Request(
            api_key="key", symbol=symbol, side=side, type=kind or ("LIMIT" if price is not None else "MARKET"), tif=tif,
            qty=None if qty is None else qty * rules.lot_atoms,
            quote_qty=None if quote is None else quote * ATOMS,
            price=None if price is None else price * rules.tick_atoms,
            client_id=client_id or f"c{len(self.exchange.orders)}", stp="EXPIRE_MAKER",
        )  # fmt: skip
        facts = self.exchange.place(ask, 1000)
        self.commit(facts)
        return self.exchange.orders[facts[0].order_id]

    def trade(self, price: int, qty: int, buyer_maker: bool, symbol: str = "BTCUSDT") -> None:
        self.commit(self.exchange.trade(symbol, Trade(2, 2000, price, qty, buyer_maker)))

    def refused(self, *args, **kwargs) -> tuple[int, str]:
        before = len(self.facts)
        with pytest.raises(ApiError) as error:
            self.place(*args, **kwargs)
        assert len(self.facts) == before
        return error.value.code, error.value.msg


def test_a_market_buy_takes_the_ask_and_pays_its_fee_in_what_it_bought():
    desk = Desk()

    order = desk.place(BUY, 1000)  # 0.01 BTC at 60 000 = 600 USDT; fee 0.1 % = 0.00001 BTC

    assert (order.status, order.filled, order.spent) == ("FILLED", 1000, 600 * ATOMS)
    assert desk.account.balances == {"USDT": [9_400 * ATOMS, 0], "BTC": [ATOMS + 1_000_000 - 1000, 0]}


def test_a_market_sell_takes_the_bid_and_pays_its_fee_in_the_proceeds():
    desk = Desk()

    desk.place(SELL, 1000)  # 0.01 BTC at 59 999.99 = 599.9999 USDT; fee 0.5999999

    assert desk.account.free("USDT") == 10_000 * ATOMS + 599_9999_0000 - 5999_9990
    assert desk.account.free("BTC") == ATOMS - 1_000_000


def test_a_quote_amount_buys_the_lots_it_pays_for():
    order = Desk().place(BUY, None, quote=100)  # 100 / 60 000 = 0.0016666… → 0.00166 BTC

    assert order.filled == 166


def test_a_limit_that_crosses_pays_the_touch_and_gets_the_difference_back():
    desk = Desk()

    desk.place(BUY, 1000, START + 1000)

    assert desk.account.balances["USDT"] == [9_400 * ATOMS, 0]


def test_a_resting_order_locks_what_it_would_pay():
    desk = Desk()

    desk.place(BUY, 1000, START - 100)  # 0.01 × 59 999
    desk.place(SELL, 2000, START + 100)

    assert desk.account.locked("USDT") == 599_9900_0000
    assert desk.account.locked("BTC") == 2_000_000


def test_a_resting_order_fills_in_parts_at_its_own_price_as_maker():
    desk = Desk()
    order = desk.place(BUY, 1000, START - 100, symbol="BTCUSDT")

    desk.trade(START - 100, 400, True)
    assert (order.status, order.filled) == ("PARTIALLY_FILLED", 400)
    desk.trade(START - 200, 900, False)

    assert (order.status, order.filled) == ("FILLED", 1000)
    assert [(fill.price, fill.qty, fill.is_maker) for fill in order.fills] == [
        (START - 100, 400, True),
        (START - 100, 600, True),
    ]
    assert desk.account.locked("USDT") == 0


def test_makers_pay_nothing_in_usdc():
    desk = Desk()
    order = desk.place(SELL, 1000, START + 1, symbol="BTCUSDC")
    desk.trade(START + 5, 1000, False, symbol="BTCUSDC")

    assert order.fills[0].fee == 0


def test_a_cancel_frees_what_is_left():
    desk = Desk()
    order = desk.place(BUY, 1000, START - 100)
    desk.trade(START - 100, 400, True)

    desk.commit(desk.exchange.cancel(order, "why", 3000))

    assert (order.status, desk.account.locked("USDT")) == ("CANCELED", 0)
    with pytest.raises(ApiError, match="Unknown order"):
        desk.exchange.cancel(order, "again", 3000)


@pytest.mark.parametrize("tif", ["IOC", "FOK"])
def test_what_must_fill_at_once_expires_when_it_does_not_reach_the_touch(tif):
    desk = Desk()
    assert desk.place(BUY, 1000, START - 1, tif=tif).status == "EXPIRED"
    assert desk.place(BUY, 1000, START, tif=tif).status == "FILLED"
    assert desk.account.locked("USDT") == 0


def test_a_maker_only_order_that_would_take_is_refused():
    desk = Desk()
    assert desk.refused(BUY, 1000, START, kind="LIMIT_MAKER") == (-2010, "Order would immediately match and take.")
    assert desk.place(BUY, 1000, START - 1, kind="LIMIT_MAKER").status == "NEW"


def test_a_client_id_is_free_again_when_its_order_has_ended():
    desk = Desk()
    first = desk.place(BUY, 1000, START - 100, client_id="mine")
    assert desk.refused(BUY, 1000, START - 100, client_id="mine") == (-2010, "Duplicate order sent.")
    desk.commit(desk.exchange.cancel(first, "x", 1))

    second = desk.place(BUY, 1000, START - 100, client_id="mine")

    assert desk.exchange.find("key", "BTCUSDT", None, "mine") is second


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((BUY, 20_000), (-2010, "Account has insufficient balance for requested action.")),
        ((SELL, 100_001), (-2010, "Account has insufficient balance for requested action.")),
        ((BUY, 0), (-1013, "Invalid quantity.")),
        ((BUY, 1000, 0), (-1013, "Invalid price.")),
        ((BUY, 1), (-1013, "Filter failure: NOTIONAL")),
        ((BUY, 900_000_001), (-1013, "Filter failure: LOT_SIZE")),
        ((BUY, 1000, START * 5 + 1), (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE")),
        ((BUY, 1000, START // 5 - 1), (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE")),
    ],
)
def test_what_breaks_a_rule_is_refused_and_changes_nothing(args, words):
    assert Desk().refused(*args) == words


def test_a_symbol_takes_two_hundred_open_orders():
    desk = Desk()
    for _ in range(200):
        desk.place(BUY, 10, START - 100)
    assert desk.refused(BUY, 10, START - 100) == (-1013, "Filter failure: MAX_NUM_ORDERS")


def test_a_halted_market_takes_cancels_only():
    desk = Desk()
    order = desk.place(BUY, 1000, START - 100)
    desk.exchange.books["BTCUSDT"].halted = True

    assert desk.refused(BUY, 1000) == (-2010, "Market is closed.")
    desk.commit(desk.exchange.cancel(order, "x", 1))


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


near = st.integers(-300, 300)
TIFS = st.sampled_from(["GTC", "IOC", "FOK"])
steps = st.one_of(
    st.tuples(st.just("market"), st.sampled_from([BUY, SELL]), st.integers(10, 5000)),
    st.tuples(st.just("limit"), st.sampled_from([BUY, SELL]), st.integers(10, 5000), near, TIFS),
    st.tuples(st.just("trade"), near, st.integers(1, 4000), st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(steps, max_size=40), symbol=st.sampled_from(["BTCUSDT", "BTCUSDC"]))
def test_no_coin_is_made_or_lost(steps, symbol):
    desk = Desk()
    desk.commit([AccountOpened("other", "s", "", 2, 0, {"USDC": 100 * ATOMS})])
    desk.account.balances["USDC"] = [10_000 * ATOMS, 0]
    begin = {asset: sum(pair) for asset, pair in desk.account.balances.items()}
    for step in steps:
        try:
            match step:
                case ("market", side, qty):
                    desk.place(side, qty, symbol=symbol)
                case ("limit", side, qty, away, tif):
                    desk.place(side, qty, START + away, tif=tif, symbol=symbol)
                case ("trade", away, qty, maker):
                    desk.trade(START + away, qty, maker, symbol=symbol)
                case ("cancel", number):
                    orders = desk.exchange.by_account["key"]
                    desk.commit(desk.exchange.cancel(orders[number % len(orders)], "x", 1) if orders else [])
        except ApiError:
            pass
        assert all(free >= 0 and locked >= 0 for free, locked in desk.account.balances.values())

    check_balances(desk, begin, symbol)


def check_balances(desk: Desk, begin: dict[str, int], symbol: str) -> None:
    """Balance = beginning + bought − sold − fees; locked = what open orders need."""
    rules = SYMBOLS[symbol]
    expected, locked = dict(begin), dict.fromkeys(begin, 0)
    for order in desk.exchange.by_account["key"]:
        sign = 1 if order.placed.side == BUY else -1
        for fill in order.fills:
            expected[rules.base] += sign * fill.qty * rules.lot_atoms
            expected[rules.quote] -= sign * rules.cost(fill.price, fill.qty)
            expected[rules.base if sign == 1 else rules.quote] -= fill.fee
        if order.is_open and order.placed.side == BUY:
            locked[rules.quote] += rules.cost(order.placed.price, order.left)
        elif order.is_open:
            locked[rules.base] += order.left * rules.lot_atoms
    assert {asset: sum(pair) for asset, pair in desk.account.balances.items()} == expected
    assert {asset: pair[1] for asset, pair in desk.account.balances.items()} == locked
    fees = sum(fact.fee for fact in desk.facts if isinstance(fact, Filled))
    assert sum(desk.exchange.fees.values()) == fees
