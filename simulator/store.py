"""Memory across restarts: an append-only log of facts, one line per decision.

A line is written with one system call before the decision is applied or answered, so whoever holds an answer finds
its facts after SIGKILL. It begins with its *moment*: how far the market had been played when it was decided, so that a
restart goes on from exactly there. A torn last line (a kill inside the write) was never answered and is dropped at
start. Every fact is part of the ledger that the simulator promises to show, so the log holds nothing that could be
compacted away.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from simulator.core.orders import (
    AccountOpened,
    Ended,
    Fact,
    Filled,
    ListOpened,
    OrderPlaced,
    Prevented,
    Queued,
    SymbolChanged,
    Transferred,
    Triggered,
)

_KINDS: dict[str, type[Fact]] = {
    "account": AccountOpened, "transfer": Transferred, "symbol": SymbolChanged, "list": ListOpened,
    "order": OrderPlaced, "trigger": Triggered, "queue": Queued, "fill": Filled, "prevent": Prevented, "end": Ended,
}  # fmt: skip
_NAMES = {kind: name for name, kind in _KINDS.items()}


class StateError(Exception):
    """The state directory cannot be used; the text says why and what to do."""


class Moment(NamedTuple):
    """How far the market had been played: everything before *time_ms*; at it, everything (*symbol* empty), or in
    *symbol* up to trade *number* and all of the symbols before it; with ``@``, *number* steps of the schedule."""

    time_ms: int
    symbol: str = ""
    number: int = 0


class Store:
    """The log ``facts.jsonl``, its units ``units.json`` and the clock's anchor ``clock.json`` in *folder*, held by one
    process at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "facts.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(f"{folder} is in use by another simulator: stop it, or give another --state.") from None
        except OSError as error:
            raise StateError(f"Cannot write in {folder}: {error.strerror}. Give another --state.") from None

    def replay(self) -> Iterator[tuple[Moment | None, list[Fact]]]:
        """The decisions in order, each with its moment (``None`` in logs of the first version). Cuts a torn last line
        off the file."""
        whole = 0
        for moment, facts, size in _read(self._path):
            yield moment, facts
            whole += size
        os.ftruncate(self._file, whole)

    def append(self, facts: Sequence[Fact], moment: Moment) -> None:
        """Write the facts of one decision."""
        line = json.dumps(
            [["at", *moment], *([_NAMES[type(fact)], *fact] for fact in facts)], separators=(",", ":")
        )
        data = line.encode() + b"\n"
        try:
            written = os.write(self._file, data)
        except OSError as error:
            raise StateError(f"Cannot write {self._path}: {error.strerror}.") from None
        if written != len(data):
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise StateError(f"Cannot write {self._path}: the disk is full.")

    def load_anchor(self, market: str) -> tuple[int, int, int] | None:
        """(wall_ms, market_ms, begun_ms) saved for the same *market* description, else ``None``."""
        try:
            saved = json.loads((self._folder / "clock.json").read_text())
            if saved["market"] != market:
                return None
            market_ms = int(saved["market_ms"])
            return int(saved["wall_ms"]), market_ms, int(saved.get("begun_ms", market_ms))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save_anchor(self, market: str, wall_ms: int, market_ms: int, begun_ms: int) -> None:
        """Remember where the market clock was hung up, so that a restart goes on from there; and where the market had
        *begun_ms* before anybody moved it."""
        draft = self._folder / "clock.json.new"
        anchor = {"market": market, "wall_ms": wall_ms, "market_ms": market_ms, "begun_ms": begun_ms}
        draft.write_text(json.dumps(anchor))
        draft.replace(self._folder / "clock.json")

    def keep_units(self, digits: Mapping[str, tuple[int, int]]) -> None:
        """Remember the decimals of price and quantity of each symbol: facts count in these units. Raises `StateError`
        where an earlier process had others, as a replay of other files may."""
        path = self._folder / "units.json"
        known = {}
        if path.exists():
            try:
                known = {symbol: tuple(map(int, pair)) for symbol, pair in json.loads(path.read_text()).items()}
            except (OSError, ValueError, TypeError, AttributeError):
                raise StateError(f"{path} is not readable: give another --state.") from None
        for symbol, pair in digits.items():
            if known.setdefault(symbol, pair) != pair:
                raise StateError(
                    f"{symbol} has {pair[0]} decimals of price and {pair[1]} of quantity, but the state was made with "
                    f"{known[symbol][0]} and {known[symbol][1]}: replay the files it was made with, or give another "
                    "--state."
                )
        draft = path.with_name("units.json.new")
        draft.write_text(json.dumps(known))
        draft.replace(path)

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._file)


def read_facts(folder: Path) -> Iterator[Fact]:
    """All facts of a state folder, which a simulator may be writing to. Raises `StateError`."""
    try:
        for _, facts, _ in _read(folder / "facts.jsonl"):
            yield from facts
    except OSError as error:
        raise StateError(f"Cannot read {folder / 'facts.jsonl'}: {error.strerror}. Give a --state folder.") from None


def _read(path: Path) -> Iterator[tuple[Moment | None, list[Fact], int]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                rows = json.loads(line)
                moment = Moment(*rows.pop(0)[1:]) if rows and rows[0][0] == "at" else None
                facts = [_KINDS[name](*values) for name, *values in rows]
            except (ValueError, KeyError, TypeError, IndexError, AttributeError):
                raise StateError(
                    f"{path} line {number} is not readable: {line[:60]!r}. Move the file away to start afresh."
                ) from None
            yield moment, facts, len(line)
