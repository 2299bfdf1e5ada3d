"""What pages show live: each page names the parts that change, and how to draw them again.

A page's template is complete by itself. Its live view draws the same parts (by the same macros) as fragments, each the
outer HTML of the element with that id; `server.web.stream` sends those that differ from what the page has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from flask import current_app
from sqlalchemy import Connection

from server.security.roles import Role

_drawing: ContextVar[bool] = ContextVar("drawing a live fragment", default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRequest:
    """What a stream shows. Equal requests share one drawing, so nothing in it may be secret or per session.

    *params* are the query's values that the view reads.
    """

    view: str
    role: Role
    params: tuple[tuple[str, str], ...] = ()

    def get(self, name: str, default: str = "") -> str:
        """A query value."""
        return dict(self.params).get(name, default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """*parts*: id → outer HTML, in the order in which they stand in the page; sent when it differs from what was sent
    last. A page that lacks one of them, or has them in another order, fetches itself again.

    *added*: lines that are appended to the element with that id, as ``(event id, HTML)`` in order; a page gets those
    after the last one that it has. *data*: JSON texts for scripts (a chart's candle), sent when they differ: the script
    hears the event ``live:<name>`` on the document. *upto*: the last event id that *added* covers, if there are more.
    """

    parts: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, tuple[tuple[int, str], ...]] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    upto: int | None = None


Draw = Callable[[Connection, LiveRequest, int], Drawing]
"""``(connection, request, newest event id that the page has)``; at most four times a second for equal requests."""

VIEWS: dict[str, Draw] = {}


def live_view(name: str) -> Callable[[Draw], Draw]:
    """Register how the parts of page *name* are drawn."""

    def register(draw: Draw) -> Draw:
        VIEWS[name] = draw
        return draw

    return register


class IsLive:
    """``is_live`` in templates and macros: true while a fragment is drawn for streams."""

    def __bool__(self) -> bool:
        return _drawing.get()


@contextmanager
def drawing() -> Iterator[None]:
    """The block draws fragments."""
    token = _drawing.set(True)
    try:
        yield
    finally:
        _drawing.reset(token)


def draw_macro(template: str, macro: str, *values: Any) -> str:
    """The HTML that *macro* of *template* makes of *values*: the same in a page and in its stream."""
    return str(getattr(current_app.jinja_env.get_template(template).module, macro)(*values)).strip()
