"""The market stream of one symbol: closed one-second candles and the best bid and ask, as long as the bot lives.

Reconnects with back-off for ever. When no candle has come for `SECOND_CONNECTION_S` it opens a second connection and
keeps whichever delivers first. Filling gaps is `backfill`'s work; what stale data means for trading is the trader's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from bots.core.candles import Candle, candle_from_kline_event
from bots.core.messages import Quote

SECOND_CONNECTION_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0

log = logging.getLogger(__name__)


class MarketStream:
    """Feeds *on_candle* (with the monotonic time the frame arrived) and *on_quote* until cancelled.

    *url* is the stream host, ending in ``/``. `last_candle_at` is monotonic, None before the first candle.
    """

    def __init__(
        self,
        url: str,
        symbol: str,
        on_candle: Callable[[Candle, float], None],
        on_quote: Callable[[Quote], None],
    ) -> None:
        name = symbol.lower()
        self._url = f"{url}stream?streams={name}@kline_1s/{name}@bookTicker"
        self._on_candle = on_candle
        self._on_quote = on_quote
        self._candle_arrived = asyncio.Event()
        self._connections: set[ClientConnection] = set()
        self._newest: ClientConnection | None = None
        self.last_candle_at: float | None = None
        self.connected_at: float | None = None
        self.state = "connecting"

    def silence_s(self) -> float:
        """Seconds since the last candle arrived, or since the stream was first opened."""
        since = self.last_candle_at or self.connected_at
        return 0.0 if since is None else time.monotonic() - since

    async def run(self) -> None:
        """Keep a delivering connection open."""
        pause = FIRST_PAUSE_S
        self.connected_at = time.monotonic()
        readers: set[asyncio.Task[None]] = set()
        try:
            while True:
                began = time.monotonic()
                readers.add(asyncio.create_task(self._read()))
                await self._until_silent_or_over(readers)
                if self.last_candle_at is not None and self.last_candle_at > began:
                    pause = FIRST_PAUSE_S
                readers = {r for r in readers if not r.done()}
                while len(readers) > 1:
                    readers.pop().cancel()
                if not readers:
                    self.state = "reconnecting"
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(pause * 2, LONGEST_PAUSE_S)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def _until_silent_or_over(self, readers: set[asyncio.Task[None]]) -> None:
        """Return when every connection has ended, or when none delivered a candle for too long."""
        while True:
            self._candle_arrived.clear()
            arrived = asyncio.create_task(self._candle_arrived.wait())
            try:
                done, _ = await asyncio.wait(
                    {*readers, arrived}, timeout=SECOND_CONNECTION_S, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                arrived.cancel()
            readers -= done
            if not readers:
                return
            if not done:
                self.state = "silent"
                log.warning("no candle for %.0f s, opening a second connection", SECOND_CONNECTION_S)
                return

    async def _read(self) -> None:
        try:
            async with connect(self._url, open_timeout=10, max_queue=1024, compression=None) as connection:
                self._connections.add(connection)
                try:
                    while True:
                        self._take(await connection.recv(decode=False), connection)
                finally:
                    self._connections.discard(connection)
        except (OSError, TimeoutError, WebSocketException) as error:
            log.warning("market stream lost: %s", error)

    def _take(self, frame: bytes, connection: ClientConnection) -> None:
        arrived = time.perf_counter()
        event: dict[str, Any] = json.loads(frame).get("data", {})
        if event.get("e") == "kline":
            candle = event["k"]
            if candle["x"]:
                self.last_candle_at = time.monotonic()
                self.state = "live"
                self._candle_arrived.set()
                self._drop_others(connection)
                self._on_candle(candle_from_kline_event(candle), arrived)
        elif "b" in event and "a" in event:
            self._on_quote(Quote(float(event["b"]), float(event["a"])))

    def _drop_others(self, delivering: ClientConnection) -> None:
        if len(self._connections) > 1:
            for other in self._connections - {delivering}:
                other.transport.abort()
