"""Binance's spot REST API as an `Exchange`, through python-binance.

Errors are sorted here into what they mean: refused (nothing happened), unknown (it may have happened), unreachable (a
read that says nothing). Nothing is retried but a request refused for its timestamp, once, after the clock offset is
read again; nothing had happened then. Prices and quantities go out as plain strings and come back as ``Decimal``.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import aiohttp
from binance.async_client import AsyncClient
from binance.exceptions import BinanceAPIException, BinanceRequestException

from bots.core.candles import Candle, candle_from_kline_row
from bots.core.messages import AccountSeen, Execution, OrderReport, PlaceOrder, Refusal
from bots.trading.exchange import Denied, KeysRefused, OutcomeUnknown, Unreachable
from shared.intervals import INTERVAL_MS
from shared.states import OrderState, OrderType
from shared.symbols import SymbolRules, rules_of
from shared.tickets import Endpoints
from shared.units import ZERO, plain

RECV_WINDOW_MS: Final = 5_000
TIMEOUT_S: Final = 10.0
PAGE: Final = 1_000

_BAD_TIMESTAMP = -1021
_NO_SUCH_ORDER = -2013
_CANCEL_REJECTED = -2011
_NO_SUCH_SYMBOL = -1121
_UNKNOWN_OUTCOME = frozenset({-1006, -1007})
_BAD_KEYS = frozenset({-1002, -1022, -2014, -2015})
_MISSING = frozenset({_NO_SUCH_ORDER, _CANCEL_REJECTED})
_FILTERS = frozenset({-1013, -1111, _NO_SUCH_SYMBOL})
_STATES: Final = {
    "NEW": OrderState.NEW,
    "PENDING_NEW": OrderState.NEW,
    "PARTIALLY_FILLED": OrderState.PARTIALLY_FILLED,
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELLED,
    "EXPIRED": OrderState.EXPIRED,
    "EXPIRED_IN_MATCH": OrderState.EXPIRED,
    "REJECTED": OrderState.REJECTED,
}

T = TypeVar("T")
P = ParamSpec("P")
_Lost = (aiohttp.ClientError, OSError, BinanceRequestException)
_Unreadable = (LookupError, AttributeError, TypeError, ValueError, ArithmeticError)


def _reads(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A read whose answer may be anything: what cannot be read raises `Unreachable`, as no answer does."""

    @wraps(method)
    async def read(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except _Unreadable as error:
            raise Unreachable(f"unreadable answer: {_words(error)}") from None

    return read


class BinanceClient:
    """One account behind *endpoints*. Use `connect`; every call may be made from one event loop only."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @classmethod
    @_reads
    async def connect(cls, endpoints: Endpoints, api_key: str, api_secret: str) -> BinanceClient:
        """Open a session and read the clock offset. Raises `Unreachable`."""
        # The client library takes addresses only as class attributes.
        kind: Any = type(
            "BoundClient",
            (AsyncClient,),
            {
                "API_URL": endpoints.rest,
                "WS_API_URL": endpoints.ws_api,
                "REQUEST_RECVWINDOW": RECV_WINDOW_MS,
                "REQUEST_TIMEOUT": TIMEOUT_S,
            },
        )
        return cls(await _read(kind.create(api_key, api_secret)))

    @_reads
    async def rules(self, symbol: str) -> SymbolRules | None:
        """See `Exchange.rules`."""
        return rules_of(symbol, (await _read(self._exchange_info(symbol)))["symbols"])

    async def _exchange_info(self, symbol: str) -> dict[str, Any]:
        # The library's own method asks for all symbols; on a real exchange these are megabytes.
        try:
            info: dict[str, Any] = await self._client._get("exchangeInfo", data={"symbol": symbol})
        except BinanceAPIException as error:
            if error.code != _NO_SUCH_SYMBOL:
                raise
            return {"symbols": []}
        return info

    @_reads
    async def account(self, rules: SymbolRules) -> AccountSeen:
        """See `Exchange.account`."""
        document = await _read(self._signed(lambda: self._client.get_account(omitZeroBalances="true")))
        held = {b["asset"]: b for b in document["balances"]}
        none = {"free": "0", "locked": "0"}
        base, quote = held.get(rules.base, none), held.get(rules.quote, none)
        return AccountSeen(
            base_free=Decimal(base["free"]),
            base_locked=Decimal(base["locked"]),
            quote_free=Decimal(quote["free"]),
            quote_locked=Decimal(quote["locked"]),
        )

    async def place(self, order: PlaceOrder) -> OrderReport:
        """See `Exchange.place`."""
        params: dict[str, str] = {
            "symbol": order.symbol,
            "side": order.side.value,
            "type": order.order_type.value,
            "quantity": plain(order.quantity),
            "newClientOrderId": order.client_order_id,
            "newOrderRespType": "FULL",
        }
        if order.price is not None:
            params["price"] = plain(order.price)
        if order.order_type is OrderType.LIMIT:
            params["timeInForce"] = "GTC"
        try:
            return order_report(await self._signed(lambda: self._client.create_order(**params)))
        except Unreachable as lost:
            raise Denied(Refusal.OTHER, f"the clock is off and the exchange's cannot be read: {lost}") from None
        except BinanceAPIException as error:
            raise _sorted_refusal(error) from None
        except aiohttp.ClientConnectorError as error:
            raise Denied(Refusal.OTHER, f"the exchange cannot be reached: {error}") from None
        except (*_Lost, *_Unreadable) as error:
            raise OutcomeUnknown(_words(error)) from None

    @_reads
    async def cancel(self, client_order_id: str, symbol: str) -> None:
        """See `Exchange.cancel`."""
        try:
            await _read(
                self._signed(lambda: self._client.cancel_order(symbol=symbol, origClientOrderId=client_order_id))
            )
        except Denied:
            return

    @_reads
    async def query(self, client_order_id: str, symbol: str) -> OrderReport | None:
        """See `Exchange.query`."""
        client = self._client
        try:
            document = await _read(
                self._signed(lambda: client.get_order(symbol=symbol, origClientOrderId=client_order_id))
            )
        except Denied:
            return None
        trades = []
        if Decimal(document["executedQty"]) > ZERO:
            trades = await self._trades(symbol, document["orderId"])
        return order_report(document, trades)

    async def _trades(self, symbol: str, order_id: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        after: dict[str, int] = {}
        while True:
            page = await _read(
                self._signed(
                    lambda: self._client.get_my_trades(symbol=symbol, orderId=order_id, limit=PAGE, **after)  # noqa: B023
                )
            )
            found += page
            if len(page) < PAGE:
                return found
            after = {"fromId": page[-1]["id"] + 1}

    @_reads
    async def open_orders(self, symbol: str) -> list[str]:
        """See `Exchange.open_orders`."""
        orders = await _read(self._signed(lambda: self._client.get_open_orders(symbol=symbol)))
        return [order["clientOrderId"] for order in orders]

    @_reads
    async def candles(self, symbol: str, interval: str, start_ms: int | None, end_ms: int, limit: int) -> list[Candle]:
        """See `Exchange.candles`."""
        length = INTERVAL_MS[interval]
        start = end_ms - limit * length if start_ms is None else start_ms
        found: list[Candle] = []
        while start < end_ms:
            rows = await _read(
                self._client.get_klines(
                    symbol=symbol, interval=interval, startTime=start, endTime=end_ms - 1, limit=PAGE
                )
            )
            found.extend(candle_from_kline_row(row, length, True) for row in rows)
            if len(rows) < PAGE:
                break
            start = found[-1].end_ms
        return [candle for candle in found if candle.end_ms <= end_ms]

    @_reads
    async def market_time_ms(self, symbol: str) -> int:
        """See `Exchange.market_time_ms`."""
        rows = await _read(self._client.get_klines(symbol=symbol, interval="1s", limit=1))
        if not rows:
            raise Unreachable(f"the market of {symbol} has no candle yet")
        return int(rows[-1][0])

    @_reads
    async def last_price(self, symbol: str) -> float:
        """See `Exchange.last_price`."""
        return float((await _read(self._client.get_symbol_ticker(symbol=symbol)))["price"])

    async def close(self) -> None:
        """See `Exchange.close`."""
        await self._client.close_connection()

    def clock_offset_ms(self) -> int:
        """The exchange's clock minus ours, as last read."""
        return int(self._client.timestamp_offset)

    async def _signed(self, request: Callable[[], Awaitable[T]]) -> T:
        """The answer to a signed request; sent once more where the first was refused for its timestamp."""
        try:
            return await request()
        except BinanceAPIException as error:
            if error.code != _BAD_TIMESTAMP:
                raise
        await self._read_clock_offset()
        return await request()

    @_reads
    async def _read_clock_offset(self) -> None:
        before = time.time()
        server_ms = (await _read(self._client.get_server_time()))["serverTime"]
        self._client.timestamp_offset = int(server_ms - (before + time.time()) / 2 * 1000)


def order_report(document: dict[str, Any], trades: list[dict[str, Any]] | None = None) -> OrderReport:
    """A report from a placement answer (its ``fills``) or from an order query with *trades* of ``myTrades``."""
    time_ms = int(document.get("updateTime") or document["transactTime"])
    if trades is None:
        executions = tuple(
            Execution(
                trade_id=fill["tradeId"],
                price=Decimal(fill["price"]),
                quantity=Decimal(fill["qty"]),
                fee=Decimal(fill["commission"]),
                fee_asset=fill["commissionAsset"],
                is_maker=False,
                time_ms=time_ms,
            )
            for fill in document.get("fills", ())
        )
    else:
        executions = tuple(
            Execution(
                trade_id=trade["id"],
                price=Decimal(trade["price"]),
                quantity=Decimal(trade["qty"]),
                fee=Decimal(trade["commission"]),
                fee_asset=trade["commissionAsset"],
                is_maker=trade["isMaker"],
                time_ms=trade["time"],
            )
            for trade in trades
        )
    return OrderReport(
        client_order_id=document["clientOrderId"],
        exchange_order_id=document["orderId"],
        status=_STATES[document["status"]],
        executed_quantity=Decimal(document["executedQty"]),
        executed_quote=Decimal(document["cummulativeQuoteQty"]),
        time_ms=time_ms,
        executions=executions,
        reason=document.get("expiryReason"),
    )


def report_from_execution(event: dict[str, Any]) -> OrderReport:
    """A report from an ``executionReport`` of the user data stream."""
    executions: tuple[Execution, ...] = ()
    if event["x"] == "TRADE":
        executions = (
            Execution(
                trade_id=event["t"],
                price=Decimal(event["L"]),
                quantity=Decimal(event["l"]),
                fee=Decimal(event["n"]),
                fee_asset=event["N"] or "",
                is_maker=event["m"],
                time_ms=event["T"],
            ),
        )
    reason = event.get("r")
    return OrderReport(
        client_order_id=event["C"] or event["c"],
        exchange_order_id=event["i"],
        status=_STATES[event["X"]],
        executed_quantity=Decimal(event["z"]),
        executed_quote=Decimal(event["Z"]),
        time_ms=event["T"],
        executions=executions,
        reason=None if reason in (None, "NONE") else reason,
    )


async def _read(call: Awaitable[T]) -> T:
    """The answer of a read. Raises `Denied` for what does not exist, `KeysRefused`, or `Unreachable` for all else."""
    try:
        return await call
    except BinanceAPIException as error:
        if error.code in _MISSING:
            raise Denied(Refusal.NO_SUCH_ORDER, str(error.message)) from None
        if error.code in _BAD_KEYS:
            raise KeysRefused(f"The exchange refuses the API key: {error.message}") from None
        raise Unreachable(f"{error.status_code} {error.message} ({error.code})") from None
    except _Lost as error:
        raise Unreachable(_words(error)) from None


def _sorted_refusal(error: BinanceAPIException) -> Exception:
    message = str(error.message)
    if error.code in _UNKNOWN_OUTCOME or error.status_code >= 500 or "Duplicate order" in message:
        return OutcomeUnknown(f"{error.status_code} {message}")
    if "immediately match" in message:
        return Denied(Refusal.POST_ONLY, message)
    if "insufficient balance" in message:
        return Denied(Refusal.BALANCE, message)
    if error.code in _FILTERS:
        return Denied(Refusal.FILTER, message)
    return Denied(Refusal.OTHER, f"{message} ({error.code})")


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
