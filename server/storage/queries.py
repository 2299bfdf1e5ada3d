"""What is read again and again, in the shapes that the API and the bots get to see."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from server.storage.models import Bot, TradingConfigVersion
from shared.errors import NotFound
from shared.states import DesiredState
from shared.tickets import Control, ControlDocument


def bot_row(connection: Connection, bot_id: int) -> Row[Any]:
    """The bot's row. Raises `NotFound`, also for an archived bot."""
    row = connection.execute(select(Bot).where(Bot.id == bot_id, Bot.archived_ms.is_(None))).first()
    if row is None:
        raise NotFound(f"There is no bot {bot_id}. GET /api/bots lists those there are.")
    return row


def control_document(connection: Connection, bot_id: int) -> ControlDocument:
    """What a bot polls: what people want of it, and its newest config. Raises `NotFound`."""
    bot = bot_row(connection, bot_id)
    return ControlDocument(
        control=Control(desired=DesiredState(bot.desired_state), halted=bot.halted),
        config_version=bot.config_version,
        config=config_of(connection, bot_id, bot.config_version),
    )


def config_of(connection: Connection, bot_id: int, version: int) -> dict[str, Any]:
    """One version of a bot's config. Raises `NotFound`."""
    config = connection.execute(
        select(TradingConfigVersion.config).where(
            TradingConfigVersion.bot_id == bot_id, TradingConfigVersion.version == version
        )
    ).scalar_one_or_none()
    if config is None:
        raise NotFound(f"Bot {bot_id} has no config version {version}.")
    found: dict[str, Any] = config
    return found
