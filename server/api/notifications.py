"""What people were told, and the channels that it goes to."""

from __future__ import annotations

from typing import Any, Literal

from flask import Response, jsonify
from pydantic import BaseModel, Field
from sqlalchemy import Connection, func, select

from server.api.schemas import Given, list_of
from server.api.wire import PageQuery, blueprint, caller, engine, keyed, page_of
from server.notify import outbox
from server.notify.deliveries import channel_state
from server.security.roles import Role, needs
from server.storage import audit
from server.storage.engine import read
from server.storage.models import Notification
from server.storage.times import iso
from shared.errors import NotFound

api = blueprint("notifications", "What people are told, and where")

_AT = "2026-11-20T14:32:08.000Z"


class NotificationQuery(PageQuery):
    state: Literal["queued", "sent", "failed", "dropped"] | None = Field(
        None, description="Only those in this state.", json_schema_extra={"example": "failed"}
    )


class ChannelPath(BaseModel):
    channel_id: str = Field(
        max_length=64, description="The channel's id.", json_schema_extra={"example": "telegram:123456789"}
    )


class NotificationOut(Given):
    """*state*: queued, sent, failed (given up, see *error*) or dropped (its channel is no longer set up)."""

    id: int
    created_at: str = Field(description="When its cause happened.")
    channel: str
    kind: str
    bot_id: int | None
    text: str
    state: str
    attempts: int
    next_try_at: str | None
    sent_at: str | None
    error: str | None


class Channel(Given):
    """*state*: new (nothing was sent yet), ok, failing (it is tried again) or refused (somebody must act)."""

    id: str
    type: str
    source: str
    state: str
    error: str | None
    since: str | None
    queued: int


_NOTIFICATION: dict[str, Any] = {
    "id": 17,
    "created_at": _AT,
    "channel": "telegram:123456789",
    "kind": "closed",
    "bot_id": 3,
    "text": "[SIM] eth-scalper (bot 3): closed ETHUSDT +0.42 USDT (+0.210 %) net\n"
    "0.0589: 3388.1 → 3395.2, profit target, held 33 min",
    "state": "sent",
    "attempts": 1,
    "next_try_at": None,
    "sent_at": _AT,
    "error": None,
}
_CHANNEL: dict[str, Any] = {
    "id": "telegram:123456789",
    "type": "telegram",
    "source": "environment",
    "state": "ok",
    "error": None,
    "since": _AT,
    "queued": 0,
}
NotificationList = list_of(NotificationOut, _NOTIFICATION)
ChannelList = list_of(Channel, _CHANNEL)


@api.get("/api/notifications", responses={200: NotificationList})
@needs(Role.VIEWER)
def list_notifications(query: NotificationQuery) -> Response:
    """What people were told, newest first, and whether it arrived."""
    with read(engine()) as connection:
        rows = outbox.entries(connection, limit=query.limit, before=query.before, state=query.state)
    return jsonify(page_of(rows, query.limit, outbox.entry_document))


@api.get("/api/channels", responses={200: ChannelList})
@needs(Role.VIEWER)
def list_channels() -> Response:
    """Where notifications go. The supervisor's environment says it: FLOTILLA_TELEGRAM_CHAT_ID."""
    with read(engine()) as connection:
        items = [_channel(connection, name) for name in outbox.channels(connection)]
    return jsonify({"items": items, "next_cursor": None})


@api.post("/api/channels/<string:channel_id>/test", responses={202: NotificationOut})
@needs(Role.ADMIN)
def try_channel(path: ChannelPath) -> tuple[Response, int]:
    """Queue a test message; the list of notifications says what became of it."""

    def queue(connection: Connection) -> tuple[dict[str, Any], int]:
        if path.channel_id not in outbox.channels(connection):
            raise NotFound(f"There is no channel {path.channel_id!r}. GET /api/channels lists those there are.")
        queued = outbox.queue_test(connection, path.channel_id, caller().name)
        audit.note(connection, caller().author, "channel.test", target=path.channel_id)
        return outbox.entry_document(outbox.entry(connection, queued)), 202

    document, status = keyed(queue)
    return jsonify(document), status


def _channel(connection: Connection, name: str) -> dict[str, Any]:
    seen = channel_state(connection, name) or {"state": "new", "error": None, "since_ms": None}
    waits = (Notification.channel == name, Notification.state == outbox.QUEUED)
    return {
        "id": name,
        "type": name.partition(":")[0],
        "source": "environment",
        "state": seen["state"],
        "error": seen["error"],
        "since": iso(seen["since_ms"]),
        "queued": connection.execute(select(func.count()).where(*waits)).scalar_one(),
    }
