from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from bots.core.candles import Candle
from bots.core.messages import Quote
from bots.market import websocket_handler
from bots.market.websocket_handler import MarketStream, parse_frame
from tests.waiting import DEADLINE_S, until


def kline_frame(second: int, closed: bool = True, close: str = "101.5") -> str:
    k = {
        "t": second * 1000, "T": second * 1000 + 999, "s": "BTCUSDT", "i": "1s", "f": 1, "L": 2, "o": "100", "c": close,
        "h": "102", "l": "99.5", "v": "3.5", "n": 2, "x": closed, "q": "350", "V": "1.5", "Q": "150", "B": "0",
    }  # fmt: skip
    return json.dumps({"stream": "btcusdt@kline_1s", "data": {"e": "kline", "E": 1, "s": "BTCUSDT", "k": k}})


QUOTE_FRAME = json.dumps(
    {"stream": "btcusdt@bookTicker", "data": {"u": 1, "s": "BTCUSDT", "b": "99.5", "B": "1", "a": "100.5", "A": "2"}}
)


class Host:
    """A stream host: `behave` is what it does with each connection."""

    def __init__(self, behave: Callable[[ServerConnection, int], Awaitable[None]]) -> None:
        self.connections = 0
        self.open: list[ServerConnection] = []
        self.paths: list[str] = []
        self._behave = behave

    async def handle(self, connection: ServerConnection) -> None:
        self.connections += 1
        self.open.append(connection)
        assert connection.request is not None
        self.paths.append(connection.request.path)
        try:
            await self._behave(connection, self.connections)
        finally:
            self.open.remove(connection)


