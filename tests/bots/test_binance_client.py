from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from bots.core.messages import PlaceOrder, Refusal
from bots.trading.binance_client import BinanceClient, order_report, report_from_execution
from bots.trading.exchange import Denied, KeysRefused, OutcomeUnknown, Unreachable
from shared.states import OrderState, OrderType, Side
from shared.symbols import SymbolRules
from shared.tickets import Endpoints
from tests.ports import free_port

ORDER_PATH = "/api/v3/order"


@dataclass
class Customer:
    """An account of its own, its client and the symbol's rules."""

    client: BinanceClient
    rules: SymbolRules
    key: str
    orders: int = 0

    def order(self, side: Side = Side.BUY, order_type: OrderType = OrderType.MARKET, **other: Any) -> PlaceOrder:
        self.orders += 1
        return PlaceOrder(
            **{
                "client_order_id": f"ftest-1-{self.orders}-e1",
                "symbol": "BTCUSDT",
                "side": side,
                "order_type": order_type,
                "quantity": Decimal("0.01"),
                "price": None,
                **other,
            }
        )

    async def price_below(self, fraction: str = "0.9") -> Decimal:
        return self.rules.round_price_down(Decimal(repr(await self.client.last_price("BTCUSDT"))) * Decimal(fraction))


@pytest.fixture
def play(simulator) -> Callable[[Callable[[Customer], Awaitable[Any]]], Any]:
    """Run a scene with a fresh customer."""

    def run(scene: Callable[[Customer], Awaitable[Any]], **balances: str) -> Any:
        async def whole() -> Any:
            key, secret = simulator.account(**balances)
            client = await BinanceClient.connect(simulator.endpoints, key, secret)
            try:
                rules = await client.rules("BTCUSDT")
                assert rules is not None
                return await scene(Customer(client, rules, key))
            finally:
                await client.close()

        return asyncio.run(whole())

    return run


def test_a_market_order_comes_back_filled_with_its_executions(play, simulator):
    async def scene(me: Customer):
        return await me.client.place(me.order()), simulator.ledger(me.key)

    report, ledger = play(scene)

    assert report.status is OrderState.FILLED
    assert sum(e.quantity for e in report.executions) == report.executed_quantity == Decimal("0.01")
    assert [e.trade_id for e in report.executions] == [f["trade_id"] for f in ledger["fills"]]
    assert [e.fee for e in report.executions] == [Decimal(f["fee"]) for f in ledger["fills"]]


def test_a_resting_order_can_be_seen_cancelled_and_queried(play):
    async def scene(me: Customer):
        price = await me.price_below()
        order = me.order(order_type=OrderType.LIMIT, price=price)
        placed = await me.client.place(order)
        open_orders = await me.client.open_orders("BTCUSDT")
        await me.client.cancel(order.client_order_id, "BTCUSDT")
        return order, placed, open_orders, await me.client.query(order.client_order_id, "BTCUSDT")

    order, placed, open_orders, ended = play(scene)

    assert placed.status is OrderState.NEW
    assert open_orders == [order.client_order_id]
    assert (ended.status, ended.client_order_id) == (OrderState.CANCELLED, order.client_order_id)


def test_a_post_only_order_that_would_take_is_refused_as_such(play):
    async def scene(me: Customer):
        price = await me.price_below("1.05")
        with pytest.raises(Denied) as denied:
            await me.client.place(me.order(order_type=OrderType.LIMIT_MAKER, price=price))
        resting = await me.client.place(me.order(order_type=OrderType.LIMIT_MAKER, price=await me.price_below()))
        return denied.value.kind, resting.status

    assert play(scene) == (Refusal.POST_ONLY, OrderState.NEW)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"quantity": Decimal("9")}, Refusal.BALANCE),
        ({"quantity": Decimal("0.00001")}, Refusal.FILTER),
        ({"quantity": Decimal("0.0100000001")}, Refusal.FILTER),
        ({"side": Side.SELL}, Refusal.BALANCE),
        ({"symbol": "NOPEUSDT"}, Refusal.FILTER),
    ],
)
def test_refusals_are_sorted_by_what_they_mean(play, changes, kind):
    async def scene(me: Customer):
        with pytest.raises(Denied) as denied:
            await me.client.place(me.order(**changes))
        return denied.value.kind

    assert play(scene) is kind


def test_a_sell_pays_its_fee_in_quote(play):
    async def scene(me: Customer):
        return await me.client.place(me.order(side=Side.SELL))

    report = play(scene, BTC="1")

    assert {e.fee_asset for e in report.executions} == {"USDT"}


