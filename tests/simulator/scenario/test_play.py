"""Scripts taken on a running market: exactly at their moments, and the same however often one looks or restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.core.exchange import Exchange
from simulator.core.rules import SYMBOLS
from simulator.faults import Faults
from simulator.market.clock import MarketClock
from simulator.market.generated import GeneratedTape
from simulator.scenario import Play, read_script
from simulator.scenario.script import derived_key
from simulator.store import Store
from simulator.venue import Venue
from simulator.witness.ledger import ledger

START = 1_800_000_000_000
SYMBOL = {"BTCUSDT": SYMBOLS["BTCUSDT"]}
BUSY = """
accounts:
  - {name: maker, balances: {USDT: 1000000, BTC: 10}}
  - {name: taker, balances: {USDT: 1000000, BTC: 10}}
orders:
  - at: 0.25
    every: 0.7
    times: 20
    account: maker
    place: {symbol: BTCUSDT, side: BUY, type: MARKET, quantity: 0.01}
  - {at: 1, every: 1.1, times: 10, account: taker,
     place: {symbol: BTCUSDT, side: SELL, type: LIMIT, timeInForce: GTC, quantity: 0.02, price: 200000}}
  - {at: 5, every: 3, times: 2, account: taker, cancel_all: {symbol: BTCUSDT}}
faults:
  - {at: 3, every: 4, times: 2, fault: {kind: balance, account: taker, asset: BTC, amount: -0.5}}
"""


class Stage:
    """A market on a clock that is moved by hand, with a scenario on it."""

    def __init__(self, tmp_path, text: str, state=None, wall_ms: int = 0, symbols=SYMBOL) -> None:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        self.wall_ms = wall_ms
        self.said: list[str] = []
        self.faults = Faults()
        self.store = Store(state) if state is not None else None
        self.play = Play(read_script(path, START, 7, symbols), self.faults, self.said.append)
        tapes = {name: GeneratedTape(rules, 7) for name, rules in symbols.items()}
        clock = MarketClock(0, START, 1)
        self.venue = Venue(
            Exchange(symbols, 7), tapes, clock, self.store, wall=lambda: self.wall_ms, schedule=self.play
        )  # fmt: skip
        self.faults.install(Hand(self.venue), self.venue.now_ms, {})
        self.play.rejoin()

    def move(self, seconds: float) -> None:
        self.wall_ms += round(seconds * 1000)
        self.venue.advance()

    def ledger(self) -> dict:
        return ledger(self.venue.exchange)

    def on(self) -> list[tuple[str, float | None]]:
        return [(row["kind"], row.get("left_s")) for row in self.faults.listed(self.wall_ms)]


class Hand:
    """A plant that reaches statuses and balances only."""

    def __init__(self, venue: Venue) -> None:
        self.set_status, self.transfer = venue.set_status, venue.transfer


@pytest.fixture
def stage(tmp_path):
    def stage(text: str, **more: object) -> Stage:
        return Stage(tmp_path, text, **more)

    return stage


def test_orders_are_placed_at_their_very_moment(stage):
    run = stage(BUSY)
    run.move(30)

    maker, taker = run.ledger()["accounts"]
    assert maker["api_key"] == derived_key(7, "maker", "api_key")
    assert [order["time"] - START for order in maker["orders"]] == [250 + n * 700 for n in range(20)]
    assert [order["client_order_id"] for order in taker["orders"]] == [f"order-1-{n}" for n in range(10)]
    assert {order["status"] for order in maker["orders"]} == {"FILLED"}
    assert [(moved["amount"], moved["time"] - START) for moved in taker["transfers"]] == [
        ("-0.50000000", 3000), ("-0.50000000", 7000),
    ]  # fmt: skip
    assert run.said == []


def test_it_is_the_same_run_however_often_one_looks(stage):
    once, often = stage(BUSY), stage(BUSY)
    once.move(30)
    for _ in range(300):
        often.move(0.1)

    assert once.ledger() == often.ledger()


def test_it_is_the_same_run_however_slowly_a_process_starts(stage):
    quick, slow = stage(BUSY), stage(BUSY, wall_ms=5000)
    quick.move(30)
    slow.move(25)

    assert slow.ledger() == quick.ledger()


@pytest.mark.parametrize("cut_s", [0.1, 0.25, 2.9, 3.0, 3.05, 7.5, 14.0, 29.0])
def test_it_is_the_same_run_after_a_restart(stage, tmp_path, cut_s):
    whole = stage(BUSY)
    whole.move(30)

    first = stage(BUSY, state=tmp_path / "state")
    first.move(cut_s)
    first.store.close()
    second = stage(BUSY, state=tmp_path / "state", wall_ms=first.wall_ms + 4000)
    second.move(26 - cut_s)

    assert second.ledger() == whole.ledger()
    second.store.close()


def test_what_is_refused_is_told_and_the_run_goes_on(stage):
    run = stage("""
