"""The halt file of the kill switch, as the server writes it and each local bot reads it.

That the file is there is what counts: one that is empty, damaged or made by hand with ``touch`` engages as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

HALT_FILE = "halt"
"""Its name in the home folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltOrder:
    """Who engaged the kill switch, why and when (UTC ms); and whether positions are to be closed at market as well."""

    by: str = "the halt file"
    reason: str = "no reason given"
    at_ms: int = 0
    close_positions: bool = False

    @property
    def words(self) -> str:
        """What a bot's status says while it holds."""
        return f"kill switch, by {self.by}: {self.reason}"

    def to_json(self) -> bytes:
        """The file's content."""
        return json.dumps(asdict(self)).encode() + b"\n"


def halt_order(read: Callable[[], bytes]) -> HaltOrder | None:
    """What the halt file orders that *read* reads; None where there is no such file. One that cannot be read halts."""
    try:
        return _parsed(read())
    except FileNotFoundError:
        return None
    except OSError as error:
        return HaltOrder(reason=f"the halt file cannot be read ({error.strerror})")


def _parsed(text: bytes) -> HaltOrder:
    try:
        document = json.loads(text)
    except ValueError:
        return HaltOrder()
    if not isinstance(document, dict):
        return HaltOrder()
    known: dict[str, Any] = {}
    for name, kind in (("by", str), ("reason", str), ("at_ms", int), ("close_positions", bool)):
        if isinstance(document.get(name), kind):
            known[name] = document[name]
    return HaltOrder(**known)
