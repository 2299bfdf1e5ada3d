"""Alerts by Telegram for a remote run, whose server may be out of reach. Elsewhere the supervisor sends.

Follows the run's journal, so a slow or dead Telegram never holds up a trade. What is older than ten minutes when its
turn comes is not news any more and is left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import requests

from bots.reporters.followers import LOOK_S, Follower, Tail
from shared.events import Alert, Exit, Payload, Position, Started, decode_line, from_data
from shared.states import PositionState
from shared.units import plain

TIMEOUT_S: Final = (5, 15)
STALE_MS: Final = 600_000
PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 60.0
LONGEST_TEXT: Final = 3_500
_TOLD = frozenset(kind.type for kind in (Alert, Exit, Position, Started))

log = logging.getLogger(__name__)


class TelegramReporter(Follower):
    """Sends alerts, opened and closed positions, begin and end of the run *run_id* called *name* to one chat."""

    def __init__(
        self, folder: Path, run_id: str, name: str, *, base_url: str, token: str, chat_id: str,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:  # fmt: skip
        super().__init__("telegram reporter")
        self._tail = Tail(folder, f"{run_id}.jsonl")
        self._name, self._chat_id, self._wall_ms = name, chat_id, wall_ms
        self._url = f"{base_url.rstrip('/')}/bot{token}/sendMessage"
        self._session = requests.Session()
        self._session.trust_env = False
        self._pause_s = PAUSE_S
        self._opened: set[int] = set()

    def step(self) -> float | None:
        """Send what the next lines say; none is sent twice, unless Telegram took it and lost its answer."""
        lines = self._tail.peek()
        for line in lines:
            text = self._text_of(line)
            if text is not None:
                pause_s = self._send(f"{self._name}: {text}"[:LONGEST_TEXT])
                if pause_s:
                    return pause_s
            self._tail.advance([line])
        return 0.0 if lines else LOOK_S

    def _text_of(self, line: bytes) -> str | None:
        try:
            envelope = decode_line(line)
            if envelope.type not in _TOLD or self._wall_ms() - envelope.ts > STALE_MS:
                return None
            return self._text(from_data(envelope.type, envelope.data))
        except ValueError:
            return None

    def _text(self, payload: Payload) -> str | None:
        match payload:
            case Alert(message=message):
                return message
            case Started(symbol=symbol, mode=mode, exchange=exchange):
                return f"started by hand on this host ({symbol}, {mode} on {exchange})"
            case Exit(code=code, reason=reason):
                return f"ended: {reason}" if code == 0 else f"ended with code {code}: {reason}"
            case Position(status=PositionState.ACTIVE, position_key=key) if key not in self._opened:
                self._opened.add(key)
                price = "?" if payload.entry_price is None else plain(payload.entry_price)
                return f"bought {plain(payload.quantity)} {payload.symbol} at {price}"
            case Position(status=PositionState.CLOSED):
                pnl = "?" if payload.pnl is None else plain(payload.pnl)
                return f"sold {payload.symbol}, PNL {pnl} ({payload.exit_reason})"
        return None

    def _send(self, text: str) -> float:
        """Nought if it is done with; otherwise how long to wait before it is tried again."""
        try:
            answer = self._session.post(self._url, json={"chat_id": self._chat_id, "text": text}, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            return self._failed(type(error).__name__)  # its text would show the token
        if answer.status_code == 429 or answer.status_code >= 500:
            return self._failed(f"it answered {answer.status_code}")
        if answer.status_code != 200:
            log.warning("Telegram refused a message: it answered %s", answer.status_code)
        self._pause_s = PAUSE_S
        return 0.0

    def _failed(self, why: str) -> float:
        if self._pause_s == PAUSE_S:
            log.warning("Telegram cannot be reached, alerts wait for it: %s", why)
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, LONGEST_PAUSE_S)
        return pause_s
