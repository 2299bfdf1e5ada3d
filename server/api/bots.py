"""Bots: create, change, start and stop them, and see how they are."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response, jsonify
from sqlalchemy import Connection

from server.api.examples import BotList, EventList, LogLineList, OrderList
from server.api.schemas import (
    Bot,
    BotChanges,
    BotHealth,
    BotPath,
    BotStatus,
    Control,
    EventsQuery,
    LogsQuery,
    NewBot,
    Stats,
)
from server.api.wire import PageQuery, blueprint, caller, engine, keyed, page_of, to_cursor, with_etag
from server.security.roles import Role, needs
from server.storage import fleet, queries, remote_runs
from server.storage.engine import read, write
from server.storage.figures import stats_document
from server.storage.log_lines import log_lines
from server.storage.times import now_ms
from shared.errors import Refused

api = blueprint("bots", "The fleet")

BOT = "/api/bots/<int(max=2147483647):bot_id>"
_NOT_NULL = ("name", "strategy", "symbol", "exchange", "mode", "interval", "description", "tags")


@api.get("/api/bots", responses={200: BotList})
@needs(Role.VIEWER)
def list_bots(query: PageQuery) -> Response:
    """The fleet, newest bot first."""
    with read(engine()) as connection:
        rows = queries.bot_rows(connection, limit=query.limit, before=query.before)
        documents = {d["id"]: d for d in queries.bot_documents(connection, rows[: query.limit])}
    return jsonify(page_of(rows, query.limit, lambda row: documents[row.id]))


@api.post("/api/bots", responses={201: Bot})
@needs(Role.TRADER)
def create_bot(body: NewBot) -> tuple[Response, int]:
    """Create a bot, stopped."""

    def create(connection: Connection) -> tuple[dict[str, Any], int]:
        bot_id = fleet.create_bot(connection, body.model_dump(), caller().author)
        return queries.bot_document(connection, bot_id), 201

    document, status = keyed(create)
    return jsonify(document), status


@api.get(BOT, responses={200: Bot})
@needs(Role.VIEWER)
def get_bot(path: BotPath) -> Response:
    """One bot."""
    with read(engine()) as connection:
        return jsonify(queries.bot_document(connection, path.bot_id))


@api.put(BOT, responses={200: Bot})
@needs(Role.TRADER)
def change_bot(path: BotPath, body: BotChanges) -> Response:
    """Change a bot: name, description and tags at any time, the rest while it is stopped and flat."""
    changes = body.model_dump(exclude_unset=True)
    empty = {name: "cannot be empty" for name in _NOT_NULL if name in changes and changes[name] is None}
    if empty:
        raise Refused(f"{len(empty)} field(s) cannot be accepted.", fields=empty)
    with write(engine()) as connection:
        fleet.change_bot(connection, path.bot_id, changes, caller().author)
        return jsonify(queries.bot_document(connection, path.bot_id))


@api.delete(BOT, responses={204: None})
@needs(Role.TRADER)
def delete_bot(path: BotPath) -> tuple[str, int]:
    """Archive a bot that is stopped and flat; its history stays."""
    with write(engine()) as connection:
        fleet.archive_bot(connection, path.bot_id, caller().author)
    return "", 204


@api.get(f"{BOT}/status", responses={200: BotStatus})
@needs(Role.VIEWER)
def get_status(path: BotPath) -> Response:
    """What the bot is wanted to do and what it is seen to do."""
    with read(engine()) as connection:
        document = queries.bot_document(connection, path.bot_id)
    return jsonify({name: document[name] for name in BotStatus.model_fields})


@api.get(f"{BOT}/health", responses={200: BotHealth})
@needs(Role.VIEWER)
def get_health(path: BotPath) -> Response:
    """Signs of life: heartbeat age, errors, latency, memory."""
    with read(engine()) as connection:
        bot = queries.bot_row(connection, path.bot_id)
        restarts = queries.bot_documents(connection, [bot])[0]["restarts_24h"]
    beat = bot.heartbeat or {}
    return jsonify(
        {
            "id": bot.id,
            "status": bot.status,
            "heartbeat_age_ms": None if bot.heartbeat_ms is None else max(0, now_ms() - bot.heartbeat_ms),
            "errors": beat.get("errors", {}),
            "breakers": beat.get("breakers", {}),
            "streams": beat.get("streams", {}),
            "latency_p50_us": beat.get("latency_p50_us"),
            "latency_p99_us": beat.get("latency_p99_us"),
            "loop_lag_ms": beat.get("loop_lag_ms"),
            "rss_mib": bot.rss_mib,
            "restarts_24h": restarts,
        }
    )


@api.get(f"{BOT}/stats", responses={200: Stats})
@needs(Role.VIEWER)
def get_stats(path: BotPath) -> Response:
    """Results in all and by day."""
    with read(engine()) as connection:
        return jsonify(stats_document(connection, path.bot_id))


@api.get(f"{BOT}/positions", responses={200: OrderList})
@needs(Role.VIEWER)
def list_positions(path: BotPath, query: PageQuery) -> Response:
    """Open positions, pending and active, with their legs."""
    with read(engine()) as connection:
        bot = queries.bot_row(connection, path.bot_id)
        rows = queries.position_rows(connection, bot.id, statuses=queries.OPEN, limit=query.limit, before=query.before)
    return jsonify(page_of(rows, query.limit, lambda row: queries.position_document(row, bot.tags)))


@api.get(f"{BOT}/events", responses={200: EventList})
@needs(Role.VIEWER)
def list_events(path: BotPath, query: EventsQuery) -> Response:
    """What the bot wrote, newest first. Of heartbeats one a minute is kept; the last is in its health."""
    with read(engine()) as connection:
        bot = queries.bot_row(connection, path.bot_id)
        rows = queries.event_rows(connection, bot.id, type_=query.type, limit=query.limit, before=query.before)
    return jsonify(page_of(rows, query.limit, queries.event_document))


@api.get(f"{BOT}/logs", responses={200: LogLineList})
@needs(Role.VIEWER)
def list_log_lines(path: BotPath, query: LogsQuery) -> Response:
    """What the bot did in readable lines, newest first. A page can be short and yet not be the last one."""
    with read(engine()) as connection:
        bot = queries.bot_row(connection, path.bot_id)
        lines, before = log_lines(
            connection,
            bot.id,
            limit=query.limit,
            level=query.level,
            search=query.search,
            before=query.before,
            after=query.after,
        )
    return jsonify({"items": [asdict(line) for line in lines], "next_cursor": before and to_cursor(before)})


@api.get(f"{BOT}/control", responses={200: Control, 304: None})
@needs(Role.VIEWER, own_bot=True)
def get_control(path: BotPath) -> Response:
    """What a bot polls: what is wanted of it and its newest config, under one ETag. 409 for a run that was replaced."""
    run_id = caller().run_id
    with read(engine()) as connection:
        if run_id is not None:
            remote_runs.require_newest(connection, path.bot_id, run_id)
        document = queries.control_document(connection, path.bot_id)
    return with_etag(asdict(document))
