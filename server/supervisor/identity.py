"""Who holds a bot's lock: the truth about whether a bot runs, whatever became of the process that started it.

A bot holds ``flock`` on ``<journals>/<bot>/lock`` as long as it lives, the kernel frees it at its death, and the file
says which process it is. Process ids are used again, so the start time in ticks and the boot id are part of the
identity.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One process of one bot, as it wrote itself into its lock."""

    pid: int
    start_ticks: int
    boot_id: str
    generation: int
    run_id: str


@dataclass(frozen=True, slots=True)
class Free:
    """Nobody holds the lock."""


@dataclass(frozen=True, slots=True)
class Unidentified:
    """Someone holds the lock, and the file does not name a live process of this machine."""


def probe(lock: Path) -> Free | Unidentified | Identity:
    """Who holds *lock*. Takes it for an instant if it is free, so do not ask while a bot is about to start."""
    if not _is_held(lock):
        return Free()
    identity = read_identity(lock)
    return identity if identity is not None and is_running(identity) else Unidentified()


def read_identity(lock: Path) -> Identity | None:
    """What stands in the file, true or not; None if it is no identity."""
    try:
        text = json.loads(lock.read_bytes())
        return Identity(
            pid=int(text["pid"]),
            start_ticks=int(text["start_ticks"]),
            boot_id=str(text["boot_id"]),
            generation=int(text["generation"]),
            run_id=str(text["run_id"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_running(identity: Identity) -> bool:
    """Whether that very process is there: same boot, same process id, same start time."""
    return identity.boot_id == boot_id() and start_ticks(identity.pid) == identity.start_ticks


def open_process(identity: Identity) -> int | None:
    """A pidfd of that very process; None if it is gone."""
    if not is_running(identity):
        return None
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError:
        return None
    if is_running(identity):  # again: between check and open the id may have passed on
        return descriptor
    os.close(descriptor)
    return None


def has_exited(pidfd: int) -> bool:
    """Whether the process behind *pidfd* has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def send(pidfd: int, number: signal.Signals) -> None:
    """Signal the process behind *pidfd*; one that has ended is left alone."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def start_ticks(pid: int) -> int | None:
    """Field 22 of ``/proc/<pid>/stat``; None for no process, and for one that only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


@cache
def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
