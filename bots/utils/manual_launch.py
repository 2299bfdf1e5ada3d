"""Launch a bot by hand: ask the server for a run ticket, and find out where the run's files lie.

Where the server's own home folder is reachable, the run is one of its host: same journal, same lock. Otherwise it is
remote, and its files lie in a spool below the launcher's own home. Whatever is in the way is one sentence and an exit
code: 73 if the bot runs already, 78 for what is to be corrected, 1 for what may pass.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from bots.reporters.journal import journal_files
from bots.utils.run_lock import boot_id
from shared.halt import HALT_FILE
from shared.states import RunKind
from shared.tickets import RunTicket

EXIT_TEMPORARY: Final = 1
EXIT_ALREADY_RUNNING: Final = 73
EXIT_CONFIG: Final = 78
TIMEOUT_S: Final = (5, 20)
WITHDRAW_S: Final = 3.0
CHECKOUT: Final = Path(__file__).resolve().parents[2]

log = logging.getLogger(__name__)


class LaunchRefused(Exception):
    """The bot cannot be launched here and now; the text says why and what to do."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which bot, at which server, as whom. *token_from* says where the token was found."""

    bot_id: int
    server: str
    token: str
    token_from: str
    home: Path
    symbol: str | None = None


def read_options(
    bot_id: int, server: str | None, token: str | None, symbol: str | None, environment: Mapping[str, str]
) -> Wanted:
    """Options, then environment, then what lies in FLOTILLA_HOME. Raises `LaunchRefused`."""
    home = Path(environment.get("FLOTILLA_HOME") or CHECKOUT / "var").expanduser().resolve()
    server = (server or _local_server(environment)).strip().rstrip("/")
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LaunchRefused(f"--server {server!r} is no address. Give one such as http://127.0.0.1:5000.", EXIT_CONFIG)
    found, found_in = _token(token, environment, home)
    symbol = symbol.strip().upper() if symbol else None
    return Wanted(bot_id=bot_id, server=server, token=found, token_from=found_in, home=home, symbol=symbol)


def take_ticket(wanted: Wanted) -> RunTicket:
    """A ticket whose *home* is the folder of the run on this machine. Raises `LaunchRefused`."""
    spool = _spool(wanted)
    body: dict[str, Any] = {"host": socket.gethostname()}
    if wanted.symbol is not None:
        body["symbol"] = wanted.symbol
    if (place := _place(wanted.home)) is not None:
        body["home"] = place
    if (left := newest_run(spool, wanted.bot_id)) is not None:
        body["replaces"] = left
    answer = _ask(wanted, f"/api/bots/{wanted.bot_id}/runs", body)
    if answer.status_code != 201:
        raise _refusal(wanted, answer)
    try:
        ticket = RunTicket.from_json(answer.content)
    except ValueError:
        raise LaunchRefused(f"{wanted.server} answered with something that is no run ticket.", EXIT_TEMPORARY) from None
    if ticket.kind is RunKind.REMOTE:  # the halt file is of the server's machine; control says the same
        return replace(ticket, home=str(spool), server_url=wanted.server, halt_file=None)
    folder = wanted.home / "journals" / str(wanted.bot_id)
    halt_file = str(wanted.home / HALT_FILE)
    return replace(ticket, home=str(folder), server_url=wanted.server, halt_file=halt_file)


def withdraw(wanted: Wanted) -> threading.Thread:
    """Tell the server, in the background, that the bot is no longer wanted; if it cannot hear, the journal says so."""

    def tell() -> None:
        try:
            _post(wanted, f"/api/bots/{wanted.bot_id}/stop", {}, timeout=WITHDRAW_S)
        except requests.RequestException:
            log.info("the server could not be told; it learns from the journal that the bot was ended")

    thread = threading.Thread(target=tell, name="withdraw", daemon=True)
    # It takes no signal: it may outlive the handlers, and the supervisor asks the bot to end as soon as it is heard.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    thread.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return thread


def fetch_model(ticket: RunTicket) -> RunTicket:
    """*ticket* with its model on this machine, downloaded unless it is here. Without one the bot itself says why."""
    if ticket.model is None:
        return ticket
    path = Path(ticket.home) / f"model-{ticket.model.sha256}.txt"
    here = replace(ticket, model=replace(ticket.model, path=str(path)))
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == ticket.model.sha256:
        return here
    try:
        answer = _session().get(
            ticket.server_url + ticket.model.url, headers={"Authorization": f"Bearer {ticket.token}"}, timeout=TIMEOUT_S
        )
        answer.raise_for_status()
        if hashlib.sha256(answer.content).hexdigest() != ticket.model.sha256:
            raise ValueError("what came is not what the registry says")
        path.with_suffix(".part").write_bytes(answer.content)
        os.replace(path.with_suffix(".part"), path)
    except (requests.RequestException, ValueError, OSError) as error:
        log.error("model %s could not be downloaded: %s", ticket.model.id, error)
    return here


