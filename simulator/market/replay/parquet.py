"""Parquet files as rows of text, for the same readers as CSV.

Columns may be integers, floats, decimals, strings, booleans or timestamps (UTC unless they say otherwise); a float
counts to eight decimals. Needs
pyarrow, which is loaded only here and only when such a file is given.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from simulator.market.replay.files import BadFile, Batch
from simulator.market.replay.numbers import PLACES, Texts

BATCH_ROWS = 100_000
BROKEN = (ValueError, TypeError, LookupError, NotImplementedError)  # what pyarrow's own exceptions derive from


class ParquetFile:
    """One Parquet file with, among others, all columns of one of *forms*; *names* are that form's."""

    def __init__(self, path: Path, forms: tuple[tuple[str, ...], ...]) -> None:
        self.path = path
        self._arrow = _arrow(path)
        try:
            self._file = self._arrow.ParquetFile(path)
            there = set(self._file.schema_arrow.names)
        except OSError as error:
            raise BadFile(f"{path}: {error.strerror or error}: give the path of a file that can be read.") from None
        except BROKEN:
            raise BadFile(f"{path.name} is not a whole Parquet file: write or fetch it again.") from None
        found = next((names for names in forms if there.issuperset(names)), None)
        if found is None:
            wanted = " or ".join(repr(",".join(names)) for names in forms)
            raise BadFile(f"{path.name} has the columns {','.join(sorted(there))[:200]!r}: it must have {wanted}.")
        self.names = found

    def place(self, row: int) -> str:
        """Where row *row* stands, for a message."""
        return f"row {row + 1}"

    def batches(self) -> Iterator[Batch]:
        """All rows, the form's columns only and in the form's order."""
        first = 0
        try:
            for part in self._file.iter_batches(batch_size=BATCH_ROWS, columns=list(self.names)):
                if part.num_rows:
                    yield Batch(first, [_texts(part.column(name).to_pylist()) for name in self.names])
                    first += part.num_rows
        except (OSError, *BROKEN):
            raise BadFile(f"{self.path.name} is damaged after row {first}: write or fetch it again.") from None

    def text(self, row: int, column: int) -> str:
        """One field, read again from the file: for a message."""
        for batch in self.batches():
            if row < batch.first + len(batch):
                return batch.columns[column].text(row - batch.first)
        return ""


def _arrow(path: Path) -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise BadFile(
            f"{path.name} is a Parquet file, and pyarrow, which reads it, is not installed: "
            "run 'python -m pip install pyarrow', or give the file as CSV."
        ) from None


def _texts(values: list[object]) -> Texts:
    content = np.frombuffer(("\n".join(map(_text, values)) + "\n").encode(), np.uint8)
    end = np.flatnonzero(content == ord("\n"))
    return Texts(content, np.concatenate([np.zeros(1, np.int64), end[:-1] + 1]), end)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return f"{value:.{PLACES}f}" if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return str(round((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000))
    return str(value).replace("\n", " ")
