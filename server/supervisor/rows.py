"""What the supervisor reads from and writes into the rows of bots and runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from server.storage import audit, kill_switch, ledger
from server.storage.audit import Author, Via
from server.storage.kill_switch import Latch
from server.storage.ledger import ENDED, RUNNING, SETTLED, SPAWNING
from server.storage.models import Bot, BotCommand, BotRun, Event, JournalOffset, SupervisorBeat, TradingOrder
from server.storage.queries import is_faulted
from server.supervisor.decisions import ExitCode, Verdict, disorder_of
from server.supervisor.ingest import ensure_offset
from shared.events import Status
from shared.states import BotState, DesiredState, PositionState, RunKind


class Told(NamedTuple):
    """What people want, as far as a bot has to poll when it changes."""

    config_version: int
    desired: str
    halted: bool
    latch: Latch
    newest_command: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BotRow:
    """What people want of one bot, and the state of its newest run."""

    id: int
    name: str
    desired: DesiredState
    told: Told
    """What a live process has to be told of when it changes."""
    start_requests: int
    faulted_at: int | None
    status: BotState
    status_reason: str | None
    generation: int
    run_state: str | None
    run_created_ms: int
    run_kind: RunKind = RunKind.SUPERVISED
    host: str | None = None
    heard_ms: int | None = None
    """When a remote run was last heard of."""
    exit_code: int | None = None
    exit_reason: str | None = None
    is_restart_wanted: bool = False
    """Restart was pressed since the newest run began."""
    disorder: str | None = None
    """How the newest run ended, if it was to end and did not do so in order."""
    is_archived: bool = False

    @property
    def run_id(self) -> str:
        """The newest run."""
        return f"{self.id}.{self.generation}"

    @property
    def run_is_open(self) -> bool:
        """Its end has not been written."""
        return self.run_state in (SPAWNING, RUNNING)

    @property
    def is_remote(self) -> bool:
        """Its run is open, and its process on another host."""
        return self.run_is_open and self.run_kind is RunKind.REMOTE

    def is_by_hand(self, generation: int) -> bool:
        """Whether a person launched run *generation*, the newest one."""
        return self.generation == generation and self.run_kind is not RunKind.SUPERVISED

    @property
    def is_faulted(self) -> bool:
        """Given up until a person presses start again."""
        return is_faulted(self.faulted_at, self.start_requests)


def load_bots(connection: Connection) -> list[BotRow]:
    """All bots that were ever started or are wanted now; an archived one is wanted stopped."""
    latch = kill_switch.state(connection)
    numbers = select(BotCommand.bot_id, func.max(BotCommand.number)).group_by(BotCommand.bot_id)
    commands: dict[int, int] = {row[0]: row[1] for row in connection.execute(numbers)}
    newest = and_(BotRun.bot_id == Bot.id, BotRun.generation == Bot.generation)
    rows = connection.execute(
        select(
            Bot.id, Bot.name, Bot.desired_state, Bot.halted, Bot.config_version, Bot.start_requests,
            Bot.faulted_at_start_request, Bot.status, Bot.status_reason, Bot.generation, Bot.archived_ms,
            Bot.restart_requests, BotRun.restart_requests.label("run_restart_requests"),
            BotRun.state, BotRun.created_ms, BotRun.wanted, BotRun.exit_code, BotRun.exit_reason, BotRun.kind,
            BotRun.host, BotRun.heard_ms,
        ).join(BotRun, newest, isouter=True).order_by(Bot.id)
    )  # fmt: skip
    return [
        BotRow(
            id=row.id,
            name=row.name,
            desired=DesiredState.STOPPED if row.archived_ms is not None else DesiredState(row.desired_state),
            told=Told(row.config_version, row.desired_state, row.halted, latch, commands.get(row.id, 0)),
            start_requests=row.start_requests,
            faulted_at=row.faulted_at_start_request,
            status=BotState(row.status),
            status_reason=row.status_reason,
            generation=row.generation,
            run_state=row.state,
            run_created_ms=row.created_ms or 0,
            run_kind=RunKind(row.kind or RunKind.SUPERVISED),
            host=row.host,
            heard_ms=row.heard_ms,
            exit_code=row.exit_code,
            exit_reason=row.exit_reason,
            is_restart_wanted=row.restart_requests > (row.run_restart_requests or 0),
            disorder=disorder_of(row.exit_code, row.exit_reason) if _ended_as_wanted(row) else None,
            is_archived=row.archived_ms is not None,
        )
        for row in rows
    ]


def _ended_as_wanted(row: Any) -> bool:
    return row.state in (ENDED, SETTLED) and bool(row.wanted)


def open_run(connection: Connection, bot_id: int, now: int, *, above: int = 0, **columns: Any) -> int:
    """Take the next generation higher than *above*, with its journal's offset."""
    generation = ledger.open_run(connection, bot_id, now, above=above, **columns)
    ensure_offset(connection, bot_id, generation)
    return generation


