"""The fault desk of the page: which faults can be set there, and what a submitted form asks for.

Turns a form into the JSON object that ``POST /sim/faults`` takes, so that the page and the route refuse alike. Leaves
out what faults do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldHelp:
    """One field of a kind."""

    name: str
    type: str
    required: bool
    default: object
    choices: tuple[str | int, ...]
    help: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. *example* is a body for ``POST /sim/faults``."""

    name: str
    group: str
    help: str
    example: Mapping[str, object]
    fields: tuple[FieldHelp, ...]


_PATH = FieldHelp("path", "text", False, "", (), "REST path (/api/v3/order); empty: any")
_METHOD = FieldHelp("method", "text", False, "", (), "HTTP method; empty: any")
_COUNT = FieldHelp("count", "whole", False, 1, (), "how often to strike")
_ORDER = {"path": "/api/v3/order", "method": "POST", "count": 1}

KINDS = {
    kind.name: kind
    for kind in (
        Kind("lose_ack", "requests", "The call is executed, then the connection is cut without an answer.",
             {"kind": "lose_ack", **_ORDER}, (_PATH, _METHOD, _COUNT)),
        Kind("refuse", "requests", "The call is not executed: an HTML page with the status.",
             {"kind": "refuse", **_ORDER, "status": 503},
             (_PATH, _METHOD, _COUNT, FieldHelp("status", "whole", False, 503, (), "HTTP status"))),
        Kind("silence", "streams", "Nothing arrives any more, while the connection stays open and answers pings.",
             {"kind": "silence", "stream": "btcusdt@kline_1s", "seconds": 30},
             (FieldHelp("stream", "text", False, "", (), "part of the stream's name; empty: any"),
              FieldHelp("seconds", "whole", True, None, (), "how long"))),
        Kind("disconnect", "streams", "All websocket connections are cut without a closing handshake.",
             {"kind": "disconnect"}, ()),
    )
}  # fmt: skip


def asked(form: Mapping[str, str]) -> dict[str, object]:
    """The JSON object that a submitted form stands for. Its fields are named ``kind.field``, and only those of the
    chosen kind count; what is empty is left out, numbers and truths are read."""
    chosen = form.get("kind", "")
    types = {field.name: field.type for field in KINDS[chosen].fields} if chosen in KINDS else {}
    body: dict[str, object] = {"kind": chosen}
    for key, text in form.items():
        kind, _, name = key.partition(".")
        if kind == chosen and name and text.strip():
            body[name] = _value(types.get(name, "text"), text.strip())
    return body


def _value(type_name: str, text: str) -> object:
    """What JSON would have held; a text that is none stays a text, for the check to refuse."""
    try:
        match type_name:
            case "whole":
                return int(text)
            case "number":
                return float(text)
            case "flag":
                return {"true": True, "false": False}.get(text, text)
    except ValueError:
        pass
    return text
