"""binance-sdk-spot, the exchange's own library, pointed at a local exchange by its three configurations.

Its models are strict: a text where a number belongs, or the other way round, is logged as a warning and so becomes a
complaint. Fields that its models do not know are complaints as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import scenario
from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_common.errors import ClientError, Error
from binance_sdk_spot.spot import Spot
from pydantic import BaseModel
from scenario import CALM, WAVING, Refused, Row, Seen

PARAMS = {
    "qty": "quantity",
    "quote": "quote_order_qty",
    "price": "price",
    "stop": "stop_price",
    "tif": "time_in_force",
}
STREAM_S = 30.0  # how long a stream may take until its first message


class BinanceSdk:
    """Spot: REST calls in threads, websocket API and streams on the loop."""

    name = "binance-sdk-spot"

    def __init__(self, url: str, key: str, secret: str) -> None:
        sockets = url.replace("http", "ws", 1)
        self._by_key = "PRIVATE KEY" in secret
        credentials = {"api_key": key, "private_key" if self._by_key else "api_secret": secret}
        spot = Spot(
            ConfigurationRestAPI(base_path=url, timeout=30_000, **credentials),
            ConfigurationWebSocketAPI(stream_url=sockets + "/ws-api/v3", **credentials),
            ConfigurationWebSocketStreams(stream_url=sockets),
        )
        self._rest, self._api, self._streams = spot.rest_api, spot.websocket_api, spot.websocket_streams
        self._unknown: set[str] = set()

    async def open(self) -> None:
        await self._api.create_connection()
        await self._streams.create_connection()
        if self._by_key:
            self._read(await self._api.session_logon())

    async def close(self) -> None:
        await self._streams.close_connection()
        await self._api.close_connection()

    async def markets(self) -> Row:
        info = await self._ask(self._rest.exchange_info)
        markets = {}
        for symbol in info.symbols:
            filters = {f.actual_instance.filter_type: f.actual_instance for f in symbol.filters}
            markets[symbol.symbol] = {
                "base": symbol.base_asset,
                "quote": symbol.quote_asset,
                "tick": filters["PRICE_FILTER"].tick_size,
                "step": filters["LOT_SIZE"].step_size,
                "min_notional": filters["NOTIONAL"].min_notional,
            }
        return markets

    async def candles(self, symbol: str, limit: int) -> list[list[Any]]:
        return [row[:6] for row in await self._ask(self._rest.klines, symbol, "1s", limit=limit)]

    async def watch_candles(self, symbol: str) -> AsyncIterator[list[Any]]:
        told: asyncio.Queue[Any] = asyncio.Queue()
        stream = await self._streams.kline(symbol.lower(), "1s")
        stream.on("message", told.put_nowait)
        while True:
            k = self._checked(await told.get()).k
            if k.x:
                yield [k.t, k.o, k.h, k.l, k.c, k.v]

    async def watch_account(self, tell: Callable[[Row], None]) -> None:
        def read(event: Any) -> None:
            for told in account_events(self._checked(event.actual_instance)):
                tell(told)

        subscribe = self._api.user_data_stream_subscribe_signature
        if self._by_key:
            subscribe = self._api.user_data_stream_subscribe
        (await subscribe()).stream.on("message", read)

    async def place(self, symbol: str, side: str, kind: str, **more: str) -> Row:
        params = {PARAMS[name]: value for name, value in more.items()}
        return order_row(
            await self._ask(self._rest.new_order, symbol, side, kind, new_order_resp_type="FULL", **params)
        )

    async def place_test(self, symbol: str, side: str, kind: str, **more: str) -> None:
        params = {PARAMS[name]: value for name, value in more.items()}
        await self._ask(self._rest.order_test, symbol, side, kind, **params)

    async def replace(self, order: Row, **more: str) -> Row:
        params = {"quantity": order["qty"]} | {PARAMS[name]: value for name, value in more.items()}
        both = await self._ask(
            self._rest.order_cancel_replace, order["symbol"], order["side"], order["type"], "STOP_ON_FAILURE",
            cancel_order_id=order["id"], new_order_resp_type="FULL", **params,
        )  # fmt: skip
        return order_row(both.new_order_response)

    async def place_oco(self, symbol: str, side: str, qty: str, above: Row, below: Row) -> Row:
        words = {"price": "price", "stop": "stop_price", "tif": "time_in_force"}
        params = {
            f"{place}_{words[name]}": value
            for place, leg in (("above", above), ("below", below))
            for name, value in leg.items()
            if name in words
        }
        answered = await self._ask(
            self._rest.order_list_oco, symbol, side, qty, above["type"], below["type"], new_order_resp_type="RESULT",
            **params,
        )  # fmt: skip
        legs = {report.type: report.order_id for report in answered.order_reports}
        return {
            "list_id": answered.order_list_id,
            "status": answered.list_order_status,
            "above": legs["LIMIT_MAKER"],
            "below": legs["STOP_LOSS_LIMIT"],
        }

    async def cancel(self, symbol: str, order_id: int) -> Row:
        gone = await self._ask(self._rest.delete_order, symbol, order_id=order_id)
        return order_row(gone) | {"client_id": gone.orig_client_order_id}

    async def cancel_list(self, symbol: str, list_id: int) -> None:
        await self._ask(self._rest.delete_order_list, symbol, order_list_id=list_id)

    async def order(self, symbol: str, order_id: int) -> Row:
        return order_row(await self._ask(self._rest.get_order, symbol, order_id=order_id))

    async def open_orders(self, symbol: str | None) -> list[Row]:
        return [order_row(row) for row in await self._ask(self._rest.get_open_orders, symbol)]

    async def all_orders(self, symbol: str) -> list[Row]:
        return [order_row(row) for row in await self._ask(self._rest.all_orders, symbol)]

    async def fills(self, symbol: str) -> list[Row]:
        return [fill_row(row) for row in await self._ask(self._rest.my_trades, symbol)]

    async def balances(self) -> dict[str, list[str]]:
        account = await self._ask(self._rest.get_account)
        return {row.asset: [row.free, row.locked] for row in account.balances}

    async def sweep(self, seen: Seen) -> None:
        """Ask whatever can be asked, by REST, websocket API and streams; what the models make of it is noted."""
        rest, api, streams = self._rest, self._api, self._streams
        pair = {"symbol": CALM}
        order = {**pair, "side": "BUY", "type": "LIMIT", "time_in_force": "GTC", "quantity": "0.01", "price": "15000"}
        placed = await self._ask(rest.new_order, **order)
        its = {**pair, "order_id": placed.order_id}
        calls: dict[str, list[tuple[Callable[..., Any], Row]]] = {
            "rest": [
                (rest.ping, {}), (rest.time, {}), (rest.exchange_info, pair), (rest.exchange_info, {"symbols": [CALM]}),
                (rest.depth, pair), (rest.get_trades, pair), (rest.historical_trades, pair), (rest.agg_trades, pair),
                (rest.klines, {**pair, "interval": "1m"}), (rest.ui_klines, {**pair, "interval": "1m"}),
                (rest.avg_price, pair), (rest.ticker24hr, pair), (rest.ticker24hr, {}),
                (rest.ticker24hr, {**pair, "type": "MINI"}), (rest.ticker_trading_day, pair), (rest.ticker, pair),
                (rest.ticker_price, pair), (rest.ticker_price, {}), (rest.ticker_book_ticker, pair),
                (rest.ticker_book_ticker, {}), (rest.get_account, {}), (rest.account_commission, pair),
                (rest.rate_limit_order, {}), (rest.get_order, its), (rest.get_open_orders, {}), (rest.all_orders, pair),
                (rest.my_trades, pair), (rest.open_order_list, {}), (rest.all_order_list, {}), (rest.order_test, order),
                (rest.order_test, {**order, "compute_commission_rates": True}),
            ],
            "websocket": [
                (api.ping, {}), (api.time, {}), (api.exchange_info, pair), (api.depth, pair), (api.trades_recent, pair),
                (api.trades_historical, pair), (api.trades_aggregate, pair), (api.klines, {**pair, "interval": "1m"}),
                (api.ui_klines, {**pair, "interval": "1m"}), (api.avg_price, pair), (api.ticker24hr, pair),
                (api.ticker_trading_day, pair), (api.ticker, pair), (api.ticker_price, pair), (api.ticker_book, pair),
                (api.account_status, {}), (api.account_commission, pair), (api.account_rate_limits_orders, {}),
                (api.order_status, its), (api.open_orders_status, pair), (api.all_orders, pair), (api.my_trades, pair),
                (api.open_order_lists_status, {}), (api.all_order_lists, {}), (api.order_test, order),
                (api.order_place, order | {"price": "15100"}), (api.order_cancel, its),
                (api.open_orders_cancel_all, pair), (api.session_status, {}), (api.session_subscriptions, {}),
            ],
        }  # fmt: skip
        for way, ask in (("rest", self._ask), ("websocket", self._ask_socket)):
            for call, params in calls[way]:
                name = f"{way} {call.__name__}({', '.join(f'{k}={v}' for k, v in params.items())})"
                seen.steps[name] = await self._tried(seen, lambda ask=ask, c=call, p=params: ask(c, **p))
        pair = {"symbol": WAVING.lower()}
        await self._sweep_streams(
            seen,
            [
                (streams.agg_trade, pair), (streams.trade, pair), (streams.kline, {**pair, "interval": "1m"}),
                (streams.mini_ticker, pair), (streams.all_mini_ticker, {}), (streams.ticker, pair),
                (streams.rolling_window_ticker, {**pair, "window_size": "1h"}), (streams.avg_price, pair),
                (streams.all_market_rolling_window_ticker, {"window_size": "1h"}), (streams.book_ticker, pair),
                (streams.partial_book_depth, {**pair, "levels": "5"}), (streams.diff_book_depth, pair),
            ],
        )  # fmt: skip

    async def _sweep_streams(self, seen: Seen, subscriptions: list[tuple[Callable[..., Any], Row]]) -> None:
        """The first message of each stream. They share a connection, so all are asked for before any is awaited."""
        first: dict[str, asyncio.Queue[Any]] = {}
        for subscribe, params in subscriptions:
            name = f"stream {subscribe.__name__}({', '.join(f'{k}={v}' for k, v in params.items())})"
            first[name] = asyncio.Queue()
            (await subscribe(**params)).on("message", first[name].put_nowait)
        deadline = asyncio.get_running_loop().time() + STREAM_S
        for name, told in first.items():
            left_s = deadline - asyncio.get_running_loop().time()
            seen.steps[name] = await self._tried(seen, lambda t=told, s=left_s: self._first(t, s))

    async def _tried(self, seen: Seen, ask: Callable[[], Awaitable[Any]]) -> Row:
        complained = len(seen.complaints)
        self._unknown.clear()
        try:
            await ask()
        except Exception as error:
            return {"failed": f"{type(error).__name__}: {error}"}
        finally:
            seen.complaints[complained:], said = [], seen.complaints[complained:]
        return {"complaints": said} | ({"unknown fields": sorted(self._unknown)} if self._unknown else {})

    async def _ask(self, call: Callable[..., Any], *args: Any, **params: Any) -> Any:
        """A REST call's answer as the library reads it; a refusal as `Refused`."""
        try:
            return self._read(await asyncio.to_thread(call, *args, **params))
        except (ClientError, Error) as error:
            # The library keeps the exchange's code as the status code of its errors.
            retry_after = getattr(error, "retry_after", None)
            code = getattr(error, "status_code", None)
            raise Refused(error, code, None if retry_after is None else str(retry_after)) from None

    async def _ask_socket(self, call: Callable[..., Any], **params: Any) -> Any:
        read = self._read(await call(**params))
        if isinstance(read, dict) and "error" in read:
            raise ValueError(read["error"])
        return read

    async def _first(self, told: asyncio.Queue[Any], within_s: float) -> Any:
        return self._checked(told.get_nowait() if not told.empty() else await asyncio.wait_for(told.get(), within_s))

    def _read(self, response: Any) -> Any:
        return self._checked(response.data())

    def _checked(self, read: Any) -> Any:
        """*read*, with fields noted that its models do not know."""
        if isinstance(read, list):
            for item in read:
                self._checked(item)
        elif isinstance(read, BaseModel):
            extra = getattr(read, "additional_properties", None) or {}
            self._unknown.update(f"{type(read).__name__}.{name}" for name in extra)
            for name in type(read).model_fields:
                self._checked(getattr(read, name, None))
        return read