def test_an_answer_that_was_lost_leaves_the_outcome_unknown_and_a_query_finds_it(play, simulator):
    async def scene(me: Customer):
        simulator.fault("lose_ack", path=ORDER_PATH, method="POST")
        order = me.order()
        with pytest.raises(OutcomeUnknown):
            await me.client.place(order)
        return await me.client.query(order.client_order_id, "BTCUSDT"), simulator.ledger(me.key)

    report, ledger = play(scene)

    assert report.status is OrderState.FILLED
    assert [e.trade_id for e in report.executions] == [f["trade_id"] for f in ledger["fills"]]
    assert len(ledger["orders"]) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_error_leaves_the_outcome_unknown(play, simulator, status):
    async def scene(me: Customer):
        simulator.fault("refuse", path=ORDER_PATH, method="POST", status=status)
        order = me.order()
        with pytest.raises(OutcomeUnknown):
            await me.client.place(order)
        return await me.client.query(order.client_order_id, "BTCUSDT")

    assert play(scene) is None


@pytest.mark.parametrize("status", [403, 418, 429])
def test_a_client_error_means_that_nothing_happened(play, simulator, status):
    async def scene(me: Customer):
        simulator.fault("refuse", path=ORDER_PATH, method="POST", status=status)
        with pytest.raises(Denied) as denied:
            await me.client.place(me.order())
        return denied.value.kind

    assert play(scene) is Refusal.OTHER


def test_a_duplicate_of_an_open_order_is_asked_about_not_refused(play):
    async def scene(me: Customer):
        order = me.order(order_type=OrderType.LIMIT, price=await me.price_below())
        await me.client.place(order)
        with pytest.raises(OutcomeUnknown):
            await me.client.place(order)

    play(scene)


def test_a_refused_connection_means_that_nothing_was_sent(play, simulator):
    port = free_port()

    async def scene(me: Customer):
        me.client._client.API_URL = f"http://127.0.0.1:{port}/api"
        with pytest.raises(Denied, match="cannot be reached"):
            await me.client.place(me.order())
        with pytest.raises(Unreachable):
            await me.client.query("ftest-1-1-e1", "BTCUSDT")
        with pytest.raises(Unreachable):
            await me.client.cancel("ftest-1-1-e1", "BTCUSDT")

    play(scene)


def test_cancelling_an_order_that_has_ended_is_no_error(play):
    async def scene(me: Customer):
        order = me.order()
        await me.client.place(order)
        ended = await me.client.query(order.client_order_id, "BTCUSDT")
        assert ended.status.is_final
        await me.client.cancel(order.client_order_id, "BTCUSDT")
        assert await me.client.query(order.client_order_id, "BTCUSDT") == ended
        await me.client.cancel("ftest-1-404-e1", "BTCUSDT")
        assert await me.client.query("ftest-1-404-e1", "BTCUSDT") is None

    play(scene)


def test_an_order_that_never_was_is_none(play):
    async def scene(me: Customer):
        return await me.client.query("ftest-1-404-e1", "BTCUSDT")

    assert play(scene) is None


@pytest.mark.parametrize("skew_ms", [-60_000, 60_000])
def test_a_clock_that_ran_away_is_read_again_once_by_every_signed_request(play, skew_ms):
    async def scene(me: Customer):
        order = me.order(order_type=OrderType.LIMIT, price=await me.price_below())
        requests: list[Callable[[], Awaitable[Any]]] = [
            lambda: me.client.account(me.rules),
            lambda: me.client.place(order),
            lambda: me.client.open_orders("BTCUSDT"),
            lambda: me.client.query(order.client_order_id, "BTCUSDT"),
            lambda: me.client.cancel(order.client_order_id, "BTCUSDT"),
        ]
        for request in requests:
            me.client._client.timestamp_offset = skew_ms
            began = time.monotonic()
            await request()
            took_ms = 1_000 * (time.monotonic() - began)
            assert abs(me.client.clock_offset_ms()) < 100 + took_ms
        ended = await me.client.query(order.client_order_id, "BTCUSDT")
        assert ended is not None
        return ended.status

    assert play(scene) is OrderState.CANCELLED


