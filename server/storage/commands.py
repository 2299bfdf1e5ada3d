"""One-shot commands: told to a bot once, carried out by it once, and acknowledged by it with ``command.done``.

They are part of a bot's control until they are done. A number is never used again, also not after an older backup of
the database was restored, because it is at least the wall clock in ms: a bot remembers the last number it has done.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from server.storage.audit import Author
from server.storage.models import BotCommand, BotRun, JournalOffset
from server.storage.queries import open_positions
from server.storage.times import now_ms

CLOSE_POSITIONS: Final = "close_positions"
CLOSE_POSITION: Final = "close_position"
FORGET_POSITION: Final = "forget_position"
CLOSING: Final = (CLOSE_POSITIONS, CLOSE_POSITION)
"""What a bot is started for, if it does not run."""
NOTHING_TO_CLOSE: Final = "nothing to close"


def give(connection: Connection, bot: Row[Any], verb: str, args: dict[str, Any], author: Author) -> int:
    """Tell *bot* to do something; the command's number. The same once more, while it is not done, is the same command.

    Where nothing runs and nothing is held, there is nothing to close: the command is done at once.
    """
    known = _outstanding_like(connection, bot.id, verb, args)
    if known is not None:
        return known
    last = connection.execute(select(func.max(BotCommand.number)).where(BotCommand.bot_id == bot.id)).scalar_one()
    now = now_ms()
    number = max((last or 0) + 1, now)
    done: dict[str, Any] = {}
    if verb in CLOSING and _is_empty(connection, bot.id):
        done = {"done_ms": now, "result": NOTHING_TO_CLOSE}
    row = {"bot_id": bot.id, "number": number, "verb": verb, "args": args, "author": author.name, "created_ms": now}
    connection.execute(insert(BotCommand).values(**row, **done))
    return number


def outstanding(connection: Connection, bot_ids: Iterable[int] | None = None) -> list[Row[Any]]:
    """Commands not done yet, oldest first: of *bot_ids*, or of all bots."""
    query = select(BotCommand).where(BotCommand.done_ms.is_(None))
    if bot_ids is not None:
        query = query.where(BotCommand.bot_id.in_(list(bot_ids)))
    return list(connection.execute(query.order_by(BotCommand.bot_id, BotCommand.number)))


def mark_done(connection: Connection, bot_id: int, number: int, result: str, now: int) -> None:
    """The bot says that it has carried out a command; a repetition changes nothing."""
    mine = (BotCommand.bot_id == bot_id, BotCommand.number == number, BotCommand.done_ms.is_(None))
    connection.execute(update(BotCommand).where(*mine).values(done_ms=now, result=result))


def nothing_to_close(connection: Connection) -> list[Row[Any]]:
    """Commands to close of bots that do not run and hold nothing: their runs ended before they could acknowledge them.

    A run that cannot load its config, or is stopped before it is connected, acknowledges none.
    """
    return [row for row in outstanding(connection) if row.verb in CLOSING and _is_empty(connection, row.bot_id)]


def settle_empty(connection: Connection, now: int) -> None:
    """Nobody has to be started for what is closed already."""
    for row in nothing_to_close(connection):
        mark_done(connection, row.bot_id, row.number, NOTHING_TO_CLOSE, now)


def last_done(connection: Connection, bot_id: int) -> int:
    """The number up to which all commands are done; 0 where none is."""
    waiting = [row.number for row in outstanding(connection, [bot_id])]
    done = select(func.max(BotCommand.number)).where(BotCommand.bot_id == bot_id, BotCommand.done_ms.is_not(None))
    if waiting:
        done = done.where(BotCommand.number < waiting[0])
    return connection.execute(done).scalar_one() or 0


def _outstanding_like(connection: Connection, bot_id: int, verb: str, args: dict[str, Any]) -> int | None:
    same = [row for row in outstanding(connection, [bot_id]) if (row.verb, row.args) == (verb, args)]
    return same[0].number if same else None


def _is_empty(connection: Connection, bot_id: int) -> bool:
    """Whether the bot has no process, holds nothing, and has reported nothing that is in no row yet."""
    runs = select(BotRun.id).where(BotRun.bot_id == bot_id, BotRun.ended_ms.is_(None))
    unread = select(JournalOffset.id).where(JournalOffset.bot_id == bot_id, JournalOffset.done.is_(False))
    busy = [connection.execute(query.limit(1)).first() for query in (runs, unread)]
    return not any(busy) and not open_positions(connection, [bot_id]).get(bot_id, 0)
