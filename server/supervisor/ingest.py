"""Move journal lines into rows: one write transaction holds the events, what follows from them, and the new offset.

Each step takes at most one small batch, so that web requests get their turn at the database; a bot's runs are read in
the order of their generations. Data that the ledger refuses becomes a dead letter and the journal moves on; a database
that cannot be written raises, and the same lines are read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, and_, insert, select, update
from sqlalchemy.exc import OperationalError

from server.storage import ledger
from server.storage.engine import read, write
from server.storage.ledger import ENDED, SETTLED, BotRef
from server.storage.models import Bot, BotRun, DeadLetter, JournalOffset
from server.storage.times import now_ms
from server.supervisor.journal import CHUNK_BYTES, CHUNK_LINES, BadLine, Cursor, Reading, first_file, read_on
from shared.events import Envelope
from shared.states import RunKind

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJournal:
    """A run whose journal is not wholly read."""

    row_id: int
    bot: BotRef
    generation: int
    cursor: Cursor
    is_over: bool

    @property
    def run_id(self) -> str:
        return f"{self.bot.id}.{self.generation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What one step found in a run's journal."""

    types: frozenset[str]
    at_end: bool
    has_lines: bool


class Ingest:
    """Reads the journals below *folder* (one folder per bot) into the database."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        self._turn = 0
        self.lag_bytes = 0
        self.unreadable: set[int] = set()
        """Bots whose journal the machine does not let us read at present."""

    def step(self) -> dict[str, Heard]:
        """Read and commit one batch; what was heard, by run id. Raises ``SQLAlchemyError``."""
        with read(self._engine) as connection:
            journals = _next_of_each_bot(_open_journals(connection))
        heard: dict[str, Heard] = {}
        batch: list[tuple[OpenJournal, Reading, bool]] = []
        lines, lag = 0, 0
        for journal in _from(journals, self._turn):
            if lines >= CHUNK_LINES:
                lag += CHUNK_BYTES
                continue
            folder = self._folder / str(journal.bot.id)
            try:
                reading = read_on(
                    folder, journal.bot.id, journal.run_id, journal.cursor,
                    is_over=journal.is_over, max_lines=CHUNK_LINES - lines,
                )  # fmt: skip
            except OSError as error:
                self._note_unreadable(journal, error)
                continue
            self.unreadable.discard(journal.bot.id)
            lines += len(reading.envelopes) + len(reading.bad)
            lag += reading.unread
            done = journal.is_over and reading.at_end
            if done or reading.cursor != journal.cursor:
                batch.append((journal, reading, done))
            heard[journal.run_id] = Heard(
                types=frozenset(e.type for e in reading.envelopes),
                at_end=reading.at_end,
                has_lines=reading.cursor.last_seq > 0,
            )
        self._turn += 1
        if batch:
            with write(self._engine) as connection:
                for journal, reading, done in batch:
                    _commit(connection, journal, reading, done)
        self.lag_bytes = lag
        return heard

    def is_complete(self) -> bool:
        """Whether every journal that can be read is read to its end and its run is over."""
        with read(self._engine) as connection:
            return all(journal.bot.id in self.unreadable for journal in _open_journals(connection))

    def _note_unreadable(self, journal: OpenJournal, error: OSError) -> None:
        bot_id = journal.bot.id
        if bot_id in self.unreadable:
            return
        path = self._folder / str(bot_id) / journal.cursor.file
        message = f"Its journal {path} cannot be read ({error.strerror}); what it reports waits there."
        log.error("journal_unreadable", bot_id=bot_id, run_id=journal.run_id, reason=str(error))
        with write(self._engine) as connection:
            ledger.add_note(connection, bot_id, journal.run_id, "journal_unreadable", message, now_ms())
            connection.execute(update(Bot).where(Bot.id == bot_id).values(status_reason=message))
        self.unreadable.add(bot_id)


def ensure_offset(connection: Connection, bot_id: int, generation: int) -> None:
    """Make sure that a run's journal will be read."""
    table = JournalOffset
    mine = (table.bot_id == bot_id, table.generation == generation)
    if connection.execute(select(table.id).where(*mine)).first() is None:
        file = first_file(f"{bot_id}.{generation}")
        connection.execute(
            insert(table).values(bot_id=bot_id, generation=generation, file=file, offset=0, last_seq=0, done=False)
        )


