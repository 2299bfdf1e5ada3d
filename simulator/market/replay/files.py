"""Opening recorded files: plain, gzip or zip, cut into batches of whole lines and columns of text.

Knows lines and columns, but not what a column means. A file that is damaged, empty or ragged is refused with one
sentence. Memory stays near one batch, however long the file.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

from simulator.market.replay.numbers import Texts

BATCH_BYTES = 1 << 24
LONGEST_HEADER = 1 << 16
_BOM = b"\xef\xbb\xbf"
_COMMA, _NEWLINE = ord(","), ord("\n")
_SHOWN = 80


class BadFile(Exception):
    """A file cannot be replayed; the text names file, line, value and remedy."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some consecutive rows; *first* is the number of the first one, from 0."""

    first: int
    columns: list[Texts]

    def __len__(self) -> int:
        return len(self.columns[0])


class CsvFile:
    """One CSV file. *header* holds the names in its first line, or nothing if that is a row already."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as file:
            first = _readable(path, lambda: file.readline(LONGEST_HEADER))
        try:
            line = first.removeprefix(_BOM).decode().strip().replace('"', "")
        except UnicodeDecodeError as error:
            raise BadFile(f"{path.name} is not text (byte {error.start}): give a CSV file in UTF-8.") from None
        self.first_line = line
        names = line.split(",") if line else []
        self.header = [] if line[:1].isdigit() else names
        self.width = len(names)
        self._head = len(first) if self.header else 0

    def place(self, row: int) -> str:
        """Where row *row* stands, for a message."""
        return f"line {row + (2 if self.header else 1)}"

    def batches(self) -> Iterator[Batch]:
        """All rows below the header. Raises `BadFile` for one with another number of columns."""
        first = 0
        for block in self._blocks():
            batch = self._split(block, first)
            yield batch
            first += len(batch)

    def text(self, row: int, column: int) -> str:
        """One field, read again from the file: for a message."""
        for batch in self.batches():
            if row < batch.first + len(batch):
                return batch.columns[column].text(row - batch.first)
        return ""

    def _blocks(self) -> Iterator[bytes]:
        """Whole lines, ended by a newline each, without the header."""
        with _opened(self.path) as file:
            _readable(self.path, lambda: file.read(self._head))
            rest = b""
            while block := _readable(self.path, lambda: file.read(BATCH_BYTES)):
                rest += block
                cut = rest.rfind(b"\n") + 1
                if cut:
                    yield rest[:cut]
                    rest = rest[cut:]
            if rest.strip():
                yield rest + b"\n"

    def _split(self, block: bytes, first: int) -> Batch:
        if first == 0:
            block = block.removeprefix(_BOM)
        for odd in (b"\r", b'"'):
            if odd in block:
                block = block.replace(odd, b"")
        content = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero((content == _COMMA) | (content == _NEWLINE))
        is_newline = content[ends] == _NEWLINE
        if len(ends) % self.width or not is_newline[self.width - 1 :: self.width].all() or (
            np.count_nonzero(is_newline) * self.width != len(ends)
        ):  # fmt: skip
            self._ragged(block, first)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
        columns = [Texts(content, starts[n :: self.width], ends[n :: self.width]) for n in range(self.width)]
        return Batch(first, columns)

    def _ragged(self, block: bytes, first: int) -> NoReturn:
        for row, line in enumerate(block.split(b"\n"), first):
            if line.count(b",") != self.width - 1:
                text = line[:_SHOWN].decode(errors="replace")
                raise BadFile(
                    f"{self.path.name} {self.place(row)}: row is {text!r}, but it must have {self.width} columns."
                )
        raise AssertionError("all lines have as many columns as they should")


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                yield file
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive, _unpacked(path, archive) as file:
                yield file
        else:
            with path.open("rb") as file:
                yield file
    except zipfile.BadZipFile:
        raise BadFile(f"{path.name} is not a whole zip file: fetch it again.") from None
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror or error}: give the path of a file that can be read.") from None


def _unpacked(path: Path, archive: zipfile.ZipFile) -> IO[bytes]:
    names = [name for name in archive.namelist() if name.endswith(".csv") and not name.startswith("__")]
    if len(names) != 1:
        raise BadFile(f"{path.name} holds {len(names)} CSV files: give an archive with exactly one.")
    try:
        return archive.open(names[0])
    except RuntimeError as error:  # encrypted, or packed in a way that is not known here
        raise BadFile(f"{path.name} cannot be unpacked ({error}): give a plain zip file or the CSV itself.") from None


def _readable(path: Path, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except (gzip.BadGzipFile, EOFError, zlib.error):
        kind = "zip" if path.suffix == ".zip" else "gzip"
        remedy = "fetch it again" if kind == "zip" else "fetch it again, or name it .csv if it is plain"
        raise BadFile(f"{path.name} is not a whole {kind} file: {remedy}.") from None
