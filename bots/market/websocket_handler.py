"""The market stream of one symbol: closed one-second candles and the best bid and ask, as long as the bot lives.

Reconnects with back-off for ever. When no candle has come for `SECOND_CONNECTION_S` it opens a second connection and
keeps whichever delivers first; while both stay silent it replaces the older one, ever more seldom. Filling gaps is
`backfill`'s work; what stale data means for trading is the trader's.
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
LONGEST_PATIENCE_S: Final = 60.0

log = logging.getLogger(__name__)


class MarketStream:
    """Feeds *on_candle* (with the monotonic time the frame arrived) and *on_quote* until cancelled.

    *url* is the stream host, ending in ``/``. What a callback raises ends `run`.
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
        self._last_candle_at: float | None = None
        self.state = "connecting"

    async def run(self) -> None:
        """Keep a delivering connection open."""
        pause, patience = FIRST_PAUSE_S, SECOND_CONNECTION_S
        readers: list[asyncio.Task[None]] = []
        try:
            while True:
                began = time.monotonic()
                readers.append(asyncio.create_task(self._read()))
                await self._until_silent_or_over(readers, patience)
                if self._last_candle_at is not None and self._last_candle_at > began:
                    pause, patience = FIRST_PAUSE_S, SECOND_CONNECTION_S
                if len(readers) > 1:
                    readers.pop(0).cancel()
                if readers:
                    self.state = "silent"
                    log.warning("no candle for %.0f s, opening another connection", patience)
                    patience = min(patience * 2, LONGEST_PATIENCE_S)
                else:
                    self.state = "reconnecting"
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(pause * 2, LONGEST_PAUSE_S)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)

    async def _until_silent_or_over(self, readers: list[asyncio.Task[None]], patience_s: float) -> None:
        """Return when every connection has ended, or when none delivered a candle for *patience_s*.

        Takes those that have ended out of *readers*; raises what a callback raised in one.
        """
        while True:
            self._candle_arrived.clear()
            arrived = asyncio.create_task(self._candle_arrived.wait())
            try:
                done, _ = await asyncio.wait(
                    {*readers, arrived}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                arrived.cancel()
            for reader in [r for r in readers if r in done]:
                readers.remove(reader)
                reader.result()
            if not readers or not done:
                return
            if self._candle_arrived.is_set():
                patience_s = SECOND_CONNECTION_S

    async def _read(self) -> None:
        try:
            async with connect(
                self._url, open_timeout=10, close_timeout=1, max_queue=1024, compression=None
            ) as connection:
                self._connections.add(connection)
                try:
                    while True:
                        frame = await connection.recv()
                        self._take(frame, time.perf_counter(), connection)
                finally:
                    self._connections.discard(connection)
        except (OSError, WebSocketException) as error:
            log.warning("market stream lost: %s", error)

    def _take(self, frame: str | bytes, arrived: float, connection: ClientConnection) -> None:
        seen = parse_frame(frame)
        if isinstance(seen, Candle):
            self._last_candle_at = time.monotonic()
            self.state = "live"
            self._candle_arrived.set()
            self._drop_others(connection)
            self._on_candle(seen, arrived)
        elif seen is not None:
            self._on_quote(seen)

    def _drop_others(self, delivering: ClientConnection) -> None:
        if len(self._connections) > 1:
            for other in self._connections - {delivering}:
                other.transport.abort()


def parse_frame(frame: str | bytes) -> Candle | Quote | None:
    """What a frame of the combined stream says; None for a candle that is not closed yet and for anything else."""
    try:
        event: dict[str, Any] = json.loads(frame)["data"]
        if event.get("e") == "kline":
            candle = event["k"]
            return candle_from_kline_event(candle) if candle["x"] else None
        if "b" in event and "a" in event:
            return Quote(float(event["b"]), float(event["a"]))
    except (ValueError, LookupError, TypeError, AttributeError):
        log.warning("unreadable frame of the market stream: %.200r", frame)
    return None
