"""How faults act on a request, over REST and over the websocket API alike.

``perform`` stands between a door and the execution of a call: it executes once or not at all, and says how to answer:
by returning the answer, by raising ``ApiError`` (an ``HtmlError`` where the answer is a page), or by raising ``Cut``
where the connection ends without one. What was executed stays executed, whatever is answered.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from simulator.core.rules import ApiError
from simulator.doors.limits import ORDERS_10S, WEIGHT_LIMIT, banned
from simulator.faults.kinds import (
    CallFault,
    Delay,
    Html,
    LoseAck,
    OrderLimit,
    RateLimit,
    Refuse,
    Unknown,
)
from simulator.faults.switchboard import Active, Faults

T = TypeVar("T")
TOO_MANY_ORDERS = f"Too many new orders; current limit is {ORDERS_10S} orders per 10 SECOND."
TOO_MUCH_WEIGHT = (
    f"Too much request weight used; current limit is {WEIGHT_LIMIT} request weight per 1 MINUTE. "
    "Please use WebSocket Streams for live updates to avoid polling the API."
)
UNKNOWN_STATUS = {
    -1006: "An unexpected response was received from the message bus. Execution status unknown.",
    -1007: "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
}


class HtmlError(ApiError):
    """A refusal by what stands in front of the exchange: REST answers *page*, the websocket API code and text."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        if status >= 500:
            code, msg = -1001, "Internal error; unable to process your request. Please try again."
        else:
            code, msg = -1000, "An unknown error occurred while processing the request."
        super().__init__(code, msg, status, headers)
        self.page = f"<html><head><title>{status}</title></head><body>{text}</body></html>"


class Cut(Exception):
    """The connection is to be cut, without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A call as faults see it. *path* and *method* are the operation's over REST, whichever *door* ("rest" or "ws")
    it came through; *ws_method* is its name in the websocket API. Empty where there is none."""

    door: str
    path: str
    method: str
    ws_method: str = ""
    address: str = ""
    api_key: str = ""
    symbol: str = ""

    @property
    def places_orders(self) -> bool:
        """Is it a new order or order list?"""
        return self.method == "POST" and self.path.startswith("/api/v3/order") and not self.path.endswith("/test")


async def perform(faults: Faults, asked: Asked, execute: Callable[[], Awaitable[T]], now_ms: int) -> T:
    """Execute a call, or not, as the faults that are on demand. *now_ms* is the wall's."""
    if faults.banned:
        _check_ban(faults, asked, now_ms)
    if not faults.calls:
        return await execute()
    delays, main = _struck(faults, asked, now_ms)
    await _wait(delays, "before")
    try:
        answer = await _carried_out(faults, main, asked, execute, now_ms)
    except (ApiError, Cut):
        await _wait(delays, "after")
        raise
    await _wait(delays, "after")
    return answer


def _struck(faults: Faults, asked: Asked, now_ms: int) -> tuple[list[Active], Active | None]:
    """The delays that strike, and the first other fault that does; the rest waits for other calls."""
    delays: list[Active] = []
    main: Active | None = None
    for active in faults.calls:
        fault = active.fault
        assert isinstance(fault, CallFault)
        if active.left == 0 or not _meets(fault, asked) or (main is not None and not isinstance(fault, Delay)):
            continue
        if active.strikes_now(None, fault.every):
            if isinstance(fault, Delay):
                delays.append(active)
            else:
                main = active
            faults.use(active, now_ms)
    return delays, main


def _meets(fault: CallFault, asked: Asked) -> bool:
    return (
        fault.path in ("", asked.path, asked.ws_method)
        and fault.method in ("", asked.method)
        and fault.api_key in ("", asked.api_key)
        and fault.symbol in ("", asked.symbol)
        and fault.over in ("", asked.door)
        and (asked.places_orders or not isinstance(fault, OrderLimit))
    )


async def _carried_out(
    faults: Faults, main: Active | None, asked: Asked, execute: Callable[[], Awaitable[T]], now_ms: int
) -> T:
    fault = main.fault if main is not None else None
    match fault:
        case Refuse():
            if fault.code is None:
                raise HtmlError(fault.status, "Service refused.")
            raise ApiError(fault.code, fault.msg or "Refused.", fault.status)
        case OrderLimit():
            retry = {"Retry-After": str(math.ceil(fault.seconds))}
            raise ApiError(-1015, TOO_MANY_ORDERS, 429, retry)
        case RateLimit():
            assert main is not None
            raise _rate_limited(faults, main, fault, asked, now_ms)
        case Unknown():
            if fault.executed:
                await _regardless(execute)
            raise ApiError(fault.code, UNKNOWN_STATUS[fault.code], fault.status)
        case Html():
            if fault.executed:
                await _regardless(execute)
            raise HtmlError(fault.status, "The server returned an invalid or incomplete response.")
        case LoseAck():
            await _regardless(execute)
            raise Cut
    return await execute()


async def _regardless(execute: Callable[[], Awaitable[T]]) -> None:
    """Execute a call whose answer, good or bad, nobody will see."""
    try:
        await execute()
    except ApiError:
        pass


def _rate_limited(faults: Faults, active: Active, fault: RateLimit, asked: Asked, now_ms: int) -> ApiError:
    seconds = active.wall_s(fault.seconds)
    faults.banned[asked.address] = (now_ms + math.ceil(seconds * 1000), active.id)
    return ApiError(
        -1003,
        TOO_MUCH_WEIGHT,
        429,
        {"Retry-After": str(math.ceil(seconds))},
    )


def _check_ban(faults: Faults, asked: Asked, now_ms: int) -> None:
    end_ms, _ = faults.banned.get(asked.address, (0, 0))
    if now_ms < end_ms:
        raise banned(end_ms, now_ms, end_ms + faults.skew_ms)


async def _wait(delays: Sequence[Active], when: str) -> None:
    for active in delays:
        assert isinstance(active.fault, Delay)
        if active.fault.when == when:
            await asyncio.sleep(active.wall_s(active.fault.seconds))
