"""The fleet page: all bots in one table."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from flask import render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection, select

from server.api.wire import engine
from server.security.roles import Role, needs
from server.storage import queries
from server.storage.engine import read
from server.storage.models import TradingOrder
from server.storage.strategies import definitions
from server.storage.times import now_ms
from server.web.fleet_view import FleetRow, fleet_row, summary
from server.web.live import Drawing, LiveRequest, draw_macro, live_view
from server.web.shell import web

MAX_BOTS = 500


@web.get("/")
@needs(Role.VIEWER)
def fleet_page() -> ResponseReturnValue:
    """All bots in one table."""
    with read(engine()) as connection:
        rows, words = _fleet(connection)
    live_url = url_for("web.live_stream", view="fleet")
    return render_template("fleet.html", rows=rows, words=words, live_url=live_url)


@live_view("fleet")
def draw_fleet(connection: Connection, request: LiveRequest, after: int) -> Drawing:
    """The line under the title, and each bot's row."""
    rows, words = _fleet(connection)
    parts = {"fleet-words": draw_macro("_fleet.html", "words", words)}
    parts |= {f"bot-{row.id}": draw_macro("_fleet.html", "row", row, request.role) for row in rows}
    return Drawing(parts=parts)


def _fleet(connection: Connection) -> tuple[list[FleetRow], list[str]]:
    now, names = now_ms(), {id_: d.name for id_, d in definitions().items()}
    bots = queries.bot_rows(connection, limit=MAX_BOTS)[:MAX_BOTS]
    documents = queries.bot_documents(connection, bots)
    held: dict[int, list[Any]] = defaultdict(list)
    open_ones = TradingOrder.bot_id.in_([bot.id for bot in bots]), TradingOrder.status.in_(queries.OPEN)
    for row in connection.execute(select(TradingOrder).where(*open_ones)):
        held[row.bot_id].append(row)
    beats = {bot.id: bot.heartbeat_ms for bot in bots}
    rows = [
        fleet_row(d, held[d["id"]], names.get(d["strategy"], d["strategy"]), beats[d["id"]], now) for d in documents
    ]
    return rows, summary(documents)
