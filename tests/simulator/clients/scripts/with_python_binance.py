"""python-binance's asynchronous client, pointed at a local exchange by three class attributes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import scenario
from binance import AsyncClient, BinanceSocketManager
from binance.exceptions import BinanceAPIException
from scenario import DEADLINE_S, Refused, Row

PARAMS = {"qty": "quantity", "quote": "quoteOrderQty", "price": "price", "stop": "stopPrice", "tif": "timeInForce"}


class PythonBinance:
    """AsyncClient and BinanceSocketManager."""

    name = "python-binance"

    def __init__(self, url: str, key: str, secret: str) -> None:
        sockets = url.replace("http", "ws", 1)

        class Addressed(AsyncClient):
            API_URL = url + "/api"
            WS_API_URL = sockets + "/ws-api/v3"

        class AddressedSockets(BinanceSocketManager):
            STREAM_URL = sockets + "/"

        self._make, self._make_sockets = Addressed, AddressedSockets
        is_pem = "PRIVATE KEY" in secret
        self._credentials = {"api_key": key, "private_key" if is_pem else "api_secret": secret}
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._client = await self._make.create(**self._credentials)
        self._client.ws_api.TIMEOUT = DEADLINE_S
        self._sockets = self._make_sockets(self._client)

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        # It notices that it is closed between two waits for a message: one message ends the wait it is in.
        self._client.ws_api.TIMEOUT = 1
        if self._client.ws_api.ws is not None:
            await self._client.ws_api.ws.send('{"id": 0, "method": "ping"}')
        await self._client.close_connection()

    async def markets(self) -> Row:
        info = await self._client.get_exchange_info()
        markets = {}
        for symbol in info["symbols"]:
            filters = {f["filterType"]: f for f in symbol["filters"]}
            markets[symbol["symbol"]] = {
                "base": symbol["baseAsset"],
                "quote": symbol["quoteAsset"],
                "tick": filters["PRICE_FILTER"]["tickSize"],
                "step": filters["LOT_SIZE"]["stepSize"],
                "min_notional": filters["NOTIONAL"]["minNotional"],
            }
        return markets

    async def candles(self, symbol: str, limit: int) -> list[list[Any]]:
        return [row[:6] for row in await self._client.get_klines(symbol=symbol, interval="1s", limit=limit)]

    async def watch_candles(self, symbol: str) -> AsyncIterator[list[Any]]:
        async with self._sockets.kline_socket(symbol, interval="1s") as socket:
            while True:
                k = (await socket.recv())["k"]
                if k["x"]:
                    yield [k["t"], k["o"], k["h"], k["l"], k["c"], k["v"]]

    async def watch_account(self, tell: Callable[[Row], None]) -> None:
        ready = asyncio.Event()

        async def read() -> None:
            async with self._sockets.user_socket() as socket:
                ready.set()
                while True:
                    for event in account_events(await socket.recv()):
                        tell(event)

        self._reader = asyncio.create_task(read())
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._reader, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.is_set():
            await self._reader

    async def place(self, symbol: str, side: str, kind: str, **more: str) -> Row:
        # The types that answer with an ACK are asked for in full, so that a step shows a status.
        params = {PARAMS[name]: value for name, value in more.items()} | {"newOrderRespType": "FULL"}
        return order_row(await answer(self._client.create_order(symbol=symbol, side=side, type=kind, **params)))

    async def place_test(self, symbol: str, side: str, kind: str, **more: str) -> None:
        params = {PARAMS[name]: value for name, value in more.items()}
        await answer(self._client.create_test_order(symbol=symbol, side=side, type=kind, **params))

    async def replace(self, order: Row, **more: str) -> Row:
        params = {"quantity": order["qty"]} | {PARAMS[name]: value for name, value in more.items()}
        both = await answer(
            self._client.cancel_replace_order(
                symbol=order["symbol"], side=order["side"], type=order["type"], cancelReplaceMode="STOP_ON_FAILURE",
                cancelOrderId=order["id"], newOrderRespType="FULL", **params,
            )
        )  # fmt: skip
        return order_row(both["newOrderResponse"])

    async def place_oco(self, symbol: str, side: str, qty: str, above: Row, below: Row) -> Row:
        params = oco_params(above, below) | {"newOrderRespType": "RESULT"}
        answered = await answer(self._client.create_oco_order(symbol=symbol, side=side, quantity=qty, **params))
        return list_row(answered)

    async def cancel(self, symbol: str, order_id: int) -> Row:
        gone = await answer(self._client.cancel_order(symbol=symbol, orderId=order_id))
        return order_row({**gone, "clientOrderId": gone["origClientOrderId"]})

    async def cancel_list(self, symbol: str, list_id: int) -> None:
        await answer(self._client.v3_delete_order_list(symbol=symbol, orderListId=list_id))

    async def order(self, symbol: str, order_id: int) -> Row:
        return order_row(await answer(self._client.get_order(symbol=symbol, orderId=order_id)))

    async def open_orders(self, symbol: str | None) -> list[Row]:
        asked = {} if symbol is None else {"symbol": symbol}
        return [order_row(row) for row in await answer(self._client.get_open_orders(**asked))]

    async def all_orders(self, symbol: str) -> list[Row]:
        return [order_row(row) for row in await answer(self._client.get_all_orders(symbol=symbol))]

    async def fills(self, symbol: str) -> list[Row]:
        return [fill_row(row) for row in await answer(self._client.get_my_trades(symbol=symbol))]

    async def balances(self) -> dict[str, list[str]]:
        account = await answer(self._client.get_account())
        return {row["asset"]: [row["free"], row["locked"]] for row in account["balances"]}


async def answer(call: Awaitable[Any]) -> Any:
    """The call's answer; a refusal as `Refused`."""
    try:
        return await call
    except BinanceAPIException as error:
        raise Refused(error, error.code, error.response.headers.get("Retry-After")) from None


