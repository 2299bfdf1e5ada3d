"""The stream for programs: what happens, event by event, and how each bot stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flask import Response, request
from pydantic import BaseModel, Field
from sqlalchemy import Connection, func, select

from server.api.wire import MAX_ID, blueprint, caller, engine
from server.security.roles import Role, needs
from server.storage import queries
from server.storage.engine import read
from server.storage.models import Event
from server.web.hub import News
from server.web.live import Drawing, LiveRequest, live_view
from server.web.stream import LAST_ID, open_stream
from shared.errors import Refused

api = blueprint("stream", "What happens, as it happens")

STREAMED = (
    "status", "order", "fill", "position", "stats", "balance", "risk", "error", "alert", "started", "ready", "exit",
    "config.applied", "config.rejected", "command.done",
)  # fmt: skip
"""The types of events that are sent; heartbeats and log lines are read page by page."""
MAX_EVENTS = 500
MAX_BOTS = 500
_BEAT_EVERY_S = 15.0
_EXAMPLE = """\
event: bot
data: {"id": 3, "name": "eth-rsi", "status": "running", "desired_state": "running", "pnl_today": "12.06"}

id: 8841
event: fill
data: {"v": 1, "bot_id": 3, "run_id": "3.7", "seq": 17, "ts": 1760000000123, "type": "fill", "data": {"trade_id": 5}}

"""
_STREAM = {
    "description": (
        "Server-Sent Events without end. Named `bot`: a bot as GET /api/bots/{id} shows it, for every bot at the start "
        "and whenever it changes. Named like its type: an event, with its number as `id`. A client that reconnects "
        "with `Last-Event-ID` gets what it missed; one that names none gets what happens from now on. A comment every "
        "15 seconds is a sign of life. 503 with `Retry-After` if all 40 streams are taken."
    ),
    "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
}


class StreamQuery(BaseModel):
    """What of it."""

    bot_id: int | None = Field(None, ge=1, le=MAX_ID, description="Only this bot.", json_schema_extra={"example": 3})
    after: int | None = Field(
        None,
        ge=0,
        le=LAST_ID,
        description="Begin after this event's number; `Last-Event-ID` has precedence.",
        json_schema_extra={"example": 8840},
    )


@api.get("/api/stream", responses={200: _STREAM})
@needs(Role.VIEWER)
def stream(query: StreamQuery) -> Response:
    """Bots, orders, fills, positions, figures and alerts, as they change."""
    given = request.headers.get("Last-Event-ID")
    if given is not None and not (given.isascii() and given.isdigit() and int(given) <= LAST_ID):
        raise Refused("The Last-Event-ID is no number of an event.", fields={"Last-Event-ID": "send the last `id`"})
    with read(engine()) as connection:
        if query.bot_id is not None:
            queries.bot_row(connection, query.bot_id)
        newest = connection.execute(select(func.max(Event.id))).scalar() or 0
    after = int(given) if given is not None else query.after if query.after is not None else newest
    params = () if query.bot_id is None else (("bot_id", str(query.bot_id)),)
    wanted = LiveRequest(view="api", role=Role(caller().role), params=params)
    return open_stream(wanted, after, _message, lambda: ": still here\n\n", beat_every_s=_BEAT_EVERY_S)


@live_view("api")
def draw(connection: Connection, wanted: LiveRequest, after: int) -> Drawing:
    """Events after *after*, up to a page of them, and each bot's document."""
    only = int(wanted.get("bot_id", "0")) or None
    events = select(Event).where(Event.id > after, Event.type.in_(STREAMED)).order_by(Event.id).limit(MAX_EVENTS)
    rows = connection.execute(events if only is None else events.where(Event.bot_id == only)).all()
    lines = tuple((row.id, _text(queries.event_document(row), f"id: {row.id}\nevent: {row.type}\n")) for row in rows)
    bots = (
        queries.bot_rows(connection, limit=MAX_BOTS)[:MAX_BOTS] if only is None else [queries.bot_row(connection, only)]
    )
    documents = queries.bot_documents(connection, bots)
    return Drawing(
        added={"events": lines},
        data={str(document["id"]): _text(document, "event: bot\n") for document in documents},
        upto=lines[-1][0] if len(lines) == MAX_EVENTS else None,
    )


def _text(document: dict[str, Any], head: str) -> str:
    return f"{head}data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _message(news: News) -> Iterator[str]:
    for _, text in news.added.get("events", ()):
        yield text
    yield from news.data.values()
    yield f"id: {news.upto}\n\n"