def test_wrong_keys_are_told_from_other_failures(simulator):
    key, _ = simulator.account()

    async def scene(api_key: str, secret: str) -> None:
        client = await BinanceClient.connect(simulator.endpoints, api_key, secret)
        try:
            rules = await client.rules("BTCUSDT")
            assert rules is not None
            with pytest.raises(KeysRefused, match="refuses the API key"):
                await client.account(rules)
        finally:
            await client.close()

    asyncio.run(scene(key, "wrong"))
    asyncio.run(scene("a" * 64, "wrong"))
    asyncio.run(scene("short", "wrong"))


def test_a_symbol_that_is_not_listed_has_no_rules(play):
    async def scene(me: Customer):
        return await me.client.rules("NOPEUSDT")

    assert play(scene) is None


def test_the_account_names_free_and_locked_amounts(play):
    async def scene(me: Customer):
        await me.client.place(me.order(order_type=OrderType.LIMIT, price=await me.price_below()))
        return await me.client.account(me.rules)

    account = play(scene, USDT="1000")

    assert account.quote_free + account.quote_locked == Decimal(1000)
    assert account.quote_locked > 500
    assert (account.base_free, account.base_locked) == (0, 0)


def test_candles_are_paged_without_gap_or_repetition(play):
    async def scene(me: Customer):
        end = await me.client.market_time_ms("BTCUSDT")
        return end, await me.client.candles("BTCUSDT", "1s", None, end, 2_500)

    end, candles = play(scene)

    assert [c.open_ms for c in candles] == list(range(end - 2_500_000, end, 1_000))
    assert all(c.backfilled for c in candles)


def test_only_closed_candles_are_given(play):
    async def scene(me: Customer):
        now = int(time.time() * 1000)
        return now, await me.client.candles("BTCUSDT", "1m", now - 600_000, now, 1_000)

    now, candles = play(scene)

    assert 9 <= len(candles) <= 10
    assert all(c.end_ms <= now and c.end_ms - c.open_ms == 60_000 for c in candles)


def test_reads_that_fail_say_so(play, simulator):
    async def scene(me: Customer):
        simulator.fault("refuse", method="GET", count=4)
        for read in (
            me.client.candles("BTCUSDT", "1s", None, 1_000, 1),
            me.client.market_time_ms("BTCUSDT"),
            me.client.last_price("BTCUSDT"),
            me.client.open_orders("BTCUSDT"),
        ):
            with pytest.raises(Unreachable, match="503"):
                await read

    play(scene)


# --- an exchange that answers nonsense ------------------------------------------------------------------------------


def against(answer: Callable[[web.Request], Awaitable[web.StreamResponse]], scene: Callable[[BinanceClient], Any]):
    async def whole() -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            if request.path.endswith("/time"):
                return web.json_response({"serverTime": int(time.time() * 1000)})
            if request.path.endswith("/ping"):
                return web.json_response({})
            return await answer(request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host = f"127.0.0.1:{runner.addresses[0][1]}"
        endpoints = Endpoints(rest=f"http://{host}/api", streams=f"ws://{host}/", ws_api=f"ws://{host}/")
        client = await BinanceClient.connect(endpoints, "k" * 64, "s")
        try:
            return await scene(client)
        finally:
            await client.close()
            await runner.cleanup()

    return asyncio.run(whole())


RULES = SymbolRules(
    symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.00001"),
    min_quantity=Decimal("0.00001"),
    max_quantity=Decimal(9_000),
    min_notional=Decimal(5),
)
AN_ORDER = PlaceOrder(
    client_order_id="ftest-1-1-e1",
    symbol="BTCUSDT",
    side=Side.BUY,
    order_type=OrderType.MARKET,
    quantity=Decimal("0.01"),
    price=None,
)


@pytest.mark.parametrize("body", ["{}", "[]", '{"orderId": 1}', "<html>", '{"status": "WEIRD", "orderId": 1}', ""])
def test_an_answer_that_cannot_be_read_leaves_the_outcome_unknown(body):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, content_type="application/json")

    async def scene(client: BinanceClient) -> None:
        with pytest.raises(OutcomeUnknown):
            await client.place(AN_ORDER)
        with pytest.raises(Unreachable):
            await client.query(AN_ORDER.client_order_id, "BTCUSDT")

    against(answer, scene)


@pytest.mark.parametrize("body", ["[1]", "[{}]", '"soon"', '{"orderId": 1, "status": "WEIRD"}', "7", "null"])
def test_no_read_breaks_on_an_answer_of_another_shape(body):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, content_type="application/json")

    async def scene(client: BinanceClient) -> None:
        for read in (
            client.rules("BTCUSDT"),
            client.account(RULES),
            client.query("a", "BTCUSDT"),
            client.open_orders("BTCUSDT"),
            client.candles("BTCUSDT", "1s", None, 1_000_000, 1),
            client.market_time_ms("BTCUSDT"),
            client.last_price("BTCUSDT"),
        ):
            with pytest.raises(Unreachable):
                await read

    against(answer, scene)


