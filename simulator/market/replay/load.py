"""From files to tapes: which symbol a file belongs to, its ticks and lots, and how several files fit together.

The symbol is what the file's name begins with, up to '-' or '.'; a Parquet file may instead lie in a folder named
after the symbol (``BTCUSDT`` or ``symbol=BTCUSDT``), the nearest such one. Built-in symbols have their own ticks and
lots; others get what the decimals of all their files need. A file that cannot be replayed is refused with one
sentence: which file, which line, what it says, what it should say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from simulator.core.rules import QUOTES, SYMBOLS, SymbolRules, rules_for
from simulator.market.candles import Ints, Trades
from simulator.market.replay.consistent import Recorded, corners, made_consistent
from simulator.market.replay.files import BadFile
from simulator.market.replay.forms import Complaints, Rows, load_rows
from simulator.market.replay.numbers import Decimals
from simulator.market.replay.tape import CandlePart, Part, Recording, ReplayTape, TradePart

_NAME = re.compile(r"^([A-Z0-9]+)[-.]")
_FOLDER = re.compile(r"^(?:symbol=)?([A-Z0-9]+)$")
ENDINGS = (".csv", ".csv.gz", ".zip", ".parquet")
_LARGEST = 2.0**60  # of a sum of price × quantity, in ticks × lots
OPEN, HIGH, LOW, CLOSE, VOLUME, QUOTE, COUNT, TAKER_VOLUME, TAKER_QUOTE = range(9)


def load_tapes(paths: Iterable[Path], loop: bool) -> dict[str, ReplayTape]:
    """One tape per symbol out of all files, and all files in folders; with *loop* they all repeat together. Raises
    `BadFile`."""
    found: dict[str, list[Rows]] = {}
    for path in paths:
        for file in _files(path):
            found.setdefault(_symbol(file), []).append(load_rows(file))
    tapes = {symbol: _tape(symbol, files) for symbol, files in found.items()}
    if loop:
        start = min(tape.first_ms(0) for tape in tapes.values())
        end = max(tape.end_ms() or 0 for tape in tapes.values())
        tapes = {symbol: replace(tape, span_ms=end - start) for symbol, tape in tapes.items()}
    return tapes


def rebased(tapes: dict[str, ReplayTape], shift_ms: int) -> dict[str, ReplayTape]:
    """The same tapes, moved by *shift_ms*, which must be whole seconds."""
    return {symbol: replace(tape, shift_ms=shift_ms) for symbol, tape in tapes.items()}


def _files(path: Path) -> list[Path]:
    """The file itself, or all that a folder holds, at any depth."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.name.endswith(ENDINGS) and file.name[0] not in "._")
    if not files:
        raise BadFile(f"{path} is a folder without {', '.join(ENDINGS)} files: give one that holds some.")
    return files


def _symbol(path: Path) -> str:
    name = _NAME.match(path.name)
    if path.suffix == ".parquet" and not (name and _is_symbol(name[1])):
        folders = [_FOLDER.match(folder.name) for folder in path.absolute().parents]
        name = next((match for match in folders if match and _is_symbol(match[1])), name)
    if name is None or name[1].isdigit():
        raise BadFile(f"{path.name}: the name must begin with the symbol, such as BTCUSDT-trades.csv.gz: rename it.")
    return name[1]


def _is_symbol(text: str) -> bool:
    return text in SYMBOLS or any(text.endswith(quote) and text != quote for quote in QUOTES)


def _tape(symbol: str, files: list[Rows]) -> ReplayTape:
    rules = _rules(symbol, files)
    parts = [(rows, _part(rules, rows)) for rows in files]
    parts.sort(key=lambda part: int(part[0].time_ms[0]))
    for (earlier, part), (later, _) in pairwise(parts):
        if later.time_ms[0] < (earlier.time_ms[-1] if isinstance(part, TradePart) else part.span_ms()[1]):
            raise BadFile(
                f"{later.source.path.name} overlaps {earlier.source.path.name} in time: "
                "give files that follow one another."
            )
    return ReplayTape(rules, Recording([part for _, part in parts]))


def _rules(symbol: str, files: list[Rows]) -> SymbolRules:
    if symbol in SYMBOLS:
        return SYMBOLS[symbol]
    prices = [values for rows in files for values in rows.numbers[: VOLUME if rows.form.has_candles else 1]]
    amounts = [rows.numbers[VOLUME if rows.form.has_candles else 1] for rows in files]
    price_digits = max(values.places() for values in prices)
    qty_digits = max(values.places() for values in amounts)
    rules = rules_for(symbol, price_digits, qty_digits)
    if rules is None:
        raise BadFile(
            f"{files[0].source.path.name}: {symbol} with {price_digits} decimals in prices and {qty_digits} in "
            "quantities cannot be listed: name the file after a pair such as SOLUSDT and use at most 8 decimals in all."
        )
    return rules


def _part(rules: SymbolRules, rows: Rows) -> Part:
    return _candle_part(rules, rows) if rows.form.has_candles else _trade_part(rules, rows)


