"""How much of a processor each bot takes, from two of its heartbeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from server.storage.models import Bot, Event
from shared.states import BotState

_OVER_MS = 20_000


def cpu_shares(connection: Connection, rows: Sequence[Row[Any]]) -> dict[int, float]:
    """Share of one core (percent) between the latest heartbeat and the one kept before it, at least 20 s earlier."""
    running = [row for row in rows if row.status != BotState.STOPPED and row.heartbeat and row.heartbeat_ms]
    newest = (
        select(Event.id)
        .where(
            Event.bot_id == Bot.id, Event.type == "heartbeat", Event.run_id == Bot.run_id,
            Event.ts < Bot.heartbeat_ms - _OVER_MS,
        )
        .order_by(Event.id.desc()).limit(1).correlate(Bot).scalar_subquery()
    )  # fmt: skip
    query = select(Event.bot_id, Event.ts, Event.data).join(Bot, Event.id == newest)
    before = {row.bot_id: row for row in connection.execute(query.where(Bot.id.in_([r.id for r in running])))}
    shares = {}
    for row in running:
        spent, then = row.heartbeat.get("cpu_s"), before.get(row.id)
        if spent is None:
            continue
        if then is not None and then.data.get("cpu_s") is not None:
            shares[row.id] = 100_000 * (spent - then.data["cpu_s"]) / (row.heartbeat_ms - then.ts)
        elif row.started_ms is not None and row.heartbeat_ms > row.started_ms:
            shares[row.id] = 100_000 * spent / (row.heartbeat_ms - row.started_ms)
    return shares
