"""python-binance, unmodified but for its addresses, against a running simulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from binance import AsyncClient, BinanceSocketManager, DepthCacheManager
from binance.exceptions import BinanceAPIException

from tests.simulator.clients import tape
from tests.simulator.ws_caller import run
from tests.waiting import DEADLINE_S

ENDS_AFTER_S = 6  # of the market whose book comes to rest


@asynccontextmanager
async def connected(simulator, **balances: str) -> AsyncIterator[tuple[AsyncClient, BinanceSocketManager]]:
    class Client(AsyncClient):
        API_URL = simulator.url + "/api"
        WS_API_URL = simulator.ws + "/ws-api/v3"

    class Sockets(BinanceSocketManager):
        STREAM_URL = simulator.ws + "/"

    customer = simulator.account(**balances)
    client = await Client.create(customer.api_key, customer.secret)
    client.ws_api.TIMEOUT = DEADLINE_S
    try:
        yield client, Sockets(client)
    finally:
        await leave(client)


async def leave(client: AsyncClient) -> None:
    """Close the client, which notices that between two waits for a message: one message ends the wait it is in."""
    client.ws_api.TIMEOUT = 1
    if client.ws_api.ws is not None:
        await client.ws_api.ws.send('{"id": 0, "method": "ping"}')
    await client.close_connection()


async def until(socket, wanted: Callable[[dict], bool]) -> list[dict]:
    """Messages up to and including the first that is wanted."""
    seen: list[dict] = []
    while not seen or not wanted(seen[-1]):
        seen.append(await socket.recv())
    return seen


def test_market_data_is_read(simulator):
    async def scenario() -> None:
        async with connected(simulator) as (client, _):
            info = await client.get_symbol_info("BTCUSDT")
            assert info["baseAsset"] == "BTC"
            assert {f["filterType"] for f in info["filters"]} >= {"PRICE_FILTER", "LOT_SIZE", "NOTIONAL"}
            rows = await client.get_klines(symbol="BTCUSDT", interval="1s", limit=100)
            assert len(rows) == 100
            assert [row[0] - rows[0][0] for row in rows] == list(range(0, 100_000, 1000))
            end = rows[-1][0]
            older = await client.get_historical_klines("BTCUSDT", "1s", end - 1_799_000, end)
            assert [row[0] for row in older] == list(range(end - 1_799_000, end + 1, 1000))

    run(scenario)


def test_every_order_type_is_placed_asked_for_and_cancelled(simulator):
    async def scenario() -> None:
        async with connected(simulator, USDT="10000", BTC="1") as (client, _):
            bought = await client.order_market_buy(symbol="BTCUSDT", quantity="0.01")
            assert (bought["status"], bought["fills"][0]["commissionAsset"]) == ("FILLED", "BTC")
            spent = await client.order_market_buy(symbol="BTCUSDT", quoteOrderQty="100")
            assert 99 < float(spent["cummulativeQuoteQty"]) <= 100
            price = float((await client.get_symbol_ticker(symbol="BTCUSDT"))["price"])
            low, high = f"{price * 0.9:.2f}", f"{price * 1.1:.2f}"
            taken = await client.order_limit_buy(symbol="BTCUSDT", quantity="0.01", price=high)
            assert taken["status"] == "FILLED"
            resting = await client.order_limit_buy(symbol="BTCUSDT", quantity="0.01", price=low)
            maker = await client.create_order(
                symbol="BTCUSDT", side="SELL", type="LIMIT_MAKER", quantity="0.01", price=high
            )
            asked = await client.get_order(symbol="BTCUSDT", origClientOrderId=resting["clientOrderId"])
            assert (asked["orderId"], asked["status"]) == (resting["orderId"], "NEW")
            assert [o["orderId"] for o in await client.get_open_orders()] == [resting["orderId"], maker["orderId"]]
            gone = await client.cancel_order(symbol="BTCUSDT", orderId=resting["orderId"])
            assert (gone["status"], gone["origClientOrderId"]) == ("CANCELED", resting["clientOrderId"])
            trades = await client.get_my_trades(symbol="BTCUSDT")
            taking = [order for order in (bought, spent, taken) for _ in order["fills"]]  # a level each
            assert [t["orderId"] for t in trades] == [order["orderId"] for order in taking]
            account = await client.get_account()
            locked = {row["asset"]: row["locked"] for row in account["balances"]}
            assert locked == {"BTC": "0.01000000", "USDT": "0.00000000"}

    run(scenario)


def test_a_refusal_arrives_as_an_api_exception(simulator):
    async def scenario() -> None:
        async with connected(simulator, USDT="10") as (client, _):
            with pytest.raises(BinanceAPIException) as refused:
                await client.order_market_buy(symbol="BTCUSDT", quantity="1")
            assert refused.value.code == -2010
            with pytest.raises(BinanceAPIException) as unknown:
                await client.get_order(symbol="BTCUSDT", orderId=987654321)
            assert unknown.value.code == -2013

    run(scenario)


def test_candles_arrive_each_second(simulator):
    async def scenario() -> None:
        async with connected(simulator) as (_, sockets), sockets.kline_socket("BTCUSDT", interval="1s") as socket:
            first, second = (await socket.recv())["k"], (await socket.recv())["k"]
            assert second["t"] == first["t"] + 1000
            assert first["x"] is True

    run(scenario)


def test_many_streams_share_a_socket(simulator):
    async def scenario() -> None:
        streams = ["btcusdt@kline_1s", "ethusdt@kline_1s", "btcusdt@aggTrade", "btcusdt@bookTicker"]
        async with connected(simulator) as (_, sockets), sockets.multiplex_socket(streams) as socket:
            seen: set[str] = set()
            while seen != set(streams):
                seen.add((await socket.recv())["stream"])

    run(scenario)


def test_own_orders_arrive_as_user_events(simulator):
    async def scenario() -> None:
        async with connected(simulator, USDT="10000") as (client, sockets), sockets.user_socket() as socket:
            order = await client.order_market_buy(symbol="BTCUSDT", quantity="0.01")
            events = await until(socket, lambda event: event["e"] == "outboundAccountPosition")
            fills = events[1:-1]  # one for each level of the book that it takes
            assert [event.get("x") for event in events] == ["NEW", *["TRADE"] * len(fills), None]
            assert {event["i"] for event in fills} == {order["orderId"]}
            assert [event["n"] for event in fills] == [fill["commission"] for fill in order["fills"]]

    run(scenario)


def test_orders_go_through_the_websocket_api(simulator):
    async def scenario() -> None:
        async with connected(simulator, USDT="10000") as (client, _):
            price = float((await client.ws_get_symbol_ticker(symbol="BTCUSDT"))["price"])
            low = f"{price * 0.9:.2f}"
            bought = await client.ws_order_market_buy(symbol="BTCUSDT", quantity="0.01")
            resting = await client.ws_order_limit_buy(symbol="BTCUSDT", quantity="0.01", price=low)
            asked = await client.ws_get_order(symbol="BTCUSDT", orderId=resting["orderId"])
            gone = await client.ws_cancel_order(symbol="BTCUSDT", orderId=resting["orderId"])
            trades = await client.ws_get_my_trades(symbol="BTCUSDT")
            assert (bought["status"], asked["status"], gone["status"]) == ("FILLED", "NEW", "CANCELED")
            assert [t["qty"] for t in trades] == [fill["qty"] for fill in bought["fills"]]
            with pytest.raises(BinanceAPIException) as refused:
                await client.ws_order_market_buy(symbol="BTCUSDT", quantity="1")
            assert refused.value.code == -2010

    run(scenario)


def test_a_depth_cache_ends_with_the_book_that_rest_shows(start, tmp_path):
    files = tape.write(tmp_path, ENDS_AFTER_S)
    simulator = start(*(argument for file in files for argument in ("--replay", file)), "--rebase", "--history", 2)

    async def scenario() -> None:
        async with (
            connected(simulator) as (client, sockets),
            DepthCacheManager(client, "ETHUSDT", bm=sockets, ws_interval=100, conv_type=Decimal) as manager,
        ):
            updates = asyncio.create_task(keep(manager))
            async for _ in asked_again_and_again():
                shown = await client.get_order_book(symbol="ETHUSDT", limit=20)
                rest = [levels(shown[side]) for side in ("bids", "asks")]
                cache = manager.get_depth_cache()
                if rest == [levels(side[:20]) for side in (cache.get_bids(), cache.get_asks())] and await has_ended():
                    break
            updates.cancel()

    async def has_ended() -> bool:
        clock = await asyncio.to_thread(simulator.get, "/sim/clock")
        return clock.json["halted"]["ETHUSDT"]

    async def keep(manager: DepthCacheManager) -> None:
        while True:
            await manager.recv()

    run(scenario)


def levels(side: list) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(price), Decimal(quantity)) for price, quantity in side]


async def asked_again_and_again() -> AsyncIterator[None]:
    """For a condition that has time until the scenario's deadline."""
    while True:
        yield
        await asyncio.sleep(0.05)
