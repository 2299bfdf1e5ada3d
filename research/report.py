"""How offline work tells what it does: a progress bar and tables on a terminal, JSON lines for a program."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from shared import events


class Report(Protocol):
    """What a command tells its caller while it runs."""

    def __enter__(self) -> Report: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def progress(self, step: str, done: int, total: int) -> None:
        """*done* of *total* in *step*."""

    def result(self, data: dict[str, Any]) -> None:
        """What was made."""

    def failed(self, code: str, message: str) -> None:
        """Why nothing was made."""


class JsonLines:
    """The lines that every worker writes, on stdout; progress at most ten times a second and at each step's end."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._seq = 0
        self._next = 0.0

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *exception: object) -> None:
        sys.stdout.flush()

    def progress(self, step: str, done: int, total: int) -> None:
        """Write a `progress` line."""
        now = time.monotonic()
        if done >= total or now >= self._next:
            self._next = now + 0.1
            self._write(events.Progress(step=step, done=done, total=total))

    def result(self, data: dict[str, Any]) -> None:
        """Write the `result` line."""
        self._write(events.Result(data=data))

    def failed(self, code: str, message: str) -> None:
        """Write an `error` line."""
        self._write(events.ErrorSeen(kind=code, message=message, correlation_id=self._run_id))

    def _write(self, payload: events.Payload) -> None:
        self._seq += 1
        line = events.encode_line(
            bot_id=0, run_id=self._run_id, seq=self._seq, ts=time.time_ns() // 1_000_000, payload=payload
        )
        sys.stdout.write(line.decode())
        sys.stdout.flush()


class Terminal:
    """A progress bar where there is a terminal, then a summary."""

    def __init__(self) -> None:
        self._console = Console()
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Terminal:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def progress(self, step: str, done: int, total: int) -> None:
        """Move the bar of *step*."""
        if step not in self._bars:
            self._bars[step] = self._progress.add_task(step, total=total)
        self._progress.update(self._bars[step], completed=done, total=total)

    def result(self, data: dict[str, Any]) -> None:
        """Print the scores."""
        self._progress.stop()
        seen = data["scores"]
        self._console.print(
            f"{data['model']}: {data['trees']} trees from {data['split']['train']['rows']} decisions; on "
            f"{seen['rows']} later ones: AUC {seen['auc']:.3f}, log loss {seen['logloss']:.4f} "
            f"({seen['logloss_base_rate']:.4f} without a model), target reached {seen['base_rate']:.1%} of the time.",
            highlight=False,
            soft_wrap=True,
        )
        table = Table("threshold", "decisions", "share", "hit rate", title="Out of sample")
        for row in seen["hit_rates"]:
            if row["decisions"]:
                table.add_row(
                    f"{row['threshold']:.2f}", str(row["decisions"]), f"{row['share']:.1%}", f"{row['hit_rate']:.1%}"
                )
        self._console.print(table)

    def failed(self, code: str, message: str) -> None:
        """Print the reason on stderr."""
        self._progress.stop()
        print(message, file=sys.stderr)
