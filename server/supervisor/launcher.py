"""Start bot processes, and hold on to those that already run.

A bot's standard output is its journal file, opened for append: it never blocks on a reader and survives us. The ticket
with its secrets goes through an anonymous file that only the child inherits; arguments and environment hold none. A bot
gets a session of its own, so that no signal meant for us or for a terminal reaches it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from server.settings import CHECKOUT
from server.supervisor.identity import Identity, has_exited, open_process, send
from server.supervisor.journal import first_file
from shared.tickets import RunTicket

TRADING_BOT = CHECKOUT / "bots" / "trading_bot.py"
_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Process:
    """One live bot process. *child* only for those started by this supervisor: of others no exit code can be had."""

    pid: int
    generation: int
    run_id: str
    pidfd: int
    child: subprocess.Popen[bytes] | None = None

    def has_exited(self) -> bool:
        """Whether it is gone; a child is reaped by that."""
        return self.child.poll() is not None if self.child else has_exited(self.pidfd)

    @property
    def exit_code(self) -> int | None:
        """Exit code, or minus the signal; None while it runs, and for a process that was adopted."""
        return self.child.returncode if self.child else None

    def send(self, number: signal.Signals) -> None:
        """Signal this very process, never one that got its id later."""
        send(self.pidfd, number)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.pidfd)


class Launcher:
    """Starts bots as processes of this machine. *program* is the script, so that tests can bring their own."""

    def __init__(self, program: Path = TRADING_BOT) -> None:
        self._program = program

    def spawn(self, ticket: RunTicket) -> Process:
        """Start one run. Raises ``OSError`` when the machine cannot."""
        folder = Path(ticket.home)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened: list[int] = []
        try:
            journal = _append(folder / first_file(ticket.run_id), opened)
            errors = _append(folder / f"{ticket.run_id}.err", opened)
            paper = _ticket_descriptor(ticket, opened)
            child = subprocess.Popen(
                self._command(ticket.bot_id, paper),
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=errors,
                pass_fds=(paper,),
                start_new_session=True,
                env=environment(),
                cwd=folder,
            )
        finally:
            for descriptor in opened:
                os.close(descriptor)
        pidfd = os.pidfd_open(child.pid)  # not yet reaped, so the id is still its own
        return Process(pid=child.pid, generation=ticket.generation, run_id=ticket.run_id, pidfd=pidfd, child=child)

    def _command(self, bot_id: int, descriptor: int) -> list[str]:
        return [
            sys.executable, "-u", str(self._program), "--bot-id", str(bot_id), "--ticket-fd", str(descriptor),
        ]  # fmt: skip


def adopt(identity: Identity) -> Process | None:
    """Hold on to a bot that runs already; None if it just ended."""
    pidfd = open_process(identity)
    if pidfd is None:
        return None
    return Process(pid=identity.pid, generation=identity.generation, run_id=identity.run_id, pidfd=pidfd)


def environment() -> dict[str, str]:
    """What a bot finds in its environment: where programs and certificates are, and limits for the libraries."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return kept | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


def _append(path: Path, opened: list[int]) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    opened.append(descriptor)
    return descriptor


def _ticket_descriptor(ticket: RunTicket, opened: list[int]) -> int:
    descriptor = os.memfd_create("run-ticket")
    opened.append(descriptor)
    os.write(descriptor, ticket.to_json())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
