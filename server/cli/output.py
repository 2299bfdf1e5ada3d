"""What commands print: JSON for scripts, tables for people; plain columns where output is not a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="JSON on standard output, for scripts.")
STYLES = {
    "running": "green", "starting": "cyan", "stopping": "cyan", "paused": "yellow", "error": "bold red",
    "warning": "yellow", "debug": "dim", "disabled": "dim",
}  # fmt: skip


def print_json(document: Any) -> None:
    """One JSON document and a newline."""
    click.echo(json.dumps(document, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, numbers: Sequence[str] = ()) -> None:
    """A table: with rules and colours on a terminal, tab-separated lines under a header where it is piped."""
    cells = [["" if value is None else printable(str(value)) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for line in [[column.upper() for column in columns], *cells]:
            click.echo("\t".join(line))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for line in cells:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in line))
    Console().print(table)


def printable(text: str) -> str:
    """*text* on one line, without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def say(text: str) -> None:
    """A remark for people, on standard error."""
    click.echo(printable(text), err=True)


def is_interactive() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def age(at: str | None) -> str:
    """How long ago an ISO time was: ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    if at is None:
        return ""
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def clock(ms: int) -> str:
    """``2026-11-20 14:32:08.123Z`` for UTC milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{ms % 1000:03d}Z"


def read_secret(prompt: str, *, confirm: bool = False) -> str:
    """A secret from a hidden prompt, or the next line of standard input where nobody sits at a terminal."""
    if is_interactive():
        return str(click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))
    line = sys.stdin.readline()
    if not line.rstrip("\n"):
        raise click.UsageError(f"Send the {prompt.lower()} as a line on standard input.")
    return line.rstrip("\n")
