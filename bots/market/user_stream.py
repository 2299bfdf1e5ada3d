"""The account's events over Binance's websocket API: executions and balances, for this bot's key.

Each connection subscribes with a signature of its own (`userDataStream.subscribe.signature`); a subscription ends with
its connection and nothing is replayed, so every new one calls *on_connected*, and the bot asks about its open orders.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
RECV_WINDOW_MS: Final = 5_000

log = logging.getLogger(__name__)


class UserStream:
    """Feeds *on_event* with each event's document until cancelled. *clock_offset_ms* is the exchange's minus ours."""

    def __init__(
        self,
        url: str,
        api_key: str,
        api_secret: str,
        on_event: Callable[[dict[str, Any]], None],
        on_connected: Callable[[], None],
        clock_offset_ms: Callable[[], int],
    ) -> None:
        self._url = url
        self._api_key = api_key
        self._secret = api_secret.encode()
        self._on_event = on_event
        self._on_connected = on_connected
        self._clock_offset_ms = clock_offset_ms
        self.state = "connecting"

    async def run(self) -> None:
        """Keep a subscribed connection open."""
        pause = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await self._listen()
            except (OSError, WebSocketException, _SubscriptionRefused) as error:
                log.warning("user data stream lost: %s", error)
            self.state = "reconnecting"
            if time.monotonic() - began > LONGEST_PAUSE_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _listen(self) -> None:
        async with connect(self._url, open_timeout=10, close_timeout=1, max_queue=4096, compression=None) as connection:
            await connection.send(json.dumps(self._subscription()))
            async with asyncio.timeout(10):
                answer = await connection.recv()
            if not _is_accepted(answer):
                raise _SubscriptionRefused(f"the exchange did not accept the subscription: {answer!r:.300}")
            self.state = "live"
            self._on_connected()
            async for frame in connection:
                event = _event_in(frame)
                if event.get("e") == "eventStreamTerminated":
                    raise _SubscriptionRefused("the exchange ended the subscription")
                if event:
                    self._on_event(event)

    def _subscription(self) -> dict[str, Any]:
        params: dict[str, Any] = {
            "apiKey": self._api_key,
            "recvWindow": RECV_WINDOW_MS,
            "timestamp": int(time.time() * 1000) + self._clock_offset_ms(),
        }
        payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
        params["signature"] = hmac.new(self._secret, payload.encode(), hashlib.sha256).hexdigest()
        return {"id": 1, "method": "userDataStream.subscribe.signature", "params": params}


def _is_accepted(answer: str | bytes) -> bool:
    try:
        return bool(json.loads(answer)["status"] == 200)
    except (ValueError, LookupError, TypeError):
        return False


def _event_in(frame: str | bytes) -> dict[str, Any]:
    """The event of a frame; empty for anything else, such as an answer."""
    try:
        document = json.loads(frame)
    except ValueError:
        return {}
    event = document.get("event") if isinstance(document, dict) else None
    return event if isinstance(event, dict) else {}


class _SubscriptionRefused(Exception):
    """The exchange did not accept the subscription, or ended it."""
