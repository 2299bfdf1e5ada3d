"""``flotilla doctor``: is everything there and at work? One line for each part, with the remedy where it is not."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import requests
from sqlalchemy import Connection, Engine, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from server.api.health import BEAT_LIMIT_MS
from server.cli.output import json_option, print_json, printable
from server.security.secrets import load_vault, open_credential
from server.settings import CHECKOUT, Settings, load_settings
from server.storage.engine import is_migrated, make_engine, read
from server.storage.models import Bot, Credential, SupervisorBeat
from server.storage.times import now_ms
from server.supervisor.run_tickets import endpoints
from server.web.assets import FROM_PACKAGES
from shared.errors import FlotillaError

_TIMEOUT_S = 5.0
_LEAST_DISK = 500 * 1024**2
_MOST_LAG = 1024**2
_MOST_OFFSET_MS = 500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was seen of one part. *remedy* is empty where it is well."""

    part: str
    ok: bool
    seen: str
    remedy: str = ""


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look at every part and say what is broken, with the remedy. Exit code 1 if anything is."""
    settings = load_settings()
    found = []
    for look in LOOKS:
        for finding in look(settings):
            found.append(finding)
            if not as_json:
                _show(finding)
    broken = [f for f in found if not f.ok]
    if as_json:
        print_json({"ok": not broken, "items": [asdict(f) for f in found]})
    else:
        click.echo(f"{len(broken)} of {len(found)} need attention." if broken else "All is well.")
    if broken:
        raise click.exceptions.Exit(1)


def _show(finding: Finding) -> None:
    mark = click.style("✓", fg="green") if finding.ok else click.style("✗", fg="red", bold=True)
    click.echo(f"{mark} {finding.part.ljust(12)} {printable(finding.seen)}")
    if not finding.ok:
        click.echo(f"  {''.ljust(12)} → {printable(finding.remedy)}")


def _python(_settings: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding(
        part="python",
        ok=sys.version_info >= (3, 11),
        seen=f"{version}, {sys.executable}",
        remedy="Install Python 3.11 or newer, then: make setup",
    )


def _packages(_settings: Settings) -> Iterator[Finding]:
    wrong = []
    for line in (CHECKOUT / "requirements.txt").read_text().splitlines():
        name, _, wanted = line.partition("#")[0].strip().partition("==")
        if not name:
            continue
        try:
            present = metadata.version(name.partition("[")[0])
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
        else:
            if present != wanted:
                wrong.append(f"{name} is {present}, wanted {wanted}")
    seen = ", ".join(wrong) or "as requirements.txt wants them"
    yield Finding(part="packages", ok=not wrong, seen=seen, remedy="Install them: make setup")


def _home(settings: Settings) -> Iterator[Finding]:
    home, problem = settings.home, ""
    if not home.is_dir():
        problem, remedy = "does not exist", "Start Flotilla once: make run"
    elif not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        problem, remedy = "cannot be written by this user", f"Give it to this user: chown -R {os.getuid()} {home}"
    else:
        secret = [home, settings.key_file, settings.cli_token_file]
        open_ones = [str(p) for p in secret if p.exists() and p.stat().st_mode & 0o077]
        problem = f"others may look into {', '.join(open_ones)}" if open_ones else ""
        remedy = f"Close it: chmod go-rwx {' '.join(open_ones)}"
    yield Finding(part="home", ok=not problem, seen=f"{home} {problem}".strip(), remedy=remedy)


def _disk(settings: Settings) -> Iterator[Finding]:
    place = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    free = shutil.disk_usage(place).free
    yield Finding(
        part="disk",
        ok=free >= _LEAST_DISK,
        seen=f"{free / 1024**3:.1f} GiB free",
        remedy=f"Make room where {place} lies: bots stop entering when their journals cannot grow.",
    )


def _database(settings: Settings) -> Iterator[Finding]:
    problem, remedy = _with_database(settings, _database_problem)
    where = make_url(settings.database_url).render_as_string(hide_password=True)
    yield Finding(part="database", ok=not problem, seen=problem or f"{where}, up to date", remedy=remedy)


def _database_problem(connection: Connection) -> tuple[str, str]:
    if not is_migrated(connection):
        return "not of this version", "Start Flotilla once: it brings the database up to date."
    return "", ""


def _secrets(settings: Settings) -> Iterator[Finding]:
    def problem(connection: Connection) -> tuple[str, str]:
        vault = load_vault(settings)
        for row in connection.execute(select(Credential.id)):
            open_credential(connection, vault, row.id)
        return "", ""

    if not settings.home.is_dir():
        return
    seen, remedy = _with_database(settings, problem)
    yield Finding(part="secrets", ok=not seen, seen=seen or "all exchange keys can be opened", remedy=remedy)


def _web(settings: Settings) -> Iterator[Finding]:
    started = time.monotonic()
    remedy = "Start Flotilla: make run"
    try:
        answer = _get(f"{settings.base_url}/health", is_local=True)
    except requests.RequestException:
        taken = _is_taken(settings.host, settings.port)
        seen = f"no answer from {settings.base_url}"
        if taken:
            remedy = f"Something else listens on port {settings.port}: stop it, or set FLOTILLA_PORT."
        yield Finding(part="web", ok=False, seen=seen, remedy=remedy)
        return
    ours = answer.ok and answer.text.strip() == '{"status":"ok"}'
    seen = f"{settings.base_url} answers in {(time.monotonic() - started) * 1000:.0f} ms"
    other = f"Port {settings.port} belongs to something else: stop it, or set FLOTILLA_PORT."
    yield Finding(part="web", ok=ours, seen=seen if ours else f"{settings.base_url} is not Flotilla", remedy=other)


def _supervisor(settings: Settings) -> Iterator[Finding]:
    def problem(connection: Connection) -> tuple[str, str]:
        beat = connection.execute(select(SupervisorBeat).order_by(SupervisorBeat.beat_ms.desc()).limit(1)).first()
        if beat is None:
            return "never seen", "Start it: flotilla supervisor, or all together: make run"
        beats.append(beat)
        silent_ms = now_ms() - beat.beat_ms
        if silent_ms > BEAT_LIMIT_MS:
            words = f"no sign of life for {silent_ms / 1000:.0f} s"
            return words, "Start it: flotilla supervisor, or all together: make run"
        return "", ""

    beats: list[Any] = []
    seen, remedy = _with_database(settings, problem)
    well = f"alive, pid {beats[0].pid}" if beats else ""
    yield Finding(part="supervisor", ok=not seen, seen=seen or well, remedy=remedy)
    if not seen:
        lag = beats[0].journal_lag_bytes
        behind = "It reads on by itself; if this grows, look at its log and at the disk's speed."
        yield Finding(part="journals", ok=lag <= _MOST_LAG, seen=f"{lag} bytes not yet booked", remedy=behind)


def _exchanges(settings: Settings) -> Iterator[Finding]:
    used = {"simulator"}

    def note_used(connection: Connection) -> tuple[str, str]:
        used.update(connection.execute(select(Bot.exchange).where(Bot.archived_ms.is_(None)).distinct()).scalars())
        return "", ""

    _with_database(settings, note_used)
    for exchange in sorted(used):
        try:
            rest = endpoints(settings, exchange).rest
        except FlotillaError:
            continue  # its bots cannot start, and say why
        yield _exchange(exchange, rest)


def _exchange(name: str, rest: str) -> Finding:
    before = time.time() * 1000
    try:
        answer = _get(f"{rest}/v3/time", is_local=name == "simulator")
        theirs = float(answer.json()["serverTime"])
    except (requests.RequestException, ValueError, KeyError, TypeError):
        remedy = (
            "Start it with the rest: make run" if name == "simulator" else "Look at the network, and at its status."
        )
        return Finding(part=name, ok=False, seen=f"no time from {rest}", remedy=remedy)
    after = time.time() * 1000
    offset = theirs - (before + after) / 2
    off = abs(offset) > _MOST_OFFSET_MS + (after - before) / 2
    seen = f"answers in {after - before:.0f} ms, clock {offset:+.0f} ms from ours"
    return Finding(part=name, ok=not off, seen=seen, remedy="Let this machine's clock be set by NTP.")


def _assets(_settings: Settings) -> Iterator[Finding]:
    missing = [name for name, path in FROM_PACKAGES.items() if not path.is_file()]
    seen = f"{', '.join(missing)} missing: pages work, but are not live" if missing else "all there"
    yield Finding(part="assets", ok=not missing, seen=seen, remedy="Fetch them: flotilla assets")


LOOKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _python, _packages, _home, _disk, _database, _secrets, _web, _supervisor, _exchanges, _assets,
)  # fmt: skip


def _with_database(settings: Settings, look: Callable[[Connection], tuple[str, str]]) -> tuple[str, str]:
    """What *look* finds wrong and the remedy; or why it cannot look."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return "there is none yet", "Start Flotilla once: make run"
    engine: Engine | None = None
    try:
        engine = make_engine(settings.database_url)
        with read(engine) as connection:
            return look(connection)
    except FlotillaError as error:
        return error.message, "See docs/failure-modes.md."
    except (SQLAlchemyError, OSError, ImportError) as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        return f"cannot be used: {cause}", "See DATABASE_URL and FLOTILLA_HOME."
    finally:
        if engine is not None:
            engine.dispose()


def _get(url: str, *, is_local: bool) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = not is_local  # no proxy between this machine's own parts
        return session.get(url, timeout=_TIMEOUT_S, allow_redirects=False)


def _is_taken(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host if host not in ("0.0.0.0", "::", "") else "127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
