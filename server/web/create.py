"""*Create bot*: four steps, each an address of its own, over a draft that the server keeps as it was typed.

Each button of a step saves what was typed before it does anything else, so that no way out loses it: back, forward,
a lookup, a session that ended.
"""

from __future__ import annotations

from typing import Any

from flask import current_app, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Row, select

from server.api.schemas import NewBot
from server.api.wire import caller, engine
from server.play_money import NoAccount, open_account
from server.security.roles import Role, needs
from server.security.secrets import create_credential
from server.storage import audit, drafts, fleet
from server.storage.engine import read, write
from server.storage.models import Credential
from server.storage.strategies import definition, definitions
from server.storage.verbs import VERBS
from server.web.actions import in_words
from server.web.create_show import (
    body_of,
    copied_bot,
    draft_line,
    draft_of,
    problems_of,
    show,
    show_strategy,
    symbols_at,
    typed_like,
)
from server.web.create_view import BUDGET_FIELDS, MARKET_FIELDS, STEPS, cleaned, place, quote_of
from server.web.shell import web
from shared.errors import FlotillaError

_DRAFT = "/bots/new/<draft_id>"
_TYPED_STEPS = '"strategy", "market", "parameters"'
_ORDER = list(STEPS)
_BALANCE = "10000"


@web.get("/bots/new")
@needs(Role.TRADER)
def new_bot_page() -> ResponseReturnValue:
    """The first step of a new draft; ``?from=3`` copies bot 3, ``?strategy=rsi`` has one chosen."""
    copied = copied_bot(request.args.get("from", ""))
    with read(engine()) as connection:
        unfinished = [draft_line(row) for row in drafts.unfinished(connection, caller().owner)]
    chosen = copied["strategy"] if copied else request.args.get("strategy", "")
    return show_strategy(None, {"strategy": chosen}, copied=copied, unfinished=unfinished)


@web.post("/bots/new")
@needs(Role.TRADER)
def start_draft() -> ResponseReturnValue:
    """Begin a draft with the strategy that was chosen."""
    copied = copied_bot(request.form.get("from", ""))
    chosen = request.form.get("strategy", "")
    if chosen not in definitions():
        return show_strategy(None, {"strategy": ""}, copied=copied, error="Choose one."), 422
    typed = typed_like(copied) if copied else {"market": {}, "parameters": {}}
    with write(engine()) as connection:
        draft_id = drafts.add_draft(connection, caller().owner, typed | {"strategy": chosen})
    return redirect(url_for("web.draft_page", draft_id=draft_id, step="market"), 303)


@web.get(f'{_DRAFT}/<any({_TYPED_STEPS}, "review"):step>')
@needs(Role.TRADER)
def draft_page(draft_id: str, step: str) -> ResponseReturnValue:
    """One step, with what was typed so far."""
    row = draft_of(draft_id)
    if row.bot_id is not None:
        return redirect(_bot_page(row.bot_id), 303)
    return show(step, row, {})


@web.post(f"{_DRAFT}/<any({_TYPED_STEPS}):step>")
@needs(Role.TRADER)
def save_step(draft_id: str, step: str) -> ResponseReturnValue:
    """Keep what was typed, then go where the button says."""
    row = draft_of(draft_id)
    if row.bot_id is not None:
        return redirect(_bot_page(row.bot_id), 303)
    document = _with_typed(row.document, step)
    with write(engine()) as connection:
        drafts.save_draft(connection, draft_id, document)
    row = draft_of(draft_id)
    go = request.form.get("go", "next")
    if go == "next":
        errors = problems_of(row.document, step)
        if errors:
            return show(step, row, errors), 422
        go = _ORDER[_ORDER.index(step) + 1]
    elif go == "account":
        _make_account(row)
        go = step
    elif go == "save":
        flash("Draft saved.", "done")
        go = step
    return redirect(url_for("web.draft_page", draft_id=draft_id, step=go if go in STEPS else step), 303)


