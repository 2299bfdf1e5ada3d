"""The supervisor as a process: one per home folder, until it is told to detach; and the end of all bots, in order."""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import structlog
from setproctitle import setproctitle
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from server.end_signals import EndSignals
from server.logs import log_to
from server.notify.dispatcher import notifying
from server.security.secrets import load_vault
from server.settings import Settings
from server.storage.engine import BUSY_TIMEOUT_S, make_engine, migrate
from server.supervisor.decisions import ExitCode, Policy
from server.supervisor.identity import (
    Identity,
    boot_id,
    has_exited,
    open_process,
    probe,
    read_identity,
    send,
    start_ticks,
)
from server.supervisor.launcher import Launcher
from server.supervisor.run_tickets import make_ticket
from server.supervisor.supervisor import Supervisor
from shared.errors import FlotillaError
from shared.tickets import RunTicket

log = structlog.get_logger(__name__)

ROUND_S = 0.1
STOP_ALL_S = 15.0
_LAST_READING_S = 2.0
_BUSY_S = 1.0
"""How long the end waits for a locked database each time: its own time is short."""


class AlreadySupervised(FlotillaError):
    """Another supervisor looks after this home."""

    code = "already_supervised"


def run_supervisor(settings: Settings) -> int:
    """Look after the bots until SIGTERM or SIGINT, then detach: they trade on. The exit code."""
    log_to()
    setproctitle("flotilla: supervisor")
    detach = EndSignals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    migrate(settings)
    try:
        with only_supervisor(settings, wait_s=1.0), _engine(settings) as engine, notifying(settings, engine):
            supervisor = _supervisor(settings, engine)
            log.info("supervisor_started", home=str(settings.home))
            while not detach.is_set():
                supervisor.tick()
                detach.wait(ROUND_S)
            log.info("supervisor_detached", bots=supervisor.live())
    except AlreadySupervised as error:
        print(error.message, file=sys.stderr)
        return ExitCode.LOCKED
    return 0


def end_bots(settings: Settings, *, until: float, say: Callable[[str], None] = lambda _: None) -> None:
    """Bring every bot of this home to its end by *until* (monotonic clock), and its journal into the rows.

    Works from the bots' locks, so it finds also those whose supervisor is dead, and needs no database to tell them.
    Desired states stay as they are.
    """
    bots = _Bots(settings.home)
    try:
        _detach_other(settings)
        with only_supervisor(settings, wait_s=3.0):
            bots.tell()
            if bots.left:
                say(f"Ending {len(bots.left)} bot{'s' if len(bots.left) > 1 else ''} in order …")
            with _engine(settings, busy_timeout_s=_BUSY_S) as engine, notifying(settings, engine, drain=True):
                _end_in_order(_supervisor(settings, engine, ending=True), bots, until)
    except (FlotillaError, SQLAlchemyError, OSError) as error:
        log.error("bots_not_ended_in_order", reason=str(error))
        say("The bots cannot be ended through the database; ending them without it.")
    bots.end(until)


def _detach_other(settings: Settings) -> None:
    """A supervisor that somebody else started here would start the bots again: it has to let go first."""
    holder = probe(settings.home / "supervisor.lock")
    descriptor = open_process(holder) if isinstance(holder, Identity) else None
    if descriptor is not None:
        send(descriptor, signal.SIGTERM)
        os.close(descriptor)


class _Bots:
    """The living bots of a home, found by their locks: told once to end, and killed when their time is over."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._told: set[Identity] = set()
        self.left: list[int] = []
        """Those that were told and live, as pidfds."""

    def tell(self) -> None:
        """SIGTERM to each that was not told yet: one that was just started may take its lock only now."""
        for lock in self._home.glob("journals/*/lock"):
            holder = read_identity(lock)
            descriptor = open_process(holder) if holder is not None and holder not in self._told else None
            if holder is not None and descriptor is not None:
                self._told.add(holder)
                send(descriptor, signal.SIGTERM)
                self.left.append(descriptor)
        for descriptor in [d for d in self.left if has_exited(d)]:
            self.left.remove(descriptor)
            os.close(descriptor)

    def kill(self) -> None:
        """SIGKILL to all that are left."""
        for descriptor in self.left:
            send(descriptor, signal.SIGKILL)

    def end(self, until: float) -> None:
        """Wait for those that are left, and at *until* (monotonic clock) kill them."""
        self.tell()
        while self.left and time.monotonic() < until:
            time.sleep(ROUND_S / 2)
            self.tell()
        self.kill()


def _end_in_order(supervisor: Supervisor, bots: _Bots, until: float) -> None:
    give_up_at: float | None = None
    while True:
        supervisor.tick()
        bots.tell()
        if not bots.left and supervisor.is_finished():
            return
        now = time.monotonic()
        if now >= until:
            supervisor.kill_all()
            bots.kill()
        if not bots.left and not supervisor.is_reached:
            give_up_at = give_up_at or now + _LAST_READING_S
        if now >= min(until + _LAST_READING_S, give_up_at or math.inf):
            log.error("bots_or_journals_left", bots=supervisor.live())
            return
        time.sleep(ROUND_S / 2)


@contextmanager
def only_supervisor(settings: Settings, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the home's supervisor lock. Raises `AlreadySupervised` if another one still does after *wait_s*."""
    deadline = time.monotonic() + wait_s
    settings.make_home()
    path = settings.home / "supervisor.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise AlreadySupervised(
                        f"Another supervisor looks after {settings.home}. Stop it first, or set another FLOTILLA_HOME."
                    ) from None
                time.sleep(ROUND_S / 2)
        me = Identity(
            pid=os.getpid(), start_ticks=start_ticks(os.getpid()) or 0, boot_id=boot_id(), generation=0, run_id=""
        )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(me)).encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _engine(settings: Settings, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Iterator[Engine]:
    engine = make_engine(settings.database_url, busy_timeout_s=busy_timeout_s)
    try:
        yield engine
    finally:
        engine.dispose()


def _supervisor(settings: Settings, engine: Engine, *, ending: bool = False) -> Supervisor:
    policy = Policy(stop_s=STOP_ALL_S, stop_may_extend=False) if ending else Policy()
    ticket = partial(_make_ticket, settings)
    return Supervisor(settings, engine, Launcher(), ticket, policy=policy, ending=ending)


def _make_ticket(settings: Settings, connection: Connection, bot_id: int, generation: int) -> RunTicket:
    vault = load_vault(settings)  # each time: a person may have put the right key in place meanwhile
    return make_ticket(connection, settings, vault, bot_id, generation)