def order_row(order: Any) -> Row:
    """An order of any model."""
    return {
        "id": order.order_id,
        "client_id": order.client_order_id,
        "symbol": order.symbol,
        "side": order.side,
        "type": order.type,
        "tif": order.time_in_force,
        "status": order.status,
        "price": order.price,
        "stop_price": getattr(order, "stop_price", None),
        "qty": order.orig_qty,
        "filled": order.executed_qty,
        "quote": order.cummulative_quote_qty,
    }


def fill_row(trade: Any) -> Row:
    """A row of myTrades."""
    return {
        "trade_id": trade.id,
        "order_id": trade.order_id,
        "symbol": trade.symbol,
        "price": trade.price,
        "qty": trade.qty,
        "fee": trade.commission,
        "fee_asset": trade.commission_asset,
        "is_maker": trade.is_maker,
    }


def account_events(event: Any) -> list[Row]:
    """What one event of the user stream tells."""
    kind = type(event).__name__
    if kind == "OutboundAccountPosition":
        return [{"event": "balances", "balances": {row.a: [row.f, row.l] for row in event.B}}]
    if kind != "ExecutionReport":
        return [{"event": kind}]
    told: list[Row] = [{"event": "order", "id": event.i, "status": event.X, "filled": event.z}]
    if event.x == "TRADE":
        told.append(
            {
                "event": "fill", "trade_id": event.t, "order_id": event.i, "symbol": event.s, "price": event.L,
                "qty": event.l, "fee": event.n, "fee_asset": event.N, "is_maker": event.m,
            }
        )  # fmt: skip
    return told


if __name__ == "__main__":
    scenario.main(BinanceSdk)
