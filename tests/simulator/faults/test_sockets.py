"""Faults of streams and connections from a client's side: real sockets, and pings that are still answered."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
import websockets

from tests.simulator.ws_caller import LISTEN, ask, receive, run, signed
from tests.waiting import DEADLINE_S

SECOND, TRADE = "btcusdt@kline_1s", "btcusdt@trade"


@pytest.fixture
def exchange(start):
    """Twenty market seconds in one of the wall, so that candles come quickly."""
    return start("--unlimited", "--speed", 20)


def fault(exchange, kind: str, **how: object):
    reply = exchange.sim("POST", "faults", {"kind": kind, **how})
    assert reply.status == 201, reply.text
    return reply.json


def clear(exchange) -> None:
    assert exchange.sim("DELETE", "faults").json == {"faults": []}


async def seconds_of(socket, count: int) -> list[int]:
    """Opening seconds of the next *count* candles."""
    return [(await receive(socket))["k"]["t"] // 1000 for _ in range(count)]


def market_s(exchange) -> int:
    return exchange.sim("GET", "clock").json["market_ms"] // 1000


async def seconds_from_now(exchange, socket, count: int) -> list[int]:
    """Opening seconds of *count* candles that all end after now."""
    now, seconds = market_s(exchange), await seconds_of(socket, 1)
    while seconds[0] < now:
        seconds = await seconds_of(socket, 1)
    return seconds + await seconds_of(socket, count - 1)


async def answers_pings(socket) -> bool:
    await asyncio.wait_for(await socket.ping(), DEADLINE_S)
    return True


async def hangup(socket) -> tuple[bool, int | None]:
    """Reads to the end: was it a clean close, and with which code?"""
    try:
        while True:
            await asyncio.wait_for(socket.recv(), DEADLINE_S)
    except websockets.ConnectionClosed as closed:
        return isinstance(closed, websockets.ConnectionClosedOK), closed.rcvd.code if closed.rcvd else None


def steps(numbers: list[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise(numbers)]


def test_each_third_candle_is_lost(exchange):
    async def scenario() -> None:
        async with websockets.connect(f"{exchange.ws}/ws/{SECOND}") as socket:
            assert steps(await seconds_of(socket, 3)) == [1, 1]
            fault(exchange, "drop", stream=SECOND, every=3)
            holes = steps(await seconds_from_now(exchange, socket, 21))
            assert holes in ([1, 2] * 10, [2, 1] * 10)  # two arrive, one does not
            clear(exchange)
            assert steps(await seconds_from_now(exchange, socket, 20)) == [1] * 19

    run(scenario)


def test_candles_come_twice(exchange):
    async def scenario() -> None:
        async with websockets.connect(f"{exchange.ws}/ws/{SECOND}") as socket:
            fault(exchange, "duplicate", stream="@kline_1s", count=3)
            seconds = await seconds_of(socket, 2)
            while steps(seconds).count(0) < 3:
                seconds += await seconds_of(socket, 1)
            assert exchange.sim("GET", "faults").json == {"faults": []}
            assert steps(seconds[-1:] + await seconds_of(socket, 20)) == [1] * 20

    run(scenario)


def test_candles_change_places(exchange):
    async def scenario() -> None:
        async with websockets.connect(f"{exchange.ws}/ws/{SECOND}") as socket:
            fault(exchange, "reorder", stream=SECOND, count=2)
            seconds = await seconds_of(socket, 2)
            while steps(seconds).count(-1) < 2:
                seconds += await seconds_of(socket, 1)
            seconds += await seconds_of(socket, 20)
            assert steps(seconds).count(-1) == 2
            assert set(steps(sorted(seconds))) == {1}

    run(scenario)


def test_candles_come_late_and_in_order(exchange):
    async def scenario() -> None:
        async with websockets.connect(f"{exchange.ws}/ws/{SECOND}") as socket:
            fault(exchange, "delay_events", stream=SECOND, seconds=1)
            late_ones = await seconds_from_now(exchange, socket, 25)
            assert steps(late_ones) == [1] * 24
            assert market_s(exchange) - late_ones[-1] >= 20  # of the market in one of the wall
            clear(exchange)
            assert steps(late_ones[-1:] + await seconds_of(socket, 30)) == [1] * 30

    run(scenario)


def test_a_silent_connection_answers_pings(exchange):
    async def scenario() -> None:
        async with websockets.connect(f"{exchange.ws}/stream?streams={SECOND}/{TRADE}", max_queue=None) as socket:
            await receive(socket)
            fault(exchange, "silence", stream=SECOND, seconds=3600)
            seen = {(await receive(socket))["stream"] for _ in range(300)}
            assert await answers_pings(socket)
            assert TRADE in seen
            await receive(socket)
            clear(exchange)
            while (await receive(socket))["stream"] != SECOND:
                pass

    run(scenario)


def test_connections_are_cut_or_closed_by_sort(exchange):
    customer = exchange.account()

    async def scenario() -> None:
        async with (
            websockets.connect(f"{exchange.ws}/ws/{SECOND}", max_queue=None) as candles,
            websockets.connect(f"{exchange.ws}/ws/{TRADE}", max_queue=None) as trades,
            websockets.connect(f"{exchange.ws}/ws-api/v3") as user,
            websockets.connect(f"{exchange.ws}/ws-api/v3") as calls,
        ):
            assert (await ask(user, LISTEN, signed(customer)))["status"] == 200
            fault(exchange, "disconnect", select="user", api_key="somebody")
            assert await answers_pings(user)
            fault(exchange, "disconnect", select="user", api_key=customer.api_key)
            assert await hangup(user) == (False, None)
            fault(exchange, "close", select="stream", stream="@kline", code=1000)
            assert await hangup(candles) == (True, 1000)
            assert await answers_pings(trades)
            fault(exchange, "close", select="stream")
            assert await hangup(trades) == (True, 1001)
            assert await answers_pings(calls)
            fault(exchange, "disconnect")
            assert await hangup(calls) == (False, None)

    run(scenario)


@pytest.mark.parametrize("how", [{"kind": "day_cut"}, {"kind": "maintenance", "seconds": 60}])
def test_every_socket_is_closed_cleanly(exchange, how):
    async def scenario() -> None:
        async with (
            websockets.connect(f"{exchange.ws}/ws/{SECOND}") as market,
            websockets.connect(f"{exchange.ws}/ws-api/v3") as api,
        ):
            fault(exchange, **how)
            assert [await hangup(socket) for socket in (market, api)] == [(True, 1001), (True, 1001)]

    run(scenario)
    if how["kind"] == "maintenance":
        with pytest.raises(websockets.InvalidStatus) as refused:
            run(lambda: websockets.connect(f"{exchange.ws}/ws/{SECOND}").__aenter__())
        assert refused.value.response.status_code == 503


def test_a_user_stream_ends_without_a_word(exchange):
    customer, other = exchange.account(USDT="1000"), exchange.account(USDT="1000")

    async def scenario() -> None:
        async with websockets.connect(f"{exchange.ws}/ws-api/v3") as socket:
            for subscriber in (customer, other):
                assert (await ask(socket, LISTEN, signed(subscriber)))["status"] == 200
            fault(exchange, "deafen", api_key=customer.api_key)

            customer.order(quantity="0.001", price="40000", newClientOrderId="unheard")
            other.order(quantity="0.001", price="40000", newClientOrderId="heard")

            assert (await receive(socket))["event"]["c"] == "heard"
            assert await answers_pings(socket)
            assert (await ask(socket, LISTEN, signed(customer)))["status"] == 200

    run(scenario)
