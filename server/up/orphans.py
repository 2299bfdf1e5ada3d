"""Orphaned bots become our children instead of init's: none is left as a zombie where nobody else collects it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Container

PR_SET_CHILD_SUBREAPER = 36


def take_orphans() -> None:
    """From now on, what a dead descendant leaves behind is handed to this process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(own: Container[int]) -> None:
    """Collect the dead among them; those in *own* are collected by whoever started them."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if dead is None or dead.si_pid in own:
            return
        os.waitpid(dead.si_pid, 0)
