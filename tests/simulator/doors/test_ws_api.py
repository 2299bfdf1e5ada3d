"""The websocket API over real sockets: requests, their answers, limits, and the end."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest
import websockets
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulator.ws_caller import (
    FAR,
    LISTEN,
    ORDER,
    STOP,
    ask,
    connect,
    receive,
    run,
    signed,
)

# requests


@pytest.mark.parametrize("request_id", ["5494febb-d167-46a2-996d-70533eb4d976", 7, -3, 2**63 - 1, None, "é"])
def test_an_answer_carries_the_callers_id(simulator, request_id):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            answer = await ask(socket, "ping", id=request_id)
            assert (answer["id"], answer["status"], answer["result"]) == (request_id, 200, {})
            assert (await ask(socket, "v3/time", id=request_id))["result"]["serverTime"] > 0

    run(scenario)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("not json", -1135),
        ("[1,2]", -1135),
        ("[" * 50_000, -1135),
        ('{"id":1.5,"method":"ping"}', -1100),
        ('{"id":"' + "x" * 37 + '","method":"ping"}', -1100),
        ('{"id":null}', -1102),
        ('{"id":null,"method":"order.dance"}', -1020),
        ('{"id":null,"method":"ping","params":[]}', -1135),
        ('{"id":null,"method":"ping","params":{"x":1}}', -1104),
        ('{"id":null,"method":"klines","params":{"symbol":{"a":[1]},"interval":"1s"}}', -1100),
        ('{"id":null,"method":"klines","params":{"symbol":"BTCUSDT","interval":"\\ud800"}}', -1120),
        ('{"id":null,"method":"account.status","params":{"apiKey":"\\ud800","timestamp":1}}', -2014),
        ('{"id":null,"method":"ping","params":{"returnRateLimits":"perhaps"}}', -1100),
    ],
)
def test_a_bad_request_is_answered_in_the_exchanges_words(simulator, text, error):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            await socket.send(text)
            answer = await receive(socket)
            assert (answer["id"], answer["error"]["code"]) == (None, error)
            assert 400 <= answer["status"] < 500
            assert (await ask(socket, "ping"))["status"] == 200

    run(scenario)


@pytest.mark.parametrize("method", ["userDataStream.start", "userDataStream.ping", "userDataStream.stop"])
def test_listen_keys_are_gone(simulator, method):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            assert (await ask(socket, method, {"apiKey": "x"}))["status"] == 410

    run(scenario)


@pytest.mark.parametrize("query", ["?responseFormat=sbe", "?returnRateLimits=perhaps", "?timeUnit=microsecond"])
def test_a_url_that_asks_for_too_much_is_refused(simulator, query):
    reply = simulator.get("/ws-api/v3" + query)
    assert reply.status == 400
    assert reply.code < -1000


METHODS = (
    "ping", "v3/time", "exchangeInfo", "klines", "ticker.price", "ticker.book", "account.status", "order.place",
    "order.cancel", "order.cancelReplace", "orderList.place.oco", "myTrades", "session.logon", "session.status", LISTEN,
    STOP,
)  # fmt: skip
NAMES = ("symbol", "symbols", "apiKey", "timestamp", "signature", "recvWindow", "limit", "subscriptionId", "interval")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just("BTCUSDT"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
REQUESTS = st.fixed_dictionaries(
    {"method": st.sampled_from(METHODS) | VALUES},
    optional={"id": VALUES, "params": st.dictionaries(st.sampled_from(NAMES) | st.text(), VALUES) | VALUES},
)


@settings(max_examples=25)
@given(st.lists(REQUESTS.map(json.dumps) | st.text(), max_size=20))
def test_whatever_is_sent_is_answered_and_nothing_breaks(simulator, texts):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            for text in texts:
                await socket.send(text)
            answers = [await receive(socket) for _ in texts]
            assert all(answer["status"] == 200 or 400 <= answer["status"] < 500 for answer in answers)
            assert all(("result" in answer) != ("error" in answer) for answer in answers)
            assert (await ask(socket, "ping"))["status"] == 200

    run(scenario)


def test_requests_are_answered_however_many_are_sent_at_once(simulator):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            for number in range(3000):
                await socket.send(json.dumps({"id": number, "method": "time"}))
            answers = [await receive(socket) for _ in range(3000)]
            assert sorted(answer["id"] for answer in answers) == list(range(3000))
            assert {answer["status"] for answer in answers} <= {200, 429}
            assert (await ask(socket, "ping"))["status"] == 200

    run(scenario)


def test_a_question_that_takes_long_holds_up_nobody(start):
    simulator = start()

    async def scenario() -> None:
        async with connect(simulator) as socket:
            slow = {"symbol": "ETHUSDC", "interval": "1d", "limit": 1000}  # a month, in seconds
            await socket.send(json.dumps({"id": "slow", "method": "klines", "params": slow}))
            await socket.send(json.dumps({"id": "quick", "method": "ping"}))
            assert (await receive(socket))["id"] == "quick"

    run(scenario)


def test_a_client_that_leaves_before_its_answer_does_no_harm(start, eventually):
    simulator = start()

    async def scenario() -> None:
        slow = {"symbol": "ETHUSDC", "interval": "1d", "limit": 60}
        socket = await connect(simulator)
        await socket.send(json.dumps({"id": "slow", "method": "klines", "params": slow}))
        await socket.send(json.dumps({"id": "quick", "method": "ping"}))
        await receive(socket)
        socket.transport.abort()

    run(scenario)
    eventually(lambda: simulator.get("/").json["connections"] == 0)
    assert simulator.get("/api/v3/ping").status == 200
    assert simulator.stop() == 0
    assert "Traceback" not in simulator.errors.read_text()


# limits


def test_an_answer_says_how_much_weight_is_used(start):
    simulator = start()

    async def scenario() -> None:
        async with connect(simulator) as socket:
            (first,) = (await ask(socket, "ping"))["rateLimits"]
            assert first == {
                "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000,
                "count": first["count"],
            }  # fmt: skip
            (second,) = (await ask(socket, "exchangeInfo"))["rateLimits"]
            assert second["count"] in (first["count"] + 20, 20)  # a minute may have passed

    run(scenario)


def test_orders_are_counted_where_orders_are_made(start):
    simulator = start()
    customer = simulator.account(USDT="1000")

    async def scenario() -> None:
        async with connect(simulator) as socket:
            limits = (await ask(socket, "order.place", signed(customer, **ORDER, price=FAR)))["rateLimits"]
            assert [(row["rateLimitType"], row["interval"], row["count"]) for row in limits[:2]] == [
                ("ORDERS", "SECOND", 1), ("ORDERS", "DAY", 1),
            ]  # fmt: skip
            assert limits[2]["rateLimitType"] == "REQUEST_WEIGHT"
            refused = await ask(socket, "order.place", signed(customer, **ORDER, price="1"))
            assert refused["status"] == 400
            assert len(refused["rateLimits"]) == 3
            stranger = {**signed(customer, **ORDER), "apiKey": "x" * 64}
            assert len((await ask(socket, "order.place", stranger))["rateLimits"]) == 1

    run(scenario)


def test_limits_are_left_out_on_demand(simulator):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            assert "rateLimits" not in await ask(socket, "ping", {"returnRateLimits": False})
            assert "rateLimits" in await ask(socket, "ping")
            assert (await ask(socket, "session.status"))["result"]["returnRateLimits"] is True
        async with connect(simulator, "?returnRateLimits=false") as socket:
            assert "rateLimits" not in await ask(socket, "ping")
            assert "rateLimits" not in await ask(socket, "order.dance")
            assert "rateLimits" in await ask(socket, "ping", {"returnRateLimits": True})
            assert (await ask(socket, "session.status"))["result"]["returnRateLimits"] is False

    run(scenario)


def test_hiding_the_limits_may_be_signed(simulator):
    customer = simulator.account()

    async def scenario() -> None:
        async with connect(simulator) as socket:
            answer = await ask(socket, "account.status", signed(customer, returnRateLimits="false"))
            assert (answer["status"], "rateLimits" in answer) == (200, False)

    run(scenario)


# the end


def test_a_stop_closes_every_connection_cleanly(start):
    simulator = start()

    async def scenario() -> None:
        sockets = [await connect(simulator) for _ in range(50)]
        assert await asyncio.to_thread(simulator.stop) == 0
        for socket in sockets:
            with suppress(websockets.ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1001

    run(scenario)
