"""What bots that are to be stopped still have to do before they may rest: close what they hold, and be read to the end.

Only a bot sends orders. So a bot that does not run, and holds a position that is to be closed (by its `on_stop`, by a
command, or by the kill switch), has to be started.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select

from server.storage import commands, kill_switch
from server.storage.models import Bot, JournalOffset, TradingConfigVersion, TradingOrder
from server.storage.queries import OPEN
from shared.states import FINAL_ORDER_STATES, OrderState, PositionState, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Ids of bots."""

    to_close: frozenset[int] = frozenset()
    """They hold what their `on_stop` does not leave as it is."""
    unread: frozenset[int] = frozenset()
    """Not all they reported is in the rows, so nobody can say yet what they hold."""


def what_is_left(connection: Connection, bot_ids: Collection[int]) -> Left:
    """What of *bot_ids* cannot rest."""
    if not bot_ids:
        return Left()
    positions, versions = TradingOrder, TradingConfigVersion
    rows = connection.execute(
        select(positions.bot_id, positions.status, positions.document, versions.config)
        .join(Bot, Bot.id == positions.bot_id)
        .join(versions, and_(versions.bot_id == Bot.id, versions.version == Bot.config_version), isouter=True)
        .where(positions.bot_id.in_(bot_ids), positions.status.in_(OPEN))
    )
    offsets = JournalOffset
    unread = connection.execute(
        select(offsets.bot_id).where(offsets.bot_id.in_(bot_ids), offsets.done.is_(False)).distinct()
    ).scalars()
    latch = kill_switch.state(connection)
    empties = latch.engaged and latch.close_positions
    to_close = {r.bot_id for r in rows if empties or not _may_rest(r.status, r.document, r.config or {})}
    return Left(to_close=frozenset(to_close | given_ms(connection).keys() & set(bot_ids)), unread=frozenset(unread))


def given_ms(connection: Connection) -> dict[int, int]:
    """When each bot was last told to close something that is not closed yet (UTC ms)."""
    waiting = [row for row in commands.outstanding(connection) if row.verb in commands.CLOSING]
    return {row.bot_id: row.created_ms for row in waiting}  # the newest comes last


def _may_rest(status: str, position: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a stopped bot may leave the position as it stands: no order is on its way, and it need not be sold."""
    if config.get("on_stop") != "hold" or status != PositionState.ACTIVE or position.get("exiting") is not None:
        return False
    return not any(_is_moving(leg) for leg in position.get("legs", []))


def _is_moving(leg: Mapping[str, Any]) -> bool:
    if leg["role"] != Role.ENTRY:
        return leg["status"] in (OrderState.INTENT, OrderState.UNKNOWN)
    return leg["status"] not in FINAL_ORDER_STATES
