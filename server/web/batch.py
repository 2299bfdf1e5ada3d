"""Several bots at once: the page that states what a verb does to those selected, and the one that does it."""

from __future__ import annotations

import secrets
from typing import Any

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection

from server.api.wire import caller, engine, keyed
from server.security.roles import Role, needs
from server.storage.engine import read
from server.storage.times import now_ms
from server.web.actions import in_words, local_target, perform
from server.web.fleet_load import MAX_BOTS, load_fleet
from server.web.fleet_view import Seen
from server.web.selection import BATCH, Impact, impact
from server.web.shell import halt_words, web
from shared.errors import FlotillaError

_VERBS = ", ".join(f'"{verb}"' for verb in BATCH)
_PAST = {"start": "started", "pause": "paused", "resume": "resumed", "stop": "told to stop"}


@web.get("/fleet/selected")
@needs(Role.TRADER)
def selected_page() -> ResponseReturnValue:
    """What the verb would do to each selected bot; and the button that does it."""
    verb = request.args.get("verb", "")
    if verb not in BATCH:
        return redirect(url_for("web.fleet_page"), 303)
    selected, is_latched = _selected(request.args.getlist("bot"))
    if not selected:
        flash(f"No bot was selected, so there is nothing to {verb}. Tick the boxes on the left first.")
        return redirect(local_target(), 303)
    return _ask(impact(selected, verb, caller().role, is_latched=is_latched), local_target())


@web.post(f"/fleet/<any({_VERBS}):verb>")
@needs(Role.TRADER)
def batch_action(verb: str) -> ResponseReturnValue:
    """Ask the verb of each selected bot that it changes; those that refuse are named."""
    selected, is_latched = _selected(request.form.getlist("bot"))
    found = impact(selected, verb, caller().role, is_latched=is_latched)
    target = local_target()
    typed = request.form.get("typed", "")
    if found.typed and typed.strip().lower() != found.typed:
        return _ask(found, target, wrong=f"Type {found.typed} to confirm: real money is among them.", typed=typed), 422
    refused: list[str] = []

    def act(connection: Connection) -> tuple[dict[str, Any], int]:
        for bot in found.affected:
            if bot.why_not is None:
                try:
                    perform(connection, bot.id, verb, None)
                except FlotillaError as error:
                    refused.append(f"{bot.name}: {in_words(error)}")
        return {}, 303

    keyed(act, request.form.get("key") or secrets.token_urlsafe(16))
    done = found.changing - len(refused)
    if done:
        flash(f"{done} bot{'' if done == 1 else 's'} {_PAST[verb]}.", "done")
    for text in refused:
        flash(text)
    if not found.changing:
        flash(f"Nothing to {verb}: {found.words or 'no bot was selected'}.")
    return redirect(target, 303)


def _ask(found: Impact, target: str, wrong: str = "", typed: str = "") -> str:
    key = request.form.get("key") or secrets.token_urlsafe(16)
    return render_template("selected.html", impact=found, target=target, wrong=wrong, typed=typed, key=key)


def _selected(ids: list[str]) -> tuple[list[Seen], bool]:
    """The bots with these ids by name, and whether the kill switch is set."""
    wanted = {int(text) for text in ids[:MAX_BOTS] if text.isascii() and text.isdigit()}
    with read(engine()) as connection:
        fleet, is_latched = load_fleet(connection, now_ms()), bool(halt_words(connection))
    return sorted((seen for seen in fleet if seen.id in wanted), key=lambda seen: seen.bot["name"].lower()), is_latched
