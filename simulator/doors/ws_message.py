"""One request to the websocket API, read from its JSON, and the answer's frame around a result.

Pure. Numbers keep the very digits they were sent with, because they are part of what is signed. Who sent the request
and what it does is ``ws_api.py``'s business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from simulator.core.rules import ApiError, illegal, mandatory

MAX_ID_LENGTH = 36
_INT64 = range(-(1 << 63), 1 << 63)
_INTEGER = re.compile(r"-?[0-9]{1,19}")


class Digits(str):
    """A JSON number as it was written."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request. *values* holds its parameters as texts, *returns_limits* is ``None`` when it does not say."""

    method: str
    values: Mapping[str, str]
    signed_text: bytes
    returns_limits: bool | None

    @property
    def api_key(self) -> str | None:
        """The key named in the request itself."""
        return self.values.get("apiKey")

    def is_signed(self) -> bool:
        """Does it name a key or carry a signature of its own?"""
        return "apiKey" in self.values or "signature" in self.values


def json_object(text: str) -> dict[str, object]:
    """The object that *text* is; -1135 when it is none, -1101 when a name comes twice in one object."""
    try:
        found = json.loads(
            text, parse_int=Digits, parse_float=Digits, parse_constant=_not_json, object_pairs_hook=_without_doubles
        )
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ApiError(-1135, "Invalid JSON Request")
    return found


def id_text(fields: Mapping[str, object]) -> str:
    """The request's ``id`` as JSON, to be echoed: an int64, a text of at most 36 characters, or null, also when absent.

    -1100 for anything else.
    """
    value = fields.get("id")
    if value is None:
        return "null"
    if isinstance(value, Digits):
        if _INTEGER.fullmatch(value) and int(value) in _INT64:
            return str(value)
    elif isinstance(value, str) and 0 < len(value) <= MAX_ID_LENGTH:
        return json.dumps(value)
    raise illegal("id", f"^.{{1,{MAX_ID_LENGTH}}}$")


def read_message(fields: Mapping[str, object]) -> Message:
    """The request in *fields*; `ApiError` when it has no method or its parameters are no object."""
    method = fields.get("method")
    if isinstance(method, Digits) or not isinstance(method, str) or not method:
        raise mandatory("method")
    params = fields.get("params")
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise ApiError(-1135, "JSON sent for parameter 'params' is not valid")
    values = {name: _plain(value) for name, value in params.items() if value is not None}
    signed = "&".join(f"{name}={value}" for name, value in sorted(values.items()) if name != "signature")
    returns_limits = values.pop("returnRateLimits", None)
    return Message(
        method.removeprefix("v3/"),
        values,
        signed.encode("utf-8", "surrogatepass"),
        None if returns_limits is None else flag("returnRateLimits", returns_limits),
    )


def flag(name: str, value: str) -> bool:
    """true or false; -1100 otherwise."""
    if value not in ("true", "false"):
        raise illegal(name, "true|false")
    return value == "true"


def answer_text(request_id: str, status: int, body: Mapping[str, object]) -> str:
    """An answer as sent; *request_id* is JSON already."""
    rest = json.dumps(body, separators=(",", ":"))
    return f'{{"id":{request_id},"status":{status},{rest[1:]}'


def event_text(subscription: int, event: str) -> str:
    """A user event as sent; *event* is JSON already."""
    return f'{{"subscriptionId":{subscription},"event":{event}}}'


def _plain(value: object) -> str:
    if isinstance(value, str):
        return str(value)
    return json.dumps(value, separators=(",", ":"))


def _not_json(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        double = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise ApiError(-1101, f"Duplicate values for parameter '{double[:40]}'.")
    return found
