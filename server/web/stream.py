"""Server-Sent Events: a page's changed parts as they change.

A page connects to ``/live/<view>`` with its own query and the last event id it knows; a browser that reconnects says so
itself (``Last-Event-ID``). The first message brings every part, so nothing falls between page and stream.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from flask import Flask, Response, current_app, request
from sqlalchemy import Connection, Engine
from werkzeug.exceptions import NotFound

from server.api.wire import caller, error_response
from server.security.roles import Role, needs
from server.storage.times import now_ms
from server.web.hub import Hub, News, StreamsFull, Viewer
from server.web.live import VIEWS, Drawing, LiveRequest, draw_macro, drawing
from server.web.shell import alarms_of, halt_words, web

BEAT_EVERY_S = 5.0
RETRY_AFTER_S = 10
LAST_ID = 2**63 - 1
_WAIT_S = 1.0
_MAX_BACKLOG = 500_000  # below the server's own limit, at which a write would wait without end
_PATIENCE_S = 10.0
_LOOK_S = 0.1
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}

_WITHOUT_FRAME = {"api"}
# Part → macro, in the order of the page; what stands behind the page's own parts is in _FRAME_BELOW.
_FRAME = {"halted": "halted_note", "kill": "kill"}
_FRAME_BELOW = {"kill-low": "kill_low"}

_encoded = lru_cache(maxsize=1024)(json.dumps)


def make_hub(app: Flask, engine: Engine) -> Hub:
    """The hub of this app's streams."""
    return Hub(engine, draw, lambda: app.test_request_context("/"))


def draw(connection: Connection, wanted: LiveRequest, after: int) -> Drawing:
    """The parts of a view, with those of the frame that all pages have."""
    with drawing():
        page = VIEWS[wanted.view](connection, wanted, after)
        if wanted.view in _WITHOUT_FRAME:
            return page
        halted = halt_words(connection)
        frame = {id_: draw_macro("_frame.html", macro, halted) for id_, macro in _FRAME.items()}
        below = {id_: draw_macro("_frame.html", macro, halted) for id_, macro in _FRAME_BELOW.items()}
    data = {"alarms": str(alarms_of(connection))}
    return Drawing(parts={**frame, **page.parts, **below}, added=page.added, data={**data, **page.data}, upto=page.upto)


@web.get("/live/<view>")
@needs(Role.VIEWER)
def live_stream(view: str) -> Response:
    """What changes in a page, as it changes."""
    if view not in VIEWS or view in _WITHOUT_FRAME:
        raise NotFound
    params = tuple(sorted((name, value[:200]) for name, value in request.args.items() if name != "after"))
    wanted = LiveRequest(view=view, role=Role(caller().role), params=params[:20])
    return open_stream(wanted, _last_event_id(), page_message, beat, beat_every_s=BEAT_EVERY_S)


def open_stream(
    wanted: LiveRequest,
    after: int,
    message: Callable[[News], Iterator[str]],
    heartbeat: Callable[[], str],
    *,
    beat_every_s: float,
) -> Response:
    """A stream of *wanted* from event *after* on; 503 if all are taken."""
    hub: Hub = current_app.extensions["flotilla.hub"]
    try:
        viewer = hub.join(wanted, caller().token_id, after)
    except StreamsFull as full:
        return error_response(503, full.code, full.message, Retry_After=str(RETRY_AFTER_S))
    is_gone = request.environ.get("waitress.client_disconnected")
    body = _Stream(hub, viewer, message, heartbeat, beat_every_s, is_gone)
    return Response(body, 200, _HEADERS, mimetype="text/event-stream")


def _last_event_id() -> int:
    """The last event that the page has; 0 if it names none."""
    text = request.headers.get("Last-Event-ID") or request.args.get("after") or "0"
    return min(int(text), LAST_ID) if text.isascii() and text.isdigit() and len(text) < 20 else 0


class _Stream:
    """The body of a stream's answer. It ends when the hub ends it, or the client is gone or takes nothing."""

    def __init__(
        self,
        hub: Hub,
        viewer: Viewer,
        message: Callable[[News], Iterator[str]],
        heartbeat: Callable[[], str],
        beat_every_s: float,
        is_gone: Any,
    ) -> None:
        self._hub, self._viewer, self._message, self._heartbeat = hub, viewer, message, heartbeat
        self._beat_every_s, self._is_gone = beat_every_s, is_gone
        # The probe is a method of the server's channel, which knows how much the client has not taken yet.
        self._channel = getattr(is_gone, "__self__", None)

    def __iter__(self) -> Iterator[bytes]:
        viewer = self._viewer
        try:
            yield b"retry: 1000\n\n"
            beat_at = time.monotonic()
            while not viewer.is_over and not (self._is_gone and self._is_gone()):
                if not self._is_taking():
                    return
                news = viewer.take(_WAIT_S)
                if news is not None:
                    yield "".join(self._message(news)).encode()
                if time.monotonic() >= beat_at:
                    yield self._heartbeat().encode()
                    beat_at = time.monotonic() + self._beat_every_s
        finally:
            self.close()

    def _is_taking(self) -> bool:
        """Wait while much is under way to the client; False if it takes nothing of it for some seconds."""
        least, deadline = self._backlog, time.monotonic() + _PATIENCE_S
        while self._backlog > _MAX_BACKLOG and not self._viewer.is_over:
            if self._backlog < least:
                least, deadline = self._backlog, time.monotonic() + _PATIENCE_S
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        return True

    @property
    def _backlog(self) -> int:
        return getattr(self._channel, "total_outbufs_len", 0)

    def close(self) -> None:
        """Called by the server, whatever happened; also if the stream was never begun."""
        self._hub.leave(self._viewer)


def page_message(news: News) -> Iterator[str]:
    """*news* as one message of the page's stream."""
    fields = {"now": str(now_ms()), "trouble": json.dumps(news.trouble)}
    if news.order is not None:
        fields["order"] = json.dumps(news.order)
    if news.parts:
        fields["parts"] = _object({name: _encoded(html) for name, html in news.parts.items()})
    if news.added:
        texts = {name: "".join(html for _, html in lines) for name, lines in news.added.items()}
        fields["added"] = _object({name: json.dumps(html) for name, html in texts.items()})
    if news.data:
        fields["data"] = _object(news.data)
    yield f"id: {news.upto}\ndata: {_object(fields)}\n\n"


def _object(values: Mapping[str, str]) -> str:
    """A JSON object of values that are JSON texts already; on one line."""
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in values.items()) + "}"


def beat() -> str:
    """A sign of life with the server's time."""
    return f"event: beat\ndata: {now_ms()}\n\n"
