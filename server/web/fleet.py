"""The fleet page: all bots in one table, and the buttons beside them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from flask import flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from werkzeug.exceptions import NotFound as NoSuchPage

from server.api.wire import caller, engine
from server.security.roles import Role, needs
from server.storage import queries, verbs
from server.storage.engine import read, write
from server.storage.models import TradingOrder
from server.storage.strategies import definitions
from server.storage.times import now_ms
from server.web.fleet_view import FleetRow, fleet_row, summary
from server.web.shell import web
from shared.errors import FlotillaError

MAX_BOTS = 500


@web.get("/")
@needs(Role.VIEWER)
def fleet_page() -> ResponseReturnValue:
    """All bots in one table."""
    rows, words = _fleet()
    return render_template("fleet.html", rows=rows, words=words)


@web.post("/bots/<int(max=2147483647):bot_id>/<verb>")
@needs(Role.TRADER)
def bot_action(bot_id: int, verb: str) -> ResponseReturnValue:
    """A button of the fleet page: change what is wanted, then show the fleet again."""
    if verb not in verbs.VERBS:
        raise NoSuchPage
    try:
        with write(engine()) as connection:
            verbs.VERBS[verb](connection, bot_id, caller().author)
    except FlotillaError as error:
        flash(" ".join([error.message, *(f"{name}: {reason}." for name, reason in error.fields.items())]))
    return redirect(url_for("web.fleet_page"), 303)


def _fleet() -> tuple[list[FleetRow], list[str]]:
    now, names = now_ms(), {id_: d.name for id_, d in definitions().items()}
    with read(engine()) as connection:
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
