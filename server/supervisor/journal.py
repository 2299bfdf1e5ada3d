"""Read a run's journal files line by line, from where the last committed reading ended. No database here.

Only whole lines are taken; a line that cannot be read becomes a `BadLine` and reading goes on; the `rotate` line leads
to the next file. What is left without a newline is a torn line once its writer is dead.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from server.storage.ledger import payload_of
from shared.events import MAX_LINE_BYTES, Envelope, Exit, Rotate, decode_line

CHUNK_BYTES = 262_144
CHUNK_LINES = 500
_TAIL_BYTES = 4 * MAX_LINE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far a run was read: file name, byte offset, and the last seq seen."""

    file: str
    offset: int = 0
    last_seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """Bytes that are no event of this run, and why."""

    file: str
    offset: int
    line: bytes
    reason: str


@dataclass(slots=True, kw_only=True)
class Reading:
    """One step through a journal. *at_end*: nothing more stood there; *unread* bytes are left in the present file."""

    cursor: Cursor
    envelopes: list[Envelope] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    at_end: bool = False
    unread: int = 0

    @property
    def is_empty(self) -> bool:
        """Nothing to commit."""
        return not (self.envelopes or self.bad)


def first_file(run_id: str) -> str:
    """Name of the file that a run starts with."""
    return f"{run_id}.jsonl"


def newest_generation(folder: Path, bot_id: int) -> int:
    """The highest generation with a journal in *folder*, 0 for none: an older database may not know it."""
    names = (path.name.split(".") for path in folder.glob(f"{bot_id}.*.jsonl"))
    return max((int(name[1]) for name in names if name[1].isdecimal()), default=0)


def read_on(
    folder: Path, bot_id: int, run_id: str, cursor: Cursor, *, is_over: bool = False, max_lines: int = CHUNK_LINES
) -> Reading:
    """The next lines after *cursor*. With *is_over* (the writer is dead) a torn last line is taken as a bad line.

    Raises ``OSError`` for a file that is there and cannot be read.
    """
    chunk, size = _read(folder / cursor.file, cursor.offset)
    reading = Reading(cursor=cursor)
    offset, seq, lines = cursor.offset, cursor.last_seq, 0
    reached_end = cursor.offset + len(chunk) >= size
    start = 0
    while lines < max_lines and (stop := chunk.find(b"\n", start)) >= 0:
        line, at = chunk[start:stop], cursor.offset + start
        start, lines = stop + 1, lines + 1
        offset = cursor.offset + start
        envelope = _parse(reading, line, at, bot_id, run_id)
        if envelope is None or envelope.seq <= seq:
            continue
        if envelope.seq > seq + 1:
            reading.gaps.append((seq + 1, envelope.seq - 1))
        seq = envelope.seq
        reading.envelopes.append(envelope)
        if envelope.type == Rotate.type:
            reading.cursor = Cursor(file=envelope.data["next"], last_seq=seq)
            return reading
    rest = chunk[start:]
    if rest and b"\n" not in rest and (len(rest) > MAX_LINE_BYTES or (is_over and reached_end)):
        why = "longer than a line may be" if len(rest) > MAX_LINE_BYTES else "torn: the process died while writing it"
        reading.bad.append(BadLine(file=cursor.file, offset=offset, line=rest[:MAX_LINE_BYTES], reason=why))
        offset, rest = offset + len(rest), b""
    reading.cursor = Cursor(file=cursor.file, offset=offset, last_seq=seq)
    reading.at_end = reached_end and b"\n" not in rest
    reading.unread = max(size - offset, 0)
    return reading


def last_words(folder: Path, run_id: str, file: str) -> Exit | None:
    """The `exit` line at the end of a dead run's journal, from *file* on; None if it was killed or cannot be read."""
    for _ in range(10_000):
        lines = _tail(folder / file).splitlines()
        envelope = _decode(lines[-1]) if lines else None
        if envelope is None or envelope.run_id != run_id:
            return None
        payload = payload_of(envelope)
        if not isinstance(payload, Rotate):
            return payload if isinstance(payload, Exit) else None
        file = payload.next
    return None


def _parse(reading: Reading, line: bytes, at: int, bot_id: int, run_id: str) -> Envelope | None:
    try:
        envelope = decode_line(line)
        if (envelope.bot_id, envelope.run_id) != (bot_id, run_id):
            raise ValueError(f"belongs to run {envelope.run_id} of bot {envelope.bot_id}")
        payload = payload_of(envelope)
        if isinstance(payload, Rotate) and (Path(payload.next).name != payload.next or payload.next in ("", ".", "..")):
            raise ValueError(f"{payload.next!r} is no file name")
    except (ValueError, RecursionError) as error:
        bad = BadLine(file=reading.cursor.file, offset=at, line=line[:MAX_LINE_BYTES], reason=str(error)[:500])
        reading.bad.append(bad)
        return None
    return envelope


def _decode(line: bytes) -> Envelope | None:
    try:
        envelope = decode_line(line)
        payload_of(envelope)
    except (ValueError, RecursionError):
        return None
    return envelope


def _read(path: Path, offset: int) -> tuple[bytes, int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return b"", 0
    try:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        size = seen.st_size
        return os.pread(descriptor, CHUNK_BYTES, offset) if size > offset else b"", size
    finally:
        os.close(descriptor)


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL_BYTES, 0))
            return file.read()
    except OSError:
        return b""