accounts: [{name: poor, balances: {USDT: 1}}, {name: reader, balances: {USDT: 1000}, can_trade: false}]
orders:
  - {at: 1.5, account: poor, place: {symbol: BTCUSDT, side: BUY, type: MARKET, quantity: 1}}
  - {at: 2, account: reader, place: {symbol: BTCUSDT, side: BUY, type: MARKET, quantity: 0.01}}
  - {at: 2, account: poor, cancel: {symbol: BTCUSDT, orderId: 9}}
faults: [{at: 3, fault: {kind: balance, account: poor, asset: USDT, amount: -5}}]
""")
    run.move(5)

    assert run.said[:3] == [
        "Scenario: orders[0] at 1.5 s was refused: -2010, Account has insufficient balance for requested action.",
        "Scenario: orders[1] at 2 s was refused: -2015, Invalid API-key, IP, or permissions for action.",
        "Scenario: orders[2] at 2 s was refused: -2011, Unknown order sent.",
    ]
    assert run.said[3].startswith("Scenario: faults[0] at 3 s was refused: ")
    assert len(run.said) == 4


def test_a_timed_fault_is_on_for_its_time(stage):
    run = stage("""
faults:
  - {at: 2, every: 10, times: 2, fault: {kind: halt, symbol: BTCUSDT, seconds: 3}}
  - {at: 4, fault: {kind: silence, seconds: 2.5}}
""")
    seen = []
    for _ in range(8):
        run.move(2)
        seen.append((run.venue.exchange.statuses["BTCUSDT"], run.on()))

    trading, halted = "TRADING", "HALT"
    assert seen == [
        (halted, [("halt", 3.0)]),
        (halted, [("halt", 1.0), ("silence", 2.5)]),
        (trading, [("silence", 0.5)]),
        (trading, []),
        (trading, []),
        (halted, [("halt", 3.0)]),
        (halted, [("halt", 1.0)]),
        (trading, []),
    ]


def test_a_fault_that_was_cleared_stays_off(stage):
    run = stage("faults: [{at: 1, fault: {kind: silence, seconds: 10}}]")
    run.move(2)
    run.faults.clear()
    again = run.faults.add({"kind": "silence", "seconds": 100}, run.wall_ms)
    run.move(20)

    assert [row["id"] for row in run.faults.listed(run.wall_ms)] == [again.id]


FAULTY = """
accounts: [{name: me, balances: {USDT: 1000}}]
faults:
  - {at: 1, fault: {kind: halt, symbol: BTCUSDT, seconds: 20}}
  - {at: 2, fault: {kind: drop, every: 3}}
  - {at: 2, fault: {kind: lose_ack, count: 5}}
  - {at: 2, fault: {kind: silence, seconds: 3}}
  - {at: 3, fault: {kind: balance, account: me, asset: USDT, amount: 1}}
  - {at: 9, fault: {kind: balance, account: me, asset: USDT, amount: 1}}
"""


def test_faults_that_were_on_go_on_after_a_restart_with_what_is_left(stage, tmp_path):
    first = stage(FAULTY, state=tmp_path / "state")
    first.move(10)
    first.store.close()

    second = stage(FAULTY, state=tmp_path / "state", wall_ms=12_000)
    second.venue.advance()
    assert second.on() == [("halt", 9.0), ("drop", None)]
    second.move(10)

    assert second.venue.exchange.statuses["BTCUSDT"] == "TRADING"
    assert second.on() == [("drop", None)]
    second.store.close()


def test_the_example_plays_without_a_refusal(stage):
    example = (Path(__file__).parents[3] / "simulator" / "scenario" / "example.yaml").read_text()
    run = stage(example, symbols={name: SYMBOLS[name] for name in ("BTCUSDT", "ETHUSDT")})
    run.move(35)
    assert [kind for kind, _ in run.on()] == ["lose_ack", "halt"]
    run.move(25)

    maker, taker = run.ledger()["accounts"]
    assert run.said == []
    assert [order["status"] for order in maker["orders"]] == ["CANCELED"]
    assert [order["status"] for order in taker["orders"]] == ["FILLED"] * 10
    assert [moved["amount"] for moved in taker["transfers"]] == ["-0.50000000"]