def _trade_part(rules: SymbolRules, rows: Rows) -> TradePart:
    wrong = Complaints(rows.source, rows.form)
    price = _exact(rules, rows, 0, rules.price_digits, wrong)
    qty = _exact(rules, rows, 1, rules.qty_digits, wrong)
    for values, column in ((price, 0), (qty, 1)):
        wrong.note(values == 0, rows.form.numbers[column], "must be above 0")
    wrong.note(price.astype(np.float64) * qty >= _LARGEST, rows.form.numbers, "must be a smaller amount in all")
    wrong.settle()
    return TradePart(Trades(np.arange(1, len(price) + 1, dtype=np.int64), rows.time_ms, price, qty, rows.maker))


def _candle_part(rules: SymbolRules, rows: Rows) -> CandlePart:
    form, wrong = rows.form, Complaints(rows.source, rows.form)
    names = form.numbers
    prices = [_exact(rules, rows, column, rules.price_digits, wrong) for column in range(VOLUME)]
    for column, values in enumerate(prices):
        wrong.note(values == 0, names[column], "must be above 0")
    opened, high, low, close = prices
    outside = (np.minimum(opened, close) < low) | (np.maximum(opened, close) > high)
    wrong.note(outside, names[:VOLUME], "must have low <= open, close <= high")
    volume = _volume(rules, rows, VOLUME, wrong)
    taken = _volume(rules, rows, TAKER_VOLUME, wrong)
    wrong.note(taken > volume, names[TAKER_VOLUME], "must not exceed the volume", beside=names[VOLUME])
    wrong.note(high.astype(np.float64) * volume >= _LARGEST, names[VOLUME], "must be a smaller amount")
    wrong.note(~rows.missing[COUNT] & ~rows.numbers[COUNT].fits(0), names[COUNT], "must be a whole number")
    recorded = Recorded(
        rows.time_ms, rows.length_ms, opened, high, low, close, volume,
        _quote(rules, rows, QUOTE, wrong), _whole(rows, COUNT), taken, _quote(rules, rows, TAKER_QUOTE, wrong),
    )  # fmt: skip
    wrong.settle()
    recorded = _with_lots(rules, rows, recorded, wrong)
    return CandlePart(rules.symbol, made_consistent(recorded))


def _with_lots(rules: SymbolRules, rows: Rows, recorded: Recorded, wrong: Complaints) -> Recorded:
    """The candles in which anything is traded, each with at least one lot for every price it visits."""
    exact = rows.numbers[VOLUME].rounded()
    finer = ~exact.fits(rules.qty_digits)
    traded = (exact.whole > 0) | (exact.part > 0)
    least = corners(recorded).number
    few = traded & (recorded.volume < least)
    if (few & ~finer).any():
        row = int((few & ~finer).argmax())
        lots = int(least[row])
        short = np.arange(len(few)) == row
        wrong.note(short, rows.form.numbers[VOLUME], f"must be at least {lots} lots for {lots} prices")
        wrong.settle()
    volume = np.where(few, least, recorded.volume)
    amount = (exact.whole + exact.part * 1e-8) * 10.0**rules.qty_digits
    change = np.divide(volume, amount, out=np.ones(len(volume)), where=finer & (amount > 0))
    quotes = [np.where(finer & (quote >= 0), np.rint(quote * change).astype(np.int64), quote)
              for quote in (recorded.quote, recorded.taker_quote)]  # fmt: skip
    if not traded.any():
        raise BadFile(
            f"{rows.source.path.name} {rows.source.place(0)}: nothing is traded in the whole file: "
            "give a file with volume."
        )
    return replace(recorded, volume=volume, quote=quotes[0], taker_quote=quotes[1]).pick(traded)


def _exact(rules: SymbolRules, rows: Rows, column: int, digits: int, wrong: Complaints) -> Ints:
    """A column in units of 10^-*digits*, of which it must be a multiple."""
    values = rows.numbers[column]
    name = rows.form.numbers[column]
    wrong.note(~values.fits(digits), name, f"must have at most {digits} decimals for {rules.symbol}")
    return _small(values, digits, name, wrong).floor(digits)


def _volume(rules: SymbolRules, rows: Rows, column: int, wrong: Complaints) -> Ints:
    """Whole lots: sources that summed finer lots than the pair has today lose the rest. -1: missing."""
    values = _small(rows.numbers[column].rounded(), rules.qty_digits, rows.form.numbers[column], wrong)
    return np.where(rows.missing[column], -1, values.floor(rules.qty_digits))


def _quote(rules: SymbolRules, rows: Rows, column: int, wrong: Complaints) -> Ints:
    """Ticks × lots; sources that added floating-point numbers are rounded. -1: missing."""
    digits = rules.price_digits + rules.qty_digits
    values = _small(rows.numbers[column].rounded(), digits, rows.form.numbers[column], wrong)
    return np.where(rows.missing[column], -1, values.round(digits))


def _whole(rows: Rows, column: int) -> Ints:
    return np.where(rows.missing[column], -1, rows.numbers[column].whole)


def _small(values: Decimals, digits: int, name: int, wrong: Complaints) -> Decimals:
    wrong.note(~values.small(digits, _LARGEST), name, "must be a smaller number")
    return values
