"""A bot's events as log lines: one readable sentence and a level for each event that a person wants to read.

`log_line` is pure and copes with whatever an older or newer writer put into an event. The API's logs, the command line
and the pages all show what it says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, select

from server.storage.models import Event


class Level(StrEnum):
    """How urgent a line is, from least to most."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Data = Mapping[str, Any]
Line = tuple[Level, str]

_RANK = {level: number for number, level in enumerate(Level)}
_OTHER_NAMES = {"warn": Level.WARNING, "critical": Level.ERROR, "fatal": Level.ERROR, "exception": Level.ERROR}
_BATCH = 500
_MAX_SCANNED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line: *id* is its event's row, *ts* the wall clock in UTC ms when it was written."""

    id: int
    ts: int
    run_id: str
    type: str
    level: Level
    text: str


def log_line(type_: str, data: Data) -> Line | None:
    """Level and text of an event; None for one that is no log line, such as a heartbeat."""
    render = _RENDER.get(type_)
    if render is None:
        return None
    try:
        level, text = render(data)
    except (AttributeError, TypeError, ValueError):  # not as this version writes it
        level, text = Level.INFO, f"{type_} {json.dumps(dict(data), default=str)}"
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return level, text.strip()


def log_lines(
    connection: Connection,
    bot_id: int,
    *,
    limit: int,
    level: Level = Level.DEBUG,
    search: str = "",
    before: int | None = None,
    after: int | None = None,
) -> tuple[list[LogLine], int | None]:
    """Up to *limit* lines of a bot from *level* up that contain *search* in any case, newest first.

    *before* and *after* are ids that the lines lie between. The second value is the id to go on before (None:
    the end); a short page can have one too, as only so many events are looked through at a time.
    """
    found: list[LogLine] = []
    needle, scanned = search.casefold(), 0
    while True:
        batch = connection.execute(_events(bot_id, before, after).limit(_BATCH)).all()
        for row in batch:
            before = row.id
            scanned += 1
            rendered = log_line(row.type, row.data)
            if rendered is None or _RANK[rendered[0]] < _RANK[level] or needle not in rendered[1].casefold():
                continue
            if len(found) == limit:
                return found, found[-1].id
            line = LogLine(id=row.id, ts=row.ts, run_id=row.run_id, type=row.type, level=rendered[0], text=rendered[1])
            found.append(line)
        if len(batch) < _BATCH:
            return found, None
        if scanned >= _MAX_SCANNED:
            return found, before


def _events(bot_id: int, before: int | None, after: int | None) -> Any:
    wanted = select(Event).where(Event.bot_id == bot_id, Event.type.in_(_RENDER))
    if before is not None:
        wanted = wanted.where(Event.id < before)
    if after is not None:
        wanted = wanted.where(Event.id > after)
    return wanted.order_by(Event.id.desc())


# One sentence for each type


def _started(data: Data) -> Line:
    model = f", model {str(data['model_sha256'])[:8]}" if data.get("model_sha256") else ""
    who = f"{_get(data, 'strategy')} on {_get(data, 'symbol')} at {_get(data, 'exchange')} ({_get(data, 'mode')})"
    return Level.INFO, f"Started: {who}, config version {_get(data, 'config_version')}{model}, pid {_get(data, 'pid')}"


def _ready(data: Data) -> Line:
    orders, positions = _get(data, "reconciled_orders"), _get(data, "open_positions")
    return Level.INFO, f"Ready: {orders} order(s) reconciled, {positions} open position(s)"


def _exit(data: Data) -> Line:
    level = Level.INFO if data.get("code") == 0 else Level.ERROR
    return level, f"Ended with exit code {_get(data, 'code')}: {_get(data, 'reason')}"


def _status(data: Data) -> Line:
    level = Level.ERROR if data.get("status") == "error" else Level.INFO
    return level, f"Now {_get(data, 'status')}{_because(data)}"


def _config_applied(data: Data) -> Line:
    changed = ", ".join(map(str, data.get("changed") or [])) or "nothing"
    return Level.INFO, f"Config version {_get(data, 'version')} in force; changed: {changed}"


