"""Websockets beside their venue, in one process: what the exchange and its operator do to connected clients."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import websockets
from aiohttp import web

from simulator.core.exchange import Exchange
from simulator.core.orders import AccountOpened
from simulator.core.rules import ATOMS, SYMBOLS
from simulator.doors.door import Door
from simulator.doors.limits import Limits
from simulator.doors.sockets import Gate
from simulator.doors.streams import Streams
from simulator.doors.ws_api import WsApi
from simulator.faults import Faults
from simulator.market.clock import MarketClock, wall_ms
from simulator.market.generated import PROFILES, GeneratedTape
from simulator.store import StateError
from simulator.venue import Venue
from tests.simulator.conftest import WIDE_MS
from tests.simulator.ws_caller import LISTEN, ORDER, receive, run
from tests.waiting import DEADLINE_S, until

ANNA, BERT = "a" * 64, "b" * 64
NOON_MS = 1_800_014_400_000  # of an ordinary day


class House:
    """A venue with two customers and the websocket API on a port of its own."""

    def __init__(self, enforced: bool, wall: Callable[[], int]) -> None:
        now, rules = wall(), {"BTCUSDT": SYMBOLS["BTCUSDT"]}
        usual = {"BTCUSDT": int(PROFILES["BTCUSDT"].lots)}
        tapes = {"BTCUSDT": GeneratedTape(rules["BTCUSDT"], 7)}
        self.venue = Venue(Exchange(rules, 7, usual), tapes, MarketClock(now, now, 1.0), None, wall)
        for key in (ANNA, BERT):
            self.venue.open_account(AccountOpened(key, "secret", "", 0, 0, {"USDT": 1000 * ATOMS, "BTC": ATOMS}))
        limits = Limits(enforced)
        door = Door(self.venue, limits)
        self.api = WsApi(door, Faults(), Gate(limits, self.venue.wall))
        self.streams = Streams(self.venue, Faults(), Gate(limits, self.venue.wall))
        self.venue.listeners += [door, self.api]
        self.port = 0

    def connect(self, path: str = "/"):
        return websockets.connect(f"ws://127.0.0.1:{self.port}{path}")

    async def all_gone(self) -> None:
        await until(lambda: not self.api.connected())


@asynccontextmanager
async def opened(enforced: bool = False, wall: Callable[[], int] = wall_ms) -> AsyncIterator[House]:
    house = House(enforced, wall)
    app = web.Application()
    app.router.add_get("/", house.api.handle)
    for path in ("/ws", "/stream"):
        app.router.add_get(path, house.streams.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    house.port = runner.addresses[0][1]
    try:
        yield house
    finally:
        await runner.cleanup()


async def ask(socket, method: str, **params: object) -> dict:
    await socket.send(json.dumps({"id": 1, "method": method} | ({"params": params} if params else {})))
    return await receive(socket)


def signed(key: str, **params: object) -> dict:
    params = {"timestamp": wall_ms(), "recvWindow": WIDE_MS, **params, "apiKey": key}
    text = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
    return {**params, "signature": hmac.new(b"secret", text.encode(), hashlib.sha256).hexdigest()}


async def is_quiet(socket) -> bool:
    """Nothing was sent before the answer to a ping."""
    return (await ask(socket, "ping")).get("id") == 1


async def end_of(socket) -> int | None:
    with suppress(websockets.ConnectionClosed):
        while True:
            await asyncio.wait_for(socket.recv(), DEADLINE_S)
    return socket.close_code


def test_a_shutdown_is_announced_to_everybody_and_then_happens():
    async def scenario() -> None:
        async with opened() as house, house.connect() as one, house.connect() as two:
            await ask(one, "ping")
            await ask(two, "ping")
            began = wall_ms()
            house.api.shut_down(3600)
            for socket in (one, two):
                (name, event), = (await receive(socket)).items()  # fmt: skip
                assert (name, event["e"], set(event)) == ("event", "serverShutdown", {"e", "E"})
                assert began <= event["E"] <= wall_ms()
            assert (await ask(one, "ping"))["status"] == 200  # still served
            house.api.shut_down(0)
            assert [await end_of(one), await end_of(two)] == [1001, 1001]
            await house.all_gone()

    run(scenario)


def test_market_streams_announce_a_shutdown_in_their_own_form():
    async def scenario() -> None:
        async with opened() as house, house.connect("/ws") as raw, house.connect("/stream") as combined:
            for socket in (raw, combined):
                await ask(socket, "LIST_SUBSCRIPTIONS")
            house.streams.shut_down(0.1)
            event = await receive(raw)
            assert (event["e"], set(event)) == ("serverShutdown", {"e", "E"})
            assert await receive(combined) == {"stream": "!serverShutdown", "data": event}
            assert [await end_of(raw), await end_of(combined)] == [1001, 1001]

    run(scenario)


def test_a_cut_line_takes_its_subscriptions_along():
    async def scenario() -> None:
        async with opened() as house, house.connect() as socket:
            await ask(socket, LISTEN, **signed(ANNA))
            (line,) = house.api.lines()
            assert line.api_keys == {ANNA}
            line.connection.abort()
            assert await end_of(socket) == 1006
            await house.all_gone()
            house.venue.transfer(ANNA, "USDT", ATOMS)  # told to nobody
            async with house.connect() as again:
                await ask(again, "ping")
                (line,) = house.api.lines()
                assert line.api_keys == set()

    run(scenario)


@pytest.mark.parametrize(("key", "anna", "bert"), [(ANNA, False, True), ("", False, False), ("c" * 64, True, True)])
def test_a_deafened_account_hears_nothing_and_is_not_told(key, anna, bert):
    async def scenario() -> None:
        async with opened() as house, house.connect() as socket:
            await ask(socket, LISTEN, **signed(ANNA))
            await ask(socket, LISTEN, **signed(BERT))
            house.api.deafen(key)
            assert await is_quiet(socket)
            assert len((await ask(socket, "session.subscriptions"))["result"]) == anna + bert

            house.venue.transfer(ANNA, "USDT", ATOMS)
            house.venue.transfer(BERT, "USDT", ATOMS)
            heard = [(await receive(socket))["subscriptionId"] for _ in range(2 * (anna + bert))]
            assert heard == [0, 0] * anna + [1, 1] * bert
            assert await is_quiet(socket)
            if not anna:
                assert (await ask(socket, LISTEN, **signed(ANNA)))["result"] == {"subscriptionId": 2}

    run(scenario)


def test_a_connection_has_room_for_a_thousand_subscriptions():
    async def scenario() -> None:
        async with opened() as house, house.connect() as socket:
            keys = [f"{number:064d}" for number in range(1001)]
            for key in keys:
                house.venue.open_account(AccountOpened(key, "secret", "", 0, 0, {"USDT": ATOMS}))
            for number, key in enumerate(keys[:1000]):
                assert (await ask(socket, LISTEN, **signed(key)))["result"] == {"subscriptionId": number}
            assert (await ask(socket, LISTEN, **signed(keys[1000])))["error"]["code"] == -1191
            house.venue.transfer(keys[999], "USDT", 1)
            assert (await receive(socket))["subscriptionId"] == 999

    run(scenario)


def test_a_transfer_is_a_balance_update():
    async def scenario() -> None:
        async with opened() as house, house.connect() as socket:
            await ask(socket, LISTEN, **signed(ANNA))
            house.venue.transfer(ANNA, "USDT", -250 * ATOMS)
            update, position = [(await receive(socket))["event"] for _ in range(2)]
            assert (update["e"], update["a"], update["d"]) == ("balanceUpdate", "USDT", "-250.00000000")
            assert (position["e"], position["B"]) == (
                "outboundAccountPosition", [{"a": "USDT", "f": "750.00000000", "l": "0.00000000"}],
            )  # fmt: skip

    run(scenario)


def test_an_order_list_tells_of_itself():
    async def scenario() -> None:
        async with opened() as house, house.connect() as socket:
            await ask(socket, LISTEN, **signed(ANNA))
            price = house.venue.exchange.books["BTCUSDT"].touch.last.price // 100  # in whole dollars
            legs = {"aboveType": "LIMIT_MAKER", "abovePrice": f"{price * 2}", "belowType": "STOP_LOSS"}
            pair = signed(ANNA, symbol="BTCUSDT", side="SELL", quantity="0.001", belowStopPrice=f"{price // 2}", **legs)
            await socket.send(json.dumps({"id": 1, "method": "orderList.place.oco", "params": pair}))
            frames = [await receive(socket) for _ in range(5)]

            kinds = [frame["event"]["e"] if "event" in frame else "answer" for frame in frames]
            assert kinds == [
                "executionReport", "executionReport", "listStatus", "outboundAccountPosition", "answer",
            ]  # fmt: skip
            told, answer = frames[2]["event"], frames[4]
            assert (told["c"], told["l"], told["L"]) == ("OCO", "EXEC_STARTED", "EXECUTING")
            assert [leg["i"] for leg in told["O"]] == [leg["orderId"] for leg in answer["result"]["orders"]]
            assert [row["rateLimitType"] for row in answer["rateLimits"]] == ["ORDERS", "ORDERS", "REQUEST_WEIGHT"]

    run(scenario)


def test_what_cannot_be_written_down_is_answered_as_an_error_of_the_exchange():
    async def scenario() -> None:
        async with opened() as house, house.connect() as socket:

            def place(ask: object) -> None:
                raise StateError("The disk is full.")

            house.venue.place = place
            order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
            answer = await ask(socket, "order.place", **signed(ANNA, **order))
            assert (answer["status"], answer["error"]["code"]) == (503, -1001)

    run(scenario)


def test_too_much_weight_is_refused_with_the_time_to_come_back():
    now = NOON_MS + 34_500

    async def scenario() -> None:
        async with opened(enforced=True, wall=lambda: now) as house, house.connect() as socket:
            for _ in range(23):
                assert (await ask(socket, "depth", symbol="BTCUSDT", limit=5000))["status"] == 200
            answer = await ask(socket, "depth", symbol="BTCUSDT", limit=5000)
            assert (answer["status"], answer["error"]["code"]) == (429, -1003)
            assert answer["error"]["data"] == {"serverTime": now, "retryAfter": now + 26_000}
            assert answer["rateLimits"][0]["count"] > 6000

            with pytest.raises(websockets.InvalidStatus) as refused:
                await house.connect()
            assert refused.value.response.status_code == 429
            assert refused.value.response.headers["Retry-After"] == "26"

    run(scenario)


def test_too_many_orders_are_refused_with_the_time_to_come_back():
    now = NOON_MS + 34_500

    async def scenario() -> None:
        async with opened(enforced=True, wall=lambda: now) as house, house.connect() as socket:
            double = house.venue.exchange.books["BTCUSDT"].touch.last.price // 50  # in whole dollars
            order = {**ORDER, "side": "SELL", "price": f"{double}", "timestamp": now}
            for _ in range(100):
                assert (await ask(socket, "order.place", **signed(ANNA, **order)))["status"] == 200
            answer = await ask(socket, "order.place", **signed(ANNA, **order))
            assert (answer["status"], answer["error"]["code"]) == (429, -1015)
            assert answer["error"]["data"] == {"serverTime": now, "retryAfter": now + 6000}

    run(scenario)
