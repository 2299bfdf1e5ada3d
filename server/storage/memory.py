"""What a bot must remember, read from the rows, for a run whose predecessor's journal lies on another host."""

from __future__ import annotations

from sqlalchemy import Connection, and_, func, or_, select

from server.storage import commands
from server.storage.models import Bot, BotRun, Event, JournalOffset, TradingOrder
from server.storage.queries import OPEN
from server.storage.times import DAY_MS, now_ms
from shared.events import Position, Snapshot, Stats, from_data
from shared.positions import Counters
from shared.states import RunKind

UNHEARD_KEPT_MS = 90 * DAY_MS
"""How long the token of a remote run that never told its end works after it was replaced, or heard last."""


def memory_from_rows(
    connection: Connection, bot_id: int, generation: int, *, for_other_host: bool
) -> tuple[int, Snapshot | None]:
    """The latest run before *generation* whose journal the new run cannot read, and the memory up to it; or (0, None).

    On this host those are the remote runs; on another host (*for_other_host*) all are.
    """
    reported = and_(JournalOffset.bot_id == BotRun.bot_id, JournalOffset.generation == BotRun.generation)
    query = (
        select(func.max(BotRun.generation))
        .join(JournalOffset, reported)
        .where(BotRun.bot_id == bot_id, BotRun.generation < generation, JournalOffset.last_seq > 0)
    )
    if not for_other_host:
        query = query.where(BotRun.kind == RunKind.REMOTE)
    latest = connection.execute(query).scalar_one()
    return (0, None) if latest is None else (latest, _memory(connection, bot_id))


def unheard_runs(connection: Connection, bot_id: int) -> list[str]:
    """Remote runs that never told their end: their facts must be let in, whoever runs the bot now.

    Also hosts that were away for weeks hear so that they were replaced.
    """
    since = now_ms() - UNHEARD_KEPT_MS
    last_seen = (BotRun.ended_ms.is_(None), BotRun.ended_ms > since, BotRun.heard_ms > since, BotRun.created_ms > since)
    generations = connection.execute(
        select(BotRun.generation).where(
            BotRun.bot_id == bot_id, BotRun.kind == RunKind.REMOTE, BotRun.exit_code.is_(None), or_(*last_seen)
        )
    ).scalars()
    return [f"{bot_id}.{generation}" for generation in generations]


def _memory(connection: Connection, bot_id: int) -> Snapshot:
    documents = connection.execute(
        select(TradingOrder.document)
        .where(TradingOrder.bot_id == bot_id, TradingOrder.status.in_(OPEN))
        .order_by(TradingOrder.position_key)
    ).scalars()
    positions = [p for p in (from_data(Position.type, d) for d in documents) if isinstance(p, Position)]
    market_ms = connection.execute(select(Bot.market_ms).where(Bot.id == bot_id)).scalar_one()
    seen_ms = [max(p.opened_ms, *(leg.updated_ms for leg in p.legs), 0) for p in positions]
    return Snapshot(
        last_event_ms=max(market_ms or 0, *seen_ms, 0),
        counters=_counters(connection, bot_id),
        positions=positions,
        commands_done=commands.last_done(connection, bot_id),
    )


def _counters(connection: Connection, bot_id: int) -> Counters:
    newest = connection.execute(
        select(Event.type, Event.data)
        .where(Event.bot_id == bot_id, Event.type.in_([Stats.type, Snapshot.type]))
        .order_by(Event.ts.desc(), Event.id.desc())
        .limit(1)
    ).first()
    told = from_data(newest.type, newest.data) if newest is not None else None
    return told.counters if isinstance(told, Stats | Snapshot) else Counters()
