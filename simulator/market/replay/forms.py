"""What the columns of a recorded file mean: its form, told by header or shape, and its rows as numbers.

Forms are this project's two CSV forms (also as Parquet), and Binance's public archive: klines, aggTrades and trades,
whose times are milliseconds or, in newer files, microseconds. One aggregate trade is replayed as one trade. Knows
nothing of a symbol's ticks and lots: numbers stay decimals here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from simulator.market.candles import INTERVALS, SECOND_MS, Ints
from simulator.market.replay.files import BadFile, Batch, CsvFile
from simulator.market.replay.numbers import Bools, Decimals, read_decimals, read_flags, read_integers, stacked
from simulator.market.replay.parquet import ParquetFile

TRADES_HEADER = "time_ms,price,qty,is_buyer_maker"
CANDLES_HEADER = "open_time_ms,open,high,low,close,volume,quote_volume,trades,taker_buy_base,taker_buy_quote"
MAX_TIME_MS = 4_102_444_800_000  # year 2100
MICROSECONDS_FROM = 100_000_000_000_000  # no millisecond before the year 5138 is that large
_INTERVAL = re.compile(r"[-.](" + "|".join(INTERVALS) + r")[-.]")
_FLAGS = ("0", "1", "true", "false", "True", "False")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Names of the columns, and which of them mean what; -1: the form has no such column."""

    names: tuple[str, ...]
    time: int
    close_time: int = -1
    numbers: tuple[int, ...]  # price, qty; or open, high, low, close, volume, quote volume, count, taker's two volumes
    maker: int = -1
    optional: tuple[int, ...] = ()
    in_microseconds: bool = False  # may be

    @property
    def has_candles(self) -> bool:
        """Rows are candles, not trades."""
        return self.maker < 0


