"""What every client does at the exchange, and what it saw there: one course of events, told to clients of others.

Runs in the client's own environment, which has nothing of this project but this folder; so it knows only the standard
library. Asserts nothing: it prints one JSON object, and the test compares that with what the exchange wrote down. How
a client makes a call is the business of the scripts beside this file, each of which is a ``Client``.

The market it expects has a calm pair, which trades at 20000 for ever, and a waving one, which trades at 2000 and every
two seconds visits 1990 and 2010 for a moment.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

CALM, WAVING = "BTCUSDT", "ETHUSDT"
POLL_S, DEADLINE_S = 0.05, 30.0
CANDLES_SHOWN, CANDLES_WATCHED = 30, 3
BEYOND = ("immediately", "relationship of the prices")  # how an order is refused whose price the market has passed
MOST_CALLS = 400  # of the heaviest kind; the limit is reached long before, also across the turn of a minute

Row = dict[str, Any]


class Refused(Exception):
    """The exchange said no: the class that the client raised, and what the client read out of the answer."""

    def __init__(self, error: BaseException, code: int | None, retry_after: str | None = None) -> None:
        super().__init__(str(error))
        self.row: Row = {"raised": type(error).__name__, "code": code, "text": str(error), "retry_after": retry_after}


class Client(Protocol):
    """One library. Numbers go in and come out as text; symbols are the exchange's own; refusals raise `Refused`.

    An order is ``{id, client_id, symbol, side, type, tif, status, price, stop_price, qty, filled, quote}``, a fill
    ``{trade_id, order_id, symbol, price, qty, fee, fee_asset, is_maker}``, a candle ``[open ms, o, h, l, c, volume]``.
    """

    name: str

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def markets(self) -> Row: ...
    async def candles(self, symbol: str, limit: int) -> list[list[Any]]: ...
    def watch_candles(self, symbol: str) -> AsyncIterator[list[Any]]: ...
    async def watch_account(self, tell: Callable[[Row], None]) -> None: ...
    async def place(self, symbol: str, side: str, kind: str, **more: str) -> Row: ...
    async def place_test(self, symbol: str, side: str, kind: str, **more: str) -> None: ...
    async def replace(self, order: Row, **more: str) -> Row: ...
    async def place_oco(self, symbol: str, side: str, qty: str, above: Row, below: Row) -> Row: ...
    async def cancel(self, symbol: str, order_id: int) -> Row: ...
    async def cancel_list(self, symbol: str, list_id: int) -> None: ...
    async def order(self, symbol: str, order_id: int) -> Row: ...
    async def open_orders(self, symbol: str | None) -> list[Row]: ...
    async def all_orders(self, symbol: str) -> list[Row]: ...
    async def fills(self, symbol: str) -> list[Row]: ...
    async def balances(self) -> dict[str, list[str]]: ...


@dataclass
class Seen:
    """All that is printed. *steps* are orders as their placement or cancel answered, *refusals* what was refused."""

    client: str
    markets: Row = field(default_factory=dict)
    candles: list[list[Any]] = field(default_factory=list)
    watched: list[list[Any]] = field(default_factory=list)
    steps: dict[str, Row] = field(default_factory=dict)
    lists: dict[str, Row] = field(default_factory=dict)
    refusals: dict[str, Row] = field(default_factory=dict)
    open_orders: list[Row] = field(default_factory=list)
    orders: list[Row] = field(default_factory=list)
    fills: list[Row] = field(default_factory=list)
    balances: Row = field(default_factory=dict)
    events: list[Row] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


async def trade(client: Client, seen: Seen) -> None:
    """Everything: market data, each kind of order, account events; at last, too much of it."""
    seen.markets = await client.markets()
    await client.watch_account(seen.events.append)
    watching = asyncio.create_task(_watch_candles(client, seen))
    await _trade_calm(client, seen)
    await _trade_waving(client, seen)
    seen.candles = await client.candles(CALM, CANDLES_SHOWN)
    await watching
    seen.open_orders = await client.open_orders(CALM)
    for symbol in (CALM, WAVING):
        seen.orders += await client.all_orders(symbol)
        seen.fills += await client.fills(symbol)
    seen.balances = await client.balances()
    await _until("the last account event", lambda: _heard_all(seen))
    seen.refusals["too much weight"] = await _exhaust(client)


async def keys(client: Client, seen: Seen) -> None:
    """The little that shows that a key signs: an order, its fill, its event."""
    await client.markets()
    await client.watch_account(seen.events.append)
    seen.steps["limit resting"] = order = await client.place(CALM, "BUY", "LIMIT", qty="0.01", price="15000", tif="GTC")
    seen.steps["cancelled"] = await client.cancel(CALM, order["id"])
    seen.steps["market buy"] = await client.place(CALM, "BUY", "MARKET", qty="0.01")
    seen.orders = await client.all_orders(CALM)
    seen.fills = await client.fills(CALM)
    seen.balances = await client.balances()
    await _until("the last account event", lambda: _heard_all(seen))


async def limits(client: Client, seen: Seen) -> None:
    """A call that the exchange refuses, and the same once more, as it should not be asked."""
    seen.refusals["limited"] = await _refusal(client.balances())
    seen.refusals["banned"] = await _refusal(client.balances())


async def sweep(client: Client, seen: Seen) -> None:
    """Whatever else a client can ask for; what it makes of each answer is noted as a step."""
    await client.sweep(seen)  # type: ignore[attr-defined]


MODES: dict[str, Callable[[Client, Seen], Awaitable[None]]] = {
    "trade": trade,
    "keys": keys,
    "limits": limits,
    "sweep": sweep,
}


def main(make: Callable[[str, str, str], Client]) -> None:
    """``script MODE URL KEY SECRET``: the secret may be a private key in PEM."""
    mode, url, key, secret = sys.argv[1:]
    client = make(url, key, secret)
    seen = Seen(client.name)
    logging.getLogger().addHandler(_Complaints(seen))
    asyncio.run(_run(client, seen, mode))
    json.dump(vars(seen), sys.stdout)


class _Complaints(logging.Handler):
    """What a client finds wrong with an answer, it may only log."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(logging.WARNING)
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        self._seen.complaints.append(f"{record.name}: {record.getMessage()}")