class Watch:
    """What the stream delivered."""

    def __init__(self) -> None:
        self.candles: list[Candle] = []
        self.quotes: list[Quote] = []

    @property
    def seconds(self) -> list[int]:
        return [candle.open_ms // 1000 for candle in self.candles]


@pytest.fixture
def play(monkeypatch):
    """Run a scene beside a stream against a host; time-outs are tenths of a second."""
    monkeypatch.setattr(websocket_handler, "SECOND_CONNECTION_S", 0.15)
    monkeypatch.setattr(websocket_handler, "FIRST_PAUSE_S", 0.02)

    def run(behave: Any, scene: Callable[[MarketStream, Watch, Host], Awaitable[None]], on_candle: Any = None) -> None:
        async def whole() -> None:
            host, watch = Host(behave), Watch()
            async with serve(host.handle, "127.0.0.1", 0, close_timeout=0.1) as server:
                port = server.sockets[0].getsockname()[1]
                stream = MarketStream(
                    f"ws://127.0.0.1:{port}/",
                    "BTCUSDT",
                    on_candle or (lambda candle, arrived: watch.candles.append(candle)),
                    watch.quotes.append,
                )
                task = asyncio.create_task(stream.run())
                try:
                    await scene(stream, watch, host)
                finally:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                coroutines = [other.get_coro().__qualname__ for other in asyncio.all_tasks()]
                assert [name for name in coroutines if name.startswith("MarketStream.")] == []

        asyncio.run(whole())

    return run


def test_a_closed_kline_becomes_a_candle():
    candle = parse_frame(kline_frame(7))

    assert isinstance(candle, Candle)
    assert (candle.open_ms, candle.end_ms, candle.close, candle.taker_quote) == (7_000, 8_000, 101.5, 150.0)
    assert not candle.backfilled


def test_a_book_ticker_becomes_a_quote():
    assert parse_frame(QUOTE_FRAME) == Quote(99.5, 100.5)


@pytest.mark.parametrize(
    "frame",
    [
        kline_frame(7, closed=False),
        "not json",
        "[]",
        "3",
        "{}",
        '{"data": null}',
        '{"data": {"e": "kline"}}',
        '{"data": {"e": "kline", "k": {"x": true}}}',
        '{"data": {"b": null, "a": "1"}}',
        '{"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1}}',
        kline_frame(7, close="not a number"),
    ],
)
def test_anything_else_is_nothing(frame):
    assert parse_frame(frame) is None


def test_it_asks_for_the_candles_and_quotes_of_its_symbol(play):
    async def behave(connection: ServerConnection, number: int) -> None:
        await connection.send(QUOTE_FRAME)
        await connection.send(kline_frame(1))
        await connection.wait_closed()

    async def scene(stream, watch, host):
        await until(lambda: watch.candles and watch.quotes)
        assert host.paths == ["/stream?streams=btcusdt@kline_1s/btcusdt@bookTicker"]
        assert stream.state == "live"

    play(behave, scene)


def test_a_closed_connection_is_opened_again(play):
    async def behave(connection: ServerConnection, number: int) -> None:
        await connection.send(kline_frame(number))

    async def scene(stream, watch, host):
        await until(lambda: len(watch.candles) >= 4)
        assert watch.seconds[:4] == [1, 2, 3, 4]

    play(behave, scene)


def test_a_cut_line_is_opened_again(play):
    async def behave(connection: ServerConnection, number: int) -> None:
        await connection.send(kline_frame(number))
        await asyncio.sleep(0.02)
        connection.transport.abort()

    async def scene(stream, watch, host):
        await until(lambda: len(watch.candles) >= 3)

    play(behave, scene)


def test_a_silent_stream_gets_a_second_connection_that_takes_over(play):
    async def behave(connection: ServerConnection, number: int) -> None:
        if number > 1:
            await connection.send(kline_frame(number))
        await connection.wait_closed()

    async def scene(stream, watch, host):
        await until(lambda: watch.candles)
        assert watch.seconds == [2]
        assert stream.state == "live"
        await until(lambda: len(host.open) == 1)

    play(behave, scene)


def test_the_first_connection_stays_when_it_wakes_up_before_the_second_delivers(play, monkeypatch):
    monkeypatch.setattr(websocket_handler, "SECOND_CONNECTION_S", 1.0)

    async def behave(connection: ServerConnection, number: int) -> None:
        if number == 1:
            await until(lambda: host_of[0].connections > 1)
            monkeypatch.setattr(websocket_handler, "SECOND_CONNECTION_S", DEADLINE_S)
            await asyncio.sleep(0.02)
            for second in range(1, 500):
                await connection.send(kline_frame(second))
                await asyncio.sleep(0.02)
        await connection.wait_closed()

    host_of: list[Host] = []

    async def scene(stream, watch, host):
        host_of.append(host)
        await until(lambda: len(watch.candles) > 20)
        await until(lambda: len(host.open) == 1)
        assert watch.seconds == list(range(1, len(watch.candles) + 1))
        assert host.connections == 2

    play(behave, scene)


def test_quotes_alone_do_not_count_as_life(play):
    async def behave(connection: ServerConnection, number: int) -> None:
        while True:
            await connection.send(QUOTE_FRAME)
            await asyncio.sleep(0.02)

    async def scene(stream, watch, host):
        await until(lambda: host.connections > 1)
        assert stream.state == "silent"

    play(behave, scene)


def test_a_host_that_stays_silent_is_tried_ever_more_seldom_on_two_lines_at_most(play, caplog):
    widest = 0

    async def behave(connection: ServerConnection, number: int) -> None:
        await connection.wait_closed()

    async def scene(stream, watch, host):
        nonlocal widest
        while host.connections < 5:
            widest = max(widest, len(host.open))
            await asyncio.sleep(0.005)

    play(behave, scene)

    said = [record for record in caplog.records if record.getMessage().startswith("no candle for")]
    patience = [record.args[0] for record in said]
    assert patience[:4] == [0.15, 0.3, 0.6, 1.2]
    for earlier, later, wait_s in zip(said, said[1:], patience[1:], strict=False):
        assert later.created - earlier.created > 0.99 * wait_s
    assert widest <= 3  # the third for the moment in which the oldest closes


def test_a_host_that_is_down_is_tried_with_growing_pauses(play, monkeypatch):
    tried: list[float] = []

    class Refusing:
        def __init__(self, *args: object, **options: object) -> None:
            tried.append(asyncio.get_running_loop().time())

        async def __aenter__(self) -> None:
            raise ConnectionRefusedError("refused")

        async def __aexit__(self, *error: object) -> None: ...

    monkeypatch.setattr(websocket_handler, "connect", Refusing)
    monkeypatch.setattr(websocket_handler.random, "uniform", lambda low, high: high)

    async def behave(connection: ServerConnection, number: int) -> None: ...

    async def scene(stream, watch, host):
        await until(lambda: len(tried) >= 6)
        assert stream.state == "reconnecting"

    play(behave, scene)

    assert tried[5] - tried[4] > 0.25  # 0.02 doubled four times


def test_what_the_receiver_raises_ends_the_stream(play):
    async def behave(connection: ServerConnection, number: int) -> None:
        await connection.send(kline_frame(number))
        await connection.wait_closed()

    def broken(candle: Candle, arrived: float) -> None:
        raise RuntimeError("a bug in the core")

    async def scene(stream, watch, host):
        with pytest.raises(RuntimeError, match="a bug in the core"):
            async with asyncio.timeout(DEADLINE_S):
                await stream.run()

    play(behave, scene, on_candle=broken)


def test_nothing_is_left_when_it_is_cancelled(play):
    async def behave(connection: ServerConnection, number: int) -> None:
        await connection.wait_closed()

    async def scene(stream, watch, host):
        await until(lambda: host.connections > 1)

    play(behave, scene)  # which looks for readers that live on


def test_against_the_simulator_a_cut_line_costs_no_more_than_a_moment(simulator):
    async def whole() -> None:
        seen: list[Candle] = []
        stream = MarketStream(
            simulator.endpoints.streams, "BTCUSDT", lambda candle, _: seen.append(candle), lambda _: None
        )
        task = asyncio.create_task(stream.run())
        await until(lambda: seen)
        await asyncio.to_thread(simulator.fault, "disconnect")
        count = len(seen)
        await until(lambda: len(seen) > count)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(whole())
