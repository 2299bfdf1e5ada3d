"""What all pages share: the blueprint, and the frame around each page (ribbon, header, kill switch, preferences)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, current_app, g
from flask_login import current_user
from sqlalchemy import Connection, func, select

from server.api.wire import caller, engine
from server.security.accounts import THEMES, UP_DOWN
from server.security.roles import Caller
from server.settings import Settings
from server.storage import kill_switch
from server.storage.engine import read
from server.storage.models import Bot, Event
from server.storage.times import now_ms
from server.web.formats import clock, duration, place_of
from shared.halt import halt_order
from shared.states import BotState

web = Blueprint("web", __name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ribbon:
    """The line on top: where the money is. *css* and *word* go together; LIVE is never shown by colour alone."""

    css: str
    word: str
    text: str
    more: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What the frame of a page shows. *halted*: who set the kill switch, when and why; *last_event*: where its stream
    begins."""

    ribbon: Ribbon
    halted: str
    clock: str
    user: Caller
    initials: str
    theme: str
    updown: str
    keyboard: bool
    local_time: bool
    alarms: int
    now_ms: int
    last_event: int


@web.app_context_processor
def _frame() -> dict[str, Any]:
    """``frame`` in each template of a page that somebody signed in to see; None on the others."""
    if getattr(g, "caller", None) is None:
        return {"frame": None, "user": None}
    with read(engine()) as connection:
        return {"frame": frame_of(connection), "user": caller()}


def frame_of(connection: Connection) -> Frame:
    """The frame for the caller. A page about one bot puts its own ribbon in place of the fleet's (`g.ribbon`)."""
    places = connection.execute(select(Bot.exchange, Bot.mode, Bot.name).where(Bot.archived_ms.is_(None))).all()
    who, now = caller(), now_ms()
    chosen: dict[str, Any] = dict(current_user.row.preferences or {}) if who.by_cookie else {}
    return Frame(
        ribbon=getattr(g, "ribbon", None) or fleet_ribbon([(p.exchange, p.mode, p.name) for p in places]),
        halted=halt_words(connection),
        clock=clock(now),
        user=who,
        initials=who.name[:2].upper(),
        theme=_one_of(THEMES, chosen.get("theme")),
        updown=_one_of(UP_DOWN, chosen.get("updown")),
        keyboard=chosen.get("keyboard", True) is not False,
        local_time=chosen.get("time_zone") == "local",
        alarms=alarms_of(connection),
        now_ms=now,
        last_event=connection.execute(select(func.max(Event.id))).scalar() or 0,
    )


def halt_words(connection: Connection) -> str:
    """Who set the kill switch, since when and why; empty while neither its row nor its file halts."""
    settings: Settings = current_app.extensions["flotilla"].settings
    file = settings.halt_file
    latch = kill_switch.in_force(kill_switch.state(connection), halt_order(file.read_bytes), file)
    if not latch.engaged:
        return ""
    return f"by {latch.engaged_by} since {clock(latch.engaged_ms or 0)}: {latch.reason}"


def alarms_of(connection: Connection) -> int:
    """How many bots need somebody now; the pages' titles carry it."""
    broken = select(func.count()).where(Bot.archived_ms.is_(None), Bot.status == BotState.ERROR.value)
    return connection.execute(broken).scalar_one()


def _one_of(choices: tuple[str, ...], chosen: Any) -> str:
    return chosen if chosen in choices else choices[0]


def bot_ribbon(exchange: str, mode: str) -> Ribbon:
    """The ribbon of a page about one bot."""
    texts = {
        "live": "real money on this exchange",
        "testnet": "the exchange's test network, no real money",
        "paper": "live prices, simulated orders, no real money",
        "simulator": "no real money",
    }
    place = place_of(exchange, mode)
    css = "" if place == "simulator" else f"ribbon-{place}"
    return Ribbon(css=css, word=place.upper(), text=texts[place], more=f" · {exchange}")


def fleet_ribbon(bots: Sequence[tuple[str, str, str]]) -> Ribbon:
    """The ribbon of a page about many bots, each ``(exchange, mode, name)``: the most dangerous place that occurs."""
    places = [place_of(exchange, mode) for exchange, mode, _ in bots]
    count = len(bots)
    for place, words in (
        ("live", "real money"),
        ("testnet", "on the test network"),
        ("paper", "on paper"),
    ):
        here = places.count(place)
        if here:
            verb = "trades" if here == 1 else "trade"
            others = f" · {count - here} elsewhere" if count > here else ""
            text = f"{here} of {count} bot{'' if count == 1 else 's'} {verb} {words}"
            return Ribbon(css=f"ribbon-{place}", word=place.upper(), text=text, more=others)
    if count:
        return Ribbon(
            css="", word="SIMULATOR", text="no real money", more=" · all bots trade on the simulator of this machine"
        )
    return Ribbon(css="", word="SIMULATOR", text="no bots yet")


@web.app_template_filter("clock")
def _clock(ms: int) -> str:
    return clock(ms)


@web.app_template_filter("age")
def _age(ms: int) -> str:
    return duration(now_ms() - ms)
