"""A scenario in a real process: no client is needed, and the same file gives the same run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import LONG_S

ROOT = Path(__file__).parents[3]
START = 1_800_000_000
RUN = """
accounts:
  - {name: maker, balances: {USDT: 100000, BTC: 1}}
  - {name: taker, balances: {USDT: 100000, BTC: 1}}
orders:
  - {at: 2, every: 3, times: 5, account: taker, place: {symbol: BTCUSDT, side: BUY, type: MARKET, quantity: 0.01}}
  - {at: 2, account: maker, place: {symbol: BTCUSDT, side: SELL, type: LIMIT, timeInForce: GTC, quantity: 9,
                                    price: 200000}}
  - {at: 4, account: maker, place: {symbol: BTCUSDT, side: SELL, type: LIMIT, timeInForce: GTC, quantity: 0.5,
                                    price: 200000, newClientOrderId: far}}
  - {at: 9, account: maker, cancel: {symbol: BTCUSDT, origClientOrderId: far}}
faults:
  - {at: 10, fault: {kind: balance, account: maker, asset: BTC, amount: -0.25}}
  - {at: 12, fault: {kind: halt, symbol: ETHUSDT, seconds: 3600}}
  - {at: 12, fault: {kind: refuse, path: /api/v3/depth, code: -1008, count: 1}}
"""


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    return path


def whole_run(start, eventually, scenario, *more: object):
    simulator = start("--scenario", scenario, "--start", f"{START}000", "--speed", 20, *more)
    eventually(lambda: simulator.sim("GET", "clock").json["market_ms"] > (START + 20) * 1000)
    return simulator


def test_a_run_needs_no_client_and_is_always_the_same(start, eventually, scenario):
    one, two = (whole_run(start, eventually, scenario) for _ in range(2))

    ledger = one.sim("GET", "ledger").json
    assert ledger == two.sim("GET", "ledger").json
    maker, taker = ledger["accounts"]
    assert (maker["name"], taker["name"]) == ("maker", "taker")
    assert [order["status"] for order in taker["orders"]] == ["FILLED"] * 5
    assert [order["time"] / 1000 - START for order in taker["orders"]] == [2, 5, 8, 11, 14]
    assert [(order["client_order_id"], order["status"]) for order in maker["orders"]] == [("far", "CANCELED")]
    assert [moved["amount"] for moved in maker["transfers"]] == ["-0.25000000"]


def test_its_faults_meet_clients_and_its_refusals_are_told(start, scenario):
    simulator = start("--scenario", scenario, "--start", f"{START}000", "--speed", 0)
    simulator.sim("POST", "clock", {"advance_ms": 20_000})

    assert "Scenario: orders[1] at 2 s was refused: -2010, Account has insufficient" in simulator.errors.read_text()
    assert simulator.get("/api/v3/exchangeInfo?symbol=ETHUSDT").json["symbols"][0]["status"] == "HALT"
    halt, refuse = simulator.sim("GET", "faults").json["faults"]
    assert (halt["kind"], halt["clock"], halt["left_s"]) == ("halt", "market", 12 + 3600 - 20)
    assert (refuse["kind"], refuse["count"]) == ("refuse", 1)
    refused = simulator.get("/api/v3/depth?symbol=BTCUSDT")
    assert (refused.status, refused.code) == (503, -1008)


def test_a_run_that_was_killed_goes_on_as_if_it_had_not(start, eventually, scenario, tmp_path):
    whole = whole_run(start, eventually, scenario)
    killed = start("--scenario", scenario, "--start", f"{START}000", "--speed", 20, "--state", tmp_path / "state")
    eventually(lambda: killed.sim("GET", "clock").json["market_ms"] > (START + 6) * 1000)
    killed.process.kill()
    killed.process.wait()

    resumed = whole_run(start, eventually, scenario, "--state", tmp_path / "state")

    assert resumed.sim("GET", "ledger").json == whole.sim("GET", "ledger").json


def test_a_market_moved_by_hand_goes_on_where_it_was_after_a_kill(start, scenario, tmp_path):
    ledgers = []
    for restarts in (False, True):
        options = ("--scenario", scenario, "--start", f"{START}000", "--speed", 0, "--state", tmp_path / f"{restarts}")
        simulator = start(*options)
        for seconds in (7, 4, 9):
            reached = simulator.sim("POST", "clock", {"advance_ms": seconds * 1000}).json["market_ms"]
            if restarts:
                simulator.process.kill()
                simulator.process.wait()
                simulator = start(*options)
        assert reached == (START + 20) * 1000
        ledgers.append(simulator.sim("GET", "ledger").json)
    assert ledgers[0] == ledgers[1]
    assert len(ledgers[0]["accounts"][1]["orders"]) == 5


def test_a_bad_scenario_is_one_sentence(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("faults: [{at: 1, fault: {kind: silence}}]")

    done = subprocess.run(
        [sys.executable, "-m", "simulator", "--port", "0", "--scenario", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr == (
        "bad.yaml: faults[0].fault: silence lacks seconds: for example stream btcusdt@kline_1s, seconds 30.\n"
    )
