"""What went wrong lately: errors and alerts, grouped by their cause.

Events belong together if they are of one bot and kind and say the same apart from figures and ids; so fourteen refused
orders are one line that says 14.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, select, text

from server.storage.models import TROUBLE, Bot, Event

MAX_EVENTS = 5000
_ORDER_ID = re.compile(r"\bf[a-z0-9]{3,8}-\d+-\d+-[a-z]\d+\b")
_FIGURES = re.compile(r"[-−+]?\d[\d.,:]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Events of one cause. *message* is the newest one's; times are UTC ms."""

    fingerprint: str
    bot_id: int
    type: str
    kind: str
    message: str
    count: int
    first_ms: int
    last_ms: int


def fingerprint(bot_id: int, kind: str, message: str) -> str:
    """What all events of one cause have in common."""
    return f"{bot_id}/{kind}/{_FIGURES.sub('#', _ORDER_ID.sub('#', message))[:200]}"


def load_trouble(connection: Connection, since_ms: int, bot_id: int | None = None) -> list[Trouble]:
    """The errors and alerts since *since_ms*, grouped, the newest cause first: of one bot, or of all in the fleet."""
    query = (
        select(Event.id, Event.bot_id, Event.ts, Event.type, Event.data)
        .join(Bot, Bot.id == Event.bot_id)
        .where(text(f"events.{TROUBLE}"), Event.ts >= since_ms, Bot.archived_ms.is_(None))
        .order_by(Event.ts.desc())
        .limit(MAX_EVENTS)
    )
    if bot_id is not None:
        query = query.where(Event.bot_id == bot_id)
    return grouped(connection.execute(query))


def grouped(rows: Iterable[Row[Any]]) -> list[Trouble]:
    """Groups of *rows*, which come newest first."""
    groups: dict[str, Trouble] = {}
    for row in rows:
        kind, message = str(row.data.get("kind", row.type)), str(row.data.get("message", ""))
        key = fingerprint(row.bot_id, kind, message)
        known = groups.get(key)
        groups[key] = (
            Trouble(
                fingerprint=key, bot_id=row.bot_id, type=row.type, kind=kind, message=message, count=1,
                first_ms=row.ts, last_ms=row.ts,
            )
            if known is None
            else replace(known, count=known.count + 1, first_ms=min(known.first_ms, row.ts))
        )  # fmt: skip
    return list(groups.values())
