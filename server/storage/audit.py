"""The audit log: who changed what, from where, and why. Rows are only ever added, in the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select

from server.notify import outbox
from server.storage.models import AuditEntry
from server.storage.times import iso, now_ms
from shared.errors import Refused


class Via(StrEnum):
    """Where a change came from. `SYSTEM` is Flotilla itself, such as the supervisor that finds the halt file."""

    WEB = "web"
    API = "api"
    CLI = "cli"
    TELEGRAM = "telegram"
    SYSTEM = "system"


REASON_LENGTH: Final = 500


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes something, and from where."""

    name: str
    via: Via


def bounded(reason: str | None) -> str | None:
    """*reason*, which is stored and told to people. Raises `Refused` for one that nobody would read."""
    if reason is not None and len(reason) > REASON_LENGTH:
        words = f"at most {REASON_LENGTH} characters; these are {len(reason)}"
        raise Refused(f"The reason is too long: {words}.", fields={"reason": words})
    return reason


def note(
    connection: Connection,
    author: Author,
    action: str,
    *,
    bot_id: int | None = None,
    target: str | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str | None = None,
) -> None:
    """Write down one change. *action* is ``<thing>.<verb>``, such as ``bot.start``; never hand in a secret."""
    now = now_ms()
    connection.execute(
        insert(AuditEntry).values(
            ts=now,
            actor=author.name,
            via=author.via.value,
            action=action,
            bot_id=bot_id,
            target=target,
            before=None if before is None else dict(before),
            after=None if after is None else dict(after),
            reason=reason,
        )
    )
    outbox.tell_change(connection, action, bot_id, author.name, author.via.value, reason, now)


def entries(
    connection: Connection,
    *,
    limit: int,
    before: int | None = None,
    bot_id: int | None = None,
    actor: str | None = None,
    action: str | None = None,
) -> list[Row[Any]]:
    """Up to *limit* + 1 entries, newest first, of those that match."""
    query = select(AuditEntry)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    for column, wanted in ((AuditEntry.bot_id, bot_id), (AuditEntry.actor, actor), (AuditEntry.action, action)):
        if wanted is not None:
            query = query.where(column == wanted)
    return list(connection.execute(query.order_by(AuditEntry.id.desc()).limit(limit + 1)))


def entry_document(row: Row[Any]) -> dict[str, Any]:
    """One entry as the API shows it."""
    return {
        "id": row.id,
        "at": iso(row.ts),
        "actor": row.actor,
        "via": row.via,
        "action": row.action,
        "bot_id": row.bot_id,
        "target": row.target,
        "before": row.before,
        "after": row.after,
        "reason": row.reason,
    }
