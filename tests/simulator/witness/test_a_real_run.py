"""A real exchange at work, and the witness beside it: over HTTP while it runs, and from its folder afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def check(*args: object) -> subprocess.CompletedProcess[str]:
    """The verdict on one ledger."""
    command = [sys.executable, "-m", "simulator", "check", *(str(arg) for arg in args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def trade(simulator) -> int:
    """Two customers do everything that moves coins; how many orders they placed."""
    one = simulator.account(USDT="100000", BTC="2", BNB="3")
    two = simulator.account(USDT="50000", BTC="1")
    last = simulator.price()
    near, far = f"{last * 0.9:.2f}", f"{last * 1.1:.2f}"
    placed = 0

    def order(customer, **params: object) -> dict:
        nonlocal placed
        reply = customer.order(**params)
        assert reply.status == 200, reply.text
        placed += 1
        return reply.json

    order(one, kind="MARKET", quantity="0.5")
    order(one, side="SELL", kind="MARKET", quantity="0.37")
    order(one, kind="MARKET", quoteOrderQty="777")
    order(two, side="SELL", kind="MARKET", quoteOrderQty="777")
    order(one, quantity="0.01", price=near)
    resting = order(two, side="SELL", quantity="0.02", price=far)
    inside = order(one, quantity="0.05", price=f"{last * 1.01:.2f}")
    order(two, side="SELL", quantity="0.03", price=f"{last * 0.99:.2f}")
    order(two, kind="LIMIT", timeInForce="IOC", quantity="0.2", price=f"{last:.2f}")
    for mode in ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT"):
        level = f"{last * 0.97:.2f}"
        mine = order(one, quantity="0.02", price=level)
        order(one, side="SELL", quantity="0.5", price=level, selfTradePreventionMode=mode)
        one.call("DELETE", "openOrders", symbol="BTCUSDT")
        assert mine["orderId"]
    cancelled = two.call("DELETE", "order", symbol="BTCUSDT", orderId=resting["orderId"])
    assert cancelled.json["status"] == "CANCELED"
    assert inside["status"] == "FILLED"
    pair = two.call(
        "POST", "orderList/oco", symbol="BTCUSDT", side="SELL", quantity="0.1", aboveType="LIMIT_MAKER", abovePrice=far,
        belowType="STOP_LOSS", belowStopPrice=near,
    )  # fmt: skip
    assert pair.status == 200, pair.text
    gift = {"kind": "balance", "api_key": one.api_key, "asset": "USDT", "amount": "-12.5"}
    assert simulator.sim("POST", "faults", gift).status == 201
    order(one, quantity="0.01", price=near, newClientOrderId="left-open")
    return placed + 2


def test_nothing_is_made_or_lost_while_customers_trade(start):
    simulator = start("--unlimited")
    placed = trade(simulator)

    done = check("--url", simulator.url)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"2 accounts, {placed} orders (3 open)" in done.stdout
    assert done.stdout.endswith("Every identity holds: no coin was made, and none was lost.\n")


def test_one_coin_too_many_in_its_answer_is_found(start, tmp_path):
    simulator = start("--unlimited")
    trade(simulator)
    ledger = simulator.sim("GET", "ledger").json
    balance = ledger["accounts"][0]["balances"]["BTC"]
    balance["free"] = f"{float(balance['free']) + 1:.8f}"
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps(ledger))

    assert check("--ledger", path).returncode == 1


@pytest.mark.parametrize("ending", [None, signal.SIGKILL])
def test_the_folder_tells_the_same_as_the_running_exchange(start, tmp_path, ending):
    simulator = start("--unlimited", "--state", tmp_path)
    trade(simulator)
    over_http = json.loads(check("--json", "--url", simulator.url).stdout)
    if ending is not None:
        simulator.stop(ending)

    from_folder = json.loads(check("--json", "--state", tmp_path).stdout)

    assert over_http["holds"]
    assert {**from_folder, "source": ""} == {**over_http, "source": ""}
