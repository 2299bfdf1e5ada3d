"""The page of one bot: its state, figures, chart and positions, and the tabs below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask import g, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection, func, select

from server.api.wire import caller, engine
from server.security.roles import Role, needs
from server.storage.engine import read
from server.storage.models import Event
from server.storage.strategies import definitions
from server.web import bot_log, bot_tabs, chart
from server.web.actions_view import Action, actions_of
from server.web.bot_config import ConfigTab, Typed, ack_of, config_tab
from server.web.bot_read import BotSeen, life_of, load_bot
from server.web.bot_view import Head, Kpi, OpenPosition, head_of, kpis_of, positions_of, unrealised_of
from server.web.formats import Pnl, pnl, split_symbol
from server.web.live import Drawing, LiveRequest, live_view
from server.web.shell import bot_ribbon, halt_words, web
from shared.units import ZERO

TABS = {
    "position": "Position & orders",
    "closed": "Closed positions",
    "log": "Log",
    "decisions": "Decisions",
    "config": "Config",
    "runs": "Runs",
    "health": "Health",
}
_WITH_CHART = ("position", "config")


@dataclass(frozen=True, slots=True, kw_only=True)
class TabLink:
    """One tab."""

    key: str
    label: str
    path: str
    is_here: bool
    count: int = 0
    badge: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BotPage:
    """What every tab shows. *actions* is empty for an archived bot."""

    seen: BotSeen
    head: Head
    kpis: tuple[Kpi, ...]
    held: tuple[OpenPosition, ...]
    held_count: int
    unrealised: Pnl | None
    actions: dict[str, Action]
    tabs: tuple[TabLink, ...]
    tab: str
    here: str
    base: str
    quote: str
    role: str
    newest_event: int


@web.get("/bots/<int(max=2147483647):bot_id>")
@needs(Role.VIEWER)
def bot_page(bot_id: int) -> ResponseReturnValue:
    """One bot; the tab is in the address."""
    tab = request.args.get("tab", "position")
    return show_bot(bot_id, tab if tab in TABS else "position")


def show_bot(bot_id: int, tab: str, *, typed: Typed | None = None) -> str:
    """The page with one tab open; *typed*: a config form that could not be saved."""
    is_table = request.args.get("view") == "table" and typed is None
    span = chart.span_of(request.args.get("i", ""), request.args.get("r", ""))
    with read(engine()) as connection:
        page = _load(connection, bot_id, tab, caller().role)
        body = _tab_of(connection, page, typed)
    table: chart.CandleTable | None = None
    until = chart.time_of(request.args.get("until", ""))
    if is_table and tab in _WITH_CHART:
        with read(engine()) as connection:
            table = chart.table_of(connection, page.seen, span, until)
    g.ribbon = bot_ribbon(page.seen.row.exchange, page.seen.row.mode)
    params: dict[str, Any] = {"bot": bot_id, "tab": tab}
    has_chart = tab in _WITH_CHART and typed is None
    if has_chart:
        params |= {"chart": "table" if is_table else span.interval}
    if tab == "log":
        params |= {"level": body.level.value, "q": body.search}
    is_still = page.seen.is_archived or typed is not None or "before" in request.args
    live_url = None if is_still else url_for("web.live_stream", view="bot", **params)
    return render_template(
        "bot.html",
        page=page,
        body=body,
        span=span,
        table=table,
        has_chart=has_chart,
        live_url=live_url,
        live_after=page.newest_event,
        ranges=chart.RANGE_WORDS,
        intervals=chart.INTERVALS,
        log_chips=bot_log.CHIPS,
    )


def _load(connection: Connection, bot_id: int, tab: str, role: str) -> BotPage:
    seen = load_bot(connection, bot_id)
    definition = definitions().get(seen.row.strategy)
    has_positions = tab in _WITH_CHART
    life = life_of(connection, bot_id, seen.held) if has_positions else {}
    base, quote = split_symbol(seen.row.symbol)
    gains = [gain for row in seen.held if (gain := unrealised_of(row, seen.last_price)) is not None]
    newest = connection.execute(select(func.max(Event.id))).scalar() or 0
    return BotPage(
        seen=seen,
        head=head_of(seen, definition.name if definition else seen.row.strategy),
        kpis=kpis_of(seen),
        held=positions_of(seen, life) if has_positions else (),
        held_count=seen.document["open_positions"],
        unrealised=pnl(sum(gains, ZERO)) if gains else None,
        actions={} if seen.is_archived else actions_of(seen.document, role, is_latched=bool(halt_words(connection))),
        tabs=_tabs(seen, tab),
        tab=tab,
        here=f"/bots/{bot_id}" + ("" if tab == "position" else f"?tab={tab}"),
        base=base or "base",
        quote=quote or "quote",
        role=role,
        newest_event=newest,
    )


def _tabs(seen: BotSeen, here: str) -> tuple[TabLink, ...]:
    newest, running = seen.row.config_version, seen.row.applied_config_version
    pending = seen.row.status not in ("stopped", "error") and running not in (newest, None)
    return tuple(
        TabLink(
            key=key,
            label=label,
            path=f"?tab={key}#tabs" if key in _WITH_CHART else f"?tab={key}",
            is_here=key == here,
            count=seen.document["open_positions"] if key == "position" else 0,
            badge=f"v{newest} pending" if key == "config" and pending else "",
        )
        for key, label in TABS.items()
    )


def _tab_of(connection: Connection, page: BotPage, typed: Typed | None) -> Any:
    """What the open tab shows."""
    seen = page.seen
    before = request.args.get("before", type=int)
    before = before if before is not None and 0 < before < 2**63 else None
    readers: dict[str, Callable[[], Any]] = {
        "position": lambda: (bot_tabs.order_rows(seen), bot_tabs.why_none(seen)),
        "closed": lambda: (bot_tabs.closed_page(connection, seen, before), bot_tabs.why_none(seen)),
        "log": lambda: bot_log.log_view(
            connection,
            seen.row.id,
            bot_log.level_of(request.args.get("level", "")),
            request.args.get("q", "").strip()[:200],
            before,
        ),
        "decisions": lambda: bot_tabs.decisions_of(connection, seen),
        "config": lambda: _config(connection, seen, typed),
        "runs": lambda: bot_tabs.run_rows(connection, seen),
        "health": lambda: bot_tabs.health_of(seen),
    }
    return readers[page.tab]()


def _config(connection: Connection, seen: BotSeen, typed: Typed | None) -> ConfigTab:
    pair = request.args.get("from", type=int), request.args.get("to", type=int)
    compare = (pair[0], pair[1]) if pair[0] is not None and pair[1] is not None else None
    return config_tab(connection, seen, typed=typed, compare=compare)


@live_view("bot")
def draw_bot(connection: Connection, wanted: LiveRequest, after: int) -> Drawing:
    """The parts of the open tab, new log lines, and what the chart adds. Raises `NotFound`."""
    number, tab = wanted.get("bot"), wanted.get("tab", "position")
    bot_id = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
    page = _load(connection, bot_id, tab if tab in TABS else "position", wanted.role)
    parts = {name: _part(name, page) for name in ("bot-state", "verbs", "kpis")}
    if wanted.get("chart"):
        parts["positions"] = _part("positions", page)
    parts["tabs"] = _part("tabs", page)
    added: dict[str, tuple[tuple[int, str], ...]] = {}
    upto: int | None = None
    if page.tab == "log":
        level = bot_log.level_of(wanted.get("level"))
        added["log-new"], upto = bot_log.added_lines(connection, bot_id, level, wanted.get("q"), after)
    elif page.tab == "config":
        parts["config-ack"] = _part("config-ack", page, ack_of(connection, page.seen))
    else:
        parts[f"tab-{page.tab}"] = _part(f"tab-{page.tab}", page, _live_tab(connection, page))
    parts["verbs-low"] = _part("verbs-low", page)
    return Drawing(parts=parts, added=added, data=_chart_data(connection, page, wanted.get("chart")), upto=upto)


def _live_tab(connection: Connection, page: BotPage) -> Any:
    seen = page.seen
    if page.tab in ("position", "closed"):
        why = bot_tabs.why_none(seen)
        first = bot_tabs.order_rows(seen) if page.tab == "position" else bot_tabs.closed_page(connection, seen, None)
        return first, why
    if page.tab == "decisions":
        return bot_tabs.decisions_of(connection, seen)
    return bot_tabs.run_rows(connection, seen) if page.tab == "runs" else bot_tabs.health_of(seen)


def _part(name: str, page: BotPage, body: Any = None) -> str:
    return render_template("_bot_part.html", name=name, page=page, body=body).strip()


def _chart_data(connection: Connection, page: BotPage, interval: str) -> dict[str, str]:
    return chart.live_data(connection, page.seen, interval) if interval in chart.INTERVALS else {}
