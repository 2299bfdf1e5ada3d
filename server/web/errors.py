"""Refusals as pages: people who came with a browser read the API's error in the frame of the pages."""

from __future__ import annotations

import difflib
from typing import Any

from flask import Response, current_app, g, make_response, render_template, request
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from server.security.auth import identify
from server.security.roles import Caller
from server.storage.engine import read
from server.storage.models import Bot
from shared.errors import FlotillaError

_HEADINGS = {
    400: "This request cannot be read",
    401: "Sign in again",
    403: "Not allowed",
    404: "Nothing here",
    405: "Not this way",
    409: "Not now",
    412: "Somebody was faster",
    413: "Too large",
    415: "Wrong kind of file",
    422: "Not accepted",
    429: "Too many at once",
    500: "Something went wrong",
    503: "Busy",
}
_WHAT_TO_DO = {
    "csrf": "The form was too old, or another site sent it. Nothing was changed. Open the page again and repeat.",
    403: "Nothing was changed. An admin can give you another role.",
    405: "Nothing was changed. Open the page itself, and use its buttons.",
    413: "Nothing was kept. A model file may have 100 MB, everything else 1 MB. Your browser’s Back shows the form "
    "with what you typed: choose a smaller file, or shorten the text, and send it again.",
    429: "Nothing was changed. Wait a minute, then try again.",
    500: "The bots are other processes: they go on, and open positions stay guarded. What you asked for may or may not "
    "be done: look before you repeat it.",
    503: "The bots are other processes: they go on, and open positions stay guarded. Nothing was changed; try again.",
}
_PAGES = {"fleet": "/", "orders": "/orders", "models": "/models", "strategies": "/strategies", "system": "/system",
          "account": "/account", "new bot": "/bots/new", "kill switch": "/kill"}  # fmt: skip


def shown(answer: Response) -> Response:
    """*answer*, an error in the API's shape, as the caller wants to read it."""
    document = answer.get_json(silent=True)
    if not _wants_page() or not isinstance(document, dict) or "error" not in document:
        return answer
    page = make_response(_page(answer.status_code, document["error"]), answer.status_code)
    for name in ("Allow", "Retry-After", "WWW-Authenticate"):
        if name in answer.headers:
            page.headers[name] = answer.headers[name]
    return page


def _wants_page() -> bool:
    kinds = request.accept_mimetypes
    is_api = request.path == "/api" or request.path.startswith("/api/")
    return not is_api and kinds["text/html"] > 0 and kinds["text/html"] >= kinds["application/json"]


def _page(status: int, error: dict[str, Any]) -> str:
    known: dict[str, Any] = {
        "status": status,
        "heading": _HEADINGS.get(status, "Not possible"),
        "message": _message(status, error),
        "fields": error["fields"],
        "back": ("/models#upload", "To the upload form") if status == 413 and request.path == "/models" else None,
        "todo": _WHAT_TO_DO.get(error["code"]) or _WHAT_TO_DO.get(status),
    }
    try:
        g.caller = _caller()
        near = _near() if status == 404 and g.caller is not None else []
        return render_template("error.html", around="layout.html" if g.caller else "bare.html", near=near, **known)
    except SQLAlchemyError:  # the frame needs the database, the error does not
        g.caller = None
        return render_template("error.html", around="bare.html", near=[], **known)


def _message(status: int, error: dict[str, Any]) -> str:
    if status == 404 and error["code"] == "not_found" and request.routing_exception is not None:
        return f"There is no page {request.path}."
    if status == 405:
        return f"The page {request.path} does not take {request.method}."
    return str(error["message"]).split(" GET /api/")[0].split(" See /api/")[0]


def _caller() -> Caller | None:
    flotilla = current_app.extensions["flotilla"]
    try:
        caller = getattr(g, "caller", None) or identify(request, flotilla.engine, flotilla.vault)
    except FlotillaError:
        return None
    return caller if caller is None or caller.bot_id is None else None


def _near() -> list[tuple[str, str]]:
    """Pages and bots whose names are like what was asked for: ``(name, path)``."""
    asked = request.path.strip("/").split("/")
    with read(current_app.extensions["flotilla"].engine) as connection:
        bots = connection.execute(select(Bot.name, Bot.id).where(Bot.archived_ms.is_(None))).all()
    named = _PAGES | {bot.name: f"/bots/{bot.id}" for bot in bots}
    found: dict[str, str] = {}
    for word in (asked[-1][:100], asked[0][:100]):
        for name in difflib.get_close_matches(word, named, n=3, cutoff=0.5):
            found[name] = named[name]
    if asked[0] == "bots":
        found["fleet"] = "/"
    return list(found.items())[:5]
