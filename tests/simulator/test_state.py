"""What a killed simulator still knows, and how one starts and stops."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

import pytest
import websockets

from simulator.core.orders import (
    AccountOpened,
    Ended,
    Filled,
    ListOpened,
    OrderPlaced,
    Prevented,
    Queued,
    SymbolChanged,
    Transferred,
    Triggered,
)
from simulator.store import Moment, StateError, Store
from tests.waiting import DEADLINE_S, LONG_S, wait_for

ROOT = Path(__file__).parents[2]
FACTS = [
    AccountOpened("k", "s", "näme", 1, 2, {"USDT": 5}),
    OrderPlaced(1, "k", "BTCUSDT", "c", "BUY", "LIMIT", "GTC", 3, 4, 0, "NONE", 12, 5),
    Filled(1, 1, 3, 2, 0, True, 6),
    Ended(1, "CANCELED", "x", 7),
    Transferred("k", "USDT", -1, 8),
    SymbolChanged("BTCUSDT", "HALT", {"tick_size": "0.1"}, 9),
    ListOpened(0, "k", "BTCUSDT", "SELL", "pair", "OCO", [2, 3], 5, 10),
    Triggered(2, 5, 6, 11),
    Queued(2, 1, 12),
    Prevented(0, 2, 3, 1, 5, 13),
]
AT = Moment(5, "BTCUSDT", 77)


def test_facts_come_back_as_they_were(tmp_path):
    store = Store(tmp_path)
    store.append(FACTS[:1], Moment(4))
    store.append(FACTS[1:], AT)
    store.close()

    assert list(Store(tmp_path).replay()) == [(Moment(4), FACTS[:1]), (AT, FACTS[1:])]


def test_a_log_of_the_first_version_still_reads(tmp_path):
    (tmp_path / "facts.jsonl").write_text(
        '[["account","k","s","",1,2,{"USDT":5}]]\n'
        '[["order",1,"k","BTCUSDT","c","BUY","LIMIT","GTC",3,4,0,"NONE",12,5],["fill",1,1,3,2,0,true,6]]\n'
    )
    (moment, opened), (_, facts) = list(Store(tmp_path).replay())
    assert moment is None
    assert opened == [AccountOpened("k", "s", "", 1, 2, {"USDT": 5})]
    assert facts == [
        OrderPlaced(1, "k", "BTCUSDT", "c", "BUY", "LIMIT", "GTC", 3, 4, 0, "NONE", 12, 5),
        Filled(1, 1, 3, 2, 0, True, 6),
    ]


def test_a_torn_last_line_is_dropped_at_any_byte(tmp_path):
    store = Store(tmp_path)
    store.append(FACTS[:1], AT)
    whole = (tmp_path / "facts.jsonl").read_bytes()
    store.append(FACTS[1:], AT)
    both = (tmp_path / "facts.jsonl").read_bytes()
    store.close()
    for cut in range(len(whole), len(both)):
        (tmp_path / "facts.jsonl").write_bytes(both[:cut])
        store = Store(tmp_path)
        assert list(store.replay()) == [(AT, FACTS[:1])]
        store.append(FACTS[1:], AT)
        store.close()
        assert (tmp_path / "facts.jsonl").read_bytes() == both


def test_a_spoilt_log_is_named_with_its_line(tmp_path):
    (tmp_path / "facts.jsonl").write_text('[]\n[["riddle",1]]\n')
    with pytest.raises(StateError, match="line 2 is not readable"):
        list(Store(tmp_path).replay())


def test_a_state_belongs_to_one_process(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(StateError, match="in use"):
        Store(tmp_path)
    store.close()


def test_what_was_acknowledged_is_there_after_a_kill(start, tmp_path):
    simulator = start("--state", tmp_path, "--unlimited")
    customer = simulator.account(USDT="100000", BTC="5")
    bought = customer.order(kind="MARKET", quantity="0.01", newClientOrderId="bought").json
    acknowledged: list[int] = []

    def trade_until_it_breaks() -> None:
        try:
            while True:
                reply = customer.order(quantity="0.00100", price="40000", newOrderRespType="ACK").json
                acknowledged.append(reply["orderId"])
                customer.call("DELETE", "order", symbol="BTCUSDT", orderId=reply["orderId"])
        except (OSError, ValueError):
            pass

    threads = [threading.Thread(target=trade_until_it_breaks) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(acknowledged) >= 60)
    simulator.stop(signal.SIGKILL)
    for thread in threads:
        thread.join()

    again = start("--state", tmp_path, "--unlimited")

    customer.simulator = again
    (account,) = again.sim("GET", f"ledger?api_key={customer.api_key}").json["accounts"]
    assert set(acknowledged) <= {order["order_id"] for order in account["orders"]}
    assert {fill["client_order_id"] for fill in account["fills"]} == {"bought"}
    assert sum(Decimal(fill["qty"]) for fill in account["fills"]) == Decimal("0.01")
    assert customer.call("GET", "order", symbol="BTCUSDT", orderId=bought["orderId"]).json["status"] == "FILLED"
    later = customer.order(quantity="0.001", price="40000").json
    assert later["orderId"] > max(acknowledged)


def test_an_order_that_rested_over_a_kill_still_trades_and_still_locks(start, tmp_path):
    simulator = start("--state", tmp_path)
    customer = simulator.account(USDT="1000")
    order = customer.order(quantity="0.01", price="40000", newClientOrderId="resting").json
    simulator.stop(signal.SIGKILL)

    customer.simulator = start("--state", tmp_path)

    assert customer.balances()["USDT"] == ("600.00000000", "400.00000000")
    assert customer.order(quantity="0.001", price="40000", newClientOrderId="resting").code == -2010
    assert customer.call("DELETE", "order", symbol="BTCUSDT", orderId=order["orderId"]).json["status"] == "CANCELED"


def test_history_is_the_same_after_a_restart(start, tmp_path):
    simulator = start("--state", tmp_path)
    path = f"/api/v3/klines?symbol=ETHUSDT&interval=1s&limit=50&endTime={int(time.time() * 1000) - 5000}"
    before = simulator.get(path).json
    simulator.stop(signal.SIGKILL)
    assert start("--state", tmp_path).get(path).json == before


def test_a_fast_market_goes_on_where_its_clock_would_be(start, tmp_path):
    simulator = start("--state", tmp_path, "--speed", 100)
    began = time.time()
    before = simulator.sim("GET", "clock").json["market_ms"]
    simulator.stop(signal.SIGKILL)

    after = start("--state", tmp_path, "--speed", 100).sim("GET", "clock").json["market_ms"]

    passed_ms = (time.time() - began) * 1000
    assert before <= after <= before + 100 * (passed_ms + 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_closes_websockets_politely(start, number):
    simulator = start()

    async def scenario() -> None:
        streams = [
            await websockets.connect(simulator.ws + path, max_queue=None)
            for path in ("/ws/btcusdt@trade", "/ws-api/v3")
        ]
        simulator.process.send_signal(number)
        for stream in streams:
            await asyncio.wait_for(stream.wait_closed(), DEADLINE_S)
            assert stream.close_code == 1001
        assert simulator.process.wait(DEADLINE_S) == 0

    asyncio.run(scenario())


def test_the_first_line_says_where_it_is(start):
    simulator = start("--seed", 3)
    want = f"Simulator on http://127.0.0.1:{simulator.port}, generated market, seed 3, speed 1\n"
    assert simulator.errors.read_text() == want


def run_to_its_end(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simulator", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONG_S, check=False)


def test_a_taken_port_is_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run_to_its_end("--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "give another --port" in done.stderr


def test_a_state_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    done = run_to_its_end("--port", "0", "--state", str(tmp_path / "file" / "deeper"))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_a_state_whose_prices_count_in_other_decimals_is_refused(start, tmp_path):
    tapes = []
    for decimals in (2, 4):
        tape = tmp_path / str(decimals) / "XYZUSDT-trades.csv"
        tape.parent.mkdir()
        tape.write_text(f"time_ms,price,qty,is_buyer_maker\n1700000000000,1.{'1' * decimals},5.0,true\n")
        tapes.append(str(tape))
    state = str(tmp_path / "state")
    for _ in range(2):
        start("--replay", tapes[0], "--state", state).stop()

    done = run_to_its_end("--port", "0", "--replay", tapes[1], "--state", state)

    assert done.returncode == 1
    assert done.stderr.startswith("XYZUSDT has 4 decimals of price and 0 of quantity, but the state was made with 2")
    assert len(done.stderr.splitlines()) == 1


def test_help_explains_every_option():
    text = run_to_its_end("--help").stdout
    for option in ("host", "port", "replay", "rebase", "loop", "speed", "seed", "history", "start-delay", "state"):
        assert f"--{option}" in text


def test_the_index_lists_the_routes(simulator):
    assert "/api/v3" in json.loads(simulator.get("/").text)["routes"]


@pytest.mark.parametrize("option", ["--rebase", "--loop", "--history=5", "--start-delay=1"])
def test_what_only_a_replay_knows_is_refused_without_one(option):
    done = run_to_its_end("--port", "0", option)
    assert done.returncode == 2
    assert "need --replay" in done.stderr


def test_a_stop_does_not_wait_for_candles_that_are_still_computed(start):
    simulator = start()
    with socket.create_connection(("127.0.0.1", simulator.port)) as client:
        for symbol in ("BTCUSDT", "ETHUSDT", "BTCUSDC", "ETHUSDC"):
            path = f"/api/v3/klines?symbol={symbol}&interval=1d&limit=1000"
            threading.Thread(target=_ignoring_errors, args=(simulator, path), daemon=True).start()
        client.sendall(b"GET /api/v3/klines?symbol=BTCUSDT&interval=1h&limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert simulator.stop() == 0


def _ignoring_errors(simulator, path: str) -> None:
    try:
        simulator.get(path)
    except (OSError, ValueError):
        pass