async def _run(client: Client, seen: Seen, mode: str) -> None:
    await client.open()
    try:
        await MODES[mode](client, seen)
        complaints = list(seen.complaints)
    finally:
        await client.close()
    seen.complaints = complaints  # how it feels about its own farewell is no matter


async def _trade_calm(client: Client, seen: Seen) -> None:
    async def placed(name: str, side: str, kind: str, **more: str) -> Row:
        seen.steps[name] = await client.place(CALM, side, kind, **more)
        return seen.steps[name]

    await placed("market buy", "BUY", "MARKET", qty="0.01")
    await placed("market buy for quote", "BUY", "MARKET", quote="100")
    await placed("market sell", "SELL", "MARKET", qty="0.005")
    await placed("limit taking", "BUY", "LIMIT", qty="0.01", price="21000", tif="GTC")
    await placed("ioc taking", "BUY", "LIMIT", qty="0.01", price="21000", tif="IOC")
    await placed("ioc missing", "BUY", "LIMIT", qty="0.01", price="15000", tif="IOC")
    await placed("fok taking", "BUY", "LIMIT", qty="0.01", price="21000", tif="FOK")
    await placed("fok missing", "BUY", "LIMIT", qty="0.01", price="15000", tif="FOK")
    resting = await placed("limit resting", "BUY", "LIMIT", qty="0.01", price="15000", tif="GTC")
    maker = await placed("maker resting", "SELL", "LIMIT_MAKER", qty="0.01", price="25000")
    seen.steps["limit asked for"] = await client.order(CALM, resting["id"])
    seen.steps["limit cancelled"] = await client.cancel(CALM, resting["id"])
    seen.steps["maker replaced"] = await client.replace(maker, price="26000")
    await placed("limit kept", "BUY", "LIMIT", qty="0.02", price="14000", tif="GTC")
    await client.place_test(CALM, "BUY", "LIMIT", qty="0.01", price="15000", tif="GTC")
    refused = {
        "maker crossing": client.place(CALM, "BUY", "LIMIT_MAKER", qty="0.01", price="21000"),
        "too poor": client.place(CALM, "BUY", "MARKET", qty="100"),
        "too small": client.place(CALM, "BUY", "LIMIT", qty="0.0001", price="15000", tif="GTC"),
        "not there": client.order(CALM, 987654321),
        "cancelled twice": client.cancel(CALM, resting["id"]),
    }
    for name, call in refused.items():
        seen.refusals[name] = await _refusal(call)


