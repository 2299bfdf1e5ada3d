"""The versions of a bot's trading config: every accepted change is a new one, with author and difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from server.storage import audit
from server.storage.audit import Author
from server.storage.models import Bot, Model, TradingConfigVersion
from server.storage.queries import bot_row, config_of
from server.storage.strategies import definition
from server.storage.times import iso, now_ms
from shared.config import TradingConfig, config_diff, config_document, merge_config, parse_config
from shared.errors import Refused
from shared.strategy_spec import StrategyDefinition


def check_config(connection: Connection, strategy: StrategyDefinition, document: object) -> TradingConfig:
    """The checked config of *strategy*; a model it names must be there. Raises `Refused`."""
    config = parse_config(strategy.config, document)
    check_model(connection, config)
    return config


def check_model(connection: Connection, config: TradingConfig) -> None:
    """Raises `Refused` if *config* names a model that is unknown or deleted."""
    model_id = getattr(config, "model_id", None)
    if model_id is None:
        return
    known = (
        0 < model_id < 2**31
        and connection.execute(select(Model.id).where(Model.id == model_id, Model.deleted_ms.is_(None))).first()
    )
    if not known:
        reason = f"there is no model {model_id}; upload one, or pick one of GET /api/models"
        raise Refused("The config names a model that is not there.", fields={"model_id": reason})


def merge(connection: Connection, bot_id: int, changes: Mapping[str, Any], author: Author) -> dict[str, Any]:
    """Change some fields; the newest config with its version. Raises `NotFound`, `Refused`."""
    bot = bot_row(connection, bot_id)
    present = parse_config(definition(bot.strategy).config, config_of(connection, bot_id, bot.config_version))
    config = merge_config(present, _without_version(changes))
    check_model(connection, config)
    return _store(connection, bot, config, author)


def replace(connection: Connection, bot_id: int, document: Mapping[str, Any], author: Author) -> dict[str, Any]:
    """Set the whole config; what it leaves out gets its default. Raises `NotFound`, `Refused`."""
    bot = bot_row(connection, bot_id)
    config = check_config(connection, definition(bot.strategy), _without_version(document))
    return _store(connection, bot, config, author)


def restore(connection: Connection, bot_id: int, version: int, author: Author) -> dict[str, Any]:
    """Make an earlier version the newest again, under a new number. Raises `NotFound`, `Refused`."""
    return replace(connection, bot_id, config_of(connection, bot_id, version), author)


def is_done(connection: Connection, bot: Row[Any], based: int, document: Mapping[str, Any], author: Author) -> bool:
    """Whether the newest version is what *author* asks for with *document*, made from *based*: a second click."""
    row = connection.execute(
        select(TradingConfigVersion).where(
            TradingConfigVersion.bot_id == bot.id, TradingConfigVersion.version == bot.config_version
        )
    ).one()
    if row.version != based + 1 or row.author != author.name:
        return False
    return _means(row.config, check_config(connection, definition(bot.strategy), _without_version(document)))


def adopt_strategy(connection: Connection, bot: Row[Any], strategy: StrategyDefinition, author: Author) -> None:
    """Carry a bot's config over to another strategy: fields that both know are kept, the rest get their defaults."""
    present = config_of(connection, bot.id, bot.config_version)
    kept = {name: value for name, value in present.items() if name in strategy.config.model_fields}
    _store(connection, bot, check_config(connection, strategy, kept), author)


def first_version(connection: Connection, bot_id: int, config: TradingConfig, author: Author) -> None:
    """Store version 1 of a new bot's config."""
    document = config_document(config)
    _insert(connection, bot_id, 1, document, config_diff({}, document), author.name)


def newest(connection: Connection, bot_id: int) -> dict[str, Any]:
    """The config in force, with its version. Raises `NotFound`."""
    bot = bot_row(connection, bot_id)
    return {"version": bot.config_version, **config_of(connection, bot_id, bot.config_version)}


def versions(connection: Connection, bot_id: int, *, limit: int, before: int | None) -> list[Row[Any]]:
    """Up to *limit* + 1 versions, newest first. Raises `NotFound`."""
    bot_row(connection, bot_id)
    query = select(TradingConfigVersion).where(TradingConfigVersion.bot_id == bot_id)
    if before is not None:
        query = query.where(TradingConfigVersion.id < before)
    return list(connection.execute(query.order_by(TradingConfigVersion.id.desc()).limit(limit + 1)))


def version_document(row: Row[Any]) -> dict[str, Any]:
    """One version as the API shows it."""
    return {
        "version": row.version,
        "author": row.author,
        "created_at": iso(row.created_ms),
        "diff": row.diff,
        "config": row.config,
    }


def _store(connection: Connection, bot: Row[Any], config: TradingConfig, author: Author) -> dict[str, Any]:
    present, document = config_of(connection, bot.id, bot.config_version), config_document(config)
    if _means(present, config):
        return {"version": bot.config_version, **present}
    version = bot.config_version + 1
    diff = config_diff(present, document)
    _insert(connection, bot.id, version, document, diff, author.name)
    connection.execute(update(Bot).where(Bot.id == bot.id).values(config_version=version, updated_ms=now_ms()))
    audit.note(
        connection,
        author,
        "config.change",
        bot_id=bot.id,
        target=f"version {version}",
        before={name: change["from"] for name, change in diff.items()},
        after={name: change["to"] for name, change in diff.items()},
    )
    return {"version": version, **document}


def _means(document: dict[str, Any], config: TradingConfig) -> bool:
    """Whether *document* is the same config, however its amounts are written."""
    try:
        return parse_config(type(config), document) == config
    except Refused:  # of another strategy, or from before a field changed
        return False


def _insert(
    connection: Connection, bot_id: int, version: int, document: dict[str, Any], diff: dict[str, Any], author: str
) -> None:
    row = {"bot_id": bot_id, "version": version, "config": document, "diff": diff, "author": author}
    connection.execute(insert(TradingConfigVersion).values(**row, created_ms=now_ms()))


def _without_version(document: Mapping[str, Any]) -> dict[str, Any]:
    """The config alone: `version` may be sent back as it was read, and decides nothing (If-Match does)."""
    return {name: value for name, value in document.items() if name != "version"}