@web.post(f"{_DRAFT}/create")
@needs(Role.TRADER)
def create_from_draft(draft_id: str) -> ResponseReturnValue:
    """Make the bot; once, however often the button is pressed."""
    row = draft_of(draft_id)
    if row.bot_id is None:
        try:
            body = NewBot.model_validate(body_of(row.document)).model_dump()
            with write(engine()) as connection:
                row = drafts.draft_row(connection, caller().owner, draft_id)
                if row.bot_id is not None:
                    return redirect(_bot_page(row.bot_id), 303)
                bot_id = fleet.create_bot(connection, body, caller().author)
                drafts.became(connection, draft_id, bot_id)
        except (FlotillaError, ValueError) as error:
            flash(in_words(error) if isinstance(error, FlotillaError) else "Something in an earlier step is not right.")
            return redirect(url_for("web.draft_page", draft_id=draft_id, step="review"), 303)
        _after_creation(bot_id, body["name"])
        return redirect(_bot_page(bot_id), 303)
    return redirect(_bot_page(row.bot_id), 303)


@web.post(f"{_DRAFT}/discard")
@needs(Role.TRADER)
def discard_draft(draft_id: str) -> ResponseReturnValue:
    """Throw the draft away."""
    with write(engine()) as connection:
        drafts.discard_draft(connection, caller().owner, draft_id)
    flash("The draft was thrown away.", "done")
    return redirect(url_for("web.new_bot_page"), 303)


def _make_account(row: Row[Any]) -> None:
    """An account at the simulator with play money, and its keys; the draft has them chosen."""
    typed = row.document["market"]
    if caller().role != Role.ADMIN:
        flash("Exchange keys are an admin's to add. Ask one, or choose an account that is there.")
        return
    if place(typed.get("place")).exchange != "simulator":
        flash("Only the simulator gives accounts away.")
        return
    flotilla = current_app.extensions["flotilla"]
    quote = quote_of(symbols_at(typed.get("place")), typed.get("symbol", "")) or "USDC"
    name = f"simulator {row.id[:6]} {quote}"
    if _choose_account(row.id, name):
        flash(f"The account {name} is chosen. It was opened with {int(_BALANCE):,} {quote} of play money.", "done")
        return
    try:
        keys = open_account(f"http://127.0.0.1:{flotilla.settings.sim_port}", {quote: _BALANCE})
    except NoAccount:
        flash("The simulator does not answer. Start it (flotilla up runs it), then try again.")
        return
    _choose_account(row.id, name, keys)
    flash(f"A simulator account with {int(_BALANCE):,} {quote} of play money is chosen.", "done")


def _choose_account(draft_id: str, name: str, keys: dict[str, str] | None = None) -> bool:
    """Have the draft trade with the credential *name*, made of *keys* if there is none yet; False if there is none."""
    flotilla = current_app.extensions["flotilla"]
    with write(engine()) as connection:
        known = connection.execute(select(Credential.id).where(Credential.name == name)).scalar_one_or_none()
        if known is None and keys is None:
            return False
        if known is None and keys is not None:
            known = create_credential(connection, flotilla.vault, name=name, exchange="simulator", **keys)
            facts = {"name": name, "exchange": "simulator", "api_key_last4": keys["api_key"][-4:]}
            audit.note(connection, caller().author, "credential.create", target=f"credential {known}", after=facts)
        document = drafts.draft_row(connection, caller().owner, draft_id).document
        document = {**document, "market": {**document["market"], "credential_id": str(known)}}
        drafts.save_draft(connection, draft_id, document)
    return True


def _after_creation(bot_id: int, name: str) -> None:
    if request.form.get("start") != "1":
        flash(f"{name} is created. It is stopped until you start it.", "done")
        return
    try:
        with write(engine()) as connection:
            VERBS["start"](connection, bot_id, caller().author, None)
        flash(f"{name} is created and starting.", "done")
    except FlotillaError as error:
        flash(f"{name} is created, but it was not started. {in_words(error)}")


def _bot_page(bot_id: int) -> str:
    return f"/bots/{bot_id}"


def _with_typed(document: dict[str, Any], step: str) -> dict[str, Any]:
    after = {**document, "market": dict(document["market"]), "parameters": dict(document["parameters"])}
    form = request.form.to_dict()
    if step == "strategy":
        if form.get("strategy") in definitions():
            after["strategy"] = form["strategy"]
            if after["market"].get("interval") not in definition(form["strategy"]).intervals:
                after["market"].pop("interval", None)
    elif step == "market":
        after["market"] |= cleaned(form, MARKET_FIELDS)
        after["parameters"] |= cleaned(form, BUDGET_FIELDS)
    else:
        names = [p.name for p in definition(document["strategy"]).parameters]
        after["parameters"] |= cleaned(form, names)
    return after