def note_process(connection: Connection, bot_id: int, generation: int, pid: int, now: int) -> None:
    """A run has a process; also for a run that this database never heard of (an older backup was restored)."""
    run = _run(bot_id, generation)
    if connection.execute(select(BotRun.id).where(*run)).first() is None:
        restarts = connection.execute(select(Bot.restart_requests).where(Bot.id == bot_id)).scalar_one()
        row = {"bot_id": bot_id, "generation": generation, "state": RUNNING, "pid": pid, "created_ms": now}
        connection.execute(insert(BotRun).values(**row, wanted=False, restart_requests=restarts))
    connection.execute(update(BotRun).where(*run).values(state=RUNNING, pid=pid, ended_ms=None))
    connection.execute(
        update(JournalOffset)
        .where(JournalOffset.bot_id == bot_id, JournalOffset.generation == generation)
        .values(done=False)
    )
    ensure_offset(connection, bot_id, generation)
    connection.execute(
        update(Bot).where(Bot.id == bot_id).values(pid=pid, generation=generation, run_id=f"{bot_id}.{generation}")
    )


def load_deaths(connection: Connection, bot_id: int) -> list[int]:
    """When the bot's runs ended unwanted, of those that still count (UTC ms)."""
    table = BotRun
    ends = connection.execute(
        select(table.ended_ms)
        .where(table.bot_id == bot_id, table.state == ENDED, table.wanted.is_(False))
        .order_by(table.generation.desc())
        .limit(100)
    ).scalars()
    return [ended_ms for ended_ms in ends if ended_ms is not None]


def load_failures(connection: Connection, bot_id: int) -> list[int]:
    """When the bot's runs ended otherwise than in order, of those that still count (UTC ms)."""
    table = BotRun
    failed = or_(table.wanted.is_(False), table.exit_code.is_(None), table.exit_code != ExitCode.WANTED)
    ends = connection.execute(
        select(table.ended_ms)
        .where(table.bot_id == bot_id, table.state == ENDED, failed)
        .order_by(table.generation.desc())
        .limit(100)
    ).scalars()
    return [ended_ms for ended_ms in ends if ended_ms is not None]


def load_last_end(connection: Connection, bot_id: int) -> int | None:
    """When the bot's newest ended run ended (UTC ms)."""
    return connection.execute(select(func.max(BotRun.ended_ms)).where(BotRun.bot_id == bot_id)).scalar_one()


def write_end(
    connection: Connection,
    bot: BotRow,
    generation: int,
    *,
    code: int | None,
    reason: str | None,
    wanted: bool,
    verdict: Verdict,
    now: int,
    keep_status: bool = False,
) -> None:
    """A run has ended: its row, and what follows for the bot, unless another run has begun meanwhile."""
    run_id = f"{bot.id}.{generation}"
    ended: dict[str, Any] = {"state": ENDED, "ended_ms": now, "wanted": wanted}
    ended |= {"exit_code": code, "exit_reason": reason}
    connection.execute(update(BotRun).where(*_run(bot.id, generation)).values(**ended))
    connection.execute(update(Bot).where(Bot.id == bot.id, Bot.run_id == run_id).values(pid=None))
    ensure_offset(connection, bot.id, generation)
    newest = connection.execute(select(Bot.run_id).where(Bot.id == bot.id)).scalar_one()
    if newest != run_id:
        return  # the bot is in another run, whose words count
    if verdict.is_fault:
        fault(connection, bot.id)
        connection.execute(update(BotRun).where(BotRun.bot_id == bot.id, BotRun.state == ENDED).values(state=SETTLED))
    if verdict.note:
        ledger.add_note(connection, bot.id, run_id, "bot_fault" if verdict.is_fault else "bot_ended", verdict.note, now)
    status, words = verdict.status, verdict.reason
    if keep_status or (bot.is_faulted and status is BotState.STARTING):
        return  # a close-only attempt has failed; the fault stands
    ledger.set_status(connection, bot.id, status, words, now)


