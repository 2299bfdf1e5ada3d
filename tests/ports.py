"""Ports that no other test process takes, whatever runs beside it.

A port that the operating system picked and that was let go again may be given to the next process that asks: another
worker's server, or either end of any connection. So these lie below the range that the system picks from, and each is
locked by this process for as long as it lives.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path
from typing import IO

FIRST, LAST = 20_000, 29_999
_LOCKS = Path(tempfile.gettempdir()) / f"flotilla-test-ports-{os.getuid()}"
_mine: dict[int, IO[bytes]] = {}


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens, and that no other test is given while this process lives."""
    _LOCKS.mkdir(exist_ok=True)
    count = LAST - FIRST + 1
    start = os.getpid() * 97 + len(_mine)
    for port in (FIRST + (start + step) % count for step in range(count)):
        if port not in _mine and _take(port):
            return port
    raise RuntimeError(f"no port from {FIRST} to {LAST} is free; {_LOCKS} has their locks")


def _take(port: int) -> bool:
    lock = (_LOCKS / str(port)).open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        lock.close()
        return False
    _mine[port] = lock
    return True
