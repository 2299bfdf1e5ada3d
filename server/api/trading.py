"""A bot's trading: its config with all versions, its positions, fills and results."""

from __future__ import annotations

from flask import Response, jsonify

from server.api.bots import get_stats
from server.api.examples import ConfigVersionList, FillList, OrderList
from server.api.schemas import BotPath, ConfigBody, ConfigDocument, OrdersQuery, Stats, VersionPath
from server.api.wire import PageQuery, blueprint, caller, check_if_match, engine, page_of, with_etag
from server.security.roles import Role, needs
from server.storage import configs, queries
from server.storage.engine import read, write

api = blueprint("trading", "Configs, positions, fills and results")

BOT = "/api/trading/bots/<int(max=2147483647):bot_id>"


@api.get(f"{BOT}/config", responses={200: ConfigDocument, 304: None})
@needs(Role.VIEWER, own_bot=True)
def get_config(path: BotPath) -> Response:
    """The flat config with its version; the ETag is the version."""
    with read(engine()) as connection:
        document = configs.newest(connection, path.bot_id)
    return with_etag(document, str(document["version"]))


@api.put(f"{BOT}/config", responses={200: ConfigDocument})
@needs(Role.TRADER)
def merge_config(path: BotPath, body: ConfigBody) -> Response:
    """Change some fields. `version` may be sent along and decides nothing; If-Match does."""
    with write(engine()) as connection:
        check_if_match(str(queries.bot_row(connection, path.bot_id).config_version))
        document = configs.merge(connection, path.bot_id, body.model_dump(), caller().author)
    return _changed(document)


@api.post(f"{BOT}/config", responses={200: ConfigDocument})
@needs(Role.TRADER)
def replace_config(path: BotPath, body: ConfigBody) -> Response:
    """Set the whole config; fields left out get their defaults."""
    with write(engine()) as connection:
        check_if_match(str(queries.bot_row(connection, path.bot_id).config_version))
        document = configs.replace(connection, path.bot_id, body.model_dump(), caller().author)
    return _changed(document)


@api.get(f"{BOT}/config/versions", responses={200: ConfigVersionList})
@needs(Role.VIEWER)
def list_versions(path: BotPath, query: PageQuery) -> Response:
    """All versions of the config: who changed what, newest first."""
    with read(engine()) as connection:
        rows = configs.versions(connection, path.bot_id, limit=query.limit, before=query.before)
    return jsonify(page_of(rows, query.limit, configs.version_document))


@api.post(f"{BOT}/config/versions/<int(max=2147483647):version>/restore", responses={200: ConfigDocument})
@needs(Role.TRADER)
def restore_version(path: VersionPath) -> Response:
    """Make an earlier version the newest again, under a new number."""
    with write(engine()) as connection:
        document = configs.restore(connection, path.bot_id, path.version, caller().author)
    return _changed(document)


@api.get(f"{BOT}/orders", responses={200: OrderList})
@needs(Role.VIEWER)
def list_orders(path: BotPath, query: OrdersQuery) -> Response:
    """Positions with their legs, newest first."""
    statuses = None if query.status is None else [query.status.value]
    with read(engine()) as connection:
        bot = queries.bot_row(connection, path.bot_id)
        rows = queries.position_rows(connection, bot.id, statuses=statuses, limit=query.limit, before=query.before)
    return jsonify(page_of(rows, query.limit, lambda row: queries.position_document(row, bot.tags)))


@api.get(f"{BOT}/fills", responses={200: FillList})
@needs(Role.VIEWER)
def list_fills(path: BotPath, query: PageQuery) -> Response:
    """Executions with the exchange's trade ids, newest first."""
    with read(engine()) as connection:
        bot = queries.bot_row(connection, path.bot_id)
        rows = queries.fill_rows(connection, bot.id, limit=query.limit, before=query.before)
    return jsonify(page_of(rows, query.limit, queries.fill_document))


@api.get(f"{BOT}/stats", responses={200: Stats}, operation_id="get_trading_stats")
@needs(Role.VIEWER)
def get_trading_stats(path: BotPath) -> Response:
    """Results in all and by day."""
    return get_stats(path=path)


def _changed(document: dict[str, object]) -> Response:
    response = jsonify(document)
    response.set_etag(str(document["version"]))
    return response
