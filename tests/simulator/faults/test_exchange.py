"""Faults of the exchange itself from a client's side: statuses, limits, balances, the clock, maintenance."""

from __future__ import annotations

import time

import pytest

PRICE = "40000"  # a price that nobody trades at, inside the price band
HOUR_MS = 3_600_000
ROUNDED_MS = 5  # both clocks count whole milliseconds from points of their own


@pytest.fixture
def exchange(simulator):
    """The common exchange, made whole again afterwards."""
    yield simulator
    simulator.sim("DELETE", "faults")


@pytest.fixture
def customer(exchange):
    return exchange.account(USDT="1000", BTC="1")


def fault(exchange, kind: str, **how: object):
    reply = exchange.sim("POST", "faults", {"kind": kind, **how})
    assert reply.status == 201, reply.text
    return reply.json


def status(exchange, symbol: str = "ETHUSDC") -> str:
    return exchange.get(f"/api/v3/exchangeInfo?symbol={symbol}").json["symbols"][0]["status"]


def buy(customer, symbol: str = "ETHUSDC"):
    return customer.order(symbol=symbol, quantity="0.01", price="2000")


@pytest.mark.parametrize("shown", ["HALT", "BREAK", "CANCEL_ONLY"])
def test_a_symbol_is_halted_and_trades_again_when_cleared(exchange, shown):
    customer = exchange.account(USDC="1000", USDT="1000")
    order = buy(customer).json
    number = fault(exchange, "halt", symbol="ETHUSDC", status=shown)["id"]

    assert status(exchange) == shown
    refused = buy(customer)
    assert (refused.status, refused.code) == (400, -2010)
    assert buy(customer, "ETHUSDT").status == 200
    cancel = customer.call("DELETE", "order", symbol="ETHUSDC", orderId=order["orderId"])
    assert cancel.status == 200

    exchange.sim("DELETE", f"faults/{number}")
    assert status(exchange) == "TRADING"
    assert buy(customer).status == 200


def test_a_halt_ends_by_itself(exchange, eventually):
    fault(exchange, "halt", symbol="ETHUSDC")
    assert status(exchange) == "HALT"

    fault(exchange, "halt", symbol="ETHUSDC", seconds=0.5)  # in the place of the other

    eventually(lambda: status(exchange) == "TRADING")

    assert exchange.sim("GET", "faults").json == {"faults": []}


def test_a_halt_outlives_a_restart_and_can_still_be_cleared(start, tmp_path):
    first = start("--state", tmp_path)
    fault(first, "halt", symbol="BTCUSDT", seconds=3600)
    first.stop()

    second = start("--state", tmp_path)
    assert status(second, "BTCUSDT") == "HALT"
    assert [row["symbol"] for row in second.sim("GET", "faults").json["faults"]] == ["BTCUSDT"]
    second.sim("DELETE", "faults")
    assert status(second, "BTCUSDT") == "TRADING"


def test_the_limits_of_a_symbol_change(start):
    exchange = start("--unlimited")
    customer = exchange.account(USDC="1000")
    assert buy(customer).status == 200

    fault(exchange, "filters", symbol="ETHUSDC", min_notional="50", tick_size=0.5, max_num_orders=2)

    (listed,) = exchange.get("/api/v3/exchangeInfo?symbol=ETHUSDC").json["symbols"]
    filters = {row["filterType"]: row for row in listed["filters"]}
    assert filters["NOTIONAL"]["minNotional"] == "50.00000000"
    assert filters["PRICE_FILTER"]["tickSize"] == "0.50000000"
    assert filters["MAX_NUM_ORDERS"]["maxNumOrders"] == 2
    assert buy(customer).json["msg"] == "Filter failure: NOTIONAL"
    assert exchange.sim("GET", "faults").json == {"faults": []}


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "halt", "symbol": "XYZ"},
        {"kind": "filters", "symbol": "XYZ", "tick_size": "1"},
        {"kind": "filters", "symbol": "BTCUSDT"},
        {"kind": "filters", "symbol": "BTCUSDT", "tick_size": "0"},
        {"kind": "filters", "symbol": "BTCUSDT", "tick_size": "0.00000001"},
        {"kind": "balance", "api_key": "nobody", "asset": "BTC", "amount": "1"},
    ],
)
def test_what_the_exchange_cannot_do_is_refused_with_a_sentence(exchange, body):
    reply = exchange.sim("POST", "faults", body)

    assert reply.status == 422
    assert reply.json["error"].endswith(".")
    assert exchange.sim("GET", "faults").json == {"faults": []}


def test_a_balance_changes_behind_the_accounts_back(exchange, customer):
    fault(exchange, "balance", api_key=customer.api_key, asset="BTC", amount="-0.25")
    fault(exchange, "balance", api_key=customer.api_key, asset="ETH", amount=3)

    balances = customer.balances()
    assert (balances["BTC"][0], balances["ETH"][0]) == ("0.75000000", "3.00000000")
    too_much = {"kind": "balance", "api_key": customer.api_key, "asset": "BTC", "amount": "-0.8"}
    assert exchange.sim("POST", "faults", too_much).status == 422


def tells(exchange, skew_ms: int) -> bool:
    """Whether the exchange's clock is that far from this machine's."""
    earliest = time.time() * 1000
    told = exchange.get("/api/v3/time").json["serverTime"] - skew_ms
    return earliest - ROUNDED_MS <= told <= time.time() * 1000 + ROUNDED_MS


def test_a_skewed_clock_refuses_timestamps_that_were_good(exchange, customer):
    fault(exchange, "clock_skew", ms=-HOUR_MS)
    assert tells(exchange, -HOUR_MS)
    ahead = customer.call("GET", "account")
    assert (ahead.code, "1000ms ahead" in ahead.json["msg"]) == (-1021, True)
    customer.skew_ms = -HOUR_MS
    assert customer.call("GET", "account").status == 200

    exchange.sim("DELETE", "faults")

    customer.skew_ms = 0
    assert customer.call("GET", "account").status == 200
    assert tells(exchange, 0)


def test_in_maintenance_everybody_is_turned_away_until_it_ends(start, eventually):
    exchange = start("--unlimited")
    fault(exchange, "maintenance", seconds=3600)

    turned_away = exchange.get("/api/v3/ping")
    assert (turned_away.status, turned_away.text[:6]) == (503, "<html>")
    for path in ("/ws/btcusdt@trade", "/stream", "/ws-api/v3", "/sapi/v1/spot/delist-schedule"):
        assert exchange.get(path).status == 503
    assert exchange.sim("GET", "clock").status == 200

    fault(exchange, "maintenance", seconds=0.5)  # in the place of the other

    eventually(lambda: exchange.get("/api/v3/ping").status == 200)
