"""Printing a bot's log lines, and following them over server restarts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from server.cli.client import ApiRefused, Client, NoAnswer
from server.cli.output import STYLES, clock, print_json, printable, say

_POLL_S = 1.0


def print_logs(client: Client, path: str, count: int, wanted: Mapping[str, str], *, as_json: bool) -> int:
    """Print the newest *count* lines, oldest first; the newest line's id, 0 if there is none."""
    newest = client.get(path, limit=1)["items"]
    lines: list[dict[str, Any]] = []
    if count:
        for line in client.items(path, limit=min(count, 500), **wanted):
            lines.append(line)
            if len(lines) == count:
                break
    _print(lines, as_json)
    return max([line["id"] for line in [*newest, *lines]], default=0)


def follow_logs(client: Client, path: str, last: int, wanted: Mapping[str, str], *, as_json: bool) -> None:
    """Print lines newer than *last* as they come, until interrupted. A server that is away is waited for."""
    is_away = False
    while True:
        try:
            fresh = list(client.items(path, after=last, **wanted))
        except (NoAnswer, ApiRefused) as error:
            if isinstance(error, ApiRefused) and error.status not in (429, 500, 503):
                raise
            if not is_away:
                say(f"{error.message} Waiting for it.")
            is_away = True
        else:
            if is_away:
                say(f"{client.server} answers again.")
            is_away = False
            _print(fresh, as_json)
            last = max([last, *(line["id"] for line in fresh)])
        time.sleep(_POLL_S)


def _print(newest_first: list[dict[str, Any]], as_json: bool) -> None:
    for line in reversed(newest_first):
        if as_json:
            print_json(line)
            continue
        level = click.style(line["level"].upper().ljust(7), **_style(line["level"]))
        click.echo(f"{clock(line['ts'])} {level} {printable(line['text'])}")


def _style(level: str) -> dict[str, Any]:
    style = STYLES.get(level, "").split()
    colours = [word for word in style if word not in ("bold", "dim")]
    return {"fg": colours[0] if colours else None, "bold": "bold" in style or None, "dim": "dim" in style or None}
