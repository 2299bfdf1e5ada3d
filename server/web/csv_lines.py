"""Rows as CSV that a spreadsheet opens safely: exact decimals, UTC times, no cell that it would run as a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from shared.units import plain

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_RUNS = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_lines(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """The lines of a file, one at a time."""
    yield _line(head)
    for row in rows:
        yield _line([cell(value) for value in row])


def cell(value: Any) -> str:
    """One value as text. What a spreadsheet would take for a formula gets an apostrophe before it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return plain(value)
    text = str(value)
    return f"'{text}" if text.startswith(_RUNS) and not _NUMBER.fullmatch(text) else text


def _line(row: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(row)
    return buffer.getvalue()
