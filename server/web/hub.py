"""One thread that draws what all streams show, and hands each its news.

The thread starts with the first viewer and ends when none is left. It looks at most four times a second whether the
database has changed, draws each distinct request once for all who share it, and is in no transaction in between. A
viewer gets its next lines when it has taken those before, so none is waited for and none piles up; the stream drops a
client that takes nothing, which comes back with the last event id it has, and misses nothing.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from server.security.sessions import still_allowed
from server.storage.engine import read
from server.storage.models import Event, SupervisorBeat
from server.storage.times import now_ms
from server.web.live import Drawing, LiveRequest
from shared.errors import FlotillaError

log = structlog.get_logger(__name__)

MAX_VIEWERS = 40
MAX_WAITING = 500
SUPERVISOR_SILENT_MS = 15_000
_LOOK_EVERY_S = 0.25
_DRAW_AFTER_S = 0.249
_DRAW_EVERY_S = 2.0
_CHECK_EVERY_S = 2.0
_LARGEST_SHARE = 0.25

DrawAny = Callable[[Connection, LiveRequest, int], Drawing]
Context = Callable[[], AbstractContextManager[object]]


class StreamsFull(FlotillaError):
    """All streams are taken."""

    code = "busy"
    http_status = 503


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What a viewer has not sent yet: changed parts, added lines, changed data, and the event id they lead up to.

    *order* is set when the parts' ids or their order changed. *trouble* says why figures may be old; None: nothing.
    """

    upto: int
    order: tuple[str, ...] | None
    parts: Mapping[str, str]
    added: Mapping[str, Sequence[tuple[int, str]]]
    data: Mapping[str, str]
    trouble: str | None


@dataclass(slots=True)
class Viewer:
    """One stream. Fields are the hub's; the stream waits for and takes `News`."""

    request: LiveRequest
    token_id: int | None
    last_id: int
    is_over: bool = False
    is_due: bool = True
    drawn_at: float = -math.inf
    trouble: str | None = None
    ready: threading.Event = field(default_factory=threading.Event)
    _order: tuple[str, ...] | None = None
    _parts: dict[str, str] = field(default_factory=dict)
    _data: dict[str, str] = field(default_factory=dict)
    _waiting: News | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, timeout_s: float) -> News | None:
        """What is new, waiting up to *timeout_s* for it."""
        self.ready.wait(timeout_s)
        with self._lock:
            self.ready.clear()
            news, self._waiting = self._waiting, None
        return news

    def end(self) -> None:
        """Close this stream; whoever looks at it reconnects or is sent to sign in."""
        self.is_over = True
        self.ready.set()

    def offer(self, drawing: Drawing, upto: int, trouble: str | None) -> None:
        """Note what differs from what was offered before."""
        order = tuple(drawing.parts)
        parts = {name: html for name, html in drawing.parts.items() if self._parts.get(name) != html}
        data = {name: text for name, text in drawing.data.items() if self._data.get(name) != text}
        added = {name: [line for line in lines if line[0] > self.last_id] for name, lines in drawing.added.items()}
        added = {name: lines for name, lines in added.items() if lines}
        is_new = bool(parts or data or added) or order != self._order or trouble != self.trouble
        new_order = order if order != self._order else None
        self.last_id = max(self.last_id, upto)
        self.trouble, self._order = trouble, order
        self._parts.update(parts)
        self._data.update(data)
        if is_new:
            self._add(News(upto=self.last_id, order=new_order, parts=parts, added=added, data=data, trouble=trouble))

    def worry(self, trouble: str) -> None:
        """Say that figures may be old; said once until it changes."""
        if trouble != self.trouble:
            self.trouble = trouble
            self._add(News(upto=self.last_id, order=None, parts={}, added={}, data={}, trouble=trouble))

    def is_next(self, now: float, newest: int) -> bool:
        """Whether to draw for it now: it has not had all events up to *newest*, or something changed; however often
        others make the hub look, what it had last is some time ago."""
        is_behind = self.is_due or self.last_id < newest
        return is_behind and not self.is_full and now >= self.drawn_at + _DRAW_AFTER_S

    @property
    def is_full(self) -> bool:
        """It has not taken the lines that wait for it."""
        with self._lock:
            return self._waiting is not None and sum(map(len, self._waiting.added.values())) >= MAX_WAITING

    def _add(self, news: News) -> None:
        with self._lock:
            before = self._waiting
            self._waiting = news if before is None else _merged(before, news)
            self.ready.set()


def _merged(before: News, after: News) -> News:
    added = {name: list(lines) for name, lines in before.added.items()}
    for name, lines in after.added.items():
        added.setdefault(name, []).extend(lines)
    return News(
        upto=after.upto,
        order=after.order if after.order is not None else before.order,
        parts={**before.parts, **after.parts},
        added=added,
        data={**before.data, **after.data},
        trouble=after.trouble,
    )


