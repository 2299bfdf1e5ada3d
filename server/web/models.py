"""The model pages: what was uploaded, what its check found, what its card says, which bots decide by it."""

from __future__ import annotations

from typing import Any

from flask import current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection, Row, select

from server.api.market import market
from server.api.models import take_upload
from server.api.wire import caller, engine
from server.market import ExchangeSilent
from server.security.roles import Role, needs
from server.storage import model_files
from server.storage.engine import read, write
from server.storage.models import Bot
from server.web.actions import in_words
from server.web.create_view import LONGEST_TYPED, cleaned
from server.web.models_view import ModelLine, card_facts, compared, hit_rates, model_line, shares
from server.web.shell import web
from shared.errors import FlotillaError

_MODEL = "/models/<int(max=2147483647):model_id>"
_LIMIT = 200


@web.get("/models")
@needs(Role.VIEWER)
def models_page() -> ResponseReturnValue:
    """All models, the form to upload one, and two of them side by side (``?compare=1&compare=2``)."""
    return _show_models()


@web.post("/models")
@needs(Role.TRADER)
def upload_model() -> ResponseReturnValue:
    """Take a model that was uploaded; its page says what was checked."""
    try:
        model_id, is_new = take_upload()
    except FlotillaError as error:
        if error.http_status not in (413, 415, 422):
            raise
        wrong = (dict(error.fields) or {"file": error.message}) | _plain_words(error.fields)
        return _show_models(wrong, cleaned(request.form.to_dict(), ("name", "symbol"))), error.http_status
    if is_new:
        flash("The model is accepted: it was loaded and asked for a prediction.", "done")
    else:
        flash(
            f"This is model #{model_id}: the same file with the same name, market and card. It is there once.", "done"
        )
    return redirect(url_for("web.model_page", model_id=model_id), 303)


@web.get(_MODEL)
@needs(Role.VIEWER)
def model_page(model_id: int) -> ResponseReturnValue:
    """One model: check, card, importance, users."""
    with read(engine()) as connection:
        row = model_files.model_row(connection, model_id)
        line = model_line(row, _users(connection).get(row.id, []))
        others = [r for r in model_files.model_rows(connection, limit=_LIMIT, before=None) if r.id != row.id]
    return render_template(
        "model.html",
        model=line,
        facts=card_facts(row.card),
        hits=hit_rates(row.card),
        importance=shares(_importances(row)),
        others=others,
        may_delete=caller().role == Role.ADMIN,
    )


@web.get(f"{_MODEL}/delete")
@needs(Role.ADMIN)
def delete_model_page(model_id: int) -> ResponseReturnValue:
    """What deleting a model means, and the button."""
    with read(engine()) as connection:
        row = model_files.model_row(connection, model_id)
        line = model_line(row, _users(connection).get(row.id, []))
    return render_template("model_delete.html", model=line)


@web.post(f"{_MODEL}/delete")
@needs(Role.ADMIN)
def delete_model(model_id: int) -> ResponseReturnValue:
    """Delete a model that no bot uses."""
    try:
        with write(engine()) as connection:
            model_files.delete_model(connection, current_app.extensions["flotilla"].settings, model_id, caller().author)
    except FlotillaError as error:
        if error.http_status != 409:
            raise
        flash(in_words(error))
        return redirect(url_for("web.model_page", model_id=model_id), 303)
    flash(f"Model #{model_id} is deleted.", "done")
    return redirect(url_for("web.models_page"), 303)


def _plain_words(fields: dict[str, str]) -> dict[str, str]:
    """What is wrong with the text fields and an empty file field, as a form says it."""
    words = {
        "symbol": "Write it as the exchange does, such as ETHUSDC.",
        "name": "Give it a name of 1 to 100 characters.",
    }
    found = {n: text for n, text in words.items() if n in fields and "card says" not in fields[n]}
    return found | ({"file": "Choose the model’s file."} if "as a file" in fields.get("file", "") else {})


def _show_models(wrong: dict[str, str] | None = None, typed: dict[str, str] | None = None) -> str:
    chosen = [int(v) for v in request.args.getlist("compare") if v.isascii() and v.isdigit() and len(v) < 10][:2]
    only = request.args.get("symbol", "")[:LONGEST_TYPED]
    with read(engine()) as connection:
        rows = model_files.model_rows(connection, limit=_LIMIT, before=None)[:_LIMIT]
        users = _users(connection)
    by_id = {row.id: row for row in rows}
    pair = [by_id[i] for i in dict.fromkeys(chosen) if i in by_id]
    lines = [model_line(row, users.get(row.id, [])) for row in rows]
    return render_template(
        "models.html",
        models=[line for line in lines if only in ("", line.symbol)],
        count=len(lines),
        chips=_chips(lines),
        only=only,
        chosen=chosen,
        pair=pair if len(pair) == 2 else [],
        measures=compared(pair[0], pair[1]) if len(pair) == 2 else [],
        importance=shares(_importances(pair[0]), _importances(pair[1])) if len(pair) == 2 else [],
        wrong=wrong or {},
        typed=typed or {},
        symbols=_symbols(),
    )


def _chips(lines: list[ModelLine]) -> list[tuple[str, int]]:
    symbols = sorted({line.symbol for line in lines})
    return [(symbol, sum(line.symbol == symbol for line in lines)) for symbol in symbols]


def _users(connection: Connection) -> dict[int, list[tuple[int, str]]]:
    """Bots by the model that they decide by: ``(id, name)``."""
    names = {row.id: row.name for row in connection.execute(select(Bot.id, Bot.name).where(Bot.archived_ms.is_(None)))}
    return {m: [(bot_id, names[bot_id]) for bot_id in ids] for m, ids in model_files.used_by(connection).items()}


def _importances(row: Row[Any]) -> dict[str, int]:
    return model_files.importances(current_app.extensions["flotilla"].settings.model_file(row.sha256))


def _symbols() -> list[str]:
    try:
        return [rules.symbol for rules in market().symbols("simulator")]
    except ExchangeSilent:
        return []
