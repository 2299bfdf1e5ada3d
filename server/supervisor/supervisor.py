"""The loop that makes processes match the rows: observe, decide (`decisions.py`), act.

Each round reads what people want, moves journal lines into rows, and looks after one bot after the other; what goes
wrong with one bot never keeps the others waiting. Nothing here is remembered that the rows, the locks and the journals
do not say as well, so a supervisor may be killed at any point: the bots trade on, and the next supervisor adopts them.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from server.settings import Settings
from server.storage import commands, kill_switch, ledger
from server.storage.engine import read, write
from server.storage.ledger import SPAWNING
from server.storage.times import now_ms
from server.supervisor import decisions, remote, rows
from server.supervisor.closing import Left, given_ms, what_is_left
from server.supervisor.decisions import Action, End, ExitCode, Life, Observation, Policy, judge_end, next_action
from server.supervisor.health import Pulse, has_room
from server.supervisor.identity import Free, Identity, Unidentified, probe, read_identity
from server.supervisor.ingest import Heard, Ingest
from server.supervisor.journal import first_file, last_words, newest_generation
from server.supervisor.launcher import Process, adopt
from server.supervisor.rows import BotRow, Told
from shared.errors import FlotillaError
from shared.states import BotState, DesiredState, RunKind
from shared.tickets import RunTicket

log = structlog.get_logger(__name__)

BEAT_EVERY_S = 1.0
STRANGER_AFTER_S = 5.0
LISTENS_AFTER_S = 1.0
"""How long after its first line a bot's signal handlers are surely in place: an early SIGHUP would end it."""

TicketMaker = Callable[[Connection, int, int], RunTicket]
"""``(connection, bot_id, generation)``; raises `FlotillaError` in words for a bot that cannot run."""


class Starter(Protocol):
    """Starts a process for a ticket."""

    def spawn(self, ticket: RunTicket) -> Process: ...


@dataclass(slots=True)
class View:
    """What is remembered of one bot between rounds."""

    process: Process | None = None
    pulse: Pulse = field(default_factory=Pulse)
    told: Told | None = None
    heard_at: float | None = None
    is_close_only: bool = False
    stopping_at: float | None = None
    aborted_at: float | None = None
    kill_reason: str | None = None
    looked: bool = False
    stranger_since: float | None = None
    deaths_ms: list[int] = field(default_factory=list)
    failures_ms: list[int] = field(default_factory=list)
    last_end_ms: int | None = None
    jitter: float = 0.0


