"""Control messages of market streams: what a client asks for, or the exchange's own error about it.

Pure: text in, a ``Control`` out. Carrying it out is ``streams.py``'s business.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_ID = re.compile(r"[a-zA-Z0-9-_]{1,36}")


class BadControl(Exception):
    """A control message that cannot be served. *code* 0: no such property, 1: wrong type of value, 2: not a valid
    request, 3: not JSON."""

    def __init__(self, code: int, msg: str, request_id: object = None) -> None:
        super().__init__(msg)
        self.code, self.msg, self.request_id = code, msg, request_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A well-formed message: *streams* to subscribe or unsubscribe, or the *value* to set ``combined`` to."""

    method: str
    request_id: object
    streams: tuple[str, ...] = ()
    value: bool = False


def parse(text: str) -> Control:
    """The message in *text*. Raises `BadControl`."""
    message = _json(text)
    request_id = _request_id(message.get("id"))
    try:
        return _control(text, message, request_id)
    except BadControl as error:
        error.request_id = request_id
        raise


def invalid(what: str) -> BadControl:
    """Code 2."""
    return BadControl(2, f"Invalid request: {what}")


def _control(text: str, message: dict[str, object], request_id: object) -> Control:
    method, params = _method(text, message), message.get("params", [])
    if not isinstance(params, list):
        raise invalid("params must be an array")
    match method:
        case "LIST_SUBSCRIPTIONS":
            if params:
                raise invalid("too many parameters")
            return Control(method=method, request_id=request_id)
        case "SET_PROPERTY":
            _property(params, 2)
            if len(params) < 2 or not isinstance(params[1], bool):
                raise BadControl(1, "Invalid value type: expected Boolean")
            return Control(method=method, request_id=request_id, value=params[1])
        case "GET_PROPERTY":
            _property(params, 1)
            return Control(method=method, request_id=request_id)
    if not params or not all(isinstance(name, str) for name in params):
        raise invalid("params must be an array of stream names")
    return Control(method=method, request_id=request_id, streams=tuple(params))


def _json(text: str) -> dict[str, object]:
    try:
        message = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadControl(3, f"Invalid JSON: expected value at line {error.lineno} column {error.colno}") from None
    except (ValueError, RecursionError):
        raise BadControl(3, "Invalid JSON: expected value at line 1 column 1") from None
    if not isinstance(message, dict):
        raise invalid("the message must be an object")
    return message


def _method(text: str, message: dict[str, object]) -> str:
    if "method" not in message:
        raise invalid(f"missing field `method` at line 1 column {len(text)}")
    method = message["method"]
    if not isinstance(method, str) or method not in METHODS:
        known = ", ".join(f"`{name}`" for name in METHODS)
        shown = method[:40] if isinstance(method, str) else type(method).__name__
        column = text.find(shown) + len(shown) + 1
        raise invalid(f"unknown variant `{shown}`, expected one of {known} at line 1 column {column}")
    return method


def _property(params: list[object], most: int) -> None:
    if len(params) > most:
        raise invalid("too many parameters")
    if not params or not isinstance(params[0], str):
        raise invalid("property name must be a string")
    if params[0] != "combined":
        raise BadControl(0, "Unknown property")


def _request_id(value: object) -> object:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63):
        return value
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise invalid("request ID must be an unsigned integer")
