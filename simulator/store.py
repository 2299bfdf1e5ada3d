"""Memory across restarts: an append-only log of facts, one line per decision.

A line is written with one system call before the decision is applied or answered, so whoever holds an answer finds
its facts after SIGKILL. A torn last line (a kill inside the write) was never answered and is dropped at start. Every
fact is part of the ledger that the simulator promises to show, so the log holds nothing that could be compacted away.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

from simulator.core.exchange import AccountOpened, Ended, Fact, Filled, OrderPlaced

_KINDS: dict[str, type[Fact]] = {"account": AccountOpened, "order": OrderPlaced, "fill": Filled, "end": Ended}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class StateError(Exception):
    """The state directory cannot be used; the text says why and what to do."""


class Store:
    """The log ``facts.jsonl`` and the clock's anchor ``clock.json`` in *folder*, held by one process at a time."""

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

    def replay(self) -> Iterator[Fact]:
        """All facts in order. Cuts a torn last line off the file."""
        whole = 0
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                yield from self._decoded(line, number)
                whole += len(line)
        os.ftruncate(self._file, whole)

    def append(self, facts: Sequence[Fact]) -> None:
        """Write the facts of one decision."""
        line = json.dumps([[_NAMES[type(fact)], *astuple(fact)] for fact in facts], separators=(",", ":"))
        data = line.encode() + b"\n"
        before = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
        except OSError as error:
            raise StateError(f"Cannot write {self._path}: {error.strerror}.") from None
        if written != len(data):
            os.ftruncate(self._file, before)
            raise StateError(f"Cannot write {self._path}: the disk is full.")

    def load_anchor(self, market: str) -> tuple[int, int] | None:
        """(wall_ms, market_ms) saved for the same *market* description, else ``None``."""
        try:
            saved = json.loads((self._folder / "clock.json").read_text())
            return (int(saved["wall_ms"]), int(saved["market_ms"])) if saved["market"] == market else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save_anchor(self, market: str, wall_ms: int, market_ms: int) -> None:
        """Remember where the market clock was hung up, so that a restart goes on from there."""
        draft = self._folder / "clock.json.new"
        draft.write_text(json.dumps({"market": market, "wall_ms": wall_ms, "market_ms": market_ms}))
        draft.replace(self._folder / "clock.json")

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._file)

    def _decoded(self, line: bytes, number: int) -> list[Fact]:
        try:
            return [_KINDS[name](*values) for name, *values in json.loads(line)]
        except (ValueError, KeyError, TypeError):
            raise StateError(
                f"{self._path} line {number} is not readable: {line[:60]!r}. Move the file away to start afresh."
            ) from None
