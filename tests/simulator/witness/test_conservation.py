"""Chance trades, the witness looks on: whatever customers try, no coin is made or lost."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from simulator.core.exchange import Exchange
from simulator.core.orders import AccountOpened, Request
from simulator.core.rules import ATOMS, STP_MODES, SYMBOLS, ApiError
from simulator.market.clock import MarketClock
from simulator.market.generated import PROFILES, GeneratedTape
from simulator.venue import Venue
from simulator.witness.check import violations
from simulator.witness.ledger import ledger

START_MS = 1_767_225_600_000  # 2026-01-01
STEPS, LOOK_EVERY = 1500, 500
NAMES = ("BTCUSDT", "ETHUSDT", "BTCUSDC")
STOPS = ("STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT")


class Crowd:
    """Customers who do anything that moves coins, at chance; `done` counts what was accepted and what refused."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.wall_ms = START_MS
        self.done: Counter[str] = Counter()
        symbols = {name: SYMBOLS[name] for name in ("BNBUSDT", "BNBUSDC", *NAMES)}
        self.venue = Venue(
            Exchange(symbols, seed, {name: int(PROFILES[name].lots) for name in symbols}),
            {name: GeneratedTape(rules, seed) for name, rules in symbols.items()},
            MarketClock(START_MS, START_MS, 1.0),
            None,
            lambda: self.wall_ms,
        )
        self.keys = [f"{number:064d}" for number in range(4)]
        have = {"USDT": 200_000, "USDC": 100_000, "BTC": 3, "ETH": 40, "BNB": 1}
        for key in self.keys:
            deposits = {asset: amount * ATOMS for asset, amount in have.items()}
            opened = AccountOpened(key, "s", "", 0, 0, deposits, pays_in_bnb=key < self.keys[2])
            self.venue.open_account(opened)

    def step(self) -> None:
        """Some time passes, then one customer does one thing."""
        self.wall_ms += self.chance.randrange(50, 2500)
        acts = [self.order] * 10 + [self.pair] * 3 + [self.cancel] * 3 + [self.transfer, self.halt]
        act = self.chance.choice(acts)
        try:
            act()
        except (ApiError, ValueError) as error:
            self.done[f"refused: {error}"] += 1
        else:
            self.done[act.__name__] += 1

    def request(self, symbol: str, side: str, kind: str, **given: object) -> Request:
        """A request of a customer; *given* replaces what chance would choose."""
        rules, last = self.venue.exchange.symbols[symbol], self.last(symbol)
        lots = self.chance.randrange(1, 40_000 if rules.base == "BTC" else 90_000)
        rising = (side == "BUY") == kind.startswith("STOP")
        stop = self.near(last, 1 if rising else -1) * rules.tick_atoms if kind in STOPS else None
        limit = self.near(last, 0) * rules.tick_atoms if "LIMIT" in kind else None
        by_quote = kind == "MARKET" and self.chance.random() < 0.4
        values = {
            "api_key": self.chance.choice(self.keys), "symbol": symbol, "side": side, "type": kind,
            "tif": self.chance.choice(("GTC", "GTC", "IOC", "FOK")) if kind == "LIMIT" else "GTC",
            "qty": None if by_quote else lots * rules.lot_atoms,
            "quote_qty": self.chance.randrange(10, 9000) * ATOMS if by_quote else None, "price": limit, "stop": stop,
            "client_id": f"c{len(self.venue.exchange.orders)}", "stp": self.chance.choice(STP_MODES),
        }  # fmt: skip
        return Request(**(values | given))  # type: ignore[arg-type]

    def last(self, symbol: str) -> int:
        """The last price in ticks."""
        self.venue.advance()
        touch = self.venue.exchange.books[symbol].touch
        assert touch is not None
        return touch.last.price

    def near(self, ticks: int, side: int) -> int:
        """A price close by: above with *side* 1, below with -1, either with 0."""
        away = self.chance.uniform(0.00002, 0.0008)
        return int(ticks * (1 + away * (side or self.chance.choice((-1, 1)))))

    def order(self) -> None:
        kind = self.chance.choice(("MARKET", "LIMIT", "LIMIT", "LIMIT_MAKER", *STOPS))
        self.venue.place(self.request(self.chance.choice(NAMES), self.chance.choice(("BUY", "SELL")), kind))

    def pair(self) -> None:
        symbol, side = self.chance.choice(NAMES), self.chance.choice(("BUY", "SELL"))
        rules, last = self.venue.exchange.symbols[symbol], self.last(symbol)
        above, below = (self.near(last, way) * rules.tick_atoms for way in (1, -1))
        first = self.request(symbol, side, "LIMIT_MAKER", price=above if side == "SELL" else below)
        trigger = below if side == "SELL" else above
        beside = {"api_key": first.api_key, "qty": first.qty, "stp": first.stp, "client_id": first.client_id + "s"}
        second = self.request(symbol, side, "STOP_LOSS_LIMIT", stop=trigger, price=trigger, **beside)
        self.venue.place_oco(*((first, second) if side == "SELL" else (second, first)), f"l{first.client_id}")

    def cancel(self) -> None:
        self.venue.advance()
        found = self.venue.exchange.open_orders(self.chance.choice(self.keys), None)
        if found:
            self.venue.cancel([self.chance.choice(found)], "x")

    def transfer(self) -> None:
        atoms = self.chance.randrange(-2 * ATOMS, 3 * ATOMS)
        self.venue.transfer(self.chance.choice(self.keys), self.chance.choice(("USDT", "BTC", "BNB", "EUR")), atoms)

    def halt(self) -> None:
        self.venue.set_status(self.chance.choice(NAMES), self.chance.choice(("HALT", "TRADING", "TRADING")))
        for symbol in NAMES if self.chance.random() < 0.7 else ():
            self.venue.set_status(symbol, "TRADING")


@pytest.mark.parametrize("seed", range(3))
def test_whatever_customers_try_no_coin_is_made_or_lost(seed):
    crowd = Crowd(seed)
    for number in range(1, STEPS + 1):
        crowd.step()
        if number % LOOK_EVERY == 0:
            assert violations(ledger(crowd.venue.exchange)) == []

    seen = ledger(crowd.venue.exchange)
    orders = [order for account in seen["accounts"] for order in account["orders"]]
    fills = [fill for account in seen["accounts"] for fill in account["fills"]]
    assert {"order", "pair", "cancel", "transfer", "halt"} <= crowd.done.keys(), crowd.done
    assert {"FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH"} <= {order["status"] for order in orders}
    assert any(fill["against"] for fill in fills)
    assert any(not fill["against"] for fill in fills)
    assert {"BNB", "BTC", "USDT"} <= {fill["fee_asset"] for fill in fills}
    assert any(change["what"] == "TRIGGERED" for order in orders for change in order["changes"])
    assert any(change["what"] == "PREVENTED" for order in orders for change in order["changes"])


def test_equal_runs_have_equal_ledgers():
    def run() -> object:
        crowd = Crowd(7)
        for _ in range(200):
            crowd.step()
        return ledger(crowd.venue.exchange)

    assert run() == run()
