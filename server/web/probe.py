"""What an exchange says about time and our use of it: asked in the background once a minute, never waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import requests

ASK_EVERY_S = 60.0
_TIMEOUT_S = 3.0
_WEIGHT = "X-MBX-USED-WEIGHT-1M"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """*offset_ms*: the exchange's clock minus ours, good to half of *round_trip_ms*. *weight*: used by this address in
    this minute, None if the exchange does not say. *at_ms*: when it was asked (UTC)."""

    at_ms: int
    offset_ms: float | None = None
    round_trip_ms: float | None = None
    weight: int | None = None
    error: str = ""


class Probe:
    """One exchange's last answer. Reading it starts the next question where that is due."""

    def __init__(self, url: str, ask: Callable[[str], Answer]) -> None:
        self._url, self._ask = url, ask
        self._answer: Answer | None = None
        self._asked_at = float("-inf")
        self._lock = threading.Lock()

    def get_answer(self) -> Answer | None:
        """The last answer; None before the first."""
        with self._lock:
            is_due = time.monotonic() - self._asked_at >= ASK_EVERY_S
            if is_due:
                self._asked_at = time.monotonic()
        if is_due:
            threading.Thread(target=self._refresh, name="exchange clock", daemon=True).start()
        return self._answer

    def _refresh(self) -> None:
        self._answer = self._ask(self._url)


def ask_time(url: str) -> Answer:
    """Ask *url* (an exchange's ``/v3/time``) once."""
    began, at_ms = time.monotonic(), time.time() * 1000
    try:
        response = requests.get(url, timeout=_TIMEOUT_S)
        took = (time.monotonic() - began) * 1000
        theirs = float(response.json()["serverTime"])
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        return Answer(at_ms=int(at_ms), error=type(error).__name__)
    return Answer(
        at_ms=int(at_ms),
        offset_ms=theirs - (at_ms + took / 2),
        round_trip_ms=took,
        weight=_weight(response.headers),
    )


def _weight(headers: Mapping[str, str]) -> int | None:
    text = headers.get(_WEIGHT, "")
    return int(text) if text.isdigit() else None