def _local_server(environment: Mapping[str, str]) -> str:
    host = environment.get("FLOTILLA_HOST") or "127.0.0.1"
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{host}]' if ':' in host else host}:{environment.get('FLOTILLA_PORT') or 5000}"


def _token(given: str | None, environment: Mapping[str, str], home: Path) -> tuple[str, str]:
    file = home / "cli.token"
    if given:
        found, found_in = given, "--token"
    elif environment.get("FLOTILLA_TOKEN"):
        found, found_in = environment["FLOTILLA_TOKEN"], "FLOTILLA_TOKEN"
    else:
        try:
            found, found_in = file.read_text(), str(file)
        except OSError as error:
            raise LaunchRefused(
                f"There is no token: {file} cannot be read ({error.strerror}). Set FLOTILLA_HOME to the server's, or "
                "FLOTILLA_TOKEN to an API token.",
                EXIT_CONFIG,
            ) from None
    found = found.strip()
    if not found or not found.isascii() or not found.isprintable() or " " in found:
        raise LaunchRefused(f"The token from {found_in} is none. Make one with POST /api/tokens.", EXIT_CONFIG)
    return found, found_in


def _place(home: Path) -> dict[str, Any] | None:
    """How the server recognises its own home folder, if this process may write there."""
    if not os.access(home / "journals", os.W_OK | os.X_OK) and not os.access(home, os.W_OK | os.X_OK):
        return None
    seen = home.stat()
    namespace = os.stat("/proc/self/ns/pid").st_ino
    return {"boot_id": boot_id(), "pid_namespace": namespace, "device": seen.st_dev, "inode": seen.st_ino}


def _spool(wanted: Wanted) -> Path:
    return wanted.home / "spool" / re.sub(r"[^A-Za-z0-9.-]+", "_", urlsplit(wanted.server).netloc) / str(wanted.bot_id)


def newest_run(spool: Path, bot_id: int) -> str | None:
    """The newest remote run of this machine, which has ended. Raises `LaunchRefused` if it has not."""
    if not spool.is_dir():
        return None
    descriptor = os.open(spool / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LaunchRefused(
            f"Bot {bot_id} already runs on this machine: {spool / 'lock'} is held. End that process first.",
            EXIT_ALREADY_RUNNING,
        ) from None
    finally:
        os.close(descriptor)
    generations = [generation for generation, _part, _path in journal_files(spool)]
    return f"{bot_id}.{max(generations)}" if generations else None


def _ask(wanted: Wanted, path: str, body: dict[str, Any]) -> requests.Response:
    try:
        return _post(wanted, path, body, timeout=TIMEOUT_S)
    except requests.ConnectionError:
        why = "nothing answers there"
    except requests.Timeout:
        why = "it does not answer in time"
    except requests.RequestException as error:
        why = type(error).__name__
    raise LaunchRefused(
        f"The server {wanted.server} cannot be reached: {why}. Start it with make run, or name another with --server.",
        EXIT_TEMPORARY,
    )


def _post(wanted: Wanted, path: str, body: dict[str, Any], *, timeout: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {wanted.token}"}
    return _session().post(wanted.server + path, json=body, headers=headers, timeout=timeout, allow_redirects=False)


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # a token is for that server, not for a proxy of the environment or a .netrc
    return session


def _refusal(wanted: Wanted, answer: requests.Response) -> LaunchRefused:
    try:
        error = answer.json()["error"]
        code, message = str(error["code"]), " ".join(str(error["message"]).split())
    except (ValueError, LookupError, TypeError):
        return LaunchRefused(
            f"{wanted.server} answered {answer.status_code}, not as a Flotilla server does.", EXIT_TEMPORARY
        )
    match answer.status_code:
        case 401:
            text = f"The server {wanted.server} does not know the token from {wanted.token_from}. Give a valid one."
            return LaunchRefused(text, EXIT_CONFIG)
        case 403 | 404 | 422:
            return LaunchRefused(message, EXIT_CONFIG)
        case 409 if code == "already_running":
            return LaunchRefused(message, EXIT_ALREADY_RUNNING)
    return LaunchRefused(message, EXIT_TEMPORARY)