def order_row(order: Row) -> Row:
    """An order as this client hands it over: as the exchange wrote it."""
    return {
        "id": order["orderId"],
        "client_id": order["clientOrderId"],
        "symbol": order["symbol"],
        "side": order["side"],
        "type": order["type"],
        "tif": order["timeInForce"],
        "status": order["status"],
        "price": order["price"],
        "stop_price": order.get("stopPrice"),
        "qty": order["origQty"],
        "filled": order["executedQty"],
        "quote": order["cummulativeQuoteQty"],
    }


def list_row(answered: Row) -> Row:
    """An order list with its legs by place."""
    legs = {report["type"]: report["orderId"] for report in answered["orderReports"]}
    return {
        "list_id": answered["orderListId"],
        "status": answered["listOrderStatus"],
        "above": legs["LIMIT_MAKER"],
        "below": legs["STOP_LOSS_LIMIT"],
    }


def oco_params(above: Row, below: Row) -> Row:
    """Parameters of ``orderList/oco``."""
    words = {"type": "Type", "price": "Price", "stop": "StopPrice", "tif": "TimeInForce"}
    legs = {"above": above, "below": below}
    return {place + words[name]: value for place, leg in legs.items() for name, value in leg.items()}


def fill_row(trade: Row) -> Row:
    """A row of myTrades."""
    return {
        "trade_id": trade["id"],
        "order_id": trade["orderId"],
        "symbol": trade["symbol"],
        "price": trade["price"],
        "qty": trade["qty"],
        "fee": trade["commission"],
        "fee_asset": trade["commissionAsset"],
        "is_maker": trade["isMaker"],
    }


def account_events(event: Row) -> list[Row]:
    """What one event of the user stream tells."""
    if event["e"] == "outboundAccountPosition":
        return [{"event": "balances", "balances": {row["a"]: [row["f"], row["l"]] for row in event["B"]}}]
    if event["e"] != "executionReport":
        return [{"event": event["e"]}]
    told: list[Row] = [{"event": "order", "id": event["i"], "status": event["X"], "filled": event["z"]}]
    if event["x"] == "TRADE":
        told.append(
            {
                "event": "fill", "trade_id": event["t"], "order_id": event["i"], "symbol": event["s"],
                "price": event["L"], "qty": event["l"], "fee": event["n"], "fee_asset": event["N"],
                "is_maker": event["m"],
            }
        )  # fmt: skip
    return told


if __name__ == "__main__":
    scenario.main(PythonBinance)
