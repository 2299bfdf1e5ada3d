"""Request faults from a client's side: a real exchange, real HTTP."""

from __future__ import annotations

import time

import pytest

PRICE = "40000"  # a price that nobody trades at, inside the price band
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def exchange(simulator):
    return simulator


@pytest.fixture
def customer(exchange):
    yield exchange.account(USDT="1000")
    exchange.sim("DELETE", "faults")


@pytest.fixture
def fault(exchange, customer):
    """Switch a fault on that meets this customer only."""

    def fault(kind: str, **how: object) -> dict:
        reply = exchange.sim("POST", "faults", {"kind": kind, "api_key": customer.api_key, **how})
        assert reply.status == 201, reply.text
        return reply.json

    return fault


def buy(customer, **more: object):
    return customer.order(quantity="0.001", price=PRICE, **more)


def open_orders(customer) -> int:
    return len(customer.call("GET", "openOrders").json)


def test_a_lost_acknowledgement_leaves_an_order(customer, fault):
    fault("lose_ack", path="/api/v3/order", method="POST")

    with pytest.raises(OSError):
        buy(customer, newClientOrderId="lost")

    assert customer.call("GET", "order", symbol="BTCUSDT", origClientOrderId="lost").json["status"] == "NEW"
    assert open_orders(customer) == 1


@pytest.mark.parametrize(
    ("kind", "how", "status", "code", "orders"),
    [
        ("refuse", {"status": 503}, 503, None, 0),
        ("refuse", {"status": 503, "code": -1008, "msg": "Server is currently overloaded."}, 503, -1008, 0),
        ("refuse", {"status": 403}, 403, None, 0),
        ("unknown", {}, 504, -1007, 1),
        ("unknown", {"executed": False, "code": -1006, "status": 500}, 500, -1006, 0),
        ("html", {"executed": True}, 502, None, 1),
        ("html", {"executed": False, "status": 504}, 504, None, 0),
        ("order_limit", {}, 429, -1015, 0),
    ],
)
def test_a_refusal_looks_so_and_an_order_is_there_or_not(customer, fault, kind, how, status, code, orders):
    fault(kind, path="/api/v3/order", method="POST", **how)

    reply = buy(customer)

    assert reply.status == status
    if code is None:
        assert reply.text.startswith("<html>")
        assert reply.headers["Content-Type"].startswith("text/html")
    else:
        assert reply.code == code
        assert "X-MBX-USED-WEIGHT-1M" in reply.headers
    assert open_orders(customer) == orders
    assert buy(customer).status == 200


def test_an_order_limit_says_when_to_try_again(customer, fault):
    fault("order_limit", seconds=7)

    assert buy(customer).headers["Retry-After"] == "7"


def test_each_second_order_of_one_symbol_is_refused(customer, fault):
    fault("refuse", symbol="BTCUSDT", method="POST", every=2, count=2)

    assert [buy(customer).status for _ in range(5)] == [200, 503, 200, 503, 200]


def test_other_symbols_and_keys_are_left_alone(exchange, customer, fault):
    fault("refuse", symbol="ETHUSDT", count=9)
    other = exchange.account(USDT="1000")

    assert buy(customer).status == 200
    assert other.order(symbol="ETHUSDT", quantity="0.01", price="2000").status == 200
    assert customer.order(symbol="ETHUSDT", quantity="0.01", price="2000").status == 503


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_delayed_answer_comes_late(customer, fault, when):
    fault("delay", path="/api/v3/order", method="POST", seconds=0.4, when=when)
    asked = time.time()

    executed = buy(customer).json["transactTime"] / 1000

    waited = executed - asked if when == "before" else time.time() - executed
    assert waited >= 0.39


def test_an_order_that_waits_longer_than_its_window_is_too_old(customer, fault):
    fault("delay", path="/api/v3/order", method="POST", seconds=0.4, when="before")

    assert buy(customer, recvWindow=200).code == -1021
    assert open_orders(customer) == 0


def test_who_calls_on_while_limited_is_banned_until_then(start):
    exchange = start("--unlimited")
    exchange.sim("POST", "faults", {"kind": "rate_limit", "seconds": 3600})

    asked = time.time() * 1000
    limited, banned = exchange.get("/api/v3/ping"), exchange.get("/api/v3/time")
    told = time.time() * 1000

    assert (limited.status, limited.code, limited.headers["Retry-After"]) == (429, -1003, "3600")
    assert (banned.status, banned.code) == (418, -1003)
    end = int(banned.json["msg"].partition("IP banned until ")[2].partition(".")[0])
    assert asked - 1 <= end - HOUR_MS <= told
    assert end - told <= 1000 * int(banned.headers["Retry-After"]) <= HOUR_MS
    (listed,) = exchange.sim("GET", "faults").json["faults"]
    assert (listed["count"], 0 < listed["left_s"] <= 3600) == (0, True)

    exchange.sim("DELETE", "faults")

    assert exchange.get("/api/v3/ping").status == 200


def test_a_ban_ends_by_itself(start, eventually):
    exchange = start("--unlimited")
    exchange.sim("POST", "faults", {"kind": "rate_limit", "seconds": 1})
    asked = time.time() * 1000
    assert exchange.get("/api/v3/ping").status == 429

    eventually(lambda: exchange.get("/api/v3/ping").status == 200)

    assert time.time() * 1000 >= asked - 1 + 1000
    assert exchange.sim("GET", "faults").json == {"faults": []}


def test_faults_are_listed_and_taken_off_by_id(exchange, customer, fault):
    first = fault("lose_ack", count=3)["id"]
    second = fault("refuse", count=2)["id"]
    rows = {row["id"]: row for row in exchange.sim("GET", "faults").json["faults"]}
    assert (rows[first]["kind"], rows[first]["count"], rows[second]["status"]) == ("lose_ack", 3, 503)

    assert exchange.sim("DELETE", f"faults/{first}").status == 200

    assert [row["id"] for row in exchange.sim("GET", "faults").json["faults"]] == [second]
    for unknown in (first, "x", "9" * 30):
        gone = exchange.sim("DELETE", f"faults/{unknown}")
        assert gone.status == 404
        assert gone.json["error"].endswith(".")


def test_the_kinds_there_are_can_be_asked_for(exchange):
    kinds = exchange.sim("GET", "faults?kinds").json["kinds"]

    assert {"lose_ack", "silence", "halt"} <= {kind["name"] for kind in kinds}
    assert all(kind["example"]["kind"] == kind["name"] for kind in kinds)
