"""Recorded markets: CSV files of trades or candles, played back as a tape.

The header decides the form. A candle is replayed as trades at its open, low, high and close (high first when it
fell), evenly spread over it; their quantities add up to its volume, and those of buyers to its taker volume, in whole
lots. A file that cannot be replayed is refused with one sentence: which file, which line, what it says, what it should
say.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np

from simulator.core.rules import SYMBOLS, SymbolRules, rules_for
from simulator.market.candles import EMPTY, SECOND_MS, Candles, Trade, Trades, second_candles

TRADES_HEADER = "time_ms,price,qty,is_buyer_maker"
CANDLES_HEADER = "open_time_ms,open,high,low,close,volume,quote_volume,trades,taker_buy_base,taker_buy_quote"
_NUMBER = re.compile(r"^[0-9]{1,15}(\.[0-9]{1,15})?$")
_SYMBOL = re.compile(r"^([A-Z0-9]+)[-.]")
_TRUTH = {"1": True, "0": False, "true": True, "false": False, "True": True, "False": False}
MAX_TIME_MS = 4_102_444_800_000  # year 2100

Row = tuple[int, int, int, bool]  # time_ms, ticks, lots, buyer_maker


class BadFile(Exception):
    """A file cannot be replayed; the text names file, line, value and remedy."""


@dataclass(frozen=True, slots=True)
class ReplayTape:
    """One symbol's recorded trades. *shift_ms* moves them in time; with *span_ms* they repeat that often for ever."""

    rules: SymbolRules
    recorded: Trades
    span_ms: int | None = None
    shift_ms: int = 0

    def first_ms(self, now_ms: int) -> int:
        """The second of the first trade."""
        return int(self.recorded.time_ms[0]) // SECOND_MS * SECOND_MS + self.shift_ms

    def end_ms(self) -> int | None:
        """The end of the last trade's second, unless the tape repeats."""
        if self.span_ms is not None:
            return None
        return (int(self.recorded.time_ms[-1]) // SECOND_MS + 1) * SECOND_MS + self.shift_ms

    def trades(self, start_ms: int, end_ms: int) -> Trades:
        """All trades with start_ms <= time < end_ms."""
        rounds = list(self._rounds(max(start_ms, self.first_ms(0)), end_ms))
        if not rounds:
            return self.recorded.between(0, 0)
        parts = [self._round(number).between(start_ms, end_ms) for number in rounds]
        if len(parts) == 1:
            return parts[0]
        return Trades(
            id=np.concatenate([part.id for part in parts]),
            time_ms=np.concatenate([part.time_ms for part in parts]),
            price=np.concatenate([part.price for part in parts]),
            qty=np.concatenate([part.qty for part in parts]),
            buyer_maker=np.concatenate([part.buyer_maker for part in parts]),
        )

    def last_trade(self, before_ms: int) -> Trade | None:
        """The latest trade with time < before_ms."""
        if before_ms <= self.first_ms(0):
            return None
        for number in reversed(list(self._rounds(before_ms - 1, before_ms))):
            tape = self._round(number)
            at = int(np.searchsorted(tape.time_ms, before_ms)) - 1
            if at < 0 and number:
                tape, at = self._round(number - 1), len(tape.id) - 1
            if at >= 0:
                return Trade(
                    int(tape.id[at]), int(tape.time_ms[at]), int(tape.price[at]), int(tape.qty[at]),
                    bool(tape.buyer_maker[at]),
                )  # fmt: skip
        return None

    def seconds(self, start_s: int, end_s: int) -> Candles:
        """One candle per second inside the tape."""
        start_s, end = max(start_s, self.first_ms(0) // SECOND_MS), self.end_ms()
        end_s = end_s if end is None else min(end_s, end // SECOND_MS)
        if end_s <= start_s:
            return EMPTY
        trades = self.trades(start_s * SECOND_MS, end_s * SECOND_MS)
        before = self.last_trade(start_s * SECOND_MS)
        return second_candles(trades, start_s, end_s - start_s, before.price if before else int(trades.price[0]))

    def _rounds(self, start_ms: int, end_ms: int) -> Iterable[int]:
        if self.span_ms is None:
            return range(1) if end_ms > start_ms else ()
        first = self.first_ms(0)
        return range(max(0, (start_ms - first) // self.span_ms), max(0, -(-(end_ms - first) // self.span_ms)))

    def _round(self, number: int) -> Trades:
        move = self.shift_ms + number * (self.span_ms or 0)
        ids = number * len(self.recorded.id)
        return replace(self.recorded, id=self.recorded.id + ids, time_ms=self.recorded.time_ms + move)


def load_tapes(paths: Iterable[Path], loop: bool) -> dict[str, ReplayTape]:
    """One tape per symbol out of all files; with *loop* they all repeat together. Raises `BadFile`."""
    found: dict[str, list[tuple[Path, SymbolRules, list[Row]]]] = {}
    for path in paths:
        symbol, rules, rows = _load(path)
        found.setdefault(symbol, []).append((path, rules, rows))
    tapes = {symbol: ReplayTape(parts[0][1], _joined(parts)) for symbol, parts in found.items()}
    if loop:
        start = min(tape.first_ms(0) for tape in tapes.values())
        end = max(tape.end_ms() or 0 for tape in tapes.values())
        tapes = {symbol: replace(tape, span_ms=end - start) for symbol, tape in tapes.items()}
    return tapes


def rebased(tapes: dict[str, ReplayTape], shift_ms: int) -> dict[str, ReplayTape]:
    """The same tapes, moved by *shift_ms*."""
    return {symbol: replace(tape, shift_ms=shift_ms) for symbol, tape in tapes.items()}


def _joined(parts: list[tuple[Path, SymbolRules, list[Row]]]) -> Trades:
    parts = sorted(parts, key=lambda part: part[2][0][0])
    for (earlier, rules, rows), (path, other, later) in pairwise(parts):
        if later[0][0] < rows[-1][0]:
            raise BadFile(f"{path.name} overlaps {earlier.name} in time: give files that follow one another.")
        if other != rules:
            raise BadFile(f"{path.name} has other decimals than {earlier.name}: give files with equal precision.")
    rows = [row for part in parts for row in part[2]]
    time_ms, price, qty, maker = zip(*rows, strict=True)
    return Trades(
        id=np.arange(1, len(rows) + 1, dtype=np.int64),
        time_ms=np.array(time_ms, np.int64),
        price=np.array(price, np.int64),
        qty=np.array(qty, np.int64),
        buyer_maker=np.array(maker, np.bool_),
    )


def _load(path: Path) -> tuple[str, SymbolRules, list[Row]]:
    match = _SYMBOL.match(path.name)
    if match is None:
        raise BadFile(f"{path.name}: the name must begin with the symbol, such as BTCUSDT-trades.csv.gz: rename it.")
    lines = _lines(path)
    header = ",".join(lines[0]) if lines else ""
    if header not in (TRADES_HEADER, CANDLES_HEADER):
        raise BadFile(
            f"{path.name} line 1 is {header[:80]!r}: the header must be {TRADES_HEADER!r} or {CANDLES_HEADER!r}."
        )
    if len(lines) < 2:
        raise BadFile(f"{path.name} line 2 is missing: the file must have at least one row.")
    is_trades = header == TRADES_HEADER
    rules = _rules(path, match[1], lines, is_trades)
    file = _File(path, rules, lines)
    rows = list(file.trades() if is_trades else file.candles())
    if not rows:
        raise BadFile(f"{path.name} line 2: nothing is traded in the whole file: give a file with volume.")
    return match[1], rules, rows


def _lines(path: Path) -> list[list[str]]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise BadFile(
            f"{path.name} is not a whole gzip file: fetch it again, or name it .csv if it is plain."
        ) from None
    except UnicodeDecodeError as error:
        raise BadFile(f"{path.name} is not text (byte {error.start}): give a CSV file in UTF-8.") from None
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}: give the path of a CSV file.") from None
    return list(csv.reader(io.StringIO(text)))


def _rules(path: Path, symbol: str, lines: list[list[str]], is_trades: bool) -> SymbolRules:
    if symbol in SYMBOLS:
        return SYMBOLS[symbol]
    prices, qty = (slice(1, 2), 2) if is_trades else (slice(1, 5), 5)
    price_digits = max((_places(text) for line in lines[1:] for text in line[prices]), default=0)
    qty_digits = max((_places(line[qty]) for line in lines[1:] if len(line) > qty), default=0)
    rules = rules_for(symbol, price_digits, qty_digits)
    if rules is None:
        raise BadFile(
            f"{path.name}: {symbol} with {price_digits} decimals in prices and {qty_digits} in quantities cannot be "
            "listed: name the file after a pair such as SOLUSDT and use at most 8 decimals in all."
        )
    return rules


def _places(text: str) -> int:
    return len(text.partition(".")[2].rstrip("0"))


class _File:
    """The rows of one file under one symbol's rules."""

    def __init__(self, path: Path, rules: SymbolRules, lines: list[list[str]]) -> None:
        self._path = path
        self._rules = rules
        self._lines = lines
        self._width = len(lines[0])
        self._number = 1

    def trades(self) -> Iterator[Row]:
        """Rows of a trades file."""
        before = 0
        for line in self._each():
            time_ms = self._time(line[0], before)
            price, qty = self._price("price", line[1]), self._quantity("qty", line[2])
            if not qty:
                self._bad("qty", line[2], "must be above 0")
            if line[3] not in _TRUTH:
                self._bad("is_buyer_maker", line[3], "must be 1 or 0")
            yield time_ms, price, qty, _TRUTH[line[3]]
            before = time_ms

    def candles(self) -> Iterator[Row]:
        """Trades that make up the candles of a candle file."""
        times = [int(line[0]) for line in self._lines[1:] if line and line[0].isdigit()]
        length_ms = min((b - a for a, b in pairwise(times) if b > a), default=SECOND_MS)
        before = -1
        for line in self._each():
            open_ms = self._time(line[0], before + 1)
            if open_ms % SECOND_MS:
                self._bad("open_time_ms", line[0], "must be on a whole second")
            before = open_ms
            volume = self._volume("volume", line[5])
            taken = self._volume("taker_buy_base", line[8]) if line[8] else volume // 2
            if taken > volume:
                self._bad("taker_buy_base", line[8], f"must not exceed the volume {line[5]}")
            prices = [self._price(name, line[n]) for n, name in enumerate(("open", "high", "low", "close"), 1)]
            if volume:
                yield from self._candle(open_ms, length_ms, self._corners(line, prices), volume, taken)

    def _candle(self, open_ms: int, length_ms: int, corners: list[int], volume: int, taken: int) -> Iterator[Row]:
        count = len(corners)
        if volume < count:
            self._bad("volume", self._rules.qty_text(volume), f"must be at least {count} lots for {count} prices")
        done = bought = 0
        for number, price in enumerate(corners, 1):
            time_ms = open_ms + (2 * number - 1) * length_ms // (2 * count)
            upto = volume * number // count
            buys_upto = taken * upto // volume
            buys, sells = buys_upto - bought, (upto - done) - (buys_upto - bought)
            done, bought = upto, buys_upto
            if sells:
                yield time_ms, price, sells, True
            if buys:
                yield time_ms, price, buys, False

    def _corners(self, line: list[str], prices: list[int]) -> list[int]:
        opened, high, low, close = prices
        if not low <= min(opened, close) <= max(opened, close) <= high:
            self._bad("open,high,low,close", ",".join(line[1:5]), "must have low <= open, close <= high")
        path = (opened, low, high, close) if close >= opened else (opened, high, low, close)
        return [price for number, price in enumerate(path) if not number or price != path[number - 1]]

    def _each(self) -> Iterator[list[str]]:
        for number, line in enumerate(self._lines[1:], 2):
            self._number = number
            if len(line) != self._width:
                self._bad("row", ",".join(line)[:80], f"must have {self._width} columns")
            yield line

    def _time(self, text: str, not_before: int) -> int:
        if not text.isdigit() or not 0 < int(text) <= MAX_TIME_MS:
            self._bad(self._lines[0][0], text, "must be UTC milliseconds")
        if int(text) < not_before:
            self._bad(self._lines[0][0], text, "must not lie before the row above: sort the file")
        return int(text)

    def _price(self, name: str, text: str) -> int:
        ticks = self._scaled(name, text, self._rules.price_digits)
        return ticks or self._bad(name, text, "must be above 0")

    def _quantity(self, name: str, text: str) -> int:
        return self._scaled(name, text, self._rules.qty_digits)

    def _volume(self, name: str, text: str) -> int:
        """Whole lots in a candle's volume: sources that summed finer lots than the pair has today lose the rest."""
        whole, point, part = text.partition(".")
        return self._quantity(name, whole + point + part[: self._rules.qty_digits] if part.isdigit() else text)

    def _scaled(self, name: str, text: str, digits: int) -> int:
        if not _NUMBER.match(text):
            self._bad(name, text, "must be a plain decimal number")
        whole, _, part = text.partition(".")
        part = part.rstrip("0")
        if len(part) > digits:
            self._bad(name, text, f"must have at most {digits} decimals for {self._rules.symbol}")
        return int(whole + part.ljust(digits, "0"))

    def _bad(self, name: str, value: str, remedy: str) -> NoReturn:
        raise BadFile(f"{self._path.name} line {self._number}: {name} is {value!r}, but it {remedy}.")
