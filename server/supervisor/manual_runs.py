"""Hand a bot to a person: the run ticket of a manual launch, on this host or on another one.

The row comes first, as for a process of the supervisor's own: from then on the run is awaited, and nothing else starts
the bot. A launch belongs to this host if it sees the very home folder that the server uses, by device and inode on the
same boot and in the same process namespace: then its journal and lock are ours. Otherwise the run is remote.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from server.security.secrets import Vault
from server.settings import Settings
from server.storage import audit, fleet, ledger, verbs
from server.storage.audit import Author
from server.storage.ledger import ENDED, RUNNING, SPAWNING
from server.storage.models import BotRun
from server.storage.queries import bot_row
from server.storage.times import now_ms
from server.supervisor import rows
from server.supervisor.decisions import Policy
from server.supervisor.identity import Free, boot_id, probe
from server.supervisor.journal import newest_generation
from server.supervisor.run_tickets import make_ticket
from shared.errors import Conflict, Refused
from shared.states import BotState, RunKind
from shared.tickets import RunTicket


class AlreadyRunning(Conflict):
    """A run holds the bot."""

    code = "already_running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a home folder lies: equal places are one folder of one machine, whatever its path is called."""

    boot_id: str
    pid_namespace: int
    device: int
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a person wants to launch: from which *host*, and which home folder is reachable there (None: none).

    *replaces*: a remote run of that host that has died without a word. *symbol*: what the person takes the bot's for.
    """

    host: str
    author: Author
    place: Place | None = None
    replaces: str | None = None
    symbol: str | None = None


def own_place(settings: Settings) -> Place:
    """Where this server's home lies."""
    home = os.stat(settings.home)
    namespace = os.stat("/proc/self/ns/pid").st_ino
    return Place(boot_id=boot_id(), pid_namespace=namespace, device=home.st_dev, inode=home.st_ino)


def open_manual_run(connection: Connection, settings: Settings, vault: Vault, bot_id: int, launch: Launch) -> RunTicket:
    """Take the bot's next generation and want it to run. Raises `NotFound`, `Refused`, `Conflict`, `AlreadyRunning`."""
    bot = bot_row(connection, bot_id)
    if launch.symbol is not None and launch.symbol != bot.symbol:
        raise Refused(
            f"Bot {bot_id} trades {bot.symbol}, not {launch.symbol}. Leave --symbol out, or choose another bot.",
            fields={"symbol": f"the bot's is {bot.symbol}"},
        )
    kind = RunKind.MANUAL if launch.place == own_place(settings) else RunKind.REMOTE
    _require_free(connection, settings, bot, launch)
    if kind is RunKind.REMOTE:
        _require_all_read(connection, bot_id)
    verbs.start(connection, bot_id, launch.author, reason=f"launched by hand on {launch.host}")
    now = now_ms()
    on_disk = newest_generation(settings.journals(bot_id), bot_id)
    heard_ms = now if kind is RunKind.REMOTE else None
    generation = rows.open_run(
        connection, bot_id, now, above=on_disk, kind=kind.value, started_by=launch.author.name, host=launch.host,
        heard_ms=heard_ms,
    )  # fmt: skip
    reason = f"Launched by {launch.author.name} on {launch.host}."
    after = {"run_id": f"{bot_id}.{generation}", "kind": kind.value, "host": launch.host}
    why = f"by hand on {launch.host}, which gets its keys of {bot.exchange}"
    audit.note(connection, launch.author, "bot.launch", bot_id=bot_id, target=bot.name, after=after, reason=why)
    ledger.set_status(connection, bot_id, BotState.STARTING, reason, now)
    return make_ticket(connection, settings, vault, bot_id, generation, kind)


def _require_free(connection: Connection, settings: Settings, bot: Row[Any], launch: Launch) -> None:
    run = connection.execute(select(BotRun).where(BotRun.bot_id == bot.id, BotRun.generation == bot.generation)).first()
    if run is not None and run.state not in (SPAWNING, RUNNING):
        run = None
    run_id = f"{bot.id}.{bot.generation}"
    if run is not None and run.kind == RunKind.REMOTE:
        if (launch.host, launch.replaces) != (run.host, run_id):
            raise AlreadyRunning(
                f"Bot {bot.id} runs on host {run.host} as run {run_id}. End it there with Ctrl-C; if it died there, "
                "launch it there again."
            )
        _end_silently(connection, bot.id, bot.generation)
        return
    awaited_ms = Policy().awaited_s * 1000
    if run is not None and run.state == SPAWNING and 0 <= now_ms() - run.created_ms < awaited_ms:
        raise AlreadyRunning(f"Bot {bot.id} is being started as run {run_id}. Stop it first.")
    if not isinstance(probe(settings.journals(bot.id) / "lock"), Free):
        where = f" as process {bot.pid}" if bot.pid else ""
        raise AlreadyRunning(f"Bot {bot.id} already runs{where} (run {run_id}). Stop it first.")


def _end_silently(connection: Connection, bot_id: int, generation: int) -> None:
    """Its own host says that it is dead. What it left to tell comes with its successor."""
    ended = {"state": ENDED, "ended_ms": now_ms(), "exit_reason": "ended without a word", "wanted": False}
    mine = (BotRun.bot_id == bot_id, BotRun.generation == generation)
    connection.execute(update(BotRun).where(*mine).values(**ended))
    rows.close_offset(connection, bot_id, generation)


def _require_all_read(connection: Connection, bot_id: int) -> None:
    if fleet.is_unread(connection, bot_id):
        raise Conflict(
            f"Not all that bot {bot_id} reported is in the rows yet, so another host cannot know what it holds. "
            "Try again in a moment; the supervisor has to run."
        )
