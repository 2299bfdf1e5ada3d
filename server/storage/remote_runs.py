"""Book what a run on another host reports, by the same ledger as what the supervisor reads from journals.

All lines of a request and the number of the last one are committed together. Lines that are in the rows already change
nothing; those of a run that was replaced are facts and are booked, but no longer move the bot's status.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.exc import OperationalError

from server.storage import ledger
from server.storage.ledger import RUNNING, SPAWNING, BotRef
from server.storage.models import BotRun, JournalOffset
from server.storage.queries import bot_row, control_document
from server.storage.times import now_ms
from shared.errors import Conflict, NotFound, Refused
from shared.events import Envelope, Exit
from shared.states import BotState, RunKind

NO_WORD = "No word from host"
"""How the reason begins of a bot whose run on another host is silent."""


def is_lost(status: str, reason: str | None) -> bool:
    """Whether a bot with this status was given up because the host of its run was not heard."""
    return status == BotState.ERROR and (reason or "").startswith(NO_WORD)


class Replaced(Conflict):
    """A later run of the same bot has taken this one's place; *fields* names it as ``replaced_by``."""

    code = "replaced"


def generation_of(run_id: str) -> int:
    """Which of the bot's runs it is, counted from 1."""
    return int(run_id.partition(".")[2])


def require_newest(connection: Connection, bot_id: int, run_id: str) -> None:
    """Raises `Replaced` for a run that is not the bot's newest: what people want now is not meant for it."""
    bot = bot_row(connection, bot_id)
    if bot.run_id is not None and generation_of(run_id) < bot.generation:
        raise Replaced(
            f"Run {bot.run_id} has taken the place of run {run_id}, so this one must enter nothing. End it.",
            fields={"replaced_by": bot.run_id},
        )


def book(connection: Connection, bot_id: int, run_id: str, lines: Sequence[tuple[int, Envelope]]) -> dict[str, Any]:
    """Book *lines* (each with its number in the request); what the bot has to know.

    Raises `NotFound` for a run that is none of the bot's remote ones, and `Refused` that names the line.
    """
    bot, run = bot_row(connection, bot_id), _run(connection, bot_id, run_id)
    reference = BotRef(id=bot_id, exchange=bot.exchange, mode=bot.mode)
    envelopes = sorted((envelope for _, envelope in lines), key=lambda e: e.seq)
    if not _applied(connection, reference, run_id, envelopes):
        for number, envelope in lines:
            if not _applied(connection, reference, run_id, [envelope]):
                reason = f"event {envelope.seq} ({envelope.type}) cannot be booked"
                raise Refused("A line cannot be booked; nothing was.", fields={f"line {number}": reason})
    last_seq = _advance(connection, bot_id, run, envelopes)
    _note_heard(connection, run)
    return {
        "run_id": run_id,
        "last_seq": last_seq,
        "replaced_by": None if bot.run_id == run_id else bot.run_id,
        "control_tag": _control_tag(connection, bot_id),
    }


def _run(connection: Connection, bot_id: int, run_id: str) -> Row[Any]:
    known = (BotRun.bot_id == bot_id, BotRun.generation == generation_of(run_id), BotRun.kind == RunKind.REMOTE)
    run = connection.execute(select(BotRun).where(*known)).first()
    if run is None:
        raise NotFound(
            f"Run {run_id} is no remote run of bot {bot_id}. POST /api/bots/{bot_id}/runs begins one; the runs of the "
            "server's own host report through their journals."
        )
    return run


def _applied(connection: Connection, bot: BotRef, run_id: str, envelopes: Sequence[Envelope]) -> bool:
    try:
        with connection.begin_nested():
            ledger.apply_events(connection, bot, run_id, envelopes)
    except OperationalError:
        raise  # the database, not the data
    except Exception:
        return False
    return True


def _advance(connection: Connection, bot_id: int, run: Row[Any], envelopes: Sequence[Envelope]) -> int:
    """Move on the number of the last line; a number that was left out is noted once, as an alarm."""
    table = JournalOffset
    mine = (table.bot_id == bot_id, table.generation == run.generation)
    last_seq: int = connection.execute(select(table.last_seq).where(*mine)).scalar_one()
    now = now_ms()
    for envelope in envelopes:
        if envelope.seq > last_seq + 1:
            message = f"Run {bot_id}.{run.generation}: lines {last_seq + 1} to {envelope.seq - 1} are missing."
            ledger.add_note(connection, bot_id, f"{bot_id}.{run.generation}", "journal_gap", message, now)
        last_seq = max(last_seq, envelope.seq)
    ended = any(envelope.type == Exit.type for envelope in envelopes)
    done = {"done": True} if ended else {}
    connection.execute(update(table).where(*mine).values(last_seq=last_seq, **done))
    return last_seq


def _note_heard(connection: Connection, run: Row[Any]) -> None:
    state = {"state": RUNNING} if run.state == SPAWNING else {}
    connection.execute(update(BotRun).where(BotRun.id == run.id).values(heard_ms=now_ms(), **state))


def _control_tag(connection: Connection, bot_id: int) -> str:
    """Changes with what the bot should poll."""
    text = json.dumps(asdict(control_document(connection, bot_id)), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
