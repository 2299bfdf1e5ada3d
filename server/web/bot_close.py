"""Closing one position of a bot at market: a page that states the effect, and the button that does it."""

from __future__ import annotations

import secrets
from typing import Any

from flask import flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection

from server.api.wire import caller, engine, keyed
from server.security.roles import Role, needs
from server.storage import single_positions
from server.storage.audit import REASON_LENGTH
from server.storage.engine import read
from server.storage.queries import position_row
from server.web.actions import in_words
from server.web.bot_read import load_bot
from server.web.bot_view import positions_of, unrealised_of
from server.web.formats import pnl, split_symbol
from server.web.shell import bot_ribbon, place_of, web
from shared.errors import Conflict, FlotillaError

_PATH = "/bots/<int(max=2147483647):bot_id>/positions/<int(max=2147483647):order_id>/close"


@web.get(_PATH)
@needs(Role.TRADER)
def ask_close(bot_id: int, order_id: int) -> ResponseReturnValue:
    """What selling this position now means, in figures."""
    return _ask(bot_id, order_id)


@web.post(_PATH)
@needs(Role.TRADER)
def close_position(bot_id: int, order_id: int) -> ResponseReturnValue:
    """Tell the bot to sell it; a double click is one order to the bot."""
    with read(engine()) as connection:
        bot = load_bot(connection, bot_id).row
    is_live = place_of(bot.exchange, bot.mode) == "live"
    if is_live and request.form.get("name", "").strip() != bot.name:
        return _ask(bot_id, order_id, f"Type {bot.name} to confirm."), 422
    reason = request.form.get("reason", "").strip()[:REASON_LENGTH] or None

    def act(connection: Connection) -> tuple[dict[str, Any], int]:
        single_positions.close(connection, bot_id, order_id, caller().author, reason)
        return {}, 303

    try:
        keyed(act, request.form.get("key") or secrets.token_urlsafe(16))
        flash("The bot is told to sell it at market. It stays here until that is done.", "done")
    except FlotillaError as error:
        flash(in_words(error))
    return redirect(url_for("web.bot_page", bot_id=bot_id), 303)


def _ask(bot_id: int, order_id: int, wrong: str = "") -> str:
    with read(engine()) as connection:
        seen = load_bot(connection, bot_id)
        position_row(connection, bot_id, order_id)
        shown = next((p for p in positions_of(seen, {}) if p.id == order_id), None)
    if shown is None:
        raise Conflict("This position is not open any more, so there is nothing to close.")
    row = next(row for row in seen.held if row.id == order_id)
    gain = unrealised_of(row, seen.last_price)
    g.ribbon = bot_ribbon(seen.row.exchange, seen.row.mode)
    place = place_of(seen.row.exchange, seen.row.mode)
    return render_template(
        "bot_close.html",
        bot=seen.row,
        position=shown,
        order_id=order_id,
        gain=None if gain is None else pnl(gain),
        quote=split_symbol(seen.row.symbol)[1],
        orders=sum(leg.get("status") in ("new", "partially_filled") for leg in row.document.get("legs", [])),
        beat_ms=seen.row.heartbeat_ms,
        is_old=seen.old_ms is not None,
        place=place,
        wrong=wrong,
        given=request.form,
        key=request.form.get("key") or secrets.token_urlsafe(16),
    )
