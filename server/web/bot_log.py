"""The log tab: a bot's events as lines, by level and search, appended live, and as a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flask import Response, request, stream_with_context
from sqlalchemy import Connection

from server.api.wire import engine
from server.security.roles import Role, needs
from server.storage.engine import read
from server.storage.log_lines import Level, LogLine, lines_after, log_lines
from server.storage.times import iso
from server.web.bot_read import any_bot_row
from server.web.live import draw_macro
from server.web.shell import web

LINES = 1_000
_LIVE_AT_ONCE = 200
_CSS = {Level.WARNING: "warn", Level.ERROR: "err"}
_SHORT = {Level.DEBUG: "DEBUG", Level.INFO: "INFO", Level.WARNING: "WARN", Level.ERROR: "ERROR"}
CHIPS = ((Level.INFO, "Info and up"), (Level.WARNING, "Warnings"), (Level.ERROR, "Errors"), (Level.DEBUG, "Debug"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLine:
    """One line; *parts* are pieces of its text, each with whether the search found it."""

    id: int
    ts: int
    clock: str
    exact: str
    css: str
    level: str
    run_id: str
    parts: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogView:
    """What the log tab shows, newest first."""

    level: Level
    search: str
    lines: tuple[ShownLine, ...]
    older: int | None
    newest_id: int


def level_of(text: str) -> Level:
    """The level that an address names; info and up if it names none."""
    return Level(text) if text in set(Level) else Level.INFO


def log_view(connection: Connection, bot_id: int, level: Level, search: str, before: int | None) -> LogView:
    """Up to a thousand lines."""
    lines, older = log_lines(connection, bot_id, limit=LINES, level=level, search=search, before=before)
    return LogView(
        level=level,
        search=search,
        lines=tuple(shown(line, search) for line in lines),
        older=older,
        newest_id=lines[0].id if lines else 0,
    )


def shown(line: LogLine, search: str) -> ShownLine:
    """A line as the page shows it."""
    text = iso(line.ts) or ""
    return ShownLine(
        id=line.id,
        ts=line.ts,
        clock=text[11:23],
        exact=f"{text[:10]} {text[11:23]} UTC",
        css=_CSS.get(line.level, ""),
        level=_SHORT[line.level],
        run_id=line.run_id,
        parts=marked(line.text, search),
    )


def marked(text: str, search: str) -> tuple[tuple[str, bool], ...]:
    """*text* in pieces; those that match *search* in any case are marked."""
    needle, low = search.casefold(), text.casefold()
    if not needle or len(low) != len(text):  # a letter that changes its length: better no mark than a wrong one
        return ((text, False),)
    parts, start = [], 0
    while (at := low.find(needle, start)) >= 0:
        if at > start:
            parts.append((text[start:at], False))
        parts.append((text[at : at + len(needle)], True))
        start = at + len(needle)
    if start < len(text):
        parts.append((text[start:], False))
    return tuple(parts)


def added_lines(
    connection: Connection, bot_id: int, level: Level, search: str, after: int
) -> tuple[tuple[tuple[int, str], ...], int | None]:
    """The next lines after event *after*, oldest first, each as ``(event id, HTML)``; and how far they go if there
    are more."""
    lines, upto = lines_after(connection, bot_id, after, limit=_LIVE_AT_ONCE, level=level, search=search)
    return tuple((line.id, draw_macro("_bot_log_line.html", "log_line", shown(line, search))) for line in lines), upto


@web.get("/bots/<int(max=2147483647):bot_id>/log.txt")
@needs(Role.VIEWER)
def download_log(bot_id: int) -> Response:
    """The lines that the filter shows, as text, newest first, to the end."""
    level, search = level_of(request.args.get("level", "")), request.args.get("q", "")[:200]
    with read(engine()) as connection:
        name = any_bot_row(connection, bot_id).id
    body = stream_with_context(_text(bot_id, level, search))
    headers = {"Content-Disposition": f'attachment; filename="bot-{name}.log"'}
    return Response(body, mimetype="text/plain; charset=utf-8", headers=headers)


def _text(bot_id: int, level: Level, search: str) -> Iterator[str]:
    before: int | None = None
    while True:
        with read(engine()) as connection:
            lines, before = log_lines(connection, bot_id, limit=LINES, level=level, search=search, before=before)
        yield "".join(f"{iso(line.ts)} {line.run_id} {_SHORT[line.level]:5} {line.text}\n" for line in lines)
        if before is None:
            return
