"""Tell from a bot's journal whether its trading loop still turns.

Time passes here only while the supervisor could have seen a line: it was running itself, and had read the journal to
its end. A supervisor that was stopped, or could not write to the database, blames no bot for that, nor for a full disk.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

LONGEST_STEP_S = 1.0
ROOM_BYTES = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """How long a bot may be silent: before its first heartbeat (any line counts), after it, and after SIGABRT."""

    starting_s: float = 120.0
    silent_s: float = 30.0
    dump_s: float = 5.0


class Pulse:
    """How long one process has been silent, in seconds of watching."""

    def __init__(self) -> None:
        self.has_beaten = False
        self.silent_s = 0.0
        self.quiet_s = 0.0
        """Since the last sign of progress while stopping."""

    def advance(self, elapsed_s: float) -> None:
        """Let time pass; a long step means that we were not watching."""
        step = min(max(elapsed_s, 0.0), LONGEST_STEP_S)
        self.silent_s += step
        self.quiet_s += step

    def saw(self, types: set[str]) -> None:
        """Take in the types of the lines just read."""
        if "heartbeat" in types:
            self.has_beaten = True
            self.silent_s = 0.0
        elif types and not self.has_beaten:
            self.silent_s = 0.0
        if types & {"status", "position", "order", "fill"}:
            self.quiet_s = 0.0

    def limit_s(self, policy: HealthPolicy) -> float:
        """What silence is allowed now."""
        return policy.silent_s if self.has_beaten else policy.starting_s


def has_room(folder: Path) -> bool:
    """Whether bots can write: on a full disk they fall silent, trade on, and must not be killed for it."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    blocks = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    return disk.f_blocks == 0 or blocks * disk.f_frsize >= ROOM_BYTES
