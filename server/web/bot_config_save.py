"""Saving a bot's config, and putting an earlier version back.

A form carries the version it was made from. Has somebody else saved meanwhile, nothing is stored: the page comes back
with what was typed on top of the newer version, and says which fields both changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection, Row

from server.api.wire import caller, engine
from server.security.roles import Role, needs
from server.storage import configs, queries
from server.storage.engine import read, write
from server.storage.strategies import definitions
from server.web.bot import show_bot
from server.web.bot_config import Typed, changes_of
from server.web.config_form import field_label, read_form
from server.web.formats import split_symbol
from server.web.shell import bot_ribbon, web
from shared.errors import NotFound, PreconditionFailed, Refused

_BOT = "/bots/<int(max=2147483647):bot_id>"


@web.post(f"{_BOT}/config")
@needs(Role.TRADER)
def save_config(bot_id: int) -> ResponseReturnValue:
    """Save the form as a new version, if it was made from the newest one; else show both."""
    form, based = request.form.to_dict(), request.form.get("version", 0, type=int)
    with read(engine()) as connection:
        bot = queries.bot_row(connection, bot_id)
        saved = queries.config_of(connection, bot_id, bot.config_version)
    strategy = definitions().get(bot.strategy)
    if strategy is None:
        raise NotFound(f"The strategy {bot.strategy} is not there any more.")
    found = read_form(strategy, form, saved)
    if found.errors:
        return show_bot(bot_id, "config", typed=Typed(values=form, errors=found.errors, based=based)), 422
    try:
        with write(engine()) as connection:
            bot = queries.bot_row(connection, bot_id)
            is_again = configs.is_done(connection, bot, based, found.document, caller().author)
            if bot.config_version != based and not is_again:
                raise PreconditionFailed("Somebody else has saved meanwhile.")
            document = configs.merge(connection, bot_id, found.document, caller().author)
    except PreconditionFailed:
        return show_bot(bot_id, "config", typed=Typed(values=form, errors={}, based=based)), 412
    except Refused as refusal:
        return show_bot(bot_id, "config", typed=Typed(values=form, errors=refusal.fields, based=based)), 422
    if document["version"] == based:
        flash("Nothing was changed, so nothing was saved.", "done")
    else:
        flash(f"Saved as v{document['version']}.", "done")
    return redirect(url_for("web.bot_page", bot_id=bot_id, tab="config", _anchor="tabs"), 303)


@web.get(f"{_BOT}/config/versions/<int(max=2147483647):version>/restore")
@needs(Role.TRADER)
def ask_restore(bot_id: int, version: int) -> ResponseReturnValue:
    """What putting an earlier version back will change."""
    with read(engine()) as connection:
        bot = queries.bot_row(connection, bot_id)
        saved = queries.config_of(connection, bot_id, bot.config_version)
        earlier = queries.config_of(connection, bot_id, version)
    quote = split_symbol(bot.symbol)[1]
    changes = changes_of(saved, earlier, definitions().get(bot.strategy), quote)
    g.ribbon = bot_ribbon(bot.exchange, bot.mode)
    return render_template("bot_restore.html", bot=bot, version=version, changes=changes)


@web.post(f"{_BOT}/config/versions/<int(max=2147483647):version>/restore")
@needs(Role.TRADER)
def restore_config(bot_id: int, version: int) -> ResponseReturnValue:
    """Make an earlier version the newest again, if the newest is still the one that was compared with."""
    with write(engine()) as connection:
        bot, based = queries.bot_row(connection, bot_id), request.form.get("version", 0, type=int)
        newest, earlier = bot.config_version, queries.config_of(connection, bot_id, version)
        if newest != based and _is_restored(connection, bot, based, earlier):
            flash(f"v{version} is in force again, as v{newest}.", "done")
        elif newest != based:
            flash(f"v{newest} was saved meanwhile, so nothing was restored. Look at the difference again.")
        else:
            try:
                document = configs.restore(connection, bot_id, version, caller().author)
                flash(f"v{version} is in force again, as v{document['version']}.", "done")
            except Refused as refusal:
                words = "; ".join(f"{field_label(name)}: {reason}" for name, reason in refusal.fields.items())
                flash(f"v{version} cannot be put back: {words or refusal.message}.")
    return redirect(url_for("web.bot_page", bot_id=bot_id, tab="config", _anchor="tabs"), 303)


def _is_restored(connection: Connection, bot: Row[Any], based: int, earlier: Mapping[str, Any]) -> bool:
    """Whether the click before this one has restored it already."""
    try:
        return configs.is_done(connection, bot, based, earlier, caller().author)
    except Refused:  # a version that cannot be restored was not restored
        return False