async def _trade_waving(client: Client, seen: Seen) -> None:
    async def placed(name: str, side: str, kind: str, **more: str) -> Row:
        seen.steps[name] = await _between_waves(lambda: client.place(WAVING, side, kind, **more))
        return seen.steps[name]

    async def placed_oco(name: str, above: Row, below: Row) -> Row:
        seen.lists[name] = await _between_waves(lambda: client.place_oco(WAVING, "SELL", "0.1", above, below))
        return seen.lists[name]

    async def until(status: str, order: Row) -> Row:
        async def ask() -> Row | None:
            found = await client.order(WAVING, order["id"])
            return found if found["status"] == status else None

        return await _eventually(f"order {order['id']} is {status}", ask)

    part = await placed("partly filled", "BUY", "LIMIT_MAKER", qty="20", price="1995")  # a while
    seen.steps["partly filled, later"] = await until("PARTIALLY_FILLED", part)
    seen.steps["partly filled, cancelled"] = await client.cancel(WAVING, part["id"])
    waiting = await placed("stop waiting", "SELL", "STOP_LOSS_LIMIT", qty="0.1", stop="1000", price="990", tif="GTC")
    seen.steps["stop cancelled"] = await client.cancel(WAVING, waiting["id"])
    far = {"type": "STOP_LOSS_LIMIT", "stop": "1000", "price": "990", "tif": "GTC"}
    given_up = await placed_oco("oco cancelled", {"type": "LIMIT_MAKER", "price": "3000"}, far)
    await client.cancel_list(WAVING, given_up["list_id"])
    # Five that wait for a price at a time are as many as the exchange allows.
    triggered = [
        await placed("stop loss", "SELL", "STOP_LOSS", qty="0.1", stop="1995"),
        await placed("stop loss limit", "SELL", "STOP_LOSS_LIMIT", qty="0.1", stop="1995", price="1900", tif="GTC"),
        await placed("take profit", "SELL", "TAKE_PROFIT", qty="0.1", stop="2005"),
        await placed("take profit limit", "SELL", "TAKE_PROFIT_LIMIT", qty="0.1", stop="2005", price="1900", tif="GTC"),
    ]
    both = await placed_oco("oco", {"type": "LIMIT_MAKER", "price": "2005"}, far)
    for order in triggered:
        await until("FILLED", order)
    await until("FILLED", {"id": both["above"]})


async def _watch_candles(client: Client, seen: Seen) -> None:
    async for candle in client.watch_candles(CALM):
        seen.watched.append(candle)
        if len(seen.watched) == CANDLES_WATCHED:
            return


def _heard_all(seen: Seen) -> bool:
    """Whether events have told the final state of each order, each fill, and the present balances."""
    told = {(e["id"], e["status"]) for e in seen.events if e["event"] == "order"}
    fills = {(e["symbol"], e["trade_id"]) for e in seen.events if e["event"] == "fill"}
    held: Row = {}
    for event in seen.events:
        held.update(event["balances"] if event["event"] == "balances" else {})
    return (
        {(order["id"], order["status"]) for order in seen.orders} <= told
        and {(fill["symbol"], fill["trade_id"]) for fill in seen.fills} <= fills
        and all([float(n) for n in held.get(asset, ())] == [float(n) for n in seen.balances[asset]] for asset in held)
    )


async def _exhaust(client: Client) -> Row:
    """Ask for what is heavy until it is refused."""
    for _ in range(MOST_CALLS):
        try:
            await client.open_orders(None)
        except Refused as refused:
            return refused.row
    return {}


async def _refusal(call: Awaitable[object]) -> Row:
    try:
        await call
    except Refused as refused:
        return refused.row
    return {}


async def _between_waves(place: Callable[[], Awaitable[Row]]) -> Row:
    """An order that must rest: while the price is beyond it for a moment, it is refused and tried again."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return await place()
        except Refused as refused:
            if not any(sign in str(refused) for sign in BEYOND) or time.monotonic() > deadline:
                raise
        await asyncio.sleep(POLL_S)


async def _eventually(what: str, ask: Callable[[], Awaitable[Row | None]]) -> Row:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        answer = await ask()
        if answer is not None:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {DEADLINE_S} s: {what}")
        await asyncio.sleep(POLL_S)


async def _until(what: str, is_so: Callable[[], bool]) -> None:
    async def ask() -> Row | None:
        return {} if is_so() else None

    await _eventually(what, ask)