class Supervisor:
    """Looks after all bots of one home folder. With *ending* every bot is brought to its end and none is started."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        launcher: Starter,
        make_ticket: TicketMaker,
        *,
        policy: Policy | None = None,
        ending: bool = False,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._engine, self._launcher, self._make_ticket = settings, engine, launcher, make_ticket
        self._policy = policy or Policy()
        self._ending, self._jitter, self._clock = ending, jitter, clock
        self._ingest = Ingest(engine, settings.home / "journals")
        self._views: dict[int, View] = {}
        self._started_ms = now_ms()
        self._began = self._last_round = clock()
        self._last_beat = float("-inf")
        self._may_spawn = True
        self._beats = self._can_judge = True
        self._left = Left()
        self._given_ms: dict[int, int] = {}
        self._file_fails = False
        self.is_reached = True
        """Whether the last round reached the database."""

    def tick(self) -> None:
        """One round. A database that cannot be reached leaves everything as it is until the next one."""
        now = self._clock()
        elapsed, self._last_round = now - self._last_round, now
        self._may_spawn = True
        self._can_judge = self._beats and has_room(self._settings.home)
        try:
            heard = self._ingest.step()
            self._settle_commands()
            with read(self._engine) as connection:
                bots = rows.load_bots(connection)
                self._given_ms = given_ms(connection)
                to_stop = [bot.id for bot in bots if bot.desired is DesiredState.STOPPED and not bot.is_archived]
                self._left = Left() if self._ending else what_is_left(connection, to_stop)
            self._keep_switch_alike()
            self.is_reached = True
        except SQLAlchemyError as error:
            self.is_reached = False
            log.warning("database_not_reached", reason=str(error))
            return
        for bot in bots:
            try:
                self._care_for(bot, heard, elapsed)
            except Exception:
                log.exception("bot_not_looked_after", bot_id=bot.id)
        self._beat(now)

    def _settle_commands(self) -> None:
        with read(self._engine) as connection:
            if not commands.nothing_to_close(connection):
                return
        with write(self._engine) as connection:
            commands.settle_empty(connection, now_ms())

    def _keep_switch_alike(self) -> None:
        """Row and file of the kill switch; where the file cannot be had, the row goes on by itself."""
        file = self._settings.halt_file
        try:
            with read(self._engine) as connection:
                alike = kill_switch.are_alike(connection, file)
            if not alike:
                with write(self._engine) as connection:
                    kill_switch.keep_alike(connection, file)
        except OSError as error:
            if not self._file_fails:
                log.error("halt_file_not_kept", file=str(file), reason=error.strerror, remedy="the row still halts")
            self._file_fails = True
        else:
            self._file_fails = False

    def is_finished(self) -> bool:
        """When ending: no bot runs any more, and every journal is in the rows."""
        if not self.is_reached:
            return False
        return all(v.process is None and v.looked for v in self._views.values()) and self._ingest.is_complete()

    def live(self) -> list[int]:
        """Ids of the bots whose processes are known to run."""
        return [bot_id for bot_id, view in self._views.items() if view.process is not None]

    def kill_all(self) -> None:
        """End every process at once, without order."""
        for view in self._views.values():
            if view.process is not None:
                view.kill_reason = view.kill_reason or "killed: the time to end in order was over"
                view.process.send(signal.SIGKILL)

    # --- observe --------------------------------------------------------------------------------------------------

    def _care_for(self, bot: BotRow, heard: dict[str, Heard], elapsed: float) -> None:
        view = self._views.get(bot.id) or self._first_view(bot)
        if bot.is_remote and view.process is None:
            self._care_for_remote(bot, view)
            return
        if view.process is not None and view.process.has_exited():
            self._note_end(bot, view)
            return
        self._listen(view, heard, elapsed)
        life = Life.ALIVE if view.process is not None else self._look_for(bot, view)
        action = next_action(self._observe(bot, view, life), self._policy)
        self._act(bot, view, action)

    def _care_for_remote(self, bot: BotRow, view: View) -> None:
        view.looked = True
        if self._ending:
            return  # it trades on where it is
        if bot.exit_code is not None:
            self._write_end(bot, view, bot.generation, code=bot.exit_code, reason=bot.exit_reason)
            return
        action = remote.judge(bot, remote.silence_s(bot, now_ms()), self._clock() - self._began)
        if not isinstance(action, remote.Leave):
            with write(self._engine) as connection:
                if rows.is_newest(connection, bot):
                    remote.carry_out(connection, bot, action, now_ms())

    def _first_view(self, bot: BotRow) -> View:
        view = View(jitter=self._jitter())
        with read(self._engine) as connection:
            view.deaths_ms = rows.load_deaths(connection, bot.id)
            view.failures_ms = rows.load_failures(connection, bot.id)
            view.last_end_ms = rows.load_last_end(connection, bot.id)
        self._views[bot.id] = view
        return view

    def _listen(self, view: View, heard: dict[str, Heard], elapsed: float) -> None:
        said = heard.get(view.process.run_id) if view.process is not None else None
        if said is None:
            return
        if said.at_end and self._can_judge:
            view.pulse.advance(elapsed)
        view.pulse.saw(set(said.types))
        if said.has_lines and view.heard_at is None:
            view.heard_at = self._clock()

    def _told_to_close_ms(self, bot: BotRow) -> int:
        return max(self._given_ms.get(bot.id, 0), bot.told.latch.closes_since_ms)

    def _observe(self, bot: BotRow, view: View, life: Life) -> Observation:
        now, wall = self._clock(), now_ms()
        wanted_gone = life is Life.NONE and bot.is_faulted and not self._ending
        return Observation(
            desired=DesiredState.STOPPED if self._ending else bot.desired,
            life=life,
            faulted=bot.is_faulted,
            has_open_position=wanted_gone and (bot.id in self._given_ms or self._has_open_position(bot.id)),
            must_close=bot.id in self._left.to_close,
            is_told_to_close=self._told_to_close_ms(bot) > (view.last_end_ms or 0),
            is_restart_wanted=bot.is_restart_wanted,
            is_unread=bot.id in self._left.unread - self._ingest.unreadable,
            is_close_only=view.is_close_only,
            told=view.told == bot.told,
            listens=view.heard_at is not None and now - view.heard_at >= LISTENS_AFTER_S,
            stopping_s=None if view.stopping_at is None else now - view.stopping_at,
            quiet_s=view.pulse.quiet_s,
            silent_s=view.pulse.silent_s,
            silence_limit_s=view.pulse.limit_s(self._policy.health),
            aborted_s=None if view.aborted_at is None else now - view.aborted_at,
            death_ages_s=tuple((wall - ms) / 1000 for ms in view.deaths_ms),
            failure_ages_s=tuple((wall - ms) / 1000 for ms in view.failures_ms),
            since_end_s=float("inf") if view.last_end_ms is None else abs(wall - view.last_end_ms) / 1000,
            jitter=view.jitter,
            status=bot.status,
        )

    def _has_open_position(self, bot_id: int) -> bool:
        with read(self._engine) as connection:
            return rows.has_open_position(connection, bot_id)

    def _look_for(self, bot: BotRow, view: View) -> Life:
        """Find the process of a bot that we hold none of."""
        lock = self._lock(bot.id)
        if view.looked and not bot.run_is_open and view.stranger_since is None:
            return Life.NONE
        age_s = (now_ms() - bot.run_created_ms) / 1000
        if bot.run_state == SPAWNING and 0 <= age_s < self._policy.awaited_s:
            written = read_identity(lock)  # looked at before the lock is tried: that would disturb who is to take it
            if written is None or written.run_id != bot.run_id:
                return Life.AWAITED
        return self._settle_lock(bot, view, probe(lock))

    def _settle_lock(self, bot: BotRow, view: View, holder: Free | Unidentified | Identity) -> Life:
        view.looked = True
        if isinstance(holder, Identity):
            return self._adopt(bot, view, holder)
        if isinstance(holder, Unidentified):
            self._note_stranger(bot, view)
            return Life.UNKNOWN
        view.stranger_since = None
        if bot.run_is_open:
            never_came = "its process never came up" if bot.run_state == SPAWNING else None
            self._write_end(bot, view, bot.generation, code=None, reason=never_came)
            return Life.AWAITED  # decided in the next round, from the rows just written
        return Life.NONE

    def _adopt(self, bot: BotRow, view: View, identity: Identity) -> Life:
        process = adopt(identity)
        if process is None:
            return Life.UNKNOWN  # ended this instant; the next round sees a free lock
        with write(self._engine) as connection:
            rows.note_process(connection, bot.id, process.generation, process.pid, now_ms())
        self._hold(view, process, told=None, close_only=bot.is_faulted)
        log.info("bot_adopted", bot_id=bot.id, run_id=process.run_id, pid=process.pid)
        return Life.ALIVE

    def _hold(self, view: View, process: Process, *, told: Told | None, close_only: bool) -> None:
        view.process, view.told, view.pulse, view.is_close_only = process, told, Pulse(), close_only
        view.heard_at, view.looked, view.stranger_since = None, True, None
        view.stopping_at = view.aborted_at = view.kill_reason = None

    def _note_stranger(self, bot: BotRow, view: View) -> None:
        now = self._clock()
        if view.stranger_since is None:
            view.stranger_since = now
        elif now - view.stranger_since >= STRANGER_AFTER_S and bot.status is not BotState.ERROR:
            reason = f"A process that cannot be identified holds {self._lock(bot.id)}. End it, then press start."
            with write(self._engine) as connection:
                ledger.set_status(connection, bot.id, BotState.ERROR, reason, now_ms())
                ledger.add_note(connection, bot.id, bot.run_id, "lock_held", reason, now_ms())

    # --- act ------------------------------------------------------------------------------------------------------

    def _act(self, bot: BotRow, view: View, action: Action) -> None:
        match action:
            case decisions.Spawn(close_only=close_only):
                if self._may_spawn:
                    self._may_spawn = False  # one a round: many at once would starve each other
                    self._spawn(bot, view, close_only)
            case decisions.Terminate():
                self._terminate(bot, view)
            case decisions.Tell():
                view.told = bot.told
                # To a bot launched by hand, SIGHUP says that its terminal was closed.
                by_hand = bot.run_kind is not RunKind.SUPERVISED
                self._send(view, signal.SIGUSR1 if by_hand else signal.SIGHUP)
            case decisions.Abort(reason=reason):
                view.aborted_at, view.kill_reason = self._clock(), f"killed: {reason}"
                log.error("bot_silent", bot_id=bot.id, reason=reason)
                self._send(view, signal.SIGABRT)
            case decisions.Kill(reason=reason):
                view.kill_reason = f"killed: {reason}"
                log.error("bot_killed", bot_id=bot.id, reason=reason)
                self._send(view, signal.SIGKILL)
            case decisions.Renew():
                view.stopping_at, view.kill_reason = self._clock(), "replaced: start was pressed"
                self._send(view, signal.SIGKILL)
            case decisions.HandOver():
                view.stopping_at, view.pulse.quiet_s = self._clock(), 0.0
                self._send(view, signal.SIGUSR2)
                self._set_status(bot, BotState.STOPPING, "Restarting; its positions are held over.")
            case decisions.Postpone():
                if bot.status not in (BotState.STOPPING, BotState.ERROR):
                    self._set_status(bot, BotState.STOPPING, "It will be started to close what it holds.")
            case decisions.Settle():
                if not self._keeps_fault(bot) and not (self._ending and bot.status is BotState.ERROR):
                    self._set_status(bot, BotState.STOPPED, bot.disorder)
            case decisions.Wait() if view.stopping_at is not None and not self._ending:
                self._say_what_it_waits_for(bot, view)

    def _spawn(self, bot: BotRow, view: View, close_only: bool) -> None:
        if self._settle_lock(bot, view, probe(self._lock(bot.id))) is not Life.NONE:
            return
        is_to_stop = bot.desired is DesiredState.STOPPED
        on_disk = newest_generation(self._settings.journals(bot.id), bot.id)
        with write(self._engine) as connection:
            if not rows.is_newest(connection, bot):
                return  # somebody launches it by hand, this instant
            generation = rows.open_run(connection, bot.id, now_ms(), above=on_disk)
            if is_to_stop:
                ledger.set_status(connection, bot.id, BotState.STOPPING, "Started to close what it holds.", now_ms())
            elif not close_only:  # the fault stays in sight
                ledger.set_status(connection, bot.id, BotState.STARTING, None, now_ms())
        try:
            with write(self._engine) as connection:
                ticket = self._make_ticket(connection, bot.id, generation)
            process = self._launcher.spawn(ticket)
        except FlotillaError as error:
            self._write_end(bot, view, generation, code=ExitCode.UNUSABLE, reason=error.message)
            return
        except OSError as error:
            self._write_end(bot, view, generation, code=ExitCode.TEMPORARY, reason=f"not started: {error.strerror}")
            return
        self._hold(view, process, told=bot.told, close_only=close_only)
        if is_to_stop:  # its ticket says so: it needs no signal, and one could come before it listens
            view.stopping_at = self._clock()
        with write(self._engine) as connection:
            rows.note_process(connection, bot.id, generation, process.pid, now_ms())
        log.info("bot_spawned", bot_id=bot.id, run_id=process.run_id, pid=process.pid, close_only=close_only)

    def _terminate(self, bot: BotRow, view: View) -> None:
        view.stopping_at, view.pulse.quiet_s = self._clock(), 0.0
        self._send(view, signal.SIGTERM)
        if not self._keeps_fault(bot):
            self._set_status(bot, BotState.STOPPING)

    def _send(self, view: View, number: signal.Signals) -> None:
        if view.process is not None:
            view.process.send(number)

    def _keeps_fault(self, bot: BotRow) -> bool:
        """At the end of everything, a bot that was given up and not stopped stays in error, for people to see."""
        return self._ending and bot.is_faulted and bot.desired is not DesiredState.STOPPED

    def _say_what_it_waits_for(self, bot: BotRow, view: View) -> None:
        assert view.stopping_at is not None
        if bot.status in (BotState.STARTING, BotState.RUNNING, BotState.PAUSED):
            self._set_status(bot, BotState.STOPPING, bot.status_reason)
        elif bot.status_reason is None and self._clock() - view.stopping_at >= self._policy.stop_s:
            self._set_status(bot, BotState.STOPPING, "It still holds a position, and goes on trying to close it.")

    def _set_status(self, bot: BotRow, status: BotState, reason: str | None = None) -> None:
        with write(self._engine) as connection:
            ledger.set_status(connection, bot.id, status, reason, now_ms())

    # --- the end of a run -----------------------------------------------------------------------------------------

    def _note_end(self, bot: BotRow, view: View) -> None:
        process = view.process
        assert process is not None
        self._write_end(bot, view, process.generation, code=process.exit_code, reason=view.kill_reason)
        process.close()
        view.process = None

    def _write_end(
        self, bot: BotRow, view: View, generation: int, *, code: int | None, reason: str | None = None
    ) -> None:
        run_id = f"{bot.id}.{generation}"
        words = last_words(self._settings.journals(bot.id), run_id, first_file(run_id))
        if words is not None:
            code = words.code if code is None else code
            reason = reason or words.reason
        asked = view.stopping_at is not None or self._ending or bot.desired is DesiredState.STOPPED
        withdrawn = not asked and code == ExitCode.WANTED and bot.is_by_hand(generation)
        wanted = asked or withdrawn
        now = now_ms()
        deaths = self._policy.restart.recent([(now - ms) / 1000 for ms in view.deaths_ms]) + (not wanted)
        end = End(
            code=code, reason=reason, wanted=wanted, deaths=deaths,
            must_close=bot.id in self._left.to_close, is_final=self._ending,
        )  # fmt: skip
        verdict = judge_end(end, self._policy)
        with write(self._engine) as connection:
            if withdrawn:
                rows.withdraw_wish(connection, bot, generation)
            rows.write_end(
                connection, bot, generation, code=code, reason=reason, wanted=wanted, verdict=verdict, now=now,
                keep_status=self._keeps_fault(bot),
            )  # fmt: skip
            view.deaths_ms = rows.load_deaths(connection, bot.id)
            view.failures_ms = rows.load_failures(connection, bot.id)
        view.last_end_ms, view.jitter, view.stopping_at = now, self._jitter(), None
        log.info("bot_ended", bot_id=bot.id, run_id=run_id, code=code, reason=reason, wanted=wanted)

    def _beat(self, now: float) -> None:
        if now - self._last_beat < BEAT_EVERY_S:
            return
        self._last_beat = now
        try:
            with write(self._engine) as connection:
                rows.write_beat(connection, os.getpid(), self._started_ms, now_ms(), self._ingest.lag_bytes)
            self._beats = True
        except SQLAlchemyError as error:
            self._beats = False
            log.warning("beat_not_written", reason=str(error))

    def _lock(self, bot_id: int) -> Path:
        return self._settings.journals(bot_id) / "lock"
