"""A bot's events as log lines: one readable sentence and a level for each event that a person wants to read.

`log_line` is pure and copes with whatever an older or newer writer put into an event. A bot writes a position again
whenever anything of it changes; `log_lines` leaves out what reads like the line before it. The API's logs, the command
line and the pages all show what it says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, select

from server.storage.models import Event, TradingOrder


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
_OLDER_POSITIONS = 50
_NUMBER = "#"  # where the position's number stands in what a sentence is made of


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line: *id* is its event's row, *ts* the wall clock in UTC ms when it was written."""

    id: int
    ts: int
    run_id: str
    type: str
    level: Level
    text: str


def log_line(type_: str, data: Data, position: int | None = None) -> Line | None:
    """Level and text of an event; None for one that is no log line, such as a heartbeat.

    *position* is the number by which pages name the position that the event belongs to, where it is known.
    """
    render = _RENDER.get(type_)
    if render is None:
        return None
    try:
        level, text = render(data if position is None else {**data, _NUMBER: position})
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
    all_events = _events(bot_id) if after is None else _events(bot_id).where(Event.id > after)

    def events(at: int | None) -> Any:
        wanted = all_events if at is None else all_events.where(Event.id < at)
        return wanted.order_by(Event.id.desc())

    return _found(connection, bot_id, events, before, limit, level, search)


def lines_after(
    connection: Connection, bot_id: int, after: int, *, limit: int, level: Level = Level.DEBUG, search: str = ""
) -> tuple[list[LogLine], int | None]:
    """As `log_lines`, but oldest first from the event after *after* on; the second value is the id to go on after."""

    def events(at: int | None) -> Any:
        return _events(bot_id).where(Event.id > at).order_by(Event.id)

    return _found(connection, bot_id, events, after, limit, level, search)


def _found(
    connection: Connection,
    bot_id: int,
    events: Callable[[int | None], Any],
    at: int | None,
    limit: int,
    level: Level,
    search: str,
) -> tuple[list[LogLine], int | None]:
    """Lines of the *events* that follow the one with the id *at*, and the id of the last one seen if there are more."""
    found: list[LogLine] = []
    needle, scanned = search.casefold(), 0
    while True:
        batch = connection.execute(events(at).limit(_BATCH)).all()
        for row, rendered in _told(connection, bot_id, batch):
            at = row.id
            scanned += 1
            if rendered is None or _RANK[rendered[0]] < _RANK[level] or needle not in rendered[1].casefold():
                continue
            if len(found) == limit:
                return found, found[-1].id
            line = LogLine(id=row.id, ts=row.ts, run_id=row.run_id, type=row.type, level=rendered[0], text=rendered[1])
            found.append(line)
        if len(batch) < _BATCH:
            return found, None
        if scanned >= _MAX_SCANNED:
            return found, at


def _told(connection: Connection, bot_id: int, batch: Sequence[Row[Any]]) -> list[tuple[Row[Any], Line | None]]:
    """Each event of *batch* with its line; None where it repeats what its position said before."""
    keys = {key for row in batch if isinstance(key := row.data.get("position_key"), int)}
    mine = select(TradingOrder.position_key, TradingOrder.id).where(
        TradingOrder.bot_id == bot_id, TradingOrder.position_key.in_(keys)
    )
    numbers = {row.position_key: row.id for row in connection.execute(mine)} if keys else {}
    oldest_first = sorted(batch, key=lambda row: row.id)
    older = connection.execute(_older_positions(bot_id, oldest_first[0].id)).all() if keys else []
    said: dict[Any, Line | None] = {}
    lines: dict[int, Line | None] = {}
    for row in [*reversed(older), *oldest_first]:
        key = row.data.get("position_key")
        line = log_line(row.type, row.data, numbers.get(key) if isinstance(key, int) else None)
        if row.type == "position" and isinstance(key, int):
            line, said[key] = (None if said.get(key) == line else line), line
        lines[row.id] = line
    return [(row, lines[row.id]) for row in batch]


def _older_positions(bot_id: int, before: int) -> Any:
    """The position events just before a batch: what its first ones may repeat."""
    wanted = select(Event).where(Event.bot_id == bot_id, Event.type == "position", Event.id < before)
    return wanted.order_by(Event.id.desc()).limit(_OLDER_POSITIONS)


