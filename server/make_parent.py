"""Tell whether the `make` that started this process was asked to stop.

SIGTERM to make is passed on to the recipe. SIGINT sent to make's process id alone is not: make 4.x puts the signal back
to its default action, starts no further recipe line, and waits for its child without a word to it. What shows from
outside is that SIGINT has left the set of signals that make handles (`SigCgt` in `/proc/<pid>/status`); a second SIGINT
then kills make, and the child gets another parent. So the child has to look, once a second or so.

Nothing shows where make ignores SIGINT, as it does when a shell without job control starts it in the background
(`make run &` in a script): the kernel drops the signal before make sees it. SIGTERM works there.

Standard library only: the set-up script loads this file by its path, before anything is installed.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

MAKE_NAMES = {"make", "gmake"}


def parent_was_interrupted() -> bool:
    """True once make, as the parent, has had a SIGINT or is gone. False under any other parent, and outside Linux."""
    if not _started_by_make:
        return False
    if os.getppid() != _parent:
        return True
    return is_interrupted_make(_status_of(_parent))


def is_interrupted_make(status: str) -> bool:
    """Read *status*, the text of `/proc/<pid>/status`: SIGINT neither handled nor ignored by a process named make."""
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if fields.get("Name") not in MAKE_NAMES:
        return False
    sigint = 1 << (signal.SIGINT - 1)
    return not (int(fields["SigCgt"], 16) | int(fields["SigIgn"], 16)) & sigint


def _status_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return ""


def _is_make(status: str) -> bool:
    return any(status.startswith(f"Name:\t{name}\n") for name in MAKE_NAMES)


_parent = os.getppid()
_started_by_make = _is_make(_status_of(_parent))