OWN_TRADES = Form(names=tuple(TRADES_HEADER.split(",")), time=0, numbers=(1, 2), maker=3)
OWN_CANDLES = Form(
    names=tuple(CANDLES_HEADER.split(",")), time=0, numbers=(1, 2, 3, 4, 5, 6, 7, 8, 9), optional=(6, 7, 8, 9)
)
KLINES = Form(
    names=("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
           "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
    time=0, close_time=6, numbers=(1, 2, 3, 4, 5, 7, 8, 9, 10), in_microseconds=True,
)  # fmt: skip
AGG_TRADES = Form(
    names=("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id", "transact_time", "is_buyer_maker",
           "is_best_match"),
    time=5, numbers=(1, 2), maker=6, in_microseconds=True,
)  # fmt: skip
TRADES = Form(
    names=("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match"),
    time=4, numbers=(1, 2), maker=5, in_microseconds=True,
)  # fmt: skip


class Source(Protocol):
    """A file as rows of text."""

    path: Path

    def place(self, row: int) -> str:
        """Where row *row* stands, for a message."""

    def batches(self) -> Iterator[Batch]:
        """All rows."""

    def text(self, row: int, column: int) -> str:
        """One field, for a message."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A whole file's rows. *numbers* are as in `Form`; *missing* tells which of those fields are empty."""

    source: Source
    form: Form
    time_ms: Ints
    length_ms: Ints  # of candles
    numbers: list[Decimals]
    missing: list[Bools]
    maker: Bools


class Complaints:
    """Collects what is wrong with rows, and refuses the file for the first of them."""

    def __init__(self, source: Source, form: Form, first: int = 0) -> None:
        self._source, self._form, self._first = source, form, first
        self._found: tuple[int, tuple[int, ...], str] | None = None

    def note(self, wrong: Bools, columns: int | tuple[int, ...], remedy: str, beside: int | None = None) -> None:
        """Rows where *wrong* is set do not hold what *remedy* says they must; it ends with the field *beside*."""
        if not wrong.any():
            return
        row = int(wrong.argmax()) + self._first
        if self._found is None or row < self._found[0]:
            remedy = remedy if beside is None else f"{remedy} {self._source.text(row, beside)}"
            self._found = (row, (columns,) if isinstance(columns, int) else columns, remedy)

    def settle(self) -> None:
        """Raise `BadFile` for the first wrong row, if there is one."""
        if self._found is None:
            return
        row, columns, remedy = self._found
        name = ",".join(self._form.names[column] for column in columns)
        value = ",".join(self._source.text(row, column) for column in columns)
        where = f"{self._source.path.name} {self._source.place(row)}"
        raise BadFile(f"{where}: {name} is {value!r}, but it {remedy}.")


def load_rows(path: Path) -> Rows:
    """All rows of the file at *path*. Raises `BadFile` for what cannot be read, wherever it stands."""
    source, form = _recognised(path)
    batches, unit = [], 0
    for batch in source.batches():
        unit = unit or _unit(form, batch)
        batches.append(_read(source, form, batch, unit))
    if not batches:
        raise BadFile(f"{path.name} {source.place(0)} is missing: the file must have at least one row.")
    time, close_time = (np.concatenate([batch[n] for batch in batches]) for n in (0, 1))
    columns = range(len(form.numbers))
    rows = Rows(
        source=source,
        form=form,
        time_ms=time,
        length_ms=_lengths(path, form, time, close_time),
        numbers=[stacked([batch[2][n] for batch in batches]) for n in columns],
        missing=[np.concatenate([batch[3][n] for batch in batches]) for n in columns],
        maker=np.concatenate([batch[4] for batch in batches]),
    )
    _check_order(rows)
    return rows


def _recognised(path: Path) -> tuple[Source, Form]:
    if path.suffix == ".parquet":
        found = ParquetFile(path, (OWN_TRADES.names, OWN_CANDLES.names))
        return found, OWN_TRADES if found.names == OWN_TRADES.names else OWN_CANDLES
    file = CsvFile(path)
    form = _by_header(file.header) if file.header else _by_shape(file.first_line.split(","))
    if form is None:
        raise BadFile(
            f"{path.name} line 1 is {file.first_line[:80]!r}: the header must be {TRADES_HEADER!r} or "
            f"{CANDLES_HEADER!r}, or the file one of Binance's archive: klines, aggTrades or trades."
        )
    return file, form


def _by_header(header: list[str]) -> Form | None:
    names = tuple(header)
    own = next((form for form in (OWN_TRADES, OWN_CANDLES) if names == form.names), None)
    if own is not None:
        return own
    known = {("open_time", 12): KLINES, ("agg_trade_id", 8): AGG_TRADES, ("agg_trade_id", 7): AGG_TRADES,
             ("id", 7): TRADES, ("id", 6): TRADES}  # fmt: skip
    return known.get((names[0], len(names)))


def _by_shape(fields: list[str]) -> Form | None:
    if len(fields) == 12:
        return KLINES
    is_flag = [field in _FLAGS for field in fields]
    if len(fields) in (6, 7) and is_flag[5]:
        return TRADES
    if len(fields) in (7, 8) and is_flag[6]:
        return AGG_TRADES
    return None


def _unit(form: Form, batch: Batch) -> int:
    """How many of the file's time units make a millisecond, as its first row tells: 1 or 1000."""
    first = batch.columns[form.time].text(0)
    return 1000 if form.in_microseconds and first.isdecimal() and int(first) >= MICROSECONDS_FROM else 1


def _read(source: Source, form: Form, batch: Batch, unit: int) -> tuple[Ints, Ints, list[Decimals], list[Bools], Bools]:
    wrong = Complaints(source, form, batch.first)
    time = _read_time(batch, form, form.time, unit, wrong)
    close = _read_time(batch, form, form.close_time, unit, wrong) if form.close_time >= 0 else time
    numbers, missing = [], []
    for column in form.numbers:
        texts = batch.columns[column]
        value, bad = read_decimals(texts)
        empty = texts.empty() & (column in form.optional)
        wrong.note(bad & ~empty, column, "must be a plain decimal number")
        numbers.append(value)
        missing.append(empty)
    maker = np.zeros(len(batch), np.bool_)
    if form.maker >= 0:
        maker, bad = read_flags(batch.columns[form.maker])
        wrong.note(bad, form.maker, "must be 1 or 0")
    wrong.settle()
    return time, close, numbers, missing, maker


def _read_time(batch: Batch, form: Form, column: int, unit: int, wrong: Complaints) -> Ints:
    """Milliseconds."""
    time, bad = read_integers(batch.columns[column])
    name = "microseconds" if unit > 1 else "milliseconds"
    if form.in_microseconds:
        other = ~bad & (time > 0) & ((time >= MICROSECONDS_FROM) != (unit > 1))
        wrong.note(other, column, f"must be UTC {name} like the first row's")
    wrong.note(bad | (time <= 0) | (time > MAX_TIME_MS * unit), column, f"must be UTC {name}")
    return time // unit


def _lengths(path: Path, form: Form, time: Ints, close_time: Ints) -> Ints:
    """Of each candle, in ms: what its closing time says, else the file's smallest step, else what its name says."""
    if not form.has_candles:
        return time[:0]
    if form.close_time >= 0:
        return close_time - time + 1
    steps = np.diff(time)
    steps = steps[steps > 0]
    named = _INTERVAL.search(path.name)
    alone = INTERVALS[named[1]] if named else SECOND_MS
    return np.full(len(time), int(steps.min()) if len(steps) else alone, np.int64)


def _check_order(rows: Rows) -> None:
    form, time = rows.form, rows.time_ms
    wrong = Complaints(rows.source, form)
    gap = np.diff(time, prepend=time[0] - 1)
    wrong.note(gap < 0, form.time, "must not lie before the row above: sort the file")
    if form.has_candles:
        wrong.note(gap == 0, form.time, "must lie after the row above: remove one of them")
        wrong.note(time % SECOND_MS != 0, form.time, "must be on a whole second")
    if form.close_time >= 0:
        length = rows.length_ms
        wrong.note((length <= 0) | (length % SECOND_MS != 0), form.close_time, "must end a whole number of seconds")
        late = np.append((time[:-1] + length[:-1] > time[1:]) & (gap[1:] > 0), False)
        wrong.note(late, form.close_time, "must lie before the row below begins")
    wrong.settle()