def _config_rejected(data: Data) -> Line:
    fields = "".join(f"; {name}: {reason}" for name, reason in (data.get("fields") or {}).items())
    return Level.ERROR, f"Config version {_get(data, 'version')} refused: {_get(data, 'message')}{fields}"


def _signal(data: Data) -> Line:
    score = "" if data.get("score") is None else f", score {data['score']:.3g}"
    threshold = "" if data.get("threshold") is None else f" (threshold {data['threshold']:.3g})"
    return Level.DEBUG, f"Signal {_get(data, 'action')} at {_get(data, 'price')}{score}{threshold}"


def _order(data: Data) -> Line:
    level = Level.WARNING if data.get("status") == "rejected" else Level.INFO
    price = f" at {data['price']}" if data.get("price") is not None else ""
    what = f"{_get(data, 'role')} {_get(data, 'side')} {_get(data, 'quantity')} {_get(data, 'symbol')}{price}"
    part = str(data.get("executed_quantity") or "0")
    done = f", {part} executed" if part not in ("0", str(data.get("quantity"))) else ""
    return level, f"Order {_get(data, 'client_order_id')} {_get(data, 'status')}: {what}{done}{_because(data)}"


def _fill(data: Data) -> Line:
    maker = "maker" if data.get("is_maker") else "taker"
    what = f"{_get(data, 'side')} {_get(data, 'quantity')} {_get(data, 'symbol')} at {_get(data, 'price')}"
    fee = f"fee {_get(data, 'fee')} {_get(data, 'fee_asset')}"
    return Level.INFO, f"Fill: {what}, {fee}, {maker}, trade {_get(data, 'trade_id')}"


def _position(data: Data) -> Line:
    symbol, quantity = _get(data, "symbol"), _get(data, "quantity")
    key = f"Position {_get(data, 'position_key')}"
    match data.get("status"):
        case "active":
            selling = f", selling ({data['exiting']})" if data.get("exiting") else ""
            return Level.INFO, f"{key} active: {quantity} {symbol} bought at {_get(data, 'entry_price')}{selling}"
        case "closed":
            result = f"PNL {_get(data, 'pnl')}, fees {_get(data, 'fees')}"
            why = f" ({data['exit_reason']})" if data.get("exit_reason") else ""
            return Level.INFO, f"{key} closed: {quantity} {symbol} sold at {_get(data, 'exit_price')}, {result}{why}"
        case status:
            why = f" ({data['exit_reason']})" if data.get("exit_reason") else ""
            return Level.INFO, f"{key} {status}: {_get(data, 'side')} {symbol}{why}"


def _command_done(data: Data) -> Line:
    result = f": {data['result']}" if data.get("result") else ""
    return Level.INFO, f"Command {_get(data, 'number')} done{result}"


def _error(data: Data) -> Line:
    return Level.ERROR, f"{_get(data, 'kind')}: {_get(data, 'message')} [{_get(data, 'correlation_id')}]"


def _log(data: Data) -> Line:
    name = str(data.get("level", "info")).lower()
    level = Level(name) if name in set(Level) else _OTHER_NAMES.get(name, Level.INFO)
    return level, str(_get(data, "message"))


_RENDER: dict[str, Callable[[Data], Line]] = {
    "started": _started,
    "ready": _ready,
    "exit": _exit,
    "status": _status,
    "config.applied": _config_applied,
    "config.rejected": _config_rejected,
    "command.done": _command_done,
    "signal": _signal,
    "order": _order,
    "fill": _fill,
    "position": _position,
    "risk": lambda data: (Level.WARNING, f"No entry: {_get(data, 'message')}"),
    "error": _error,
    "alert": lambda data: (Level.WARNING, f"{_get(data, 'kind')}: {_get(data, 'message')}"),
    "log": _log,
}


def _get(data: Data, name: str) -> Any:
    value = data.get(name)
    return "?" if value is None else value


def _because(data: Data) -> str:
    return f": {data['reason']}" if data.get("reason") else ""
