"""Request parameters: reading them with the exchange's own refusals, when they were sent, and what was signed.

Pure. A parameter that an endpoint does not know is refused (-1104), never ignored. Signatures are ``signing.py``'s.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from simulator.core.rules import ORDER_ID_PATTERN, ApiError, illegal, mandatory, parse_atoms
from simulator.doors.signing import is_percent_encoded

SIGNING = frozenset({"timestamp", "recvWindow", "signature"})
MAX_RECV_WINDOW = 60_000
MAX_PARAMETERS = 200
MICROSECONDS = 10**14  # a time above this is in microseconds


class Params:
    """The parameters of one call. Reading a malformed one raises the exchange's error."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def known_only(self, names: Iterable[str]) -> None:
        """Refuse parameters outside *names*."""
        unread = [name for name in self._values if name not in names]
        if unread:
            sent, read = len(self._values), len(self._values) - len(unread)
            raise ApiError(
                -1104,
                f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'. "
                f"Unread: {', '.join(sorted(unread))[:200]}.",
            )

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, pattern: str | None = None) -> str | None:
        """A text, ``None`` when not sent; -1105 when empty, -1100 outside *pattern*."""
        value = self._values.get(name)
        if value is None:
            return None
        if value == "":
            raise ApiError(-1105, f"Parameter '{name}' was empty.")
        if pattern is not None and (not re.match(pattern, value) or value.endswith("\n")):
            raise illegal(name, pattern)
        return value

    def required(self, name: str) -> str:
        """A text that must be there."""
        value = self._values.get(name)
        if not value:
            raise mandatory(name)
        return value

    def choice(self, name: str, choices: Iterable[str], error: ApiError, default: str | None = None) -> str:
        """One of *choices*; *error* otherwise. Without *default* it must be there."""
        value = self.required(name) if default is None else self.text(name) or default
        if value not in choices:
            raise error
        return value

    def integer(self, name: str) -> int | None:
        """A whole number of 1 to 20 digits."""
        value = self.text(name, ORDER_ID_PATTERN)
        return None if value is None else int(value)

    def time_ms(self, name: str) -> int | None:
        """A time in milliseconds, sent in milliseconds or microseconds."""
        value = self.integer(name)
        return value // 1000 if value is not None and value > MICROSECONDS else value

    def limit(self, default: int, maximum: int) -> int:
        """``limit``; more than *maximum* is clipped, as the exchange does."""
        value = self.integer("limit")
        if value == 0:
            raise mandatory("limit")
        return default if value is None else min(value, maximum)

    def atoms(self, name: str) -> int | None:
        """A decimal in atoms (1e-8)."""
        value = self.text(name)
        return None if value is None else parse_atoms(name, value)

    def flag(self, name: str) -> bool:
        """true or false, however capitalised; false when not sent."""
        value = (self.text(name) or "false").lower()
        if value not in ("true", "false"):
            raise illegal(name, "true|false")
        return value == "true"

    def symbol(self, listed: Mapping[str, object], required: bool = True) -> str | None:
        """``symbol``, which must be one of *listed*."""
        value = self.required("symbol") if required else self.text("symbol")
        if value is None:
            return None
        if not re.match(r"^[A-Z0-9-_.]{1,20}$", value):
            raise illegal("symbol", "^[A-Z0-9-_.]{1,20}$")
        if value not in listed:
            raise ApiError(-1121, "Invalid symbol.")
        return value

    def symbols(self, listed: Mapping[str, object]) -> list[str] | None:
        """``symbols``, a JSON array of listed ones."""
        text = self.text("symbols")
        if text is None:
            return None
        if "symbol" in self._values:
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise illegal("symbols", r'^\["[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}\]$')
        if any(name not in listed for name in names):
            raise ApiError(-1121, "Invalid symbol.")
        return names


def merged(query: str, body: str) -> dict[str, str]:
    """Parameters of query and form body; the query wins, the same name twice in one of them is -1101."""
    values: dict[str, str] = {}
    for source in (body, query):
        if not source:
            continue
        try:
            pairs = parse_qsl(source, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError:
            raise ApiError(-1101, "Too many parameters sent for this endpoint.") from None
        found = dict(pairs)
        if len(found) != len(pairs):
            double = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise ApiError(-1101, f"Duplicate values for parameter '{double}'.")
        values.update(found)
    return values


def signed_text(query: str, body: str) -> bytes | None:
    """What a REST client signs: the raw query followed by the raw body, without ``signature``, exactly as sent.

    ``None`` when it is not percent-encoded: whatever was signed, it was not this.
    """
    parts = ("&".join(p for p in text.split("&") if not p.startswith("signature=")) for text in (query, body))
    payload = "".join(parts).encode("utf-8", "surrogateescape")
    return payload if is_percent_encoded(payload) else None


def check_time(params: Params, now_ms: int) -> None:
    """-1021 unless ``timestamp`` is within ``recvWindow`` of *now_ms*."""
    params.required("timestamp")
    timestamp = params.time_ms("timestamp") or 0
    window = params.text("recvWindow", r"^[0-9]{1,5}(\.[0-9]{1,3})?$")
    window_ms = 5000.0 if window is None else float(window)
    if window_ms > MAX_RECV_WINDOW:
        raise ApiError(-1131, f"recvWindow must be less than {MAX_RECV_WINDOW}.")
    if timestamp >= now_ms + 1000:
        raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_ms - timestamp > window_ms:
        raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")
