from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from bots.core.candles import WINDOW, BarBuilder, Candle
from bots.market import backfill
from bots.market.backfill import LONGEST_GAP_S, CandleRow, load_history
from bots.trading.binance_client import BinanceClient
from bots.trading.exchange import KeysRefused, Unreachable
from shared.intervals import INTERVAL_MS
from tests.waiting import until


def candle(second: int, backfilled: bool = False) -> Candle:
    return Candle(second * 1000, 1000, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0, 0.0, 0.0, backfilled)


class FakeExchange:
    """Has every second; `troubles` are raised first. `gate` holds answers back."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.troubles: deque[Exception] = deque()
        self.gate: asyncio.Event | None = None

    async def candles(self, symbol: str, interval: str, start_ms: int | None, end_ms: int, limit: int) -> list[Candle]:
        assert start_ms is not None
        self.asked.append((start_ms // 1000, end_ms // 1000))
        if self.gate is not None:
            await self.gate.wait()
        if self.troubles:
            raise self.troubles.popleft()
        return [candle(second, True) for second in range(start_ms // 1000, end_ms // 1000)]


class Scene:
    def __init__(self) -> None:
        self.exchange = FakeExchange()
        self.holes = 0
        self.broken: list[BaseException] = []
        exchange: Any = self.exchange
        self.row = CandleRow(exchange, "BTCUSDT", self._deliver, self._hole, self.broken.append)
        self.got: list[Candle] = []
        self.arrivals: list[float] = []

    def _deliver(self, one: Candle, arrived: float) -> None:
        self.got.append(one)
        self.arrivals.append(arrived)

    def _hole(self) -> None:
        self.holes += 1

    @property
    def seconds(self) -> list[int]:
        return [one.open_ms // 1000 for one in self.got]

    @property
    def fresh(self) -> list[int]:
        return [one.open_ms // 1000 for one in self.got if not one.backfilled]

    async def has(self, count: int) -> None:
        await until(lambda: len(self.got) >= count)


@pytest.fixture
def play(monkeypatch) -> Callable[[Callable[[Scene], Awaitable[None]]], None]:
    monkeypatch.setattr(backfill, "PAUSES_S", (0.001, 0.001, 0.001))

    def run(act: Callable[[Scene], Awaitable[None]]) -> None:
        async def whole() -> None:
            scene = Scene()
            await act(scene)
            await scene.row.close()

        asyncio.run(whole())

    return run


def test_candles_in_order_are_delivered_at_once(play):
    async def act(scene: Scene) -> None:
        scene.row.begin(5_000)
        for second in (5, 6, 7):
            scene.row.take(candle(second), 0.5)
        assert (scene.seconds, scene.fresh, scene.arrivals) == ([5, 6, 7], [5, 6, 7], [0.5] * 3)
        assert scene.exchange.asked == []

    play(act)


def test_duplicates_and_older_candles_are_dropped(play):
    async def act(scene: Scene) -> None:
        scene.row.begin(5_000)
        for second in (5, 5, 4, 6, 5, 6):
            scene.row.take(candle(second), 0.5)
        assert scene.seconds == [5, 6]

    play(act)


def test_candles_that_come_before_the_history_wait_for_it(play):
    async def act(scene: Scene) -> None:
        for second in (8, 9, 10):
            scene.row.take(candle(second), 0.5)
        assert scene.got == []
        scene.row.begin(9_000)
        assert scene.seconds == [9, 10]
        scene.row.take(candle(11), 0.5)
        assert scene.seconds == [9, 10, 11]

    play(act)


def test_a_gap_between_history_and_stream_is_filled(play):
    async def act(scene: Scene) -> None:
        scene.row.take(candle(12), 0.5)
        scene.row.begin(9_000)
        await scene.has(4)
        assert scene.seconds == [9, 10, 11, 12]

    play(act)


def test_a_market_without_history_begins_with_the_first_candle(play):
    async def act(scene: Scene) -> None:
        scene.row.begin(None)
        scene.row.take(candle(12), 0.5)
        assert scene.seconds == [12]

    play(act)


def test_a_gap_is_filled_in_order_and_flagged(play):
    async def act(scene: Scene) -> None:
        scene.row.begin(5_000)
        scene.row.take(candle(5), 0.5)
        scene.row.take(candle(9), 0.5)
        await scene.has(5)
        assert scene.seconds == [5, 6, 7, 8, 9]
        assert scene.fresh == [5, 9]
        assert scene.exchange.asked == [(6, 9)]
        assert scene.holes == 0

    play(act)


def test_candles_that_come_while_a_gap_is_filled_wait_and_only_the_newest_is_fresh(play):
    async def act(scene: Scene) -> None:
        scene.exchange.gate = asyncio.Event()
        scene.row.begin(5_000)
        for second in (7, 8, 9):
            scene.row.take(candle(second), 0.5)
            await asyncio.sleep(0)
        assert scene.got == []
        scene.exchange.gate.set()
        await scene.has(5)
        assert scene.seconds == [5, 6, 7, 8, 9]
        assert scene.fresh == [9]
        assert scene.arrivals == [0.0] * 5

    play(act)


def test_a_second_gap_among_the_waiting_is_filled_too(play):
    async def act(scene: Scene) -> None:
        scene.exchange.gate = asyncio.Event()
        scene.row.begin(5_000)
        for second in (7, 8, 11, 12):
            scene.row.take(candle(second), 0.5)
        scene.exchange.gate.set()
        await scene.has(8)
        assert scene.seconds == [5, 6, 7, 8, 9, 10, 11, 12]

    play(act)


def test_an_exchange_that_does_not_answer_is_asked_again(play):
    async def act(scene: Scene) -> None:
        scene.exchange.troubles.extend([Unreachable("503"), KeysRefused("no"), Unreachable("503")])
        scene.row.begin(5_000)
        scene.row.take(candle(7), 0.5)
        await scene.has(3)
        assert scene.seconds == [5, 6, 7]

    play(act)


def test_a_gap_that_cannot_be_filled_is_left_open(play):
    async def act(scene: Scene) -> None:
        scene.exchange.troubles.extend([Unreachable("503")] * 4)
        scene.row.begin(5_000)
        scene.row.take(candle(7), 0.5)
        await scene.has(1)
        assert scene.seconds == [7]
        assert scene.holes == 1
        scene.row.take(candle(8), 0.5)
        assert scene.seconds == [7, 8]
        assert scene.holes == 1

    play(act)


def test_a_very_long_gap_is_filled_at_its_end_only(play):
    async def act(scene: Scene) -> None:
        scene.row.begin(0)
        scene.row.take(candle(10_000), 0.5)
        await scene.has(LONGEST_GAP_S)
        assert scene.seconds[0] == 10_000 - LONGEST_GAP_S
        assert scene.holes == 1

    play(act)


def test_an_exchange_that_hangs_holds_candles_back_for_a_bounded_time(play, monkeypatch):
    monkeypatch.setattr(backfill, "FILL_S", 0.01)

    async def act(scene: Scene) -> None:
        scene.exchange.gate = asyncio.Event()
        scene.row.begin(5_000)
        for second in (7, 8):
            scene.row.take(candle(second), 0.5)
        await scene.has(2)
        assert scene.seconds == [7, 8]
        assert (scene.holes, scene.broken) == (1, [])

    play(act)


def test_an_exchange_that_has_not_all_of_a_gap_leaves_a_hole(play):
    async def act(scene: Scene) -> None:
        async def only_the_last(
            symbol: str, interval: str, start_ms: int | None, end_ms: int, limit: int
        ) -> list[Candle]:
            return [candle(end_ms // 1000 - 1, True)]

        scene.exchange.candles = only_the_last  # type: ignore[method-assign]
        scene.row.begin(5_000)
        scene.row.take(candle(9), 0.5)
        await scene.has(2)
        assert (scene.seconds, scene.holes) == ([8, 9], 1)

    play(act)


def test_what_breaks_while_a_gap_is_filled_is_told(play):
    async def act(scene: Scene) -> None:
        scene.exchange.troubles.append(RuntimeError("a bug"))
        scene.row.begin(5_000)
        scene.row.take(candle(7), 0.5)
        await until(lambda: scene.broken)
        assert "a bug" in str(scene.broken)

    play(act)


def test_what_waits_is_bounded(play):
    async def act(scene: Scene) -> None:
        for second in range(3 * LONGEST_GAP_S):
            scene.row.take(candle(second), 0.5)
        scene.row.begin(0)
        await scene.has(2 * LONGEST_GAP_S)
        assert scene.seconds[-1] == 3 * LONGEST_GAP_S - 1

    play(act)


def test_the_history_of_seconds_fills_the_window_and_touches_the_present(simulator):
    async def whole() -> tuple[int, list[Candle], list[Candle], int]:
        client = await BinanceClient.connect(simulator.endpoints, *simulator.account())
        try:
            before_ms = await client.market_time_ms("BTCUSDT")
            bars, seconds = await load_history(client, "BTCUSDT", "1s", 10)
            return before_ms, bars, seconds, await client.market_time_ms("BTCUSDT")
        finally:
            await client.close()

    before_ms, bars, seconds, now_ms = asyncio.run(whole())

    assert bars == []
    assert len(seconds) == WINDOW
    assert before_ms <= seconds[-1].end_ms <= now_ms


def test_the_history_of_bars_ends_where_the_seconds_of_the_running_bar_begin(simulator):
    async def whole() -> tuple[list[Candle], list[Candle]]:
        client = await BinanceClient.connect(simulator.endpoints, *simulator.account())
        try:
            return await load_history(client, "BTCUSDT", "5m", 30)
        finally:
            await client.close()

    bars, seconds = asyncio.run(whole())

    assert len(bars) == 30
    assert all(later.open_ms == earlier.end_ms for earlier, later in pairwise(bars))
    assert seconds[0].open_ms <= bars[-1].end_ms
    assert len(seconds) >= WINDOW


class Market:
    """Every candle of every interval up to `now_ms`."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    async def market_time_ms(self, symbol: str) -> int:
        return self.now_ms

    async def candles(self, symbol: str, interval: str, start_ms: int | None, end_ms: int, limit: int) -> list[Candle]:
        length = INTERVAL_MS[interval]
        first = end_ms - limit * length if start_ms is None else -(-start_ms // length) * length
        return [
            Candle(open_ms, length, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0, 0.0, 0.0, True)
            for open_ms in range(first, end_ms - length + 1, length)
        ]


@pytest.mark.parametrize("offset_s", [-61, -60, -59, -1, 0, 1, 59, 60, 61])
@pytest.mark.parametrize("interval", INTERVAL_MS)
def test_a_strategy_sees_each_bar_of_the_history_once_and_a_full_window(interval, offset_s):
    length = INTERVAL_MS[interval]
    market: Any = Market(20 * INTERVAL_MS["1d"] + offset_s * 1000)

    bars, seconds = asyncio.run(load_history(market, "BTCUSDT", interval, 10))

    builder = BarBuilder(length)
    built = [bar for second in seconds if (bar := builder.push(second)) is not None]
    opens = [bar.open_ms for bar in bars + built]
    assert opens == list(range(opens[0], opens[-1] + 1, length))
    assert opens[-1] == market.now_ms // length * length - length
    assert len(opens) >= 10
    assert len(seconds) >= WINDOW
    assert seconds[-1].end_ms == market.now_ms
