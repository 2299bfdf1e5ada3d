"""What people do with one position: have it closed, or give it up as lost.

Closing is a command to the bot, which is started for it if it does not run. Forgetting is for a position whose fate at
the exchange nobody can find out any more (the account is gone, its keys are revoked for good): the books are closed
without a PNL, and the bot's own memory drops it at the bot's next start. Nothing is sold: what was bought stays with
the person, and that is said so. An order of it that still rests in the book is withdrawn at that start, with an alert,
as is any order of the bot's that belongs to no position.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from server.storage import audit, commands, fleet, ledger
from server.storage.audit import Author
from server.storage.models import BotRun, TradingOrder
from server.storage.queries import OPEN, bot_row, position_row
from server.storage.times import now_ms
from server.storage.verbs import require_reason
from shared.errors import Conflict
from shared.states import PositionState
from shared.units import ZERO, plain


def close(connection: Connection, bot_id: int, order_id: int, author: Author, reason: str | None = None) -> None:
    """Have the bot sell this position at market. Raises `NotFound`, `Conflict` for one that is over."""
    bot, position = bot_row(connection, bot_id), _open_position(connection, bot_id, order_id)
    audit.bounded(reason)
    args = {"position_key": position.position_key}
    number = commands.give(connection, bot, commands.CLOSE_POSITION, args, author)
    target = f"position {order_id}, command {number}"
    audit.note(connection, author, "position.close", bot_id=bot_id, target=target, reason=reason)


def forget(connection: Connection, bot_id: int, order_id: int, author: Author, reason: str | None = None) -> None:
    """Close the books on a position that nobody can follow any more. Raises `NotFound`, `Conflict`, `Refused`."""
    bot, position = bot_row(connection, bot_id), _open_position(connection, bot_id, order_id)
    why = require_reason(reason, "forget a position")
    runs = select(BotRun.id).where(BotRun.bot_id == bot_id, BotRun.ended_ms.is_(None)).limit(1)
    if connection.execute(runs).first() is not None:
        raise Conflict(
            f"Bot {bot_id} runs, so it can find out what became of position {order_id}. Close it, or stop the bot; "
            "only a position of a bot that is stopped or in error can be forgotten."
        )
    if fleet.is_unread(connection, bot_id):
        raise Conflict(
            f"Not all that bot {bot_id} reported is in the rows yet, so position {order_id} may be closed already. Try "
            "again in a moment; the supervisor has to run."
        )
    commands.give(connection, bot, commands.FORGET_POSITION, {"position_key": position.position_key}, author)
    _close_books(connection, position)
    text = (
        f"Position {position.position_key} was forgotten by {author.name}: {why}. Whatever it still has at the "
        f"exchange ({plain(position.quantity)} {position.symbol} bought) is no longer guarded, and counts in no PNL. "
        "An order of it that still rests there is cancelled when the bot starts again; nothing is sold."
    )
    run_id = bot.run_id or f"{bot_id}.{bot.generation}"
    ledger.add_note(connection, bot_id, run_id, "position_forgotten", text, now_ms())
    before = {"status": position.status, "quantity": plain(position.quantity)}
    target = f"position {order_id}"
    audit.note(connection, author, "position.forget", bot_id=bot_id, target=target, before=before, reason=why)


def _open_position(connection: Connection, bot_id: int, order_id: int) -> Row[Any]:
    row = position_row(connection, bot_id, order_id)
    if row.status not in OPEN:
        raise Conflict(f"Position {order_id} is {row.status} already.")
    return row


def _close_books(connection: Connection, position: Row[Any]) -> None:
    status = PositionState.CLOSED if position.quantity > ZERO else PositionState.CANCELLED
    over = {"status": status.value, "exit_reason": "forgotten", "closed_ms": now_ms()}
    document = position.document | over | {"exiting": "forgotten"}
    table = TradingOrder
    connection.execute(update(table).where(table.id == position.id).values(**over, document=document))
