"""The fleet page: key figures, all bots in one table, and what needs somebody."""

from __future__ import annotations

from dataclasses import dataclass

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection

from server.api.wire import caller, engine
from server.security.roles import Role, needs
from server.storage.engine import read
from server.storage.strategies import definitions
from server.storage.times import DAY_MS, now_ms
from server.storage.trouble import load_trouble
from server.web.fleet_filter import FIELDS, Chip, FleetQuery, Menu, chosen, fleet_query, menus, state_chips
from server.web.fleet_load import load_fleet
from server.web.fleet_view import FleetRow, Kpi, States, fleet_row, kpis, silent_bots, sort_rows, states
from server.web.live import Drawing, LiveRequest, draw_macro, live_view
from server.web.shell import halt_words, web
from server.web.trouble_view import Attention, attention

COLUMNS = (
    # sort, label, css, what it says
    ("name", "Bot", "", ""),
    ("state", "State", "", "By itself: real money first, then what needs you"),
    ("", "24 h", "", "Closed PnL of the last 24 hours, added up"),
    ("position", "Position", "num", ""),
    ("today", "PnL today", "num", "Closed since 00:00 UTC, net of fees"),
    ("total", "PnL total", "num", "Closed since the bot was created, net of fees"),
    ("decision", "Decision", "num lo", "Age of the last decision"),
    ("heartbeat", "Heartbeat", "num", "Age of the last sign of life; one is due every 5 s"),
    ("restarts", "Restarts", "num lo", "Restarts in 24 hours"),
    ("cpu", "CPU %", "num lo", "Share of one core over the last minute, and memory in MiB"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPage:
    """All that the page shows; the template only places it."""

    query: FleetQuery
    words: str
    kpis: list[Kpi]
    states: States
    attention: list[Attention]
    chips: list[Chip]
    menus: list[Menu]
    rows: list[FleetRow]
    total: int


@web.get("/")
@needs(Role.VIEWER)
def fleet_page() -> ResponseReturnValue:
    """All bots in one table, or those that the URL asks for."""
    query = fleet_query(request.args.get)
    with read(engine()) as connection:
        shown = _page(connection, query, caller().role)
    live_url = url_for("web.live_stream", view="fleet", **{n: getattr(query, n) for n in FIELDS if getattr(query, n)})
    return render_template("fleet.html", page=shown, columns=COLUMNS, live_url=live_url)


@live_view("fleet")
def draw_fleet(connection: Connection, request: LiveRequest, after: int) -> Drawing:
    """The page's parts in the order in which they stand in it."""
    page = _page(connection, fleet_query(request.get), request.role)
    parts = {
        name: draw_macro("_fleet.html", name.removeprefix("fleet-"), page)
        for name in ("fleet-words", "fleet-kpis", "fleet-chips")
    }
    parts |= {f"bot-{row.id}": draw_macro("_fleet.html", "row", row, request.role) for row in page.rows}
    parts["fleet-attention"] = draw_macro("_fleet.html", "attention", page)
    return Drawing(parts=parts)


def _page(connection: Connection, query: FleetQuery, role: str) -> FleetPage:
    now = now_ms()
    fleet = load_fleet(connection, now)
    silent = silent_bots(fleet)
    wanted = {bot["id"] for bot in chosen([seen.bot for seen in fleet], query, set(silent))}
    picked = [seen for seen in fleet if seen.id in wanted]
    bots, documents = sort_rows(picked, query.sort, set(silent), now), [seen.bot for seen in fleet]
    names, latched = {id_: d.name for id_, d in definitions().items()}, bool(halt_words(connection))
    lines = attention(load_trouble(connection, now - DAY_MS), [seen.bot for seen in picked], silent, now)
    return FleetPage(
        query=query,
        words=_words(len(fleet), len(picked), query),
        kpis=kpis(picked, now),
        states=states(picked),
        attention=lines,
        chips=state_chips(documents, query, set(silent)),
        menus=menus(documents, query, names),
        rows=[fleet_row(seen, now, role, is_latched=latched) for seen in bots],
        total=len(fleet),
    )


def _words(total: int, picked: int, query: FleetQuery) -> str:
    """The line under the title: how many bots, and for which of them the figures are."""
    if not total:
        return "no bots yet"
    bots = f"{total} bot{'' if total == 1 else 's'}"
    if not query.is_narrowed:
        return f"{bots} · figures for {'it' if total == 1 else 'all of them'} · day since 00:00 UTC"
    these = "this one" if picked == 1 else f"these {picked}"
    return f"{picked} of {bots} · figures for {these} only · day since 00:00 UTC"
