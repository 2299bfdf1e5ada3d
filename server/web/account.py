"""A person's own page: theme, colours of gains, keys, signing out; and the menu that phones get for the header's."""

from __future__ import annotations

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from server.api.wire import caller, engine
from server.security.accounts import THEMES, UP_DOWN, change_preferences
from server.security.roles import Role, needs
from server.storage.engine import write
from server.web.shell import web


@web.get("/account")
@needs(Role.VIEWER)
def account_page() -> ResponseReturnValue:
    """Who is signed in, and how the pages look to them."""
    return render_template("account.html", themes=THEMES, up_down=UP_DOWN)


@web.post("/account")
@needs(Role.VIEWER)
def change_account() -> ResponseReturnValue:
    """Keep what was chosen; anything unknown leaves the choice as it is by default."""
    chosen = {
        "theme": request.form.get("theme") if request.form.get("theme") in THEMES else "system",
        "updown": request.form.get("updown") if request.form.get("updown") in UP_DOWN else "green-red",
        "keyboard": request.form.get("keyboard") == "on",
        "time_zone": "local" if request.form.get("local_time") == "on" else "utc",
    }
    with write(engine()) as connection:
        change_preferences(connection, caller().user_id or 0, chosen)
    flash("Saved.", "done")
    return redirect(url_for("web.account_page"), 303)


@web.get("/menu")
@needs(Role.VIEWER)
def menu_page() -> ResponseReturnValue:
    """The way to all pages where the header has no room for it."""
    return render_template("menu.html")
