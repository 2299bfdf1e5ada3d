"""The page that lists the keyboard shortcuts; with the script it is the dialog behind ``?``."""

from __future__ import annotations

from flask import render_template
from flask.typing import ResponseReturnValue

from server.security.roles import Role, needs
from server.web.shell import web

# What the page's script (app.js) obeys, in the order of the list.
SHORTCUTS = (
    ("Go to", (("g f", "Fleet"), ("g o", "Orders"), ("g m", "Models"), ("g s", "System"))),
    ("In a table", (("j", "Next row"), ("k", "Row before"), ("Enter", "Open the row"), (".", "The row's menu"))),
    ("Anywhere", (("/", "Search"), ("Shift K", "Kill switch"), ("?", "This list"), ("Esc", "Close a dialog"))),
)


@web.get("/keys")
@needs(Role.VIEWER)
def keys_page() -> ResponseReturnValue:
    """All shortcuts."""
    return render_template("keys.html", groups=SHORTCUTS)
