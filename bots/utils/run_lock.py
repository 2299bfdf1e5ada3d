"""One process per bot: a lock that the kernel frees when the process ends, with the identity of who holds it inside."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Final

IDENTITY_BYTES: Final = 512


class AlreadyRunning(Exception):
    """Another process holds the bot's lock."""


def take_run_lock(folder: Path, generation: int, run_id: str) -> int:
    """Lock ``<folder>/lock`` for the life of this process and write who we are. Raises `AlreadyRunning`.

    Returns the descriptor; closing it, or dying, frees the lock.
    """
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AlreadyRunning(f"Another process already runs this bot: {folder / 'lock'} is held.") from None
    identity = {
        "pid": os.getpid(),
        "start_ticks": start_ticks(os.getpid()),
        "boot_id": boot_id(),
        "generation": generation,
        "run_id": run_id,
    }
    # Always the same size: a reader never sees half of it, and a full disk does not keep a bot from its positions.
    os.pwrite(fd, json.dumps(identity).encode().ljust(IDENTITY_BYTES), 0)
    return fd


def start_ticks(pid: int) -> int:
    """When the process started, in clock ticks since boot; with the boot id it tells a reused pid apart."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[19])


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
