"""A venue that is stopped and resumed comes to the same as one that was not; equal runs are equal to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.core.exchange import Exchange
from simulator.core.matching import BUY, SELL
from simulator.core.orders import AccountOpened, Request
from simulator.core.rules import ATOMS, SYMBOLS, ApiError
from simulator.market.clock import MarketClock
from simulator.market.generated import PROFILES, GeneratedTape
from simulator.store import StateError, Store
from simulator.venue import Venue
from simulator.witness.ledger import ledger

START = 1_767_225_600_000  # 2026-01-01
USUAL = {symbol: int(profile.lots) for symbol, profile in PROFILES.items()}


class House:
    """A venue with a wall clock of its own, which can be closed and opened again on what it kept."""

    def __init__(self, folder: Path, speed: float = 1.0, symbols: tuple[str, ...] = ("BTCUSDT", "BNBUSDT")) -> None:
        self.folder = folder
        self.clock = MarketClock(START, START, speed)
        self.wall_ms = START
        self.slowness_ms = 0  # how far the wall moves on each time somebody looks at it
        self.symbols = {name: SYMBOLS[name] for name in symbols}
        self.placed = 0
        self.open()

    def open(self) -> None:
        tapes = {name: GeneratedTape(rules, 7) for name, rules in self.symbols.items()}
        self.store = Store(self.folder)
        self.venue = Venue(Exchange(self.symbols, 7, USUAL), tapes, self.clock, self.store, wall=self._wall)

    def _wall(self) -> int:
        self.wall_ms += self.slowness_ms
        return self.wall_ms

    def close(self) -> None:
        self.store.close()

    def reopen(self) -> None:
        self.close()
        self.open()

    def wait(self, ms: int) -> None:
        self.wall_ms += ms

    def account(self, name: str, pays_in_bnb: bool = False) -> None:
        deposits = {"USDT": 100_000 * ATOMS, "BTC": 2 * ATOMS, "BNB": 5 * ATOMS}
        self.venue.open_account(AccountOpened(name, "s", name, 0, 0, deposits, pays_in_bnb=pays_in_bnb))

    def order(
        self, side: str, lots: int, away: int | None = None, who: str = "a", kind: str = "", stop: int = 0
    ) -> None:
        """*away* and *stop* are ticks from the last price."""
        rules = self.symbols["BTCUSDT"]
        self.venue.advance()
        touch = self.venue.exchange.books["BTCUSDT"].touch
        assert touch is not None
        self.placed += 1
        ask = Request(
            api_key=who, symbol="BTCUSDT", side=side, type=kind or ("MARKET" if away is None else "LIMIT"), tif="GTC",
            qty=lots * rules.lot_atoms, quote_qty=None, client_id=f"c{self.placed}", stp="EXPIRE_MAKER",
            price=None if away is None else (touch.last.price + away) * rules.tick_atoms,
            stop=(touch.last.price + stop) * rules.tick_atoms if stop else None,
        )  # fmt: skip
        try:
            self.venue.place(ask)
        except ApiError:
            pass

    def ledger(self) -> str:
        self.venue.advance()
        return json.dumps(ledger(self.venue.exchange))


def a_day_at_the_desk(house: House, between: Callable[[], None]) -> None:
    """Some minutes of trading; *between* is called again and again."""
    house.account("a")
    house.account("b", pays_in_bnb=True)
    for number in range(40):
        house.wait(1_700 + number * 37)
        side, away = (BUY, -300) if number % 2 else (SELL, 300)
        house.order(side, 500 + 13 * number, away, who="ab"[number % 3 % 2])
        if number % 5 == 0:
            house.order(BUY, 300, who="b")
        if number % 7 == 0:
            house.order(SELL, 200, kind="STOP_LOSS", stop=-900)
            house.order(BUY, 200, 1200, kind="STOP_LOSS_LIMIT", stop=1000)
        between()
    house.wait(60_000)
    between()


def test_equal_runs_are_equal_to_the_byte(tmp_path):
    ledgers = []
    for name in ("one", "two"):
        house = House(tmp_path / name)
        a_day_at_the_desk(house, house.venue.advance)
        ledgers.append(house.ledger())
        house.close()
    assert ledgers[0] == ledgers[1]
    fills = [fill for account in json.loads(ledgers[0])["accounts"] for fill in account["fills"]]
    assert sum(fill["is_maker"] for fill in fills) > 10
    assert {fill["fee_asset"] for fill in fills} == {"BNB", "BTC", "USDT"}


@pytest.mark.parametrize("speed", [1.0, 20.0])
def test_a_run_that_is_stopped_and_resumed_gives_the_same_as_one_that_was_not(tmp_path, speed):
    whole = House(tmp_path / "whole", speed)
    a_day_at_the_desk(whole, whole.venue.advance)
    expected = whole.ledger()
    whole.close()

    broken = House(tmp_path / "broken", speed)
    a_day_at_the_desk(broken, broken.reopen)

    assert broken.ledger() == expected
    assert '"STOP_LOSS"' in expected


def test_nothing_is_skipped_that_happened_while_an_order_was_placed(tmp_path):
    ledgers = []
    for name in ("whole", "broken"):
        house = House(tmp_path / name)
        house.account("a")
        house.slowness_ms = 600_000
        house.order(BUY, 500, -300)
        house.slowness_ms = 0
        if name == "broken":
            house.reopen()
        house.wait(3_600_000)
        ledgers.append(house.ledger())
        house.close()
    assert ledgers[0] == ledgers[1]


def test_a_kill_between_a_trade_and_what_it_triggers_changes_nothing(tmp_path):
    whole = House(tmp_path / "whole")
    whole.account("a")
    for _ in range(3):
        whole.order(SELL, 200, kind="STOP_LOSS", stop=-900)
    whole.wait(3_600_000)
    whole.ledger()
    whole.close()
    lines = (tmp_path / "whole" / "facts.jsonl").read_bytes().splitlines(keepends=True)
    triggers = [number for number, line in enumerate(lines) if b'["trigger"' in line]
    assert len(triggers) == 3

    for number in triggers:
        broken = House(tmp_path / f"before {number}")
        broken.close()
        (broken.folder / "facts.jsonl").write_bytes(b"".join(lines[:number]))
        broken.wait(3_600_000)
        broken.open()
        broken.ledger()
        broken.close()
        assert (broken.folder / "facts.jsonl").read_bytes().splitlines(keepends=True) == lines


def test_what_was_filled_while_it_was_down_is_filled_at_its_time(tmp_path):
    whole, broken = (House(tmp_path / name) for name in ("whole", "broken"))
    for house in (whole, broken):
        house.account("a")
        house.order(BUY, 500, -300)
        house.order(SELL, 500, 900)
    broken.close()
    for house in (whole, broken):
        house.wait(3 * 3_600_000)
    broken.open()

    assert broken.ledger() == whole.ledger()
    account = json.loads(broken.ledger())["accounts"][0]
    assert {order["status"] for order in account["orders"]} == {"FILLED"}
    assert all(fill["time"] < START + 3_600_000 for fill in account["fills"])


def test_a_long_sleep_is_made_up_for_where_orders_are_open(tmp_path):
    house = House(tmp_path)
    house.account("a")
    house.order(BUY, 500, -300)
    house.wait(2 * 3_600_000)
    house.venue.advance()
    (order,) = house.venue.exchange.orders.values()
    assert order.status == "FILLED"
    assert order.updated_ms < START + 3_600_000


def test_a_state_of_another_market_is_refused_in_a_sentence(tmp_path):
    house = House(tmp_path)
    house.account("a")
    house.reopen()
    house.order(BUY, 500, -300)
    house.symbols = {"BNBUSDT": SYMBOLS["BNBUSDT"]}

    with pytest.raises(StateError, match="BTCUSDT, which this market does not list"):
        house.reopen()


def test_a_market_without_orders_is_entered_where_it_is_now(tmp_path):
    house = House(tmp_path)
    house.account("a")
    house.close()
    house.wait(40 * 86_400_000)
    house.open()
    touch = house.venue.exchange.books["BTCUSDT"].touch
    assert touch is not None
    assert house.wall_ms - 60_000 < touch.last.time_ms <= house.wall_ms


def test_a_clock_that_stands_still_is_moved_by_hand(tmp_path):
    house = House(tmp_path, speed=0)
    house.account("a")
    house.order(BUY, 500, -300)
    house.wait(3_600_000)
    house.venue.advance()
    assert [order.status for order in house.venue.exchange.orders.values()] == ["NEW"]

    house.venue.move_clock(3_600_000)

    assert house.venue.advance() == START + 3_600_000
    assert [order.status for order in house.venue.exchange.orders.values()] == ["FILLED"]
