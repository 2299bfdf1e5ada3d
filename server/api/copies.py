"""Copies of bots and their documents; runs, equity and signals of the past."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify
from sqlalchemy import Connection

from server.api.control_schemas import BotDocument, CloneBody, Equity, ImportedFields, RunList
from server.api.examples import EventList
from server.api.schemas import Bot, BotPath
from server.api.wire import PageQuery, blueprint, caller, engine, keyed, optional_body, page_of
from server.security.roles import Role, needs
from server.storage import copies, history, queries
from server.storage.engine import read

api = blueprint("copies", "Copies of bots, and their past")

BOT = "/api/bots/<int(max=2147483647):bot_id>"
_CLONE_BODY: dict[str, Any] = {
    "required": False,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 100}},
            },
            "example": {"name": "eth-scalper 2"},
        }
    },
}


@api.post(f"{BOT}/clone", responses={201: Bot}, openapi_extensions={"requestBody": _CLONE_BODY})
@needs(Role.TRADER)
def clone_bot(path: BotPath) -> tuple[Response, int]:
    """A stopped copy with the newest config and the same credential."""
    name = optional_body(CloneBody).name

    def copy(connection: Connection) -> tuple[dict[str, Any], int]:
        copy_id = copies.clone(connection, path.bot_id, caller().author, name)
        return queries.bot_document(connection, copy_id), 201

    document, status = keyed(copy)
    return jsonify(document), status


@api.get(f"{BOT}/export", responses={200: BotDocument})
@needs(Role.VIEWER)
def export_bot(path: BotPath) -> Response:
    """The bot as one nested document, without secrets and history. Ratios in `risk_management` are percent there."""
    with read(engine()) as connection:
        return jsonify(copies.export_bot(connection, path.bot_id))


@api.post("/api/bots/import", responses={201: Bot})
@needs(Role.TRADER)
def import_bot(body: BotDocument) -> tuple[Response, int]:
    """Create a stopped bot from a nested document. What has no meaning here is refused by its path."""

    def create(connection: Connection) -> tuple[dict[str, Any], int]:
        bot_id = copies.import_bot(connection, body.model_dump(exclude_unset=True), caller().author, ImportedFields)
        return queries.bot_document(connection, bot_id), 201

    document, status = keyed(create)
    return jsonify(document), status


@api.get(f"{BOT}/runs", responses={200: RunList})
@needs(Role.VIEWER)
def list_runs(path: BotPath, query: PageQuery) -> Response:
    """The bot's processes, newest first: when they began and ended, and how."""
    with read(engine()) as connection:
        rows = history.run_rows(connection, path.bot_id, limit=query.limit, before=query.before)
    return jsonify(page_of(rows, query.limit, history.run_document))


@api.get(f"{BOT}/equity", responses={200: Equity})
@needs(Role.VIEWER)
def get_equity(path: BotPath) -> Response:
    """The equity curve: allocated capital and the PNL of each closed position."""
    with read(engine()) as connection:
        return jsonify(history.equity_document(connection, path.bot_id))


@api.get(f"{BOT}/signals", responses={200: EventList})
@needs(Role.VIEWER)
def list_signals(path: BotPath, query: PageQuery) -> Response:
    """Decisions that led to an action, newest first: score, threshold and the values behind them."""
    with read(engine()) as connection:
        bot = queries.bot_row(connection, path.bot_id)
        rows = queries.event_rows(connection, bot.id, type_="signal", limit=query.limit, before=query.before)
    return jsonify(page_of(rows, query.limit, queries.event_document))
