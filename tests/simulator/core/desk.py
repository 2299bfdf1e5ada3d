"""An exchange driven by hand, with a crowd that holds the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.core import decisions
from simulator.core.accounts import Account
from simulator.core.crowd import Crowd
from simulator.core.exchange import Exchange
from simulator.core.matching import BUY, touch_after
from simulator.core.orders import STOP_TYPES, AccountOpened, Fact, Order, Request
from simulator.core.rules import ATOMS, SYMBOLS, ApiError, SymbolRules
from simulator.market.candles import Trade

START = 6_000_000  # ticks of BTC: 60 000.00


class FlatCrowd(Crowd):
    """The same number of lots at every price."""

    def __init__(self, each: int) -> None:
        super().__init__(0, 1)
        self.each = each

    def lots(self, sign: int, price: int, second: int) -> int:
        return self.each

    def ladder(self, sign, prices, second):
        return np.full(len(prices), self.each, np.int64)


class Desk:
    """An exchange with customers, driven by hand. Prices in ticks, quantities in lots."""

    def __init__(self, usdt: int = 10_000, btc: int = 1, crowd: int = 10_000) -> None:
        self.exchange = Exchange(SYMBOLS)
        self.facts: list[Fact] = []
        self.now = 1000
        self.last_order = 0
        for symbol in SYMBOLS:
            self.exchange.books[symbol].crowd = FlatCrowd(crowd)
            self.exchange.books[symbol].touch = touch_after(Trade(1, 0, START, 1, False))
        self.open("key", USDT=usdt, BTC=btc)

    def open(self, api_key: str, pays_in_bnb: bool = False, **balances: int) -> None:
        deposits = {asset: amount * ATOMS for asset, amount in balances.items()}
        number = len(self.exchange.accounts) + 1
        self.commit([AccountOpened(api_key, "secret", "", number, 0, deposits, pays_in_bnb=pays_in_bnb)])

    def commit(self, facts) -> None:
        for fact in facts:
            self.exchange.apply(fact)
        self.facts += facts

    @property
    def account(self) -> Account:
        return self.exchange.accounts["key"]

    def balances(self, api_key: str = "key") -> dict[str, tuple[int, int]]:
        return {asset: (free, locked) for asset, (free, locked) in self.exchange.accounts[api_key].balances.items()}

    def ask(
        self, side: str, qty: int | None, price: int | None = None, *, symbol: str = "BTCUSDT", kind: str = "",
        tif: str = "GTC", client_id: str = "", quote: int | None = None, stop: int | None = None, who: str = "key",
        stp: str = "EXPIRE_MAKER",
    ) -> Request:  # fmt: skip
        """*qty* in lots, *price* and *stop* in ticks, *quote* in whole quote units."""
        rules = SYMBOLS[symbol]
        kind = kind or ("LIMIT" if price is not None else "MARKET")
        assert (stop is not None) == (kind in STOP_TYPES)
        self.last_order += 1
        return Request(
            api_key=who, symbol=symbol, side=side, type=kind, tif=tif,
            qty=None if qty is None else qty * rules.lot_atoms,
            quote_qty=None if quote is None else quote * ATOMS,
            price=None if price is None else price * rules.tick_atoms,
            stop=None if stop is None else stop * rules.tick_atoms,
            client_id=client_id or f"c{self.last_order}", stp=stp,
        )  # fmt: skip

    def place(self, *args, **kwargs) -> Order:
        facts = decisions.place(self.exchange, self.ask(*args, **kwargs), self.now)
        self.commit(facts)
        return self.exchange.orders[facts[0].order_id]

    def pair(self, above: Request, below: Request, client_id: str = "pair") -> list[Order]:
        facts = decisions.place_oco(self.exchange, above, below, client_id, self.now)
        self.commit(facts)
        return self.exchange.legs(self.exchange.lists[facts[0].list_id])

    def cancel(self, order: Order, cancel_id: str = "bye") -> None:
        self.commit(decisions.cancel(self.exchange, order, cancel_id, self.now))

    def trade(self, price: int, qty: int, buyer_maker: bool, symbol: str = "BTCUSDT") -> None:
        """A trade of the tape, and whatever it triggers."""
        self.now += 1
        self.commit(decisions.trade(self.exchange, symbol, Trade(2, self.now, price, qty, buyer_maker)))
        while (order := decisions.next_triggered(self.exchange, symbol)) is not None:
            self.commit(decisions.trigger(self.exchange, order, self.now))

    def sold(self, price: int, qty: int = 1, symbol: str = "BTCUSDT") -> None:
        self.trade(price, qty, True, symbol)

    def bought(self, price: int, qty: int = 1, symbol: str = "BTCUSDT") -> None:
        self.trade(price, qty, False, symbol)

    def refused(self, *args, **kwargs) -> tuple[int, str]:
        before = len(self.facts)
        with pytest.raises(ApiError) as error:
            self.place(*args, **kwargs)
        assert len(self.facts) == before
        return error.value.code, error.value.msg


def check_books(desk: Desk, begin: dict[str, dict[str, int]]) -> None:
    """Balance = beginning + bought − sold − fees, locked = what open orders need, and nothing is made or lost."""
    exchange = desk.exchange
    total: dict[str, int] = {}
    for api_key, account in exchange.accounts.items():
        expected, locked = dict(begin[api_key]), dict.fromkeys(account.balances, 0)
        for order in exchange.by_account[api_key]:
            rules = exchange.symbols[order.placed.symbol]
            for fill in order.fills:
                base, quote = fill.qty * rules.lot_atoms, rules.cost(fill.price, fill.qty)
                sign = 1 if order.placed.side == BUY else -1
                expected[rules.base] = expected.get(rules.base, 0) + sign * base
                expected[rules.quote] = expected.get(rules.quote, 0) - sign * quote
                expected[fill.fee_asset] = expected.get(fill.fee_asset, 0) - fill.fee
            assert order.filled == sum(fill.qty for fill in order.fills) <= order.placed.qty
            assert order.locked == (needed(order, rules) if order.is_open else 0) or order.placed.list_id >= 0
            locked[rules.quote if order.placed.side == BUY else rules.base] += order.locked
        for found in exchange.lists_by_account[api_key]:
            rules = exchange.symbols[found.opened.symbol]
            locked[rules.quote if found.opened.side == BUY else rules.base] += found.locked
        assert _some({a: sum(pair) for a, pair in account.balances.items()}) == _some(expected)
        assert _some({a: pair[1] for a, pair in account.balances.items()}) == _some(locked)
        assert all(free >= 0 and held >= 0 for free, held in account.balances.values())
        for asset, pair in account.balances.items():
            total[asset] = total.get(asset, 0) + sum(pair)
    made = dict.fromkeys({*total, *exchange.fees, *exchange.market}, 0)
    for asset in made:
        deposits = sum(begin[key].get(asset, 0) for key in exchange.accounts)
        left = total.get(asset, 0) + exchange.fees.get(asset, 0) + exchange.market.get(asset, 0)
        made[asset] = left - deposits
    assert made == dict.fromkeys(made, 0)


def _some(amounts: dict[str, int]) -> dict[str, int]:
    return {asset: amount for asset, amount in amounts.items() if amount}


def needed(order: Order, rules: SymbolRules) -> int:
    if order.placed.side != BUY:
        return order.left * rules.lot_atoms
    return rules.cost(order.placed.price or order.placed.stop, order.left)
