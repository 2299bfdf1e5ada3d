"""ccxt.pro's binance class, pointed at a local exchange by its configuration; its unified calls and readings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import ccxt.pro
import scenario
from ccxt.base.errors import BaseError
from scenario import WAVING, Refused, Row, Seen

CALL_S = 30.0  # for one answer or the first message of a stream
BOOK_UPDATES = 10

# A type of order is a market or a limit order with something more, in ccxt's words.
UNIFIED = {
    "MARKET": ("market", None),
    "LIMIT": ("limit", None),
    "LIMIT_MAKER": ("limit", None),
    "STOP_LOSS": ("market", "stopLossPrice"),
    "STOP_LOSS_LIMIT": ("limit", "stopLossPrice"),
    "TAKE_PROFIT": ("market", "takeProfitPrice"),
    "TAKE_PROFIT_LIMIT": ("limit", "takeProfitPrice"),
}


class Ccxt:
    """ccxt.pro.binance."""

    name = "ccxt"

    def __init__(self, url: str, key: str, secret: str) -> None:
        sockets = url.replace("http", "ws", 1)
        rest = url + "/api/v3"
        self._exchange = ccxt.pro.binance(
            {
                "apiKey": key,
                "secret": secret,
                "enableRateLimit": False,  # the exchange's own limit is wanted
                "urls": {
                    "api": {
                        "public": rest,
                        "private": rest,
                        "v1": url + "/api/v1",
                        "sapi": url + "/sapi/v1",
                        "ws": {"spot": sockets + "/ws", "ws-api": {"spot": sockets + "/ws-api/v3"}},
                    }
                },
                "options": {
                    "fetchMarkets": {"types": ["spot"]},
                    "fetchMargins": False,
                    "fetchCurrencies": False,
                    "warnOnFetchOpenOrdersWithoutSymbol": False,
                },
            }
        )
        self._readers: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        await self._exchange.load_markets()

    async def close(self) -> None:
        for reader in self._readers:
            reader.cancel()
        await self._exchange.close()

    async def markets(self) -> Row:
        return {
            market["id"]: {
                "base": market["base"],
                "quote": market["quote"],
                "tick": text(market["precision"]["price"]),
                "step": text(market["precision"]["amount"]),
                "min_notional": text(market["limits"]["cost"]["min"]),
            }
            for market in self._exchange.markets.values()
        }

    async def candles(self, symbol: str, limit: int) -> list[list[Any]]:
        rows = await self._ask(self._exchange.fetch_ohlcv(self._unified(symbol), "1s", limit=limit))
        return [[row[0], *map(text, row[1:])] for row in rows]

    async def watch_candles(self, symbol: str) -> AsyncIterator[list[Any]]:
        while True:
            for row in await self._exchange.watch_ohlcv(self._unified(symbol), "1s"):
                yield [row[0], *map(text, row[1:])]

    async def watch_account(self, tell: Callable[[Row], None]) -> None:
        async def read(watch: Callable[[], Awaitable[Any]], told: Callable[[Any], list[Row]]) -> None:
            while True:
                for event in told(await watch()):
                    tell(event)

        await self._exchange.authenticate({"type": "spot"})
        exchange = self._exchange
        self._readers = [
            asyncio.create_task(read(exchange.watch_orders, lambda orders: [order_event(order) for order in orders])),
            asyncio.create_task(read(exchange.watch_my_trades, lambda fills: [fill_event(fill) for fill in fills])),
            asyncio.create_task(read(exchange.watch_balance, lambda held: [balance_event(held)])),
        ]

    async def place(self, symbol: str, side: str, kind: str, **more: str) -> Row:
        order = await self._ask(self._exchange.create_order(*self._order(symbol, side, kind, more)))
        return order_row(order)

    async def place_test(self, symbol: str, side: str, kind: str, **more: str) -> None:
        *order, params = self._order(symbol, side, kind, more)
        await self._ask(self._exchange.create_order(*order, {**params, "test": True}))

    async def replace(self, order: Row, **more: str) -> Row:
        *asked, params = self._order(order["symbol"], order["side"], order["type"], {"qty": order["qty"], **more})
        return order_row(await self._ask(self._exchange.edit_order(str(order["id"]), *asked, params)))

    async def place_oco(self, symbol: str, side: str, qty: str, above: Row, below: Row) -> Row:
        # No unified call places a pair: it is asked for by the name of its endpoint.
        words = {"type": "Type", "price": "Price", "stop": "StopPrice", "tif": "TimeInForce"}
        legs = {"above": above, "below": below}
        params = {place + words[name]: value for place, leg in legs.items() for name, value in leg.items()}
        request = {"symbol": symbol, "side": side, "quantity": qty, "newOrderRespType": "RESULT", **params}
        answered = await self._ask(self._exchange.private_post_orderlist_oco(request))
        ids = {report["type"]: int(report["orderId"]) for report in answered["orderReports"]}
        return {
            "list_id": int(answered["orderListId"]),
            "status": answered["listOrderStatus"],
            "above": ids["LIMIT_MAKER"],
            "below": ids["STOP_LOSS_LIMIT"],
        }

    async def cancel(self, symbol: str, order_id: int) -> Row:
        return order_row(await self._ask(self._exchange.cancel_order(str(order_id), self._unified(symbol))))

    async def cancel_list(self, symbol: str, list_id: int) -> None:
        await self._ask(self._exchange.private_delete_orderlist({"symbol": symbol, "orderListId": list_id}))

    async def order(self, symbol: str, order_id: int) -> Row:
        return order_row(await self._ask(self._exchange.fetch_order(str(order_id), self._unified(symbol))))

    async def open_orders(self, symbol: str | None) -> list[Row]:
        unified = None if symbol is None else self._unified(symbol)
        return [order_row(order) for order in await self._ask(self._exchange.fetch_open_orders(unified))]

    async def all_orders(self, symbol: str) -> list[Row]:
        return [order_row(order) for order in await self._ask(self._exchange.fetch_orders(self._unified(symbol)))]

    async def fills(self, symbol: str) -> list[Row]:
        return [fill_row(fill) for fill in await self._ask(self._exchange.fetch_my_trades(self._unified(symbol)))]

    async def balances(self) -> dict[str, list[str]]:
        return balances(await self._ask(self._exchange.fetch_balance()))

    async def sweep(self, seen: Seen) -> None:
        """Unified calls that the scenario has no use for; ccxt raises where it cannot make sense of an answer."""
        ex, pair = self._exchange, self._unified(WAVING)
        order = (pair, "limit", "buy", 0.1, 1500.0)
        placed: list[str] = []

        async def place_by_socket() -> str:
            placed.append((await ex.create_order_ws(*order))["id"])
            return placed[0]

        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "fetch_time": ex.fetch_time,
            "fetch_ticker": lambda: ex.fetch_ticker(pair),
            "fetch_tickers": lambda: ex.fetch_tickers([pair]),
            "fetch_bids_asks": lambda: ex.fetch_bids_asks([pair]),
            "fetch_last_prices": lambda: ex.fetch_last_prices([pair]),
            "fetch_order_book": lambda: ex.fetch_order_book(pair),
            "fetch_trades": lambda: ex.fetch_trades(pair),
            "fetch_ohlcv": lambda: ex.fetch_ohlcv(pair, "1m"),
            "create_market_order_ws": lambda: ex.create_market_order_ws(pair, "buy", 0.1),
            "create_order_ws": place_by_socket,
            "fetch_order_ws": lambda: ex.fetch_order_ws(placed[0], pair),
            "fetch_open_orders_ws": lambda: ex.fetch_open_orders_ws(pair),
            "fetch_balance_ws": ex.fetch_balance_ws,
            "cancel_order_ws": lambda: ex.cancel_order_ws(placed[0], pair),
            "fetch_my_trades_ws": lambda: ex.fetch_my_trades_ws(pair),
            "create_order": lambda: ex.create_order(*order),
            "cancel_all_orders": lambda: ex.cancel_all_orders(pair),
            "watch_ticker": lambda: ex.watch_ticker(pair),
            "watch_bids_asks": lambda: ex.watch_bids_asks([pair]),
            "watch_trades": lambda: ex.watch_trades(pair),
            "watch_ohlcv": lambda: ex.watch_ohlcv(pair, "1m"),
            "watch_order_book": lambda: self._watch_book(pair),
        }
        for name, call in calls.items():
            try:
                answered = await asyncio.wait_for(call(), CALL_S)
                seen.steps[name] = {"answered": bool(answered)}
            except Exception as error:
                seen.steps[name] = {"failed": repr(error)}

    async def _watch_book(self, pair: str) -> bool:
        """Whether a book that ccxt keeps stays a book. It raises where a snapshot and what follows do not fit."""
        books = [await self._exchange.watch_order_book(pair) for _ in range(BOOK_UPDATES)]
        return all(book["bids"][0][0] < book["asks"][0][0] for book in books)

    async def _ask(self, call: Awaitable[Any]) -> Any:
        """The call's answer; a refusal as `Refused`. ccxt leaves the exchange's code in the text of its exception."""
        try:
            return await call
        except BaseError as error:
            _, found, rest = str(error).partition('"code":')
            code = int(rest.partition(",")[0].strip(" }")) if found else None
            retry_after = (self._exchange.last_response_headers or {}).get("Retry-After")
            raise Refused(error, code, retry_after) from None

    def _unified(self, symbol: str) -> str:
        return self._exchange.market(symbol)["symbol"]

    def _order(self, symbol: str, side: str, kind: str, more: Row) -> tuple[Any, ...]:
        unified, trigger = UNIFIED[kind]
        params = {"postOnly": True} if kind == "LIMIT_MAKER" else {}
        if trigger:
            params[trigger] = more["stop"]
        for name, param in (("quote", "cost"), ("tif", "timeInForce")):
            if name in more:
                params[param] = more[name]
        amount = float(more["qty"]) if "qty" in more else None
        price = float(more["price"]) if "price" in more else None
        return self._unified(symbol), unified, side.lower(), amount, price, params


def text(number: float | None) -> str | None:
    """The shortest decimal of a float."""
    return None if number is None else repr(number)


def order_row(order: Row) -> Row:
    """A unified order; its type and status also as the exchange wrote them, for ccxt has fewer of them."""
    info = order["info"]
    return {
        "id": int(order["id"]),
        "client_id": order["clientOrderId"],
        "symbol": order["symbol"].replace("/", ""),
        "side": order["side"].upper(),
        "type": info["type"],
        "tif": info["timeInForce"],
        "status": info["status"],
        "unified_status": order["status"],
        "price": text(order["price"]),
        "stop_price": text(order["triggerPrice"]),
        "qty": text(order["amount"]),
        "filled": text(order["filled"]),
        "quote": text(order["cost"]),
    }


def fill_row(fill: Row) -> Row:
    """A unified trade of one's own."""
    return {
        "trade_id": int(fill["id"]),
        "order_id": int(fill["order"]),
        "symbol": fill["symbol"].replace("/", ""),
        "price": text(fill["price"]),
        "qty": text(fill["amount"]),
        "fee": text(fill["fee"]["cost"]),
        "fee_asset": fill["fee"]["currency"],
        "is_maker": fill["takerOrMaker"] == "maker",
    }


def balances(held: Row) -> dict[str, list[Any]]:
    """A unified balance."""
    return {asset: [text(held[asset]["free"]), text(held[asset]["used"])] for asset in held["free"]}


def order_event(order: Row) -> Row:
    """An order that the account stream told of."""
    return {
        "event": "order",
        "id": int(order["id"]),
        "status": order["info"]["X"],
        "filled": text(order["filled"]),
    }


def fill_event(fill: Row) -> Row:
    """A fill that the account stream told of."""
    return {"event": "fill", **fill_row(fill)}


def balance_event(held: Row) -> Row:
    """Balances that the account stream told of."""
    return {"event": "balances", "balances": balances(held)}


if __name__ == "__main__":
    scenario.main(Ccxt)
