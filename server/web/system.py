"""The system page: is everything at work, how close is it to its limits, and what is running in which version."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from alembic.runtime.migration import MigrationContext
from flask import current_app, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection, Row, func, select, text

from server.api.wire import engine
from server.security.roles import Role, needs
from server.settings import Settings
from server.storage.engine import read
from server.storage.models import Bot, BotRun, DeadLetter, Notification, SupervisorBeat
from server.storage.times import DAY_MS, now_ms
from server.supervisor.run_tickets import endpoints
from server.web import system_view as view
from server.web.fleet_load import load_fleet
from server.web.fleet_view import Seen
from server.web.hub import MAX_VIEWERS
from server.web.live import Drawing, LiveRequest, draw_macro, live_view
from server.web.probe import Probe, ask_time
from server.web.shell import web
from shared.states import BotState

_PACKAGES = ("flask", "sqlalchemy", "waitress", "websockets", "aiohttp", "lightgbm", "numpy", "pydantic")
_MAX_RUNS = 15


@web.get("/system")
@needs(Role.VIEWER)
def system_page() -> ResponseReturnValue:
    """Checks, processes, runs that ended unwanted, versions."""
    with read(engine()) as connection:
        now = now_ms()
        checks, processes = _observed(connection, now)
        runs, revision = _unwanted(connection, now), MigrationContext.configure(connection).get_current_revision()
    return render_template(
        "system.html",
        checks=checks,
        summary=view.summary(checks),
        processes=processes,
        runs=runs,
        versions=[*versions(), ("Schema", revision or "none")],
        home=str(_settings().home),
        live_url=url_for("web.live_stream", view="system"),
    )


@live_view("system")
def draw_system(connection: Connection, request: LiveRequest, after: int) -> Drawing:
    """The checks and the processes; the rest changes rarely."""
    checks, processes = _observed(connection, now_ms())
    parts = {"system-checks": draw_macro("_system.html", "checks", checks, view.summary(checks))}
    parts["system-processes"] = draw_macro("_system.html", "processes", processes)
    return Drawing(parts=parts)


def _observed(connection: Connection, now: int) -> tuple[list[view.Check], list[view.ProcessLine]]:
    fleet = load_fleet(connection, now)
    beat = connection.execute(select(SupervisorBeat).order_by(SupervisorBeat.beat_ms.desc()).limit(1)).first()
    checks = view.worst_first(_checks(connection, fleet, beat, now))
    return checks, _processes(fleet, beat, now)


def _checks(connection: Connection, fleet: list[Seen], beat: Row[Any] | None, now: int) -> list[view.Check]:
    settings = _settings()
    speaking = [
        (seen.bot["name"], now - seen.heartbeat_ms)
        for seen in fleet
        if seen.heartbeat_ms is not None and seen.bot["status"] in (BotState.RUNNING, BotState.PAUSED)
    ]
    letters = connection.execute(select(func.count(), func.max(DeadLetter.created_ms))).one()
    lately = Notification.created_ms > now - DAY_MS
    counts = select(Notification.state, func.count()).where(Notification.state.in_(("queued", "failed")), lately)
    messages = {row[0]: row[1] for row in connection.execute(counts.group_by(Notification.state))}
    size, wal = _database_bytes(connection, settings)
    checks = [
        view.supervisor_check(
            beat.beat_ms if beat else None, beat.started_ms if beat else None, beat.pid if beat else None, now
        ),
        view.heartbeat_check(max(speaking, key=lambda one: one[1], default=None)),
        view.lag_check(beat.journal_lag_bytes if beat else None),
        view.unread_check(letters[0], letters[1]),
        view.database_check(size, wal),
        view.disk_check(shutil.disk_usage(settings.home).free, str(settings.home)),
    ]
    for exchange in sorted({seen.bot["exchange"] for seen in fleet}):
        answer = probe(f"{endpoints(settings, exchange).rest}/v3/time").get_answer()
        checks += [view.clock_check(exchange, answer), view.weight_check(exchange, answer)]
    hub = current_app.extensions["flotilla.hub"]
    checks += [
        view.streams_check(hub.count, MAX_VIEWERS),
        view.queue_check(messages.get("queued", 0), messages.get("failed", 0)),
    ]
    return checks


@cache
def probe(url: str) -> Probe:
    """The one probe of this address in this process."""
    return Probe(url, ask_time)


def _database_bytes(connection: Connection, settings: Settings) -> tuple[int | None, int | None]:
    """Size of the database and of its write-ahead log in bytes, None where it cannot be known."""
    if connection.dialect.name == "postgresql":
        return connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one(), None
    file = Path(connection.engine.url.database or "")
    try:
        wal = Path(f"{file}-wal")
        return file.stat().st_size, wal.stat().st_size if wal.exists() else 0
    except OSError:
        return None, None


def _processes(fleet: list[Seen], beat: Row[Any] | None, now: int) -> list[view.ProcessLine]:
    """Web and supervisor as the system sees them, bots as their heartbeats say."""
    own = [_process("web", os.getpid(), now)]
    if beat is not None:
        own.append(_process("supervisor", beat.pid, now))
    bots = [
        view.ProcessLine(
            name=seen.bot["name"],
            pid=seen.bot["pid"],
            cpu="–" if seen.cpu_pct is None else f"{seen.cpu_pct:.1f}",
            rss="–" if seen.bot["rss_mib"] is None else f"{seen.bot['rss_mib']:.0f}",
            since_ms=seen.bot["status_since"],
            bot_id=seen.id,
        )
        for seen in sorted(fleet, key=lambda seen: seen.bot["name"].lower())
        if seen.bot["pid"] is not None
    ]
    return [line for line in own if line is not None] + bots


def _process(name: str, pid: int, now: int) -> view.ProcessLine | None:
    """One process of this host, its CPU on average since it started; None if it is gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            began_ms, spent = int(process.create_time() * 1000), process.cpu_times()
            rss = process.memory_info().rss
    except psutil.Error:
        return None
    cpu = 100_000 * (spent.user + spent.system) / max(1, now - began_ms)
    return view.ProcessLine(name=name, pid=pid, cpu=f"{cpu:.1f}", rss=f"{rss / 1_048_576:.0f}", since_ms=began_ms)


def _unwanted(connection: Connection, now: int) -> list[view.RunLine]:
    query = (
        select(BotRun.bot_id, BotRun.generation, BotRun.created_ms, BotRun.ended_ms, BotRun.exit_code,
               BotRun.exit_reason, Bot.name.label("bot"))
        .join(Bot, Bot.id == BotRun.bot_id)
        .where(BotRun.ended_ms > now - 7 * DAY_MS, BotRun.wanted.is_(False))
        .order_by(BotRun.ended_ms.desc())
        .limit(_MAX_RUNS)
    )  # fmt: skip
    return [view.run_line(row) for row in connection.execute(query)]


@cache
def versions() -> tuple[tuple[str, str], ...]:
    """Name and version of what this process runs on."""
    found = [("Flotilla", _version("flotilla")), ("Python", platform.python_version())]
    found += [("SQLite", sqlite3.sqlite_version), ("System", f"{platform.system()} {platform.release()}")]
    return (*found, *((name, _version(name)) for name in _PACKAGES))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _settings() -> Settings:
    found: Settings = current_app.extensions["flotilla"].settings
    return found