class Hub:
    """All streams of this process. *draw* draws a request, inside *context* (the app's)."""

    def __init__(self, engine: Engine, draw: DrawAny, context: Context) -> None:
        self._engine, self._draw, self._context = engine, draw, context
        self._viewers: list[Viewer] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_closed = False
        self._newest = 0
        self._thread: threading.Thread | None = None

    @property
    def count(self) -> int:
        """How many streams are open."""
        return len(self._viewers)

    def join(self, request: LiveRequest, token_id: int | None, after: int) -> Viewer:
        """A new stream of what happens after event *after*. Raises `StreamsFull`."""
        viewer = Viewer(request, token_id, after)
        with self._lock:
            if self._is_closed or len(self._viewers) >= MAX_VIEWERS:
                raise StreamsFull(f"All {MAX_VIEWERS} live connections are taken. Try again in ten seconds.")
            self._viewers.append(viewer)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live hub", daemon=True)
                self._thread.start()
        self._wake.set()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """The stream is closed."""
        with self._lock:
            viewer.is_over = True
            if viewer in self._viewers:
                self._viewers.remove(viewer)

    def close(self) -> None:
        """End all streams; no new one is taken."""
        self._is_closed = True
        for viewer in list(self._viewers):
            viewer.end()
        self._wake.set()

    def _run(self) -> None:
        look = _Look(self._engine)
        checked = 0.0
        try:
            while viewers := self._viewers_or_end():
                began = time.monotonic()
                if began - checked >= _CHECK_EVERY_S:
                    self._end_disallowed(viewers)
                    checked = began
                self._tell(viewers, look, began)
                took = time.monotonic() - began
                # However much there is to draw, most of the processor is left to requests.
                self._wake.wait(max(_LOOK_EVERY_S - took, took * (1 / _LARGEST_SHARE - 1)))
                self._wake.clear()
        except Exception:  # a bug: the pages come back and get another thread
            log.exception("live_hub_failed")
            with self._lock:
                self._thread = None
                for viewer in self._viewers:
                    viewer.end()
        finally:
            look.close()

    def _viewers_or_end(self) -> list[Viewer]:
        with self._lock:
            viewers = [] if self._is_closed else [viewer for viewer in self._viewers if not viewer.is_over]
            if not viewers:
                self._thread = None
            return viewers

    def _end_disallowed(self, viewers: Sequence[Viewer]) -> None:
        try:
            with read(self._engine) as connection:
                allowed = still_allowed(connection, {v.token_id for v in viewers if v.token_id is not None})
        except SQLAlchemyError:
            return  # nobody can be asked; the pages say that their figures are old
        for viewer in viewers:
            if viewer.token_id is not None and allowed.get(viewer.token_id) != viewer.request.role:
                viewer.end()

    def _tell(self, viewers: Sequence[Viewer], look: _Look, now: float) -> None:
        try:
            if look.is_due(now):
                for viewer in viewers:
                    viewer.is_due = True
            viewers = [viewer for viewer in viewers if viewer.is_next(now, self._newest)]
            if not viewers:
                return
            with self._context(), read(self._engine) as connection:
                self._newest = newest = connection.execute(select(func.max(Event.id))).scalar() or 0
                trouble = _trouble(connection)
                for viewer in viewers:
                    viewer.drawn_at, viewer.is_due = now, False
                    # The number may be from a database that was replaced by an older copy.
                    viewer.last_id = min(viewer.last_id, newest)
                for (request, after), sharing in _grouped(viewers):
                    self._show(connection, request, after, newest, trouble, sharing)
        except SQLAlchemyError as error:
            log.warning("live_drawing_failed", error=str(error).splitlines()[0])
            look.forget()
            for viewer in viewers:
                viewer.is_due = True
                viewer.worry("The database cannot be read just now; the figures are as they were.")

    def _show(
        self,
        connection: Connection,
        request: LiveRequest,
        after: int,
        newest: int,
        trouble: str | None,
        sharing: Sequence[Viewer],
    ) -> None:
        try:
            drawing = self._draw(connection, request, after)
        except SQLAlchemyError:
            raise
        except FlotillaError:  # what the page is about is gone; the page says so when it is fetched again
            for viewer in sharing:
                viewer.end()
            return
        except Exception:
            log.exception("live_view_failed", view=request.view)
            for viewer in sharing:
                viewer.worry("This page cannot be drawn anew; reload it. The server's log says why.")
            return
        for viewer in sharing:
            viewer.offer(drawing, newest if drawing.upto is None else drawing.upto, trouble)
        if drawing.upto is not None and drawing.upto < newest:
            for viewer in sharing:  # there is more, and it is wanted at once
                viewer.is_due, viewer.drawn_at = True, -math.inf
            self._wake.set()


def _grouped(viewers: Sequence[Viewer]) -> Iterator[tuple[tuple[LiveRequest, int], list[Viewer]]]:
    groups: dict[tuple[LiveRequest, int], list[Viewer]] = {}
    for viewer in viewers:
        groups.setdefault((viewer.request, viewer.last_id), []).append(viewer)
    yield from groups.items()


def _trouble(connection: Connection) -> str | None:
    """Why what the database says may be old."""
    beat_ms = connection.execute(select(func.max(SupervisorBeat.beat_ms))).scalar()
    if beat_ms is None:
        return "No supervisor has run yet: nothing is started or watched. Start it with `flotilla up`."
    if now_ms() - beat_ms > SUPERVISOR_SILENT_MS:
        return "The supervisor is silent: what bots report is not read. They go on guarding their positions."
    return None


class _Look:
    """Whether to draw: the database has changed, or the last drawing is some seconds old (ages pass their limits).

    SQLite tells a change by a number that a connection can ask without reading anything; that connection is in no
    transaction. Other databases are drawn from once a second.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._version: int | None = None
        self._due_at = 0.0

    def is_due(self, now: float) -> bool:
        version = self._data_version()
        is_due = now >= self._due_at or (version is not None and version != self._version)
        if is_due:
            self._version = version
            self._due_at = now + (_DRAW_EVERY_S if version is not None else 1.0)
        return is_due

    def forget(self) -> None:
        """Draw at the next look, from a new connection."""
        self.close()
        self._version, self._due_at = None, 0.0

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _data_version(self) -> int | None:
        if self._engine.dialect.name != "sqlite":
            return None
        if self._connection is None:
            self._connection = self._engine.connect()
        raw = self._connection.connection.driver_connection
        assert raw is not None
        try:
            version: int = raw.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            return None  # the drawing will say what is wrong
        return version
