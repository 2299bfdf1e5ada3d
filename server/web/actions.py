"""The one place where pages act on bots: POST ``/bots/<id>/<verb>`` changes what is wanted and leads back.

GET of the same address is the page that states the effect in figures and asks. A verb that costs money is sent with a
one-time key, so that a double click is one action.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import urlsplit

from flask import flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection

from server.api.wire import caller, engine, keyed
from server.security.roles import Role, needs
from server.storage import fleet, queries
from server.storage.audit import REASON_LENGTH
from server.storage.engine import read, write
from server.storage.times import now_ms
from server.storage.verbs import VERBS
from server.web.actions_view import Confirmation, confirmation, must_ask
from server.web.holdings import holding_of, open_position_rows
from server.web.shell import bot_ribbon, web
from server.web.sign_in import local_path
from shared.errors import FlotillaError

ARCHIVE = "archive"
_ASKING = '"start", "take-over", "stop", "restart", "halt", "release", "close-positions", "archive"'
_ALL = ", ".join(f'"{verb}"' for verb in (*VERBS, ARCHIVE))
_BOT = "/bots/<int(max=2147483647):bot_id>"


@web.get(f"{_BOT}/<any({_ASKING}):verb>")
@needs(Role.TRADER)
def confirm_page(bot_id: int, verb: str) -> ResponseReturnValue:
    """What the verb will do to this bot, in figures; and the button that does it."""
    asked, bot = _confirmation(bot_id, verb)
    return _show(asked, bot, verb, {"next": local_target()})


@web.post(f"{_BOT}/<any({_ALL}):verb>")
@needs(Role.TRADER)
def bot_action(bot_id: int, verb: str) -> ResponseReturnValue:
    """Change what is wanted of a bot, then show again the page where the button was."""
    target = local_target()
    if f'"{verb}"' in _ASKING:  # the others cost nothing: no page asks about them
        asked, bot = _confirmation(bot_id, verb)
        given = {**request.form.to_dict(), "next": target}
        if "asked" in request.form:
            wrong = _wrong(asked)
            if wrong:
                return _show(asked, bot, verb, given, wrong), 422
        elif must_ask(bot, verb):  # the page that held the plain button was older than the position
            return _show(asked, bot, verb, given), 409
    try:
        _once(bot_id, verb, (request.form.get("reason") or "").strip() or None)
    except FlotillaError as error:
        flash(in_words(error))
    return redirect(url_for("web.fleet_page") if verb == ARCHIVE else target, 303)


def perform(connection: Connection, bot_id: int, verb: str, reason: str | None) -> None:
    """Do it, in the caller's name. Raises `FlotillaError` where the bot's state does not allow it."""
    if verb == ARCHIVE:
        fleet.archive_bot(connection, bot_id, caller().author)
    else:
        VERBS[verb](connection, bot_id, caller().author, reason)


def in_words(error: FlotillaError) -> str:
    """A refusal in one line for a page."""
    return " ".join([error.message, *(f"{name}: {reason}." for name, reason in error.fields.items())])


def _once(bot_id: int, verb: str, reason: str | None) -> None:
    def act(connection: Connection) -> tuple[dict[str, Any], int]:
        if verb == "stop" and request.form.get("positions") == "close":
            perform(connection, bot_id, "close-positions", reason)
        perform(connection, bot_id, verb, reason)
        return {}, 303

    key = request.form.get("key")
    if key:
        keyed(act, key)
    else:
        with write(engine()) as connection:
            act(connection)


def _show(
    asked: Confirmation, bot: dict[str, Any], verb: str, given: dict[str, str], wrong: dict[str, str] | None = None
) -> str:
    g.ribbon = bot_ribbon(bot["exchange"], bot["mode"])
    return render_template(
        "confirm.html", asked=asked, bot=bot, verb=verb, given=given, wrong=wrong or {},
        key=given.get("key") or secrets.token_urlsafe(16),
    )  # fmt: skip


def _confirmation(bot_id: int, verb: str) -> tuple[Confirmation, dict[str, Any]]:
    with read(engine()) as connection:
        row = queries.bot_row(connection, bot_id)
        bot = queries.bot_documents(connection, [row])[0]
        held = open_position_rows(connection, [bot_id])[bot_id]
        config = queries.config_of(connection, bot_id, row.config_version)
    age_ms = None if row.heartbeat_ms is None else max(0, now_ms() - row.heartbeat_ms)
    asked = confirmation(
        bot, verb, holding_of(held, row.heartbeat), on_stop=str(config.get("on_stop", "close")), heartbeat_age_ms=age_ms
    )
    return asked, bot


def _wrong(asked: Confirmation) -> dict[str, str]:
    """What is missing in the form of a confirmation page: field → why."""
    name, reason = request.form.get("name", ""), request.form.get("reason", "").strip()
    wrong = {}
    if asked.name is not None and name.strip() != asked.name:
        wrong["name"] = f"Type {asked.name} to confirm."
    if asked.reason == "required" and not reason:
        wrong["reason"] = "Say why; it is kept in the audit log."
    if len(reason) > REASON_LENGTH:
        wrong["reason"] = f"At most {REASON_LENGTH} characters; these are {len(reason)}."
    return wrong


def local_target() -> str:
    """Where to go afterwards: `next` of the form or query, else the page that held the button, else the fleet."""
    wanted = local_path(request.form.get("next") or request.args.get("next"))
    if wanted:
        return wanted
    parts = urlsplit(request.referrer or "")
    if parts.netloc != request.host or parts.path == request.path:
        return url_for("web.fleet_page")
    return local_path(parts.path + (f"?{parts.query}" if parts.query else "")) or url_for("web.fleet_page")
