from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from bots.core.messages import PlaceOrder
from bots.market import user_stream
from bots.market.user_stream import UserStream
from bots.trading.binance_client import BinanceClient, report_from_execution
from shared.states import OrderState, OrderType, Side
from shared.units import exact
from tests.waiting import DEADLINE_S, until

ACCEPTED = json.dumps({"id": 1, "status": 200, "result": {"subscriptionId": 0}})


def event_frame(number: int) -> str:
    return json.dumps({"subscriptionId": 0, "event": {"e": "test", "number": number}})


class Scene:
    """A stream beside a host that does `behave` with each connection after having read the subscription."""

    def __init__(self, behave: Callable[[ServerConnection, int], Awaitable[None]], on_event: Any = None) -> None:
        self.requests: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.connected = 0
        self._behave = behave
        self._on_event = on_event or self.events.append

    def _on_connected(self) -> None:
        self.connected += 1

    async def _handle(self, connection: ServerConnection) -> None:
        self.requests.append(json.loads(await connection.recv()))
        await self._behave(connection, len(self.requests))

    async def play(self, act: Callable[[UserStream], Awaitable[None]]) -> None:
        async with serve(self._handle, "127.0.0.1", 0, close_timeout=0.1) as server:
            port = server.sockets[0].getsockname()[1]
            stream = UserStream(
                f"ws://127.0.0.1:{port}/ws-api/v3", "key", "secret", self._on_event, self._on_connected, lambda: 5_000
            )
            task = asyncio.create_task(stream.run())
            try:
                await act(stream)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(user_stream, "FIRST_PAUSE_S", 0.02)


def test_it_subscribes_with_a_signature_over_sorted_parameters_and_the_exchanges_clock(monkeypatch):
    monkeypatch.setattr(user_stream.time, "time", lambda: 1_000.0)

    async def behave(connection: ServerConnection, number: int) -> None:
        await connection.send(ACCEPTED)
        await connection.wait_closed()

    scene = Scene(behave)

    async def act(stream: UserStream) -> None:
        await until(lambda: scene.connected)

    asyncio.run(scene.play(act))

    (request,) = scene.requests
    params = request["params"]
    text = "apiKey=key&recvWindow=5000&timestamp=1005000"
    assert request["method"] == "userDataStream.subscribe.signature"
    assert params["signature"] == hmac.new(b"secret", text.encode(), hashlib.sha256).hexdigest()
    assert params["timestamp"] == 1_005_000


def test_events_are_unwrapped_and_anything_else_is_passed_over():
    async def behave(connection: ServerConnection, number: int) -> None:
        await connection.send(ACCEPTED)
        for frame in (event_frame(1), "not json", "[]", "{}", '{"event": 3}', event_frame(2)):
            await connection.send(frame)
        await connection.wait_closed()

    scene = Scene(behave)

    async def act(stream: UserStream) -> None:
        await until(lambda: len(scene.events) == 2)
        assert stream.state == "live"

    asyncio.run(scene.play(act))

    assert [event["number"] for event in scene.events] == [1, 2]


def test_each_new_connection_subscribes_and_says_so():
    async def behave(connection: ServerConnection, number: int) -> None:
        await connection.send(ACCEPTED)
        await connection.send(event_frame(number))

    scene = Scene(behave)

    async def act(stream: UserStream) -> None:
        await until(lambda: len(scene.events) >= 3)

    asyncio.run(scene.play(act))

    assert scene.connected >= 3
    assert len(scene.requests) >= 3


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps({"id": 1, "status": 400, "error": {"code": -1021, "msg": "Timestamp"}}),
        "not json",
        "[]",
        json.dumps({"event": {}}),
    ],
)
def test_a_refused_subscription_is_tried_again(answer):
    async def behave(connection: ServerConnection, number: int) -> None:
        await connection.send(answer if number < 3 else ACCEPTED)
        await connection.wait_closed()

    scene = Scene(behave)

    async def act(stream: UserStream) -> None:
        await until(lambda: scene.connected)
        assert stream.state == "live"

    asyncio.run(scene.play(act))

    assert (len(scene.requests), scene.connected) == (3, 1)


def test_a_subscription_that_the_exchange_ends_is_made_again():
    async def behave(connection: ServerConnection, number: int) -> None:
        await connection.send(ACCEPTED)
        await connection.send(json.dumps({"subscriptionId": 0, "event": {"e": "eventStreamTerminated", "E": 1}}))
        await connection.wait_closed()

    scene = Scene(behave)

    async def act(stream: UserStream) -> None:
        await until(lambda: scene.connected >= 2)

    asyncio.run(scene.play(act))


def test_what_the_receiver_raises_ends_the_stream():
    async def behave(connection: ServerConnection, number: int) -> None:
        await connection.send(ACCEPTED)
        await connection.send(event_frame(1))
        await connection.wait_closed()

    def broken(_: dict[str, Any]) -> None:
        raise RuntimeError("a bug in the core")

    scene = Scene(behave, broken)

    async def act(stream: UserStream) -> None:
        with pytest.raises(RuntimeError, match="a bug in the core"):
            async with asyncio.timeout(DEADLINE_S):
                await stream.run()

    asyncio.run(scene.play(act))


def test_against_the_simulator_it_tells_of_orders_again_after_a_cut_line(simulator):
    key, secret = simulator.account()
    events: list[dict[str, Any]] = []
    connected: list[bool] = []

    async def whole() -> None:
        client = await BinanceClient.connect(simulator.endpoints, key, secret)
        stream = UserStream(
            simulator.endpoints.ws_api,
            key,
            secret,
            events.append,
            lambda: connected.append(True),
            client.clock_offset_ms,
        )
        task = asyncio.create_task(stream.run())
        try:
            for number in (1, 2):
                await until(lambda: len(connected) == number)  # noqa: B023
                order = PlaceOrder(
                    client_order_id=f"ftest-1-{number}-e1",
                    symbol="BTCUSDT",
                    side=Side.BUY,
                    order_type=OrderType.MARKET,
                    quantity=exact(0.01),
                    price=None,
                )
                placed = await client.place(order)
                await until(
                    lambda: [
                        e
                        for e in events
                        if e["e"] == "executionReport"
                        and e["i"] == placed.exchange_order_id  # noqa: B023
                        and e["X"] == "FILLED"
                    ]
                )
                await asyncio.to_thread(simulator.fault, "disconnect")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.close()

    asyncio.run(whole())

    reports = [report_from_execution(e) for e in events if e["e"] == "executionReport"]
    assert {r.client_order_id for r in reports} == {"ftest-1-1-e1", "ftest-1-2-e1"}
    assert reports[-1].status is OrderState.FILLED
    assert any(e["e"] == "outboundAccountPosition" for e in events)
