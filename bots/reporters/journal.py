"""The journal: the bot's standard output, one JSON line per event, and the memory it starts again from.

The file descriptor is a plain file opened for append, so that a line is safe once written, whoever dies. Lines of one
step go out in one write; those with an order's intent are synced to disk before the order is sent. A full disk loses no
line: they wait in memory, in order, each for its own file, and `healthy` is false until they are written.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

from pydantic import ValidationError

from bots.core.memory import recall
from shared.errors import Refused
from shared.events import (
    CommandDone,
    Heartbeat,
    Payload,
    Position,
    Rotate,
    Snapshot,
    Stats,
    decode_line,
    encode_line,
    from_data,
)

ROTATE_BYTES: Final = 16 * 1024 * 1024
_REMEMBERED = frozenset(kind.type for kind in (Snapshot, Position, Stats, CommandDone, Heartbeat))
_FILE = re.compile(r"^\d+\.(\d+)(?:\.(\d+))?\.jsonl$")


class Reporter(Protocol):
    """Where a bot tells what it does: its journal, or what stands before it."""

    @property
    def healthy(self) -> bool:
        """Whether all that was told is written."""

    def write(self, payloads: Iterable[Payload], *, sync: bool = False) -> bool:
        """Append *payloads*; with *sync*, return once they are on disk. False: the disk took no more, they wait."""

    def rotate_if_large(self, snapshot: Callable[[], Snapshot]) -> None:
        """Go on in a new file once this one is large; it opens with a snapshot."""


class Journal:
    """Writes the events of one run to *fd*, and goes on in a new file of *folder* when one has *rotate_bytes*."""

    def __init__(self, fd: int, *, bot_id: int, run_id: str, folder: Path, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._files = deque([(fd, bytearray())])  # the file being written and, while the disk is full, the next one
        self._bot_id = bot_id
        self._run_id = run_id
        self._folder = folder
        self._rotate_bytes = rotate_bytes
        self._seq = 0
        self._part = 1
        self._written = 0

    @property
    def healthy(self) -> bool:
        """Whether all that was told is written."""
        return len(self._files) == 1 and not self._files[0][1]

    def write(self, payloads: Iterable[Payload], *, sync: bool = False) -> bool:
        """Append *payloads*; with *sync*, return once they are on disk. False: the disk took no more, they wait."""
        ts = time.time_ns() // 1_000_000
        waiting = self._files[-1][1]
        for payload in payloads:
            self._seq += 1
            waiting += encode_line(bot_id=self._bot_id, run_id=self._run_id, seq=self._seq, ts=ts, payload=payload)
        return self._flush(sync)

    def rotate_if_large(self, snapshot: Callable[[], Snapshot]) -> None:
        """Go on in a new file once this one is large; it opens with a snapshot."""
        if self._written < self._rotate_bytes or not self.healthy:
            return
        name = f"{self._run_id}.{self._part + 1}.jsonl"
        try:
            fd = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        self.write([Rotate(next=name)], sync=True)
        self._files.append((fd, bytearray()))
        self._part += 1
        self.write([snapshot()], sync=True)

    def _flush(self, sync: bool) -> bool:
        try:
            while True:
                fd, waiting = self._files[0]
                while waiting:
                    written = os.write(fd, waiting)
                    self._written += written
                    del waiting[:written]
                if len(self._files) == 1:
                    break
                os.fdatasync(fd)
                os.close(fd)
                self._files.popleft()
                self._written = 0
            if sync:
                os.fdatasync(fd)
        except OSError:
            return False
        return True


def last_memory(folder: Path, before_generation: int, since_generation: int = 0) -> Snapshot | None:
    """What the newest earlier run in *folder*, of *since_generation* or later, left behind; None if there is none.

    Raises `Refused` where a line of it is damaged: a position could be missing.
    """
    files = sorted(journal_files(folder), reverse=True)
    for generation, _part, path in files:
        if since_generation <= generation < before_generation:
            memory = recall(_payloads(path))
            if memory is not None:
                return memory
    return None


def journal_files(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """Generation, part and path of every journal file in *folder*."""
    for path in folder.iterdir():
        match = _FILE.match(path.name)
        if match:
            yield int(match[1]), int(match[2] or 1), path


def _payloads(path: Path) -> Iterator[Payload]:
    """The events of a file that memory is made of; only a torn last line is passed over. Raises `Refused`."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                envelope = decode_line(line)
                if envelope.type in _REMEMBERED:
                    yield from_data(envelope.type, envelope.data)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    return
                raise Refused(
                    f"Line {number} of the journal {path} cannot be read, so what this bot holds is not known for "
                    "certain: restore the file from a backup, or close the bot's orders and coins at the exchange by "
                    f"hand and move its journals elsewhere. ({_words(error)})"
                ) from None


def _words(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return "missing or wrong: " + ", ".join(".".join(map(str, e["loc"])) for e in error.errors()[:3])
    return str(error)