def _events(bot_id: int) -> Any:
    return select(Event).where(Event.bot_id == bot_id, Event.type.in_(_RENDER))


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
    threshold = "" if data.get("threshold") is None else f" (needs {data['threshold']:.3g})"
    return Level.DEBUG, f"Decided to {_get(data, 'action')} at {_get(data, 'price')}{score}{threshold}"


def _order(data: Data) -> Line:
    status, role = data.get("status"), str(_get(data, "role"))
    level = Level.WARNING if status == "rejected" else Level.INFO
    price = f" at {data['price']}" if data.get("price") is not None else " at market"
    part, whole = str(data.get("executed_quantity") or "0"), str(_get(data, "quantity"))
    done = "" if part in ("0", whole) else f", {part} of it executed"
    what = f"{str(_get(data, 'side')).lower()} {whole} {_get(data, 'symbol')}{price}{done}{_because(data)}"
    says = _ORDER_SAYS.get(str(status), _words(_get(data, "status")))
    return level, f"{role.capitalize()} order {says}: {what} ({_whose(data)}order {_get(data, 'client_order_id')})"


_ORDER_SAYS = {
    "new": "rests at the exchange",
    "unknown": "without an answer, being asked about",
    "partially_filled": "partly filled",
    "rejected": "refused",
}


def _fill(data: Data) -> Line:
    verb = {"BUY": "Bought", "SELL": "Sold"}.get(str(data.get("side")), "Traded")
    maker = "maker" if data.get("is_maker") else "taker"
    what = f"{verb} {_get(data, 'quantity')} {_get(data, 'symbol')} at {_get(data, 'price')} as {maker}"
    fee = f"fee {_get(data, 'fee')} {_get(data, 'fee_asset')}"
    return Level.INFO, f"{what}, {fee} ({_whose(data)}trade {_get(data, 'trade_id')})"


def _position(data: Data) -> Line:
    who = f"Position #{data[_NUMBER]}" if _NUMBER in data else f"Position {_get(data, 'position_key')}"
    symbol, quantity = _get(data, "symbol"), _get(data, "quantity")
    why = f": {_words(data['exit_reason'])}" if data.get("exit_reason") else ""
    match data.get("status"):
        case "pending":
            return Level.INFO, f"{who} waits for its entry{_entry(data)}"
        case "active":
            selling = f", selling: {_words(data['exiting'])}" if data.get("exiting") else ""
            return Level.INFO, f"{who} holds {quantity} {symbol}, bought at {_get(data, 'entry_price')}{selling}"
        case "closed":
            sold = f"{quantity} {symbol} sold at {_get(data, 'exit_price')}"
            return Level.INFO, f"{who} closed{why}; {sold}, PnL {_signed(data.get('pnl'))}, fees {_get(data, 'fees')}"
        case "cancelled":
            return Level.INFO, f"{who} cancelled{why}; nothing was bought"
        case status:
            return Level.INFO, f"{who} {_words(status)}{why}"


def _entry(data: Data) -> str:
    """``: buy 0.0595 ETHUSDC at 3357.77``, of its first order; empty if the event does not hold it."""
    leg = next(iter(data.get("legs") or ()), None)
    if not isinstance(leg, Mapping):
        return ""
    price = f" at {leg['price']}" if leg.get("price") is not None else " at market"
    return f": {str(_get(leg, 'side')).lower()} {_get(leg, 'quantity')} {_get(data, 'symbol')}{price}"


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
    return f": {_words(data['reason'])}" if data.get("reason") else ""


def _words(text: Any) -> str:
    """A name such as ``entry_timeout`` as people read it; what is a text already stays as it is."""
    return re.sub(r"^[a-z]+(_[a-z]+)+$", lambda found: found[0].replace("_", " "), str(text))


def _signed(amount: Any) -> str:
    return "?" if amount is None else str(amount) if str(amount).startswith("-") else f"+{amount}"


def _whose(data: Data) -> str:
    return f"position #{data[_NUMBER]}, " if _NUMBER in data else ""