def is_newest(connection: Connection, bot: BotRow) -> bool:
    """Whether no other run was opened since *bot* was read."""
    return connection.execute(select(Bot.generation).where(Bot.id == bot.id)).scalar_one() == bot.generation


def withdraw_wish(connection: Connection, bot: BotRow, generation: int) -> None:
    """Whoever launched a bot by hand has ended it, and does not want it to run any more.

    That undoes nothing that was asked after the run had begun: a start, or a run that was opened since.
    """
    run = select(BotRun.start_requests).where(*_run(bot.id, generation)).scalar_subquery()
    unasked = (
        Bot.id == bot.id,
        Bot.run_id == f"{bot.id}.{generation}",
        Bot.start_requests <= func.coalesce(run, Bot.start_requests),
    )
    stopped = update(Bot).where(*unasked).values(desired_state=DesiredState.STOPPED.value)
    if not connection.execute(stopped).rowcount:
        return
    before, after = {"desired_state": bot.desired.value}, {"desired_state": DesiredState.STOPPED.value}
    reason = f"run {bot.id}.{generation} was ended where it was launched"
    author = Author("system", Via.SYSTEM)
    audit.note(
        connection, author, "bot.stop", bot_id=bot.id, target=bot.name, before=before, after=after, reason=reason
    )


def close_offset(connection: Connection, bot_id: int, generation: int) -> None:
    """Nobody waits for more lines of this run."""
    mine = (JournalOffset.bot_id == bot_id, JournalOffset.generation == generation)
    connection.execute(update(JournalOffset).where(*mine).values(done=True))


def fault(connection: Connection, bot_id: int) -> None:
    """Give the bot up until a person presses start."""
    connection.execute(update(Bot).where(Bot.id == bot_id).values(faulted_at_start_request=Bot.start_requests))


def lift_fault(connection: Connection, bot_id: int) -> None:
    """The bot is as it should be again, without anybody pressing start."""
    connection.execute(update(Bot).where(Bot.id == bot_id).values(faulted_at_start_request=None))


def last_status(connection: Connection, run_id: str) -> tuple[BotState, str | None]:
    """What a run said last of itself."""
    said = connection.execute(
        select(Event.data).where(Event.run_id == run_id, Event.type == Status.type).order_by(Event.seq.desc()).limit(1)
    ).scalar_one_or_none()
    return (BotState(said["status"]), said.get("reason")) if said else (BotState.STARTING, None)


def has_open_position(connection: Connection, bot_id: int) -> bool:
    """Whether the bot has a position that needs guarding."""
    open_states = [PositionState.PENDING.value, PositionState.ACTIVE.value]
    found = connection.execute(
        select(TradingOrder.id).where(TradingOrder.bot_id == bot_id, TradingOrder.status.in_(open_states)).limit(1)
    )
    return found.first() is not None


def write_beat(connection: Connection, pid: int, started_ms: int, now: int, lag_bytes: int) -> None:
    """The supervisor's sign of life."""
    values = {"pid": pid, "started_ms": started_ms, "beat_ms": now, "journal_lag_bytes": lag_bytes}
    if not connection.execute(update(SupervisorBeat).where(SupervisorBeat.id == 1).values(**values)).rowcount:
        connection.execute(insert(SupervisorBeat).values(id=1, **values))


def _run(bot_id: int, generation: int) -> tuple[Any, ...]:
    return BotRun.bot_id == bot_id, BotRun.generation == generation
