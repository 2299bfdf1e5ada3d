"""Orders (positions with the life of their orders) and fills of all bots: search, filters, pages by links, CSV."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from flask import Response, g, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection, Row, Select, select

from server.api.wire import engine
from server.security.roles import Role, needs
from server.storage.engine import read
from server.storage.market_time import events_within
from server.storage.models import Bot, ExchangeOrder, Fill, TradingOrder
from server.storage.search import each, find_fills, find_positions
from server.storage.times import now_ms
from server.web import orders_view as view
from server.web.csv_lines import csv_lines
from server.web.formats import place_of, pnl, price, split_symbol
from server.web.orders_view import ListQuery, list_query
from server.web.shell import bot_ribbon, web
from shared.errors import NotFound
from shared.states import Side
from shared.units import plain

PER_PAGE = 50
_EVENTS_READ = 1_000


@web.get("/orders")
@needs(Role.VIEWER)
def orders_page() -> ResponseReturnValue:
    """Positions of all bots, newest first."""
    return _list("orders", find_positions, view.position_line)


@web.get("/fills")
@needs(Role.VIEWER)
def fills_page() -> ResponseReturnValue:
    """Executions of all bots, newest first."""
    return _list("fills", find_fills, view.fill_line)


@web.get("/orders.csv")
@needs(Role.VIEWER)
def orders_csv() -> ResponseReturnValue:
    """All positions that the filter finds."""
    return _csv("orders", view.POSITION_HEAD, find_positions, view.position_cells)


@web.get("/fills.csv")
@needs(Role.VIEWER)
def fills_csv() -> ResponseReturnValue:
    """All fills that the filter finds."""
    return _csv("fills", view.FILL_HEAD, find_fills, view.fill_cells)


@web.get("/orders/<int(max=9223372036854775807):order_id>")
@needs(Role.VIEWER)
def order_page(order_id: int) -> ResponseReturnValue:
    """One position: its figures, and the life of each of its orders."""
    with read(engine()) as connection:
        query: Select[*tuple[Any, ...]] = select(TradingOrder, Bot.name.label("bot"))
        row = connection.execute(
            query.join(Bot, Bot.id == TradingOrder.bot_id).where(TradingOrder.id == order_id)
        ).first()
        if row is None:
            raise NotFound(f"There is no order {order_id}. /orders lists those there are.")
        lives = _lives(connection, row)
    g.ribbon = bot_ribbon(row.exchange, row.mode)
    return render_template(
        "order.html", row=row, line=view.position_line(row), lives=lives, facts=_facts(row),
    )  # fmt: skip


def _list(name: str, find: Callable[..., list[Row[Any]]], line: Callable[[Row[Any]], Any]) -> str:
    query, path = list_query(request.args.get), f"/{name}"
    before = request.args.get("before", "")
    cursor = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
    with read(engine()) as connection:
        rows = find(connection, query.wanted, limit=PER_PAGE, before=cursor)
        choices = _choices(connection, name)
    more = rows[PER_PAGE - 1].id if len(rows) > PER_PAGE else None
    return render_template(
        f"{name}.html",
        query=query,
        path=path,
        lines=[line(row) for row in rows[:PER_PAGE]],
        filters=view.filters(query, path, choices),
        states=_state_chips(query, path) if name == "orders" else (),
        older=None if more is None else query.url(path, before=str(more)),
        newest=query.url(path) if cursor is not None else None,
        csv=query.url(f"/{name}.csv"),
    )


def _choices(connection: Connection, name: str) -> list[tuple[str, str, Sequence[tuple[str, str]]]]:
    bots = connection.execute(select(Bot.id, Bot.name, Bot.symbol, Bot.archived_ms).order_by(Bot.name)).all()
    symbols = sorted({bot.symbol for bot in bots})
    named = [(str(bot.id), bot.name + (" (archived)" if bot.archived_ms is not None else "")) for bot in bots]
    choices: list[tuple[str, str, Sequence[tuple[str, str]]]] = [
        ("bot", "Bot", named),
        ("symbol", "Symbol", [(symbol, symbol) for symbol in symbols]),
    ]
    if name == "orders":
        choices.append(("reason", "Exit reason", [(r, r.replace("_", " ")) for r in _exit_reasons(connection)]))
    else:
        choices.append(("side", "Side", [(side.value, side.value.lower()) for side in Side]))
        choices.append(("maker", "Maker", [("maker", "maker"), ("taker", "taker")]))
    return choices


def _exit_reasons(connection: Connection) -> list[str]:
    newest = select(TradingOrder.exit_reason).order_by(TradingOrder.id.desc()).limit(1000).subquery()
    return sorted(r for r in connection.execute(select(newest.c.exit_reason).distinct()).scalars() if r)


def _state_chips(query: ListQuery, path: str) -> list[view.Option]:
    return [
        view.Option(label=label, url=query.url(path, status=value), is_current=query.status == value)
        for value, label in (("", "All"), *((state, state.capitalize()) for state in view.STATES))
    ]


def _csv(
    name: str, head: Sequence[str], find: Callable[..., list[Row[Any]]], cells: Callable[[Row[Any]], list[Any]]
) -> Response:
    wanted, database = list_query(request.args.get).wanted, engine()

    response = Response(csv_lines(head, map(cells, each(find, database, wanted))), mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="flotilla-{name}-{now_ms() // 1000}.csv"'
    return response


def _lives(connection: Connection, position: Row[Any]) -> list[view.OrderLife]:
    key = position.position_key
    orders = connection.execute(
        select(ExchangeOrder)
        .where(ExchangeOrder.bot_id == position.bot_id, ExchangeOrder.position_key == key)
        .order_by(ExchangeOrder.id)
    ).all()
    ids = [order.client_order_id for order in orders]
    fills = connection.execute(
        select(Fill).where(Fill.bot_id == position.bot_id, Fill.client_order_id.in_(ids)).order_by(Fill.time_ms)
    ).all()
    events: dict[str, list[Row[Any]]] = defaultdict(list)
    told = [
        event
        for type_ in ("order.intent", "order", "fill")
        for event in events_within(
            connection, position.bot_id, type_, position.opened_ms, position.closed_ms, most=_EVENTS_READ
        )
    ]
    for event in sorted(told, key=lambda event: event.id):
        if event.data.get("position_key") == key:
            events[str(event.data.get("client_order_id"))].append(event)
    return view.order_lives(orders, fills, events)


def _facts(row: Row[Any]) -> list[tuple[str, str]]:
    base, quote = split_symbol(row.symbol)
    document = row.document or {}

    def price_of(name: str) -> str:
        value = view.decimal_or_none(document.get(name))
        return "–" if value is None else f"{price(value)} {quote}"

    return [
        ("Bot", row.bot),
        ("Place", f"{place_of(row.exchange, row.mode)}, exchange {row.exchange}"),
        ("Quantity", f"{plain(row.quantity)} {base}" if row.quantity else "nothing bought"),
        ("Entry", "–" if row.entry_price is None else f"{price(row.entry_price)} {quote}"),
        ("Exit", "–" if row.exit_price is None else f"{price(row.exit_price)} {quote}"),
        ("Stop", price_of("stop_price")),
        ("Target", price_of("target_price")),
        ("Fees", f"{plain(row.fees)} {quote}" if row.quantity else "–"),
        ("PnL, net", "–" if row.pnl is None else f"{pnl(row.pnl).text} {quote}"),
        ("Exit reason", (row.exit_reason or "–").replace("_", " ")),
        ("Confidence", "–" if row.confidence is None else f"{row.confidence:.3f}"),
        ("Entry logic", row.entry_logic or "–"),
        ("Config", f"v{row.config_version}" + (f" · model {row.model_id}" if row.model_id else "")),
        ("Position", str(row.position_key)),
    ]
