"""Websocket connections: who may connect, what a client has to keep to, and how a connection ends.

A `Gate` lets connections in. A `Connection` never makes the exchange wait: `send` writes at once, what the network does
not take is kept for it, and a client for whom too much is kept is dropped. What messages mean is the doors' business
(``streams.py``, ``ws_api.py``).
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

from aiohttp import ClientError, WSCloseCode, WSMsgType, web

from simulator.core.rules import ApiError, not_valid
from simulator.doors.limits import Limits
from simulator.market.clock import wall_ms

MAX_MESSAGE_BYTES = 1 << 16
MAX_READ_BYTES = 1 << 20  # a message too long is read up to here, for a client that is still sending misses the reason
MAX_WAITING_BYTES = 1 << 20  # what is kept for a client that reads too slowly
CLOSE_WITHIN_S = 0.5  # how long a client may take to say goodbye
UNITS = ("MILLISECOND", "MICROSECOND")

_FIN = 0x80


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a client has to keep to. *messages_per_s* is of all incoming frames, pings and pongs too; ``None``: any."""

    ping_s: float = 20.0
    pong_within_s: float = 60.0
    lifetime_s: float = 86_400.0
    messages_per_s: int | None = None


MARKET_TERMS = Terms(messages_per_s=5)


class Gate:
    """Lets websockets in, all on the same terms. Where limits are not enforced, any number of messages is fine."""

    def __init__(self, limits: Limits, wall: Callable[[], int], terms: Terms | None = None) -> None:
        terms = terms or Terms()
        self._limits = limits
        self._wall = wall
        self._terms = terms if limits.enforced else replace(terms, messages_per_s=None)

    def open(self, request: web.Request) -> Connection:
        """A connection for *request*; `ApiError` when its address connects too often or its URL asks for too much."""
        self._limits.count_connection(request.remote or "", self._wall())
        unit = request.query.get("timeUnit", UNITS[0]).upper()
        if unit not in UNITS:
            raise ApiError(-1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.")
        if unit != UNITS[0]:
            raise not_valid("timeUnit")
        return Connection(request, self._terms)


class Connection:
    """One client. `send` never waits; `run` serves it until it leaves, or is made to."""

    def __init__(self, request: web.Request, terms: Terms | None = None) -> None:
        self.address = request.remote or ""
        self._terms = terms or Terms()
        self._request = request
        self._socket = web.WebSocketResponse(autoping=False, max_msg_size=MAX_READ_BYTES, compress=False)
        self._transport: asyncio.Transport | None = None
        self._end: asyncio.Timeout | None = None
        self._unanswered: list[bytes] = []
        self._heard: deque[float] = deque(maxlen=(self._terms.messages_per_s or 0) + 1)

    def send(self, text: str) -> None:
        """Send a message; drops the client when too much waits for it already. Does nothing once it is gone."""
        self._write(_text_frame(text))

    def abort(self) -> None:
        """Cut the line without a closing handshake."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def close(self, code: int = WSCloseCode.GOING_AWAY, reason: str = "") -> None:
        """Close politely, giving the client a moment only."""
        try:
            with suppress(ClientError, ConnectionError):
                await asyncio.wait_for(self._socket.close(code=code, message=reason.encode()), CLOSE_WITHIN_S)
        except TimeoutError:
            self.abort()

    def shut_down(self, notice: str, grace_s: float) -> None:
        """Send *notice* now, and close *grace_s* seconds later unless the client went before."""
        self.send(notice)
        if self._end is not None and not self._end.expired():
            when = asyncio.get_running_loop().time() + grace_s
            self._end.reschedule(min(when, self._end.when() or when))

    async def run(self, opened: Callable[[], None], on_text: Callable[[str], None]) -> web.StreamResponse:
        """Shake hands, call *opened*, then hand each text message to *on_text* until the client is gone."""
        try:
            await self._socket.prepare(self._request)
        except ValueError:  # headers that are no text
            return web.Response(status=400, text="No WebSocket handshake: its headers are no text.\n")
        self._transport = self._request.transport
        pinging = asyncio.create_task(self._ping())
        try:
            async with asyncio.timeout(self._terms.lifetime_s) as self._end:
                opened()
                await self._read(on_text)
        except TimeoutError:
            await self.close()
        except (ClientError, ConnectionError):
            pass  # the client went away in the middle of something
        finally:
            self._end = None
            pinging.cancel()
        return self._socket

    async def _read(self, on_text: Callable[[str], None]) -> None:
        async for message in self._socket:
            if self._is_flooding():
                await self.close(WSCloseCode.POLICY_VIOLATION, "Too many requests")
            elif message.type is WSMsgType.TEXT:
                if len(message.data.encode()) > MAX_MESSAGE_BYTES:
                    await self.close(WSCloseCode.MESSAGE_TOO_BIG, f"Messages have at most {MAX_MESSAGE_BYTES} bytes")
                else:
                    on_text(message.data)
            elif message.type is WSMsgType.PING:
                self._write(_frame(WSMsgType.PONG, message.data))
            elif message.type is WSMsgType.PONG and message.data in self._unanswered:
                del self._unanswered[: self._unanswered.index(message.data) + 1]
            elif message.type is WSMsgType.BINARY:
                await self.close(WSCloseCode.UNSUPPORTED_DATA, "Only text is understood")

    def _is_flooding(self) -> bool:
        if self._terms.messages_per_s is None:
            return False
        now = asyncio.get_running_loop().time()
        self._heard.append(now)
        return len(self._heard) == self._heard.maxlen and now - self._heard[0] < 1

    async def _ping(self) -> None:
        """Each ping without its echo stands for `ping_s` of silence. Other pongs prove nothing."""
        while True:
            await asyncio.sleep(self._terms.ping_s)
            if len(self._unanswered) * self._terms.ping_s >= self._terms.pong_within_s:
                self.abort()
                return
            self._unanswered.append(str(wall_ms()).encode())
            self._write(_frame(WSMsgType.PING, self._unanswered[-1]))

    def _write(self, frame: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._socket.closed:
            return
        if transport.get_write_buffer_size() > MAX_WAITING_BYTES:
            transport.abort()
        else:
            transport.write(frame)


def refusal(error: ApiError) -> web.Response:
    """The answer to a handshake that is refused."""
    body = {"code": error.code, "msg": error.msg}
    return web.json_response(body, status=error.status, headers=error.headers)


def shutdown_event(now_ms: int) -> str:
    """What is said before the exchange closes connections for work on itself."""
    return json.dumps({"e": "serverShutdown", "E": now_ms}, separators=(",", ":"))


@lru_cache(maxsize=4)
def _text_frame(text: str) -> bytes:
    """Kept for a moment, because the same text goes to every listener in turn."""
    return _frame(WSMsgType.TEXT, text.encode())


def _frame(kind: WSMsgType, payload: bytes) -> bytes:
    """One whole unmasked frame, as servers send them."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", _FIN | kind, size) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", _FIN | kind, 126, size) + payload
    return struct.pack("!BBQ", _FIN | kind, 127, size) + payload
