"""The kill switch: a plain form that works without a script, and how far each bot has got once it is set."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from flask import current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from server.api.wire import caller, engine, keyed
from server.security.roles import Role, needs
from server.settings import Settings
from server.storage import halt_checklist, kill_switch
from server.storage.audit import REASON_LENGTH
from server.storage.engine import read
from server.storage.times import now_ms
from server.web.actions import in_words
from server.web.fleet_load import load_fleet
from server.web.live import Drawing, LiveRequest, draw_macro, live_view
from server.web.shell import web
from shared.errors import FlotillaError
from shared.halt import HaltOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldDo:
    """What setting it now would do, in figures."""

    bots: int
    entries: int
    with_entries: int
    resting: int
    positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of the checklist. *state*: done, doing or todo."""

    state: str
    text: str
    count: str


@web.get("/kill")
@needs(Role.VIEWER)
def kill_page() -> ResponseReturnValue:
    """The form; or, once it is set, the checklist and the way to release it."""
    return _show()


@web.post("/kill")
@needs(Role.TRADER)
def set_kill() -> ResponseReturnValue:
    """Set it. Asked again it can only ask for more. A database that cannot be written does not keep it from working."""
    file, author = _settings().halt_file, caller().author
    reason = request.form.get("reason", "").strip()[:REASON_LENGTH] or "no reason given"
    sells = request.form.get("close_positions") == "on"

    def engage(connection: Connection) -> tuple[dict[str, Any], int]:
        kill_switch.halt(connection, file, author, reason, close_positions=sells)
        return {}, 303

    try:
        keyed(engage, request.form.get("key") or secrets.token_urlsafe(16))
    except (OperationalError, PoolTimeout):
        # The file alone halts every bot of this machine; the supervisor writes the row once it can.
        order = HaltOrder(by=author.name, reason=reason, at_ms=now_ms(), close_positions=sells)
        kill_switch.engage_file(file, order)
        flash("The database is busy; all bots of this machine are halted by the halt file.", "done")
    return redirect(url_for("web.kill_page"), 303)


@web.post("/kill/release")
@needs(Role.TRADER)
def release_kill() -> ResponseReturnValue:
    """Lift it; a reason is needed."""
    reason = request.form.get("reason", "").strip()
    if not reason or len(reason) > REASON_LENGTH:
        wrong = f"At most {REASON_LENGTH} characters." if reason else "Say why; it is kept in the audit log."
        return _show(wrong=wrong, typed=reason), 422

    def lift(connection: Connection) -> tuple[dict[str, Any], int]:
        kill_switch.release(connection, _settings().halt_file, caller().author, reason)
        return {}, 303

    try:
        keyed(lift, request.form.get("key") or secrets.token_urlsafe(16))
        flash("The kill switch is released: every bot goes on as it is wanted to.", "done")
    except FlotillaError as error:
        flash(in_words(error))
    return redirect(url_for("web.kill_page"), 303)


@web.get("/kill/sell")
@needs(Role.TRADER)
def sell_page() -> ResponseReturnValue:
    """What selling everything would do, and the button that does it."""
    with read(engine()) as connection:
        document = halt_checklist.document(connection, _settings().halt_file)
        fleet = load_fleet(connection, now_ms())
    held = [seen for seen in fleet if seen.holding.active]
    return render_template("kill_sell.html", state=document, held=held, key=secrets.token_urlsafe(16))


@live_view("kill")
def draw_kill(connection: Connection, request: LiveRequest, after: int) -> Drawing:
    """Whether it is set, and the checklist with its bots."""
    state = halt_checklist.document(connection, _settings().halt_file)
    parts = {f"kill-{'set' if state['engaged'] else 'ready'}": draw_macro("_kill.html", "headline", state)}
    if state["engaged"]:
        parts["kill-progress"] = draw_macro("_kill.html", "progress", state, checklist(state))
    return Drawing(parts=parts)


def _show(wrong: str = "", typed: str = "") -> str:
    with read(engine()) as connection:
        state = halt_checklist.document(connection, _settings().halt_file)
        would = None if state["engaged"] else _would_do(connection)
    return render_template(
        "kill.html",
        state=state,
        steps=checklist(state),
        would=would,
        wrong=wrong,
        typed=typed,
        key=secrets.token_urlsafe(16),
        live_url=None if wrong else url_for("web.live_stream", view="kill"),
    )


def checklist(state: dict[str, Any]) -> list[Step]:
    """The order of work with counts: each step is done once the ones before it are and its own count is full."""
    totals, bots = state["totals"], state["bots"]
    heard = sum(not bot["note"].startswith("runs, and has not said") for bot in bots)
    open_entries = totals["waiting"] + totals["unknown"]
    asked = totals["cancelled"] + open_entries
    holding = [bot for bot in bots if bot["positions"]]
    steps = [
        ("New orders blocked", f"{heard} of {totals['bots']} bots", heard == totals["bots"]),
        (
            f"Entry orders cancelled, {totals['unknown']} unknown",
            f"{totals['cancelled']} of {asked}" if asked else "none rested",
            not open_entries,
        ),
        ("Confirmed by each bot", f"{totals['confirmed']} of {totals['bots']}", totals["confirmed"] == totals["bots"]),
    ]
    if state["close_positions"]:
        steps.append(
            ("Positions sold at market", f"{len(holding)} bot{'' if len(holding) == 1 else 's'} left", not holding)
        )
    made, ready = [], True
    for text, count, is_done in steps:
        made.append(Step(state="done" if is_done and ready else "doing" if ready else "todo", text=text, count=count))
        ready = ready and is_done
    latch = "row and file" if state["in_database"] and state["in_file"] else "row" if state["in_database"] else "file"
    made.append(Step(state="done", text="Latched across restarts", count=latch))
    return made


def _would_do(connection: Connection) -> WouldDo:
    fleet = load_fleet(connection, now_ms())
    orders = sum(len(seen.holding.orders) for seen in fleet)
    entries = sum(seen.holding.entries for seen in fleet)
    return WouldDo(
        bots=len(fleet),
        entries=entries,
        with_entries=sum(seen.holding.entries > 0 for seen in fleet),
        resting=orders - entries,
        positions=sum(seen.holding.active for seen in fleet),
    )


def _settings() -> Settings:
    found: Settings = current_app.extensions["flotilla"].settings
    return found
