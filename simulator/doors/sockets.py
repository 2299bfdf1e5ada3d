"""A websocket connection that never makes the exchange wait.

Messages go into a bounded queue that a task of the connection empties; a client too slow to keep up is dropped. Pings
every 20 s; a client that does not answer within 60 s is dropped too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from aiohttp import ClientError, WSCloseCode, WSMsgType, web

MAX_QUEUED = 4096
PING_S, PONG_WITHIN_S = 20.0, 60.0
MAX_MESSAGE_BYTES = 1 << 16


class Connection:
    """One client. `send` never blocks; `run` serves it until it leaves."""

    def __init__(self, request: web.Request) -> None:
        self.address = request.remote or ""
        self._request = request
        self._socket = web.WebSocketResponse(autoping=False, max_msg_size=MAX_MESSAGE_BYTES, compress=False)
        self._queue: deque[str] = deque()
        self._filled = asyncio.Event()
        self._pong_at = 0.0

    def send(self, text: str) -> None:
        """Queue a message; drops the client when too many wait."""
        if len(self._queue) >= MAX_QUEUED:
            self.abort()
            return
        self._queue.append(text)
        self._filled.set()

    def abort(self) -> None:
        """Cut the line without a closing handshake."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def close(self, code: int = WSCloseCode.GOING_AWAY) -> None:
        """Close politely, giving the client a moment only."""
        with suppress(TimeoutError, ClientError, ConnectionError):
            await asyncio.wait_for(self._socket.close(code=code), 0.5)

    async def run(self, opened: Callable[[], None], on_text: Callable[[str], None]) -> web.WebSocketResponse:
        """Shake hands, call *opened*, then hand each text message to *on_text* until the client is gone."""
        await self._socket.prepare(self._request)
        self._pong_at = asyncio.get_running_loop().time()
        opened()
        tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._ping())]
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    on_text(message.data)
                elif message.type is WSMsgType.PING:
                    await self._socket.pong(message.data)
                elif message.type is WSMsgType.PONG:
                    self._pong_at = asyncio.get_running_loop().time()
        except (ClientError, ConnectionError):
            pass  # the client went away in the middle of something
        finally:
            for task in tasks:
                task.cancel()
        return self._socket

    async def _write(self) -> None:
        with suppress(ClientError, ConnectionError):
            while True:
                while self._queue:
                    await self._socket.send_str(self._queue.popleft())
                self._filled.clear()
                await self._filled.wait()

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ClientError, ConnectionError):
            while True:
                await asyncio.sleep(PING_S)
                if loop.time() - self._pong_at > PONG_WITHIN_S:
                    self.abort()
                    return
                await self._socket.ping(str(int(loop.time() * 1000)).encode())