def test_a_clock_that_cannot_be_read_means_that_nothing_was_sent():
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"code": -1021, "msg": "Timestamp for this request is outside"}, status=400)

    async def scene(client: BinanceClient) -> None:
        async def no_time() -> dict[str, Any]:
            return {}

        client._client.get_server_time = no_time  # type: ignore[method-assign]
        with pytest.raises(Denied, match="clock"):
            await client.place(AN_ORDER)

    against(answer, scene)


def test_the_trades_of_an_order_are_paged_to_the_last():
    order = {
        "clientOrderId": "a", "orderId": 1, "status": "FILLED", "executedQty": "2500", "cummulativeQuoteQty": "2500",
        "updateTime": 5,
    }  # fmt: skip

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/order"):
            return web.json_response(order)
        first = int(request.query.get("fromId", 0))
        trade = {"price": "1", "qty": "1", "commission": "0", "commissionAsset": "BTC", "isMaker": True, "time": 5}
        return web.json_response([{"id": n, **trade} for n in range(first, min(first + 1000, 2500))])

    async def scene(client: BinanceClient) -> list[int]:
        report = await client.query("a", "BTCUSDT")
        assert report is not None
        return [int(execution.trade_id) for execution in report.executions]

    assert against(answer, scene) == list(range(2500))


def test_an_answer_that_does_not_come_leaves_the_outcome_unknown():
    async def answer(request: web.Request) -> web.StreamResponse:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return web.Response()

    async def scene(client: BinanceClient) -> None:
        client._client.REQUEST_TIMEOUT = 0.2
        with pytest.raises(OutcomeUnknown, match="TimeoutError"):
            await client.place(AN_ORDER)
        with pytest.raises(Unreachable, match="TimeoutError"):
            await client.last_price("BTCUSDT")

    against(answer, scene)


def test_the_client_asks_for_its_own_symbol_only():
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(dict(request.query))
        return web.json_response({"symbols": []})

    async def scene(client: BinanceClient) -> None:
        assert await client.rules("BTCUSDT") is None

    against(answer, scene)

    assert asked == [{"symbol": "BTCUSDT"}]


def test_an_exchange_out_of_reach_at_the_start_is_unreachable(simulator):
    endpoints = replace(simulator.endpoints, rest="http://127.0.0.1:1/api")

    with pytest.raises(Unreachable):
        asyncio.run(BinanceClient.connect(endpoints, "k", "s"))


# --- the wire's words -------------------------------------------------------------------------------------------------


def test_an_execution_report_of_a_cancel_names_the_order_by_its_original_id():
    event = {
        "e": "executionReport", "x": "CANCELED", "X": "CANCELED", "c": "cancel-1", "C": "ftest-1-1-e1", "i": 5,
        "z": "0.00400000", "Z": "200.00000000", "T": 77, "r": "NONE",
    }  # fmt: skip

    report = report_from_execution(event)

    assert (report.client_order_id, report.status, report.executions) == ("ftest-1-1-e1", OrderState.CANCELLED, ())
    assert (report.executed_quantity, report.reason) == (Decimal("0.004"), None)


def test_a_trade_event_carries_one_execution():
    event = {
        "e": "executionReport", "x": "TRADE", "X": "PARTIALLY_FILLED", "c": "ftest-1-1-e1", "C": "", "i": 5,
        "z": "0.004", "Z": "200", "T": 77, "r": "NONE", "t": 12, "L": "50000", "l": "0.004", "n": "0.000004",
        "N": "BTC", "m": True,
    }  # fmt: skip

    (execution,) = report_from_execution(event).executions

    assert (execution.trade_id, execution.fee, execution.fee_asset) == (12, Decimal("0.000004"), "BTC")
    assert execution.is_maker


def test_a_query_without_trades_lists_no_executions():
    document = {
        "clientOrderId": "a", "orderId": 1, "status": "EXPIRED", "executedQty": "0", "cummulativeQuoteQty": "0",
        "updateTime": 5, "expiryReason": "INSUFFICIENT_LIQUIDITY",
    }  # fmt: skip

    report = order_report(document, [])

    assert (report.status, report.reason) == (OrderState.EXPIRED, "INSUFFICIENT_LIQUIDITY")
