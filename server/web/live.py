"""What pages show live: each page names the parts that change, and how to draw them again.

A page's template is complete by itself. Its live view draws the same parts (by the same macros) as fragments, each the
outer HTML of the element with that id; `server.web.stream` sends those that differ from what the page has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection

from server.security.roles import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRequest:
    """What a stream shows. Equal requests share one drawing, so nothing in it may be secret or per session.

    *params* are the query's values that the view reads; *after* is the id of the last event the page has seen.
    """

    view: str
    role: Role
    params: tuple[tuple[str, str], ...] = ()

    def get(self, name: str, default: str = "") -> str:
        """A query value."""
        return dict(self.params).get(name, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """*parts*: id → outer HTML, sent when it differs from what was sent last. *added*: lines that are appended to the
    element with that id, as ``(event id, HTML)`` in order; a page gets those after the last one that it has. *data*:
    named messages for scripts (a chart's candle), JSON text, sent when they differ."""

    parts: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, tuple[tuple[int, str], ...]] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)


Draw = Callable[[Connection, LiveRequest, int], Drawing]
"""``(connection, request, newest event id that the page has)``; at most four times a second for equal requests."""

VIEWS: dict[str, Draw] = {}


def live_view(name: str) -> Callable[[Draw], Draw]:
    """Register how the parts of page *name* are drawn."""

    def register(draw: Draw) -> Draw:
        VIEWS[name] = draw
        return draw

    return register
