"""Reading along: threads that follow a run's files and pass on what was written. The files are their only queue.

A follower is never waited for while the bot trades: one that is slow falls behind, one that breaks ends, and the files
hold everything either way.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from shared.events import MAX_LINE_BYTES, Rotate, decode_line

CHUNK_BYTES: Final = 262_144
LOOK_S: Final = 0.25
_ROTATES = f'"type":"{Rotate.type}"'.encode()


class Tail:
    """Whole lines of a file from *offset* on, and with *rotates* of those that this journal goes on in."""

    def __init__(self, folder: Path, file: str, offset: int = 0, *, rotates: bool = True) -> None:
        self._folder, self._rotates = folder, rotates
        self.file, self.offset = file, offset

    def peek(self, max_bytes: int = CHUNK_BYTES) -> list[bytes]:
        """The next lines with their newlines, of one file; at least one if there is a whole one."""
        try:
            with (self._folder / self.file).open("rb") as file:
                chunk = os.pread(file.fileno(), max(max_bytes, MAX_LINE_BYTES + 1), self.offset)
        except FileNotFoundError:
            return []
        lines: list[bytes] = []
        size = 0
        for line in chunk[: chunk.rfind(b"\n") + 1].splitlines(keepends=True):
            if lines and size + len(line) > max_bytes:
                break
            lines.append(line)
            size += len(line)
            if self._leads_on(line):
                break
        return lines

    def advance(self, lines: list[bytes]) -> None:
        """*lines*, which `peek` gave, are done with."""
        self.offset += sum(map(len, lines))
        if lines and self._leads_on(lines[-1]):
            self.file, self.offset = Path(str(decode_line(lines[-1]).data["next"])).name, 0

    def _leads_on(self, line: bytes) -> bool:
        return self._rotates and _ROTATES in line[:200]


class Follower(threading.Thread, ABC):
    """A thread that calls `step` whenever something may have been written, and at least every quarter of a second."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._wake = threading.Event()
        self._ending = threading.Event()

    @abstractmethod
    def step(self) -> float | None:
        """Pass on what there is. Returns how long to wait before the next try (0: there is more); None: it is over."""

    def wake(self) -> None:
        """Something was written."""
        self._wake.set()

    def run(self) -> None:
        pause: float | None = 0.0
        while True:
            ending = self._ending.is_set()
            pause = self.step()
            if pause is None or (ending and pause == LOOK_S):
                return
            if pause > LOOK_S:
                if self._ending.wait(pause):  # after a failure: what is written meanwhile changes nothing
                    time.sleep(LOOK_S)
            elif pause:
                self._wake.wait(pause)
                self._wake.clear()

    def close(self, until: float) -> bool:
        """Let it pass on what is left until *until* (monotonic clock); whether it did."""
        self._ending.set()
        self.wake()
        self.join(max(0.0, until - time.monotonic()))
        return not self.is_alive()


class Mirror(Follower):
    """Copies a file of *folder* to a terminal or pipe. One that is gone, or does not read on, hurts nobody."""

    def __init__(self, folder: Path, file: str, target: int) -> None:
        super().__init__(f"mirror of {file}")
        self._tail = Tail(folder, file, rotates=file.endswith(".jsonl"))
        self._target = target

    def step(self) -> float | None:
        """Copy one chunk."""
        lines = self._tail.peek()
        text = memoryview(b"".join(lines))
        try:
            while text:
                text = text[os.write(self._target, text) :]
        except OSError:
            return None
        self._tail.advance(lines)
        return 0.0 if lines else LOOK_S
