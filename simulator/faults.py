"""Faults on request: what goes wrong next, and how often.

Pure bookkeeping: REST and the streams ask here before they act. One switch is one ``Fault``; it disappears when used
up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

KINDS = {
    "refuse": {"status", "path", "method", "count"},
    "lose_ack": {"path", "method", "count"},
    "silence": {"stream", "seconds"},
    "disconnect": set(),
}


class BadFault(ValueError):
    """The description of a fault cannot be used; the text says why."""


@dataclass(slots=True)
class Fault:
    """`path` and `method` select requests, `stream` the streams that contain it; empty means all."""

    kind: str
    path: str = ""
    method: str = ""
    count: int = 1
    status: int = 503
    stream: str = ""
    until_ms: int = 0
    id: int = 0

    def hits(self, method: str, path: str) -> bool:
        """Does this fault meet that request?"""
        return self.path in ("", path) and self.method in ("", method)


class Faults:
    """The faults that are switched on."""

    def __init__(self) -> None:
        self._active: list[Fault] = []
        self._given = 0

    def add(self, body: Mapping[str, object], now_ms: int) -> Fault:
        """Switch one on from its JSON description; raises `BadFault`."""
        kind = body.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            raise BadFault(f"kind is {kind!r}: give one of {', '.join(KINDS)}.")
        unknown = set(body) - KINDS[kind] - {"kind"}
        if unknown:
            raise BadFault(
                f"{kind} does not take {', '.join(sorted(unknown))}: it takes {', '.join(sorted(KINDS[kind]))}."
            )
        fault = Fault(kind)
        for name in ("path", "method", "stream"):
            setattr(fault, name, _text(name, body.get(name, "")))
        fault.method = fault.method.upper()
        fault.count = _number("count", body.get("count", 1), 1, 1_000_000)
        fault.status = _number("status", body.get("status", 503), 400, 599)
        if kind == "silence":
            fault.until_ms = now_ms + 1000 * _number("seconds", body.get("seconds"), 1, 86_400)
        self._given += 1
        fault.id = self._given
        if kind != "disconnect":
            self._active.append(fault)
        return fault

    def clear(self) -> None:
        """Switch all off."""
        self._active.clear()

    def remove(self, number: int) -> bool:
        """Switch one off; false when it is not on."""
        kept = [fault for fault in self._active if fault.id != number]
        found, self._active = len(kept) < len(self._active), kept
        return found

    def listed(self, now_ms: int) -> list[dict[str, object]]:
        """What is still on."""
        self._active = [fault for fault in self._active if not fault.until_ms or fault.until_ms > now_ms]
        return [{k: v for k, v in asdict(fault).items() if v} for fault in self._active]

    def take(self, kind: str, method: str, path: str) -> Fault | None:
        """The first fault of *kind* that meets the request; counts as used once."""
        for fault in self._active:
            if fault.kind == kind and fault.hits(method, path):
                fault.count -= 1
                if not fault.count:
                    self._active.remove(fault)
                return fault
        return None

    def deliver(self, channel: str, text: str, send: Callable[[str], None], now_ms: int, owner: str = "") -> None:
        """Hand *text* to *send*, unless a fault says otherwise. *channel* is a stream's name, or for account events
        ``user@`` and the event's type; *owner* is the API key whose event it is."""
        if not any(f.kind == "silence" and f.until_ms > now_ms and f.stream in channel for f in self._active):
            send(text)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadFault(f"{name} is {value!r}: give a text.")
    return value


def _number(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadFault(f"{name} is {value!r}: give a whole number from {low} to {high}.")
    return value
