"""How far the kill switch has got, bot by bot: what was withdrawn, what is still in the book, what is held.

A bot is confirmed when it has said itself that no entry order of its is left, or, where it does not run, when its
reports are read to the end and name none. Where it does not run, no process watches its stops, so
there are none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, select

from server.storage import kill_switch
from server.storage.kill_switch import Latch
from server.storage.models import Bot, Event, JournalOffset, TradingOrder
from server.storage.queries import OPEN
from server.storage.times import iso
from shared.events import HaltSeen, OrderChange
from shared.halt import HaltOrder, halt_order
from shared.states import FINAL_ORDER_STATES, OrderState, Role

_NO_ANSWER = (OrderState.INTENT, OrderState.UNKNOWN)
_COUNTED = ("cancelled", "waiting", "unknown", "positions", "without_stop")


def document(connection: Connection, file: Path) -> dict[str, Any]:
    """The state of the kill switch and, while it is engaged, its checklist."""
    row, order = kill_switch.state(connection), halt_order(file.read_bytes)
    latch = kill_switch.in_force(row, order, file)
    bots = checklist(connection, latch.engaged_ms or 0) if latch.engaged else []
    totals = {
        "bots": len(bots),
        "confirmed": sum(bot["confirmed"] for bot in bots),
        **{name: sum(bot[name] for bot in bots) for name in _COUNTED},
    }
    return {**_facts(latch, order), "in_database": row.engaged, "totals": totals, "bots": bots}


def document_of_file(file: Path) -> dict[str, Any]:
    """As `document`, where the database cannot be had: what only it knows is None."""
    order = halt_order(file.read_bytes)
    unknown = dict.fromkeys(("in_database", "number", "released_by", "released_at", "release_reason", "totals", "bots"))
    return {**_facts(kill_switch.in_force(kill_switch.Latch(), order, file), order), **unknown}


def _facts(latch: Latch, order: HaltOrder | None) -> dict[str, Any]:
    return {
        "engaged": latch.engaged,
        "in_file": order is not None,
        "number": latch.number,
        "close_positions": latch.engaged and latch.close_positions,
        "reason": latch.reason,
        "engaged_by": latch.engaged_by,
        "engaged_at": iso(latch.engaged_ms),
        "released_by": latch.released_by,
        "released_at": iso(latch.released_ms),
        "release_reason": latch.release_reason,
    }


def checklist(connection: Connection, since_ms: int, bot_ids: Collection[int] | None = None) -> list[dict[str, Any]]:
    """A line for each bot, or each of *bot_ids*; what was cancelled counts *since_ms*."""
    query = select(Bot).where(Bot.archived_ms.is_(None)).order_by(Bot.id)
    bots = connection.execute(query if bot_ids is None else query.where(Bot.id.in_(bot_ids))).all()
    positions: dict[int, list[Row[Any]]] = {bot.id: [] for bot in bots}
    table = TradingOrder
    for row in connection.execute(select(table.bot_id, table.document).where(table.status.in_(OPEN))):
        positions.setdefault(row.bot_id, []).append(row)
    unread = set(connection.execute(select(JournalOffset.bot_id).where(JournalOffset.done.is_(False))).scalars())
    ids = [bot.id for bot in bots]
    cancelled, said = _cancelled(connection, ids, since_ms), _last_words(connection, ids)
    return [
        _line(bot, [p.document for p in positions[bot.id]], cancelled[bot.id], said.get(bot.id), bot.id in unread)
        for bot in bots
    ]


def _line(
    bot: Row[Any], positions: Sequence[Mapping[str, Any]], cancelled: int, said: Row[Any] | None, is_unread: bool
) -> dict[str, Any]:
    states = [leg.get("status") for p in positions for leg in p.get("legs", []) if leg.get("role") == Role.ENTRY]
    unknown = sum(state in _NO_ANSWER for state in states)
    waiting = sum(state not in _NO_ANSWER and state not in FINAL_ORDER_STATES for state in states)
    held = [p for p in positions if p.get("activated_ms") is not None]
    runs = bot.pid is not None
    is_heard = said is not None and said.run_id == bot.run_id and said.data["halted"]
    withdrawn = not waiting and not unknown
    if runs and not is_heard:
        note = "runs, and has not said yet that it is halted"
    elif not withdrawn:
        note = "withdraws its entry orders" if runs else "does not run; it is started to withdraw its entry orders"
    else:
        note = "halted, no entry order is left" if runs else "does not run, no entry order is left"
    return {
        "bot_id": bot.id,
        "name": bot.name,
        "status": bot.status,
        "cancelled": cancelled,
        "waiting": waiting,
        "unknown": unknown,
        "confirmed": withdrawn and (bool(is_heard) if runs else not is_unread),
        "positions": len(held),
        "without_stop": sum(p.get("stop_price") is None for p in held) if runs else len(held),
        "note": note,
    }


def _cancelled(connection: Connection, ids: Sequence[int], since_ms: int) -> Counter[int]:
    """Entry orders that ended by a cancel since then. Reads no event older than that but one per bot."""
    orders = select(Event.id).where(Event.bot_id == Bot.id, Event.type == OrderChange.type)
    older = orders.where(Event.ts < since_ms).order_by(Event.id.desc()).limit(1).correlate(Bot).scalar_subquery()
    changes = (
        select(Event.bot_id, Event.data)
        .join(Bot, Event.bot_id == Bot.id)
        .where(Bot.id.in_(ids), Event.type == OrderChange.type, Event.id > func.coalesce(older, 0))
    )
    return Counter(
        row.bot_id
        for row in connection.execute(changes)
        if (row.data.get("role"), row.data.get("status")) == (Role.ENTRY, OrderState.CANCELLED)
    )


def _last_words(connection: Connection, ids: Sequence[int]) -> dict[int, Row[Any]]:
    """What each bot said last about being halted."""
    said = select(func.max(Event.id)).where(Event.bot_id == Bot.id, Event.type == HaltSeen.type)
    newest = said.correlate(Bot).scalar_subquery()
    words = select(Event.bot_id, Event.run_id, Event.data).join(Bot, Event.id == newest)
    return {row.bot_id: row for row in connection.execute(words.where(Bot.id.in_(ids)))}
