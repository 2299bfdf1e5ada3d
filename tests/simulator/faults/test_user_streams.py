"""Faults of user events and of calls over the websocket API, and the exchange's shutdown, over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest
import websockets

from tests.simulator.ws_caller import LISTEN, ask, connect, receive, run, signed
from tests.waiting import DEADLINE_S

PRICE = "40000"  # a price that nobody trades at, inside the price band


@pytest.fixture
def exchange(simulator):
    """The common exchange, made whole again afterwards."""
    yield simulator
    simulator.sim("DELETE", "faults")


@pytest.fixture
def customer(exchange):
    return exchange.account(USDT="1000", BTC="1")


@pytest.fixture
def fault(exchange, customer):
    """Switch a fault on that meets this customer only."""

    def fault(kind: str, **how: object) -> None:
        reply = exchange.sim("POST", "faults", {"kind": kind, "api_key": customer.api_key, **how})
        assert reply.status == 201, reply.text

    return fault


async def buy(socket, customer, **more: object) -> dict:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.001"}
    return await ask(socket, "order.place", signed(customer, **order, price=PRICE, **more))


def told(frame: dict) -> str:
    """An event in a word."""
    event = frame["event"]
    return event["x"] if event["e"] == "executionReport" else event["e"]


NEW, FILL, POSITION, CANCELED = "NEW", "TRADE", "outboundAccountPosition", "CANCELED"


def listening(exchange, customer, act: Callable[[], object], count: int) -> list[str]:
    """Subscribe, do something, and tell the next events."""
    heard: list[str] = []

    async def scenario() -> None:
        async with connect(exchange) as socket:
            assert (await ask(socket, LISTEN, signed(customer)))["status"] == 200
            await asyncio.to_thread(act)
            heard.extend([told(await receive(socket)) for _ in range(count)])

    run(scenario)
    return heard


def place_and_cancel(customer) -> None:
    order = customer.order(quantity="0.001", price=PRICE).json
    customer.call("DELETE", "order", symbol="BTCUSDT", orderId=order["orderId"])


def test_without_faults_events_come_in_order(exchange, customer):
    heard = listening(exchange, customer, lambda: place_and_cancel(customer), 4)

    assert heard == [NEW, POSITION, CANCELED, POSITION]


def test_the_report_of_a_fill_never_arrives(exchange, customer, fault):
    fault("lose_fill")
    heard = listening(exchange, customer, lambda: customer.order(kind="MARKET", quantity="0.001"), 2)

    assert (heard[0], FILL in heard) == (NEW, False)
    assert customer.call("GET", "myTrades", symbol="BTCUSDT").json != []


def test_reports_come_twice(exchange, customer, fault):
    fault("duplicate", stream="user@executionReport", count=2)

    assert listening(exchange, customer, lambda: place_and_cancel(customer), 6) == [
        NEW, NEW, POSITION, CANCELED, CANCELED, POSITION,
    ]  # fmt: skip


def test_balances_come_before_the_report_that_changed_them(exchange, customer, fault):
    fault("reorder", stream="user@", count=2)

    assert listening(exchange, customer, lambda: place_and_cancel(customer), 4) == [POSITION, NEW, POSITION, CANCELED]


def test_events_come_late_and_in_order(exchange, customer, fault):
    fault("delay_events", seconds=1)
    asked = time.monotonic()

    heard = listening(exchange, customer, lambda: place_and_cancel(customer), 4)

    assert heard == [NEW, POSITION, CANCELED, POSITION]
    assert time.monotonic() - asked >= 1


def test_one_account_is_silenced_and_another_is_not(exchange, customer, fault):
    fault("silence", seconds=60)
    other = exchange.account(USDT="1000")

    async def scenario() -> None:
        async with connect(exchange) as socket:
            for subscriber in (customer, other):
                assert (await ask(socket, LISTEN, signed(subscriber)))["status"] == 200
            await asyncio.to_thread(customer.order, quantity="0.001", price=PRICE, newClientOrderId="unheard")
            await asyncio.to_thread(other.order, quantity="0.001", price=PRICE, newClientOrderId="heard")
            assert (await receive(socket))["event"]["c"] == "heard"

    run(scenario)


def test_a_balance_that_changes_is_told(exchange, customer):
    body = {"kind": "balance", "api_key": customer.api_key, "asset": "BTC", "amount": "-0.25"}

    async def scenario() -> None:
        async with connect(exchange) as socket:
            await ask(socket, LISTEN, signed(customer))
            await asyncio.to_thread(exchange.sim, "POST", "faults", body)
            update = (await receive(socket))["event"]
            assert (update["e"], update["a"], update["d"]) == ("balanceUpdate", "BTC", "-0.25000000")

    run(scenario)


@pytest.mark.parametrize(
    ("kind", "how", "status", "code", "orders"),
    [
        ("refuse", {"path": "/api/v3/order", "method": "POST"}, 503, -1001, 0),
        ("refuse", {"path": "order.place", "status": 503, "code": -1008, "msg": "Busy."}, 503, -1008, 0),
        ("unknown", {"path": "order.place"}, 504, -1007, 1),
        ("unknown", {"path": "order.place", "executed": False, "code": -1006, "status": 500}, 500, -1006, 0),
        ("html", {"path": "order.place", "executed": True}, 502, -1001, 1),
        ("order_limit", {}, 429, -1015, 0),
        ("refuse", {"path": "order.place", "over": "rest"}, 200, None, 1),
    ],
)
def test_a_call_over_the_websocket_api_meets_them_too(exchange, customer, fault, kind, how, status, code, orders):
    fault(kind, **how)

    async def scenario() -> None:
        async with connect(exchange) as socket:
            answer = await buy(socket, customer)
            assert (answer["status"], answer.get("error", {}).get("code")) == (status, code)
            if status == 429:
                assert 0 < answer["error"]["data"]["retryAfter"] - answer["error"]["data"]["serverTime"] <= 10_000
            found = (await ask(socket, "openOrders.status", signed(customer)))["result"]
            assert len(found) == orders

    run(scenario)


def test_a_lost_acknowledgement_cuts_the_socket_and_leaves_an_order(exchange, customer, fault):
    fault("lose_ack", path="order.place")

    async def scenario() -> None:
        async with connect(exchange) as socket:
            with pytest.raises(websockets.ConnectionClosedError):
                await buy(socket, customer, newClientOrderId="lost")
        async with connect(exchange) as socket:
            query = signed(customer, symbol="BTCUSDT", origClientOrderId="lost")
            assert (await ask(socket, "order.status", query))["result"]["status"] == "NEW"

    run(scenario)


def test_a_delayed_call_does_not_hold_up_others(exchange, customer, fault):
    fault("delay", path="order.place", seconds=3600)

    async def scenario() -> None:
        async with connect(exchange) as socket:
            order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
            await socket.send(json.dumps({"id": "late", "method": "order.place", "params": signed(customer, **order)}))
            await socket.send(json.dumps({"id": "prompt", "method": "ping"}))
            assert (await receive(socket))["id"] == "prompt"

    run(scenario)


def test_a_delayed_call_is_answered_late(exchange, customer, fault):
    fault("delay", path="order.place", seconds=0.4)

    async def scenario() -> None:
        async with connect(exchange) as socket:
            asked = time.monotonic()
            assert (await buy(socket, customer))["status"] == 200
            assert time.monotonic() - asked >= 0.4

    run(scenario)


def test_a_ban_holds_at_every_door(start):
    exchange = start("--unlimited")

    async def scenario() -> None:
        async with connect(exchange) as socket:
            exchange.sim("POST", "faults", {"kind": "rate_limit", "seconds": 60})
            limited, banned = await ask(socket, "ping"), await ask(socket, "ping")
            assert (limited["status"], limited["error"]["code"]) == (429, -1003)
            assert (banned["status"], "IP banned until" in banned["error"]["msg"]) == (418, True)
            assert exchange.get("/api/v3/ping").status == 418
            exchange.sim("DELETE", "faults")
            assert (await ask(socket, "ping"))["status"] == 200

    run(scenario)


def test_a_shutdown_is_announced_in_the_form_of_each_socket_and_comes(start):
    exchange = start("--unlimited")

    async def closing_code(socket) -> int | None:
        try:
            while True:
                await asyncio.wait_for(socket.recv(), DEADLINE_S)
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None

    async def scenario() -> None:
        async with (
            websockets.connect(f"{exchange.ws}/ws") as raw,
            websockets.connect(f"{exchange.ws}/stream") as combined,
            connect(exchange) as api,
        ):
            asked = time.time() * 1000
            exchange.sim("POST", "faults", {"kind": "server_shutdown", "grace": 0.5})
            event = await receive(raw)
            assert event["e"] == "serverShutdown"
            assert asked - 1 <= event["E"] <= time.time() * 1000
            both = await receive(combined)
            assert (both["stream"], both["data"]["e"]) == ("!serverShutdown", "serverShutdown")
            assert (await receive(api))["event"]["e"] == "serverShutdown"
            assert await closing_code(raw) in (1000, 1001)
            assert await closing_code(api) in (1000, 1001)

    run(scenario)
