"""What market streams tell and how often: fields over real sockets, timing and sharing with a clock in hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

import pytest
import websockets

from simulator.core.exchange import Exchange
from simulator.core.rules import SYMBOLS
from simulator.doors.market_feed import KINDS, MARKET_WIDE, MarketFeed
from simulator.market.candles import Tape
from simulator.market.clock import MarketClock
from simulator.market.generated import GeneratedTape
from simulator.venue import Venue
from tests.simulator.ws_caller import receive, run

NOW_MS = 1_790_000_040_000
DAY_MS = 86_400_000


@dataclass
class Stage:
    """A feed with its venue, a wall that a test moves, and what was published."""

    speed: float = 1.0
    wall: int = NOW_MS
    sent: list[tuple[str, object]] = field(default_factory=list)
    wanted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        names = ("BTCUSDT", "ETHUSDT")
        rules = {name: SYMBOLS[name] for name in names}
        tapes = {name: GeneratedTape(rules[name], 7) for name in names}
        clock = MarketClock(NOW_MS, NOW_MS, self.speed)
        self.venue = Venue(Exchange(rules, 7, dict.fromkeys(names, 1000)), tapes, clock, None, lambda: self.wall)
        self.feed = MarketFeed(self.venue, self.wanted, self.publish)
        self.venue.listeners.append(self.feed)
        for history in self.venue.histories.values():
            history.minutes(NOW_MS - DAY_MS, NOW_MS)

    def publish(self, stream: str, event: Callable[[], object]) -> None:
        if stream in self.wanted:
            self.sent.append((stream, event()))

    def listen(self, *streams: str) -> None:
        for stream in streams:
            self.wanted.add(stream)
            self.feed.begin(stream)

    def leave(self, stream: str) -> None:
        self.wanted.discard(stream)
        self.feed.end(stream)

    def run(self, wall_ms: int, step_ms: int = 10) -> list[tuple[str, object]]:
        """Let the wall move on, the market with it, and the feed's clock as it likes."""
        self.sent.clear()
        for _ in range(wall_ms // step_ms):
            self.wall += step_ms
            self.venue.advance()
            self.feed.tick()
        return list(self.sent)

    def names(self, wall_ms: int) -> list[str]:
        return [name for name, _ in self.run(wall_ms)]


def staged(scenario: Callable[[Stage], None], speed: float = 1.0) -> None:
    """Run *scenario* inside an event loop, which the feed's own clock needs."""

    async def inside() -> None:
        stage = Stage(speed)
        scenario(stage)
        for stream in list(stage.wanted):
            stage.leave(stream)

    asyncio.run(inside())


def test_each_speed_is_kept():
    def scenario(stage: Stage) -> None:
        stage.listen("btcusdt@depth5@100ms", "btcusdt@depth5", "btcusdt@depth10@1000ms", "btcusdt@miniTicker")
        stage.listen("btcusdt@avgPrice", "btcusdt@ticker_4h")
        stage.run(1000)
        names = stage.names(5000)
        assert names.count("btcusdt@depth5@100ms") == 50
        for slow in stage.wanted - {"btcusdt@depth5@100ms"}:
            assert names.count(slow) == 5

    staged(scenario)


@pytest.mark.parametrize("speed", [60.0, 1000.0])
def test_a_fast_market_tells_no_more_than_ten_times_a_second_of_the_wall(speed):
    def scenario(stage: Stage) -> None:
        stage.listen("btcusdt@depth5@100ms", "btcusdt@depth20", "btcusdt@ticker", "btcusdt@avgPrice")
        stage.run(200)
        names = stage.names(1000)
        assert {names.count(name) for name in stage.wanted} == {10}

    staged(scenario, speed)


def test_a_slow_market_tells_less_often():
    def scenario(stage: Stage) -> None:
        stage.listen("btcusdt@depth5@100ms", "btcusdt@depth5")
        stage.run(2000)
        names = stage.names(10_000)
        assert (names.count("btcusdt@depth5@100ms"), names.count("btcusdt@depth5")) == (10, 1)

    staged(scenario, 0.1)


def test_nobody_listening_costs_no_look_at_the_book():
    def scenario(stage: Stage) -> None:
        looks: list[str] = []
        for symbol in stage.venue.shown:
            book = stage.venue.exchange.books[symbol]
            book.levels = lambda *_, symbol=symbol: looks.append(symbol) or ([], [])  # type: ignore[method-assign]
        stage.listen("btcusdt@trade", "btcusdt@miniTicker", "ethusdt@kline_1s")
        stage.run(3000)
        assert looks == []

    staged(scenario)


def test_two_names_of_one_speed_tell_the_same_diff():
    def scenario(stage: Stage) -> None:
        stage.listen("btcusdt@depth", "btcusdt@depth@1000ms")
        sent = stage.run(3500)
        one, other = ([event for name, event in sent if name == wanted] for wanted in sorted(stage.wanted))
        assert one == other
        assert len(one) >= 3
        stage.leave("btcusdt@depth")
        assert stage.names(2000).count("btcusdt@depth@1000ms") == 2

    staged(scenario)


def test_a_diff_begins_where_the_last_one_ended():
    def scenario(stage: Stage) -> None:
        stage.listen("btcusdt@depth@100ms")
        events = [event for _, event in stage.run(5000)]
        assert len(events) > 20
        assert [later["U"] for later in events[1:]] == [event["u"] + 1 for event in events[:-1]]
        assert all(event["U"] <= event["u"] for event in events)

    staged(scenario)


def test_the_best_is_told_only_when_it_changes():
    def scenario(stage: Stage) -> None:
        stage.listen("ethusdt@bookTicker")
        events = [event for _, event in stage.run(20_000)]
        assert len(events) > 10
        assert all(tuple(a.values())[2:] != tuple(b.values())[2:] for a, b in pairwise(events))
        assert [event["u"] for event in events] == sorted({event["u"] for event in events})

    staged(scenario)


def test_the_market_wide_streams_name_only_what_changed():
    def scenario(stage: Stage) -> None:
        stage.listen("!miniTicker@arr", "!ticker_1h@arr")
        first = dict(stage.run(1000))
        assert [row["s"] for row in first["!miniTicker@arr"]] == ["BTCUSDT", "ETHUSDT"]
        quiet = stage.venue.histories["ETHUSDT"]
        quiet.tape = _Stopped(quiet.tape, stage.venue.now_ms())
        stage.run(1000)
        later = [row["s"] for name, rows in stage.run(5000) if name == "!ticker_1h@arr" for row in rows]
        assert set(later) == {"BTCUSDT"}
        assert len(later) == 5

    staged(scenario)


class _Stopped:
    """A tape on which nothing is traded any more."""

    def __init__(self, tape: Tape, end_ms: int) -> None:
        self._tape, self._end_ms = tape, end_ms // 1000 * 1000

    def __getattr__(self, name: str):
        return getattr(self._tape, name)

    def end_ms(self) -> int:
        return self._end_ms


def test_candles_of_another_zone_close_at_its_midnight():
    def scenario(stage: Stage) -> None:
        stage.listen("btcusdt@kline_1d@+08:00", "btcusdt@kline_1d")
        local, utc = (dict(stage.run(2000))[name]["k"] for name in ("btcusdt@kline_1d@+08:00", "btcusdt@kline_1d"))
        assert ((local["t"] + 8 * 3_600_000) % DAY_MS, utc["t"] % DAY_MS) == (0, 0)
        assert local["T"] == local["t"] + DAY_MS - 1

    staged(scenario)


def test_every_stream_there_is_tells_something_within_some_seconds():
    def scenario(stage: Stage) -> None:
        stage.listen(*(f"btcusdt@{kind}" for kind in KINDS), *MARKET_WIDE)
        stage.venue.histories["BTCUSDT"].minutes(NOW_MS - 22 * DAY_MS, NOW_MS)
        assert {name for name, _ in stage.run(4000)} == stage.wanted

    staged(scenario)


# over real sockets


async def first_of_each(url: str, streams: set[str]) -> dict[str, dict]:
    seen: dict[str, dict] = {}
    async with websockets.connect(f"{url}/stream?streams={'/'.join(streams)}") as socket:
        while len(seen) < len(streams):
            message = await receive(socket)
            seen[message["stream"]] = message["data"]
    return seen


FIELDS = {
    "btcusdt@miniTicker": "eEscohlvq",
    "btcusdt@ticker": "eEspPwxcQbBaAohlvqOCFLn",
    "btcusdt@ticker_1h": "eEspPwcohlvqOCFLn",
    "btcusdt@avgPrice": "eEsiwT",
    "btcusdt@bookTicker": "usbBaA",
    "btcusdt@depth": "eEsUuba",
    "btcusdt@depth@100ms": "eEsUuba",
    "btcusdt@kline_1s": "eEsk",
}


def test_streams_have_the_documented_fields(simulator):
    for symbol in SYMBOLS:  # a day of each takes some while to generate
        simulator.get(f"/api/v3/ticker/24hr?symbol={symbol}")

    async def scenario() -> None:
        extra = {"btcusdt@depth20@100ms", "!miniTicker@arr", "!ticker_1d@arr"}
        seen = await first_of_each(simulator.ws, FIELDS.keys() | extra)
        assert {name: set(seen[name]) for name in FIELDS} == {name: set(fields) for name, fields in FIELDS.items()}
        book = seen["btcusdt@depth20@100ms"]
        assert list(book) == ["lastUpdateId", "bids", "asks"]
        assert (len(book["bids"]), len(book["asks"])) == (20, 20)
        assert {row["e"] for row in seen["!miniTicker@arr"]} == {"24hrMiniTicker"}
        assert {row["e"] for row in seen["!ticker_1d@arr"]} == {"1dTicker"}
        ticker = seen["btcusdt@ticker"]
        assert ticker["e"] == "24hrTicker"
        assert ticker["C"] - ticker["O"] == DAY_MS
        assert Decimal(ticker["b"]) < Decimal(ticker["a"])
        assert seen["btcusdt@avgPrice"]["i"] == "5m"

    run(scenario)


class LocalBook:
    """A copy of the book, begun with a snapshot and kept by diffs as the vendor's documents say."""

    def __init__(self, snapshot: dict) -> None:
        self.last_id = snapshot["lastUpdateId"]
        self.sides = {"b": dict(snapshot["bids"]), "a": dict(snapshot["asks"])}

    def apply(self, event: dict) -> None:
        if event["u"] <= self.last_id:
            return
        assert event["U"] <= self.last_id + 1
        self.last_id = event["u"]
        for side, levels in self.sides.items():
            for price, qty in event[side]:
                if Decimal(qty):
                    levels[price] = qty
                else:
                    levels.pop(price, None)


@pytest.mark.parametrize(("stream", "speed"), [("btcusdt@depth@100ms", 1), ("btcusdt@depth", 20)])
def test_copies_of_the_book_begun_at_different_times_agree(start, stream, speed):
    simulator = start("--speed", speed)
    customer = simulator.account(USDT="1000000", BTC="5")

    def copy() -> LocalBook:
        return LocalBook(simulator.get("/api/v3/depth?symbol=BTCUSDT&limit=5000").json)

    async def scenario() -> None:
        low = str(round(simulator.price() * 0.999))
        async with websockets.connect(simulator.ws + "/ws/" + stream, max_queue=None) as socket:
            first = await receive(socket)
            old = await asyncio.to_thread(copy)
            assert old.last_id >= first["U"]
            for _ in range(6):
                await asyncio.to_thread(customer.order, quantity="0.5", kind="MARKET")
                await asyncio.to_thread(customer.order, quantity="0.01", price=low)
                young = await asyncio.to_thread(copy)
                event = {"u": 0}
                while event["u"] <= young.last_id:
                    event = await receive(socket)
                    old.apply(event)
                young.apply(event)
                assert (old.last_id, old.sides) == (young.last_id, young.sides)

    run(scenario)


def test_an_order_of_ones_own_moves_the_best(start):
    simulator = start("--speed", 0)
    customer = simulator.account(BTC="50")

    def bid() -> tuple[str, str]:
        best = simulator.get("/api/v3/ticker/bookTicker?symbol=BTCUSDT").json
        return best["bidPrice"], best["bidQty"]

    async def scenario() -> None:
        async with websockets.connect(simulator.ws + "/ws/btcusdt@bookTicker", max_queue=None) as socket:
            simulator.sim("POST", "clock", {"advance_ms": 5000})
            before = bid()
            customer.order(side="SELL", quantity="20", kind="MARKET")

            told = ("", "")
            while told != bid():
                event = await receive(socket)
                told = (event["b"], event["B"])
            assert Decimal(told[0]) < Decimal(before[0])

    run(scenario)


def test_connections_that_subscribe_and_leave_at_once_leave_nothing_behind(start):
    simulator = start()

    async def scenario() -> None:
        for _ in range(20):
            async with websockets.connect(simulator.ws + "/ws") as socket:
                params = ["btcusdt@depth@100ms", "btcusdt@ticker", "!miniTicker@arr", "btcusdt@depth"]
                await socket.send(json.dumps({"method": "SUBSCRIBE", "params": params, "id": 1}))
                assert json.loads(await socket.recv()) == {"result": None, "id": 1}
        seen = await first_of_each(simulator.ws, {"btcusdt@depth@100ms", "btcusdt@depth"})
        assert set(seen) == {"btcusdt@depth@100ms", "btcusdt@depth"}

    run(scenario)


@pytest.mark.parametrize("name", ["btcu\u017fdt@trade", "btcusdt@TRADE", "BTCUSDT@trade", "@trade"])
def test_a_name_under_which_nothing_is_told_is_not_served(name):
    def scenario(stage: Stage) -> None:
        assert stage.feed.is_served("btcusdt@trade")
        assert not stage.feed.is_served(name)

    staged(scenario)
