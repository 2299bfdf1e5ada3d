"""One-second candles from files and from a Binance-compatible exchange, as columns."""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import requests

from bots.core.candles import SECOND_MS, Candle
from shared.errors import FlotillaError

HEADER: Final = (
    "open_time_ms",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trades",
    "taker_buy_base",
    "taker_buy_quote",
)
PAGE: Final = 1_000
DEFAULT_HOURS: Final = 24.0
TIMEOUT_S: Final = 20.0

Row = tuple[float, ...]
OnProgress = Callable[[str, int, int], None]


class CandlesUnusable(FlotillaError):
    """The candles cannot be had or used; the message says where, why and what to do."""

    code = "candles_unusable"


@dataclass(frozen=True, slots=True)
class Candles:
    """One-second candles, oldest first, without repetition; gaps are possible. One column per name in `HEADER`."""

    columns: np.ndarray[Any, np.dtype[np.float64]]  # shape (len(HEADER), n)

    def __len__(self) -> int:
        return int(self.columns.shape[1])

    def column(self, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The column *name*, shape (n,)."""
        column: np.ndarray[Any, np.dtype[np.float64]] = self.columns[HEADER.index(name)]
        return column

    @property
    def open_ms(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Opening times, shape (n,)."""
        return self.column("open_time_ms").astype(np.int64)

    @property
    def digest(self) -> str:
        """SHA-256 over every value, as hexadecimal digits: the same data, the same digest, wherever it came from."""
        return hashlib.sha256(np.ascontiguousarray(self.columns, dtype="<f8").tobytes()).hexdigest()

    def __iter__(self) -> Iterator[Candle]:
        for opened, open_, high, low, close, volume, quote, trades, taker_base, taker_quote in zip(
            *(column.tolist() for column in self.columns), strict=True
        ):
            yield Candle(
                int(opened), SECOND_MS, open_, high, low, close, volume, quote, int(trades), taker_base, taker_quote
            )

    def last_hours(self, hours: float) -> Candles:
        """Those of the last *hours*, counted from the newest."""
        times = self.column("open_time_ms")
        return Candles(self.columns[:, times > times[-1] - hours * 3_600_000])


def load(sources: Sequence[str], symbol: str, hours: float | None, on_progress: OnProgress) -> Candles:
    """All candles of *sources* (files, or REST base addresses such as http://127.0.0.1:9700/api), merged by time.

    Raises `CandlesUnusable`.
    """
    parts = []
    for source in sources:
        if source.startswith(("http://", "https://")):
            parts.append(fetch(source, symbol, hours or DEFAULT_HOURS, on_progress))
        else:
            parts.append(read(Path(source)))
            on_progress("read", len(parts), len(sources))
    merged = _merge(parts)
    return merged.last_hours(hours) if hours else merged


def read(path: Path) -> Candles:
    """The candles in a CSV file with `HEADER`, gzip if its name ends in .gz. Raises `CandlesUnusable`."""
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as lines:
            rows = csv.reader(lines)
            header = next(rows, [])
            if tuple(header) != HEADER:
                raise CandlesUnusable(
                    f"{path}, line 1: the header is {','.join(header) or 'empty'}, expected {','.join(HEADER)}. "
                    "Rename or reorder the columns."
                )
            return _columns([_row(row, f"{path}, line {rows.line_num}") for row in rows], str(path))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CandlesUnusable(f"{path} cannot be read: {why}. Give a CSV or CSV.gz file of candles.") from None


def fetch(base: str, symbol: str, hours: float, on_progress: OnProgress) -> Candles:
    """The last *hours* from ``{base}/v3/klines``, page by page backwards; the newest row is left out, as still open."""
    wanted = max(1, round(hours * 3600))
    pages: list[list[Row]] = []
    count, end_ms = 0, None
    with requests.Session() as session:
        while count < wanted:
            page = _page(session, base.rstrip("/") + "/v3/klines", symbol, end_ms)
            if not page:
                break
            oldest = int(page[0][0])
            if end_ms is None:
                page = page[:-1]
            elif oldest > end_ms:
                raise CandlesUnusable(f"{base} answers candles after endTime={end_ms}; it is not Binance-compatible.")
            pages.append(page)
            count += len(page)
            end_ms = oldest - 1
            on_progress("fetch", min(count, wanted), wanted)
    rows = [row for page in reversed(pages) for row in page][-wanted:]
    return _columns(rows, f"{base}, {symbol}")


def _page(session: requests.Session, url: str, symbol: str, end_ms: int | None) -> list[Row]:
    query: dict[str, str | int] = {"symbol": symbol, "interval": "1s", "limit": PAGE}
    if end_ms is not None:
        query["endTime"] = end_ms
    try:
        answer = session.get(url, params=query, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        raise CandlesUnusable(
            f"{url} does not answer ({type(error).__name__}). Is the exchange running, and the address right?"
        ) from None
    if answer.status_code != 200:
        raise CandlesUnusable(f"{url} answers {answer.status_code} for {symbol}: {answer.text[:200]}")
    try:
        return [_row([*row[:6], *row[7:11]], f"{url}, candle {n}") for n, row in enumerate(answer.json())]
    except (TypeError, ValueError):
        raise CandlesUnusable(f"{url} does not answer with candles: {answer.text[:200]}") from None


def _row(cells: Sequence[Any], where: str) -> Row:
    if len(cells) != len(HEADER):
        raise CandlesUnusable(f"{where}: {len(cells)} values, expected {len(HEADER)} ({','.join(HEADER)}).")
    values = []
    for name, cell in zip(HEADER, cells, strict=True):
        try:
            value = float(cell)
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            what = "empty" if cell == "" else f"{cell!r}, not a number"
            raise CandlesUnusable(f"{where}: {name} is {what}. Training needs every column; correct or drop the row.")
        if value < 0 or (value == 0 and name in ("open", "high", "low", "close")):
            raise CandlesUnusable(f"{where}: {name} is {cell}, which no exchange states. Correct or drop the row.")
        values.append(value)
    return tuple(values)


def _columns(rows: Sequence[Row], source: str) -> Candles:
    if not rows:
        raise CandlesUnusable(f"{source} holds no candles.")
    candles = Candles(np.array(rows, dtype=np.float64).T)
    steps = np.diff(candles.open_ms)
    if (steps <= 0).any():
        n = int(np.argmax(steps <= 0))
        raise CandlesUnusable(f"{source}: candle {n + 2} does not come after the one before it. Sort them by time.")
    if len(steps) and int(steps.min()) != SECOND_MS:
        raise CandlesUnusable(
            f"{source}: the candles are {int(steps.min()) / SECOND_MS:g} s apart; training needs one-second candles."
        )
    return candles


def _merge(parts: Iterable[Candles]) -> Candles:
    columns = np.concatenate([part.columns for part in parts], axis=1)
    columns = columns[:, np.argsort(columns[0], kind="stable")]
    again = np.flatnonzero(np.diff(columns[0]) == 0)
    for n in again.tolist():
        if (columns[:, n] != columns[:, n + 1]).any():
            raise CandlesUnusable(
                f"Two sources disagree about the candle that opens at {int(columns[0, n])}. Leave one of them out."
            )
    return Candles(np.delete(columns, again, axis=1))