def _open_journals(connection: Connection) -> list[OpenJournal]:
    offsets, runs = JournalOffset, BotRun
    same_run = and_(runs.bot_id == offsets.bot_id, runs.generation == offsets.generation)
    rows = connection.execute(
        select(
            offsets.id, offsets.bot_id, offsets.generation, offsets.file, offsets.offset, offsets.last_seq,
            Bot.exchange, Bot.mode, runs.state,
        )
        .join(Bot, Bot.id == offsets.bot_id)
        .join(runs, same_run)
        .where(offsets.done.is_(False), runs.kind != RunKind.REMOTE)  # those post what they report
        .order_by(offsets.bot_id, offsets.generation)
    )  # fmt: skip
    return [
        OpenJournal(
            row_id=row.id,
            bot=BotRef(id=row.bot_id, exchange=row.exchange, mode=row.mode),
            generation=row.generation,
            cursor=Cursor(file=row.file, offset=row.offset, last_seq=row.last_seq),
            is_over=row.state in (ENDED, SETTLED),
        )
        for row in rows
    ]


def _next_of_each_bot(journals: Sequence[OpenJournal]) -> list[OpenJournal]:
    first: dict[int, OpenJournal] = {}
    for journal in journals:
        first.setdefault(journal.bot.id, journal)
    return list(first.values())


def _from(journals: list[OpenJournal], turn: int) -> list[OpenJournal]:
    start = turn % len(journals) if journals else 0
    return journals[start:] + journals[:start]


def _commit(connection: Connection, journal: OpenJournal, reading: Reading, done: bool) -> None:
    bad = list(reading.bad)
    if reading.envelopes and not _applied(connection, journal, reading.envelopes):
        bad += [_refused(journal, e) for e in reading.envelopes if not _applied(connection, journal, [e])]
    _keep_dead_letters(connection, journal, bad)
    for first, last in reading.gaps:
        missing = f"line {first} is" if first == last else f"lines {first} to {last} are"
        message = f"Journal {journal.cursor.file}: {missing} missing."
        ledger.add_note(connection, journal.bot.id, journal.run_id, "journal_gap", message, now_ms())
        connection.execute(update(Bot).where(Bot.id == journal.bot.id).values(status_reason=message))
        log.error("journal_gap_found", bot_id=journal.bot.id, run_id=journal.run_id, first=first, last=last)
    at = reading.cursor
    connection.execute(
        update(JournalOffset)
        .where(JournalOffset.id == journal.row_id)
        .values(file=at.file, offset=at.offset, last_seq=at.last_seq, done=done)
    )


def _applied(connection: Connection, journal: OpenJournal, envelopes: Sequence[Envelope]) -> bool:
    try:
        with connection.begin_nested():
            ledger.apply_events(connection, journal.bot, journal.run_id, envelopes)
    except OperationalError:
        raise  # the database, not the data: everything is read again
    except Exception:
        if len(envelopes) == 1:
            log.exception("event_refused", run_id=journal.run_id, seq=envelopes[0].seq, type=envelopes[0].type)
        return False
    return True


def _refused(journal: OpenJournal, envelope: Envelope) -> BadLine:
    line = repr(envelope).encode("utf-8", "replace")
    reason = f"event {envelope.seq} ({envelope.type}) could not be booked"
    return BadLine(file=journal.cursor.file, offset=journal.cursor.offset, line=line, reason=reason)


def _keep_dead_letters(connection: Connection, journal: OpenJournal, bad: Sequence[BadLine]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "bot_id": journal.bot.id,
            "file": letter.file,
            "offset": letter.offset,
            "line": letter.line,
            "reason": letter.reason.encode("utf-8", "replace").decode(),
            "created_ms": now_ms(),
        }
        for letter in bad
    ]
    if rows:
        connection.execute(insert(DeadLetter), rows)
        log.warning("lines_not_read", bot_id=journal.bot.id, file=journal.cursor.file, count=len(rows))
