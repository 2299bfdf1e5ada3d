"""The supervisor as a process: one per home folder, until it is told to detach; and the end of all bots, in order."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import threading
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

from server.logs import log_to
from server.security.secrets import load_vault
from server.settings import Settings
from server.storage.engine import make_engine, migrate
from server.supervisor.decisions import ExitCode, Policy
from server.supervisor.identity import Identity, boot_id, has_exited, open_process, probe, send, start_ticks
from server.supervisor.launcher import Launcher
from server.supervisor.run_tickets import make_ticket
from server.supervisor.supervisor import Supervisor
from shared.errors import FlotillaError
from shared.tickets import RunTicket

log = structlog.get_logger(__name__)

ROUND_S = 0.1
STOP_ALL_S = 15.0
_LAST_READING_S = 2.0


class AlreadySupervised(FlotillaError):
    """Another supervisor looks after this home."""

    code = "already_supervised"


def run_supervisor(settings: Settings) -> int:
    """Look after the bots until SIGTERM or SIGINT, then detach: they trade on. The exit code."""
    log_to()
    setproctitle("flotilla: supervisor")
    detach = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: detach.set())
    migrate(settings)
    try:
        with only_supervisor(settings, wait_s=1.0), _engine(settings) as engine:
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

    Works from the bots' locks, so it finds also those whose supervisor is dead. Desired states stay as they are.
    """
    try:
        _detach_other(settings)
        with only_supervisor(settings, wait_s=3.0), _engine(settings) as engine:
            _end_in_order(_supervisor(settings, engine, ending=True), until, say)
    except (FlotillaError, SQLAlchemyError, OSError) as error:
        log.error("bots_not_ended_in_order", reason=str(error))
        say("The bots cannot be ended through the database; ending them without it.")
    _end_by_locks(settings.home, until)


def _detach_other(settings: Settings) -> None:
    """A supervisor that somebody else started here would start the bots again: it has to let go first."""
    holder = probe(settings.home / "supervisor.lock")
    descriptor = open_process(holder) if isinstance(holder, Identity) else None
    if descriptor is not None:
        send(descriptor, signal.SIGTERM)
        os.close(descriptor)


def _end_in_order(supervisor: Supervisor, until: float, say: Callable[[str], None]) -> None:
    supervisor.tick()
    count = len(supervisor.live())
    if count:
        say(f"Ending {count} bot{'s' if count > 1 else ''} in order …")
    while not supervisor.is_finished():
        now = time.monotonic()
        if now >= until:
            supervisor.kill_all()
        if now >= until + _LAST_READING_S:
            log.error("bots_left", bots=supervisor.live())
            return
        time.sleep(ROUND_S / 2)
        supervisor.tick()


def _end_by_locks(home: Path, until: float) -> None:
    """What still holds a bot's lock gets SIGTERM, and at *until* SIGKILL."""
    left: list[int] = []
    for lock in home.glob("journals/*/lock"):
        holder = probe(lock)
        descriptor = open_process(holder) if isinstance(holder, Identity) else None
        if descriptor is not None:
            send(descriptor, signal.SIGTERM)
            left.append(descriptor)
    while left and time.monotonic() < until:
        left = [d for d in left if not has_exited(d)]
        time.sleep(ROUND_S / 2)
    for descriptor in left:
        send(descriptor, signal.SIGKILL)


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
def _engine(settings: Settings) -> Iterator[Engine]:
    engine = make_engine(settings.database_url)
    try:
        yield engine
    finally:
        engine.dispose()


def _supervisor(settings: Settings, engine: Engine, *, ending: bool = False) -> Supervisor:
    policy = Policy(stop_s=STOP_ALL_S, stop_may_extend=False) if ending else Policy()
    ticket = partial(_make_ticket, settings)
    return Supervisor(settings, engine, Launcher(), ticket, policy=policy, ending=ending)


def _make_ticket(
    settings: Settings, connection: Connection, bot_id: int, generation: int
) -> RunTicket:
    vault = load_vault(settings)  # each time: a person may have put the right key in place meanwhile
    return make_ticket(connection, settings, vault, bot_id, generation)
