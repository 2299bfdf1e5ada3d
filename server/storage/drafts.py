"""Drafts of bots: what somebody typed into the steps of *Create bot*, kept as typed until the bot is made.

A draft is also the one-time key of its bot: it remembers which bot it became, so a second click makes no second one.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from server.storage.models import BotDraft
from server.storage.times import DAY_MS, now_ms
from shared.errors import NotFound

KEPT_MS = 30 * DAY_MS


def add_draft(connection: Connection, owner: str, document: Mapping[str, Any]) -> str:
    """A new draft of *owner*; its id. Drafts that nobody touched for long are cleared away."""
    now = now_ms()
    connection.execute(delete(BotDraft).where(BotDraft.updated_ms < now - KEPT_MS))
    draft_id = secrets.token_urlsafe(12)
    row = {"id": draft_id, "owner": owner, "document": dict(document), "created_ms": now, "updated_ms": now}
    connection.execute(insert(BotDraft).values(**row))
    return draft_id


def draft_row(connection: Connection, owner: str, draft_id: str) -> Row[Any]:
    """A draft of *owner*. Raises `NotFound`."""
    row = connection.execute(select(BotDraft).where(BotDraft.id == draft_id, BotDraft.owner == owner)).first()
    if row is None:
        raise NotFound("This draft is not there: it is another person's, or older than 30 days. Start a new one.")
    return row


def save_draft(connection: Connection, draft_id: str, document: Mapping[str, Any]) -> None:
    """Keep what was typed."""
    connection.execute(
        update(BotDraft).where(BotDraft.id == draft_id).values(document=dict(document), updated_ms=now_ms())
    )


def became(connection: Connection, draft_id: str, bot_id: int) -> None:
    """Remember which bot the draft was made into."""
    connection.execute(update(BotDraft).where(BotDraft.id == draft_id).values(bot_id=bot_id, updated_ms=now_ms()))


def discard_draft(connection: Connection, owner: str, draft_id: str) -> None:
    """Throw a draft of *owner* away, if it is there."""
    connection.execute(delete(BotDraft).where(BotDraft.id == draft_id, BotDraft.owner == owner))


def unfinished(connection: Connection, owner: str, *, limit: int = 5) -> list[Row[Any]]:
    """The newest drafts of *owner* that became no bot yet."""
    mine = select(BotDraft).where(BotDraft.owner == owner, BotDraft.bot_id.is_(None))
    return list(connection.execute(mine.order_by(BotDraft.updated_ms.desc()).limit(limit)))
