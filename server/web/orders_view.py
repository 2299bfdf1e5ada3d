"""What the pages of orders and fills show: which rows the URL asks for, the links that change it, and their texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Row

from server.storage.search import Wanted, day_after_ms, day_ms
from server.storage.times import iso
from server.web.formats import Pnl, duration, exact_price, money, place_of, pnl, price, split_symbol
from shared.states import OrderState, PositionState, Role, Side
from shared.units import ZERO, plain

STATES = tuple(state.value for state in PositionState)
SIDES = tuple(side.value for side in Side)
BADGES = {
    PositionState.PENDING: ("badge-info", "hourglass"),
    PositionState.ACTIVE: ("badge-info", "play"),
    PositionState.CLOSED: ("badge-ok", "check"),
    PositionState.CANCELLED: ("", "x"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """The filter as the URL has it, all text."""

    q: str = ""
    bot: str = ""
    symbol: str = ""
    side: str = ""
    status: str = ""
    reason: str = ""
    maker: str = ""
    since: str = ""
    until: str = ""

    def url(self, path: str, **changes: str) -> str:
        """*path* with this filter, some of it changed; `before` is the row that a page goes on after."""
        own = {field.name for field in fields(self)}
        then = replace(self, **{name: value for name, value in changes.items() if name in own})
        given = {name: getattr(then, name) for name in sorted(own) if getattr(then, name)}
        given |= {name: value for name, value in changes.items() if name not in own and value}
        return f"{path}?{urlencode(given)}" if given else path

    @property
    def wanted(self) -> Wanted:
        """The filter as the storage understands it."""
        return Wanted(
            q=self.q,
            bot_id=int(self.bot) if self.bot else None,
            symbol=self.symbol,
            side=self.side,
            status=self.status,
            reason=self.reason,
            maker={"maker": True, "taker": False}.get(self.maker),
            first_ms=day_ms(self.since),
            end_ms=day_after_ms(self.until),
        )

    @property
    def is_narrowed(self) -> bool:
        """Whether anything is left out."""
        return any(getattr(self, field.name) for field in fields(self))


def list_query(given: Callable[[str, str], str]) -> ListQuery:
    """Read it from *given*, which answers ``(name, default)``; what makes no sense counts as not given."""
    text = {field.name: given(field.name, "").strip()[:200].replace("\0", "") for field in fields(ListQuery)}
    text["side"] = text["side"].upper() if text["side"].upper() in SIDES else ""
    text["status"] = text["status"] if text["status"] in STATES else ""
    text["maker"] = text["maker"] if text["maker"] in ("maker", "taker") else ""
    text["bot"] = text["bot"] if text["bot"].isascii() and text["bot"].isdigit() and len(text["bot"]) < 10 else ""
    for name in ("since", "until"):
        text[name] = text[name] if day_ms(text[name]) is not None else ""
    return ListQuery(**text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One link of a filter's menu."""

    label: str
    url: str
    is_current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One filter: a folded menu of links. *chosen*: the label in force, empty for none."""

    name: str
    label: str
    chosen: str
    options: tuple[Option, ...]


def filters(query: ListQuery, path: str, choices: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]) -> list[Filter]:
    """The menus of a page: each ``(name, label, [(value, text)])``."""
    made = []
    for name, label, values in choices:
        now = getattr(query, name)
        options = [Option(label="All", url=query.url(path, **{name: ""}), is_current=not now)]
        options += [
            Option(label=text, url=query.url(path, **{name: value}), is_current=now == value) for value, text in values
        ]
        chosen = next((text for value, text in values if value == now), now)
        if len(values) > 1 or chosen:
            made.append(Filter(name=name, label=label, chosen=chosen, options=tuple(options)))
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionLine:
    """One position of the list."""

    id: int
    bot_id: int
    bot: str
    place: str
    symbol: str
    side: str
    quote: str
    base: str
    status: str
    badge: tuple[str, str]
    quantity: str
    entry: str
    entry_exact: str
    exit: str
    exit_exact: str
    is_bought: bool
    opened_ms: int
    held: str
    fees: str
    pnl: Pnl | None
    percent: str
    reason: str


def position_line(row: Row[Any]) -> PositionLine:
    """A position as the list shows it; of one that bought nothing, what it wanted to buy."""
    base, quote = split_symbol(row.symbol)
    is_bought = row.quantity > ZERO
    wanted, limit = (row.quantity, row.entry_price) if is_bought else _wanted(row.document)
    lasted = "" if row.closed_ms is None else duration(row.closed_ms - row.opened_ms)
    return PositionLine(
        id=row.id,
        bot_id=row.bot_id,
        bot=row.bot,
        place=place_of(row.exchange, row.mode),
        symbol=row.symbol,
        side="long" if row.side == Side.BUY else "short",
        quote=quote,
        base=base,
        status=row.status,
        badge=BADGES[PositionState(row.status)],
        quantity="–" if wanted is None else plain(wanted),
        entry="–" if limit is None else price(limit),
        entry_exact=exact_price(limit),
        exit="–" if row.exit_price is None else price(row.exit_price),
        exit_exact=exact_price(row.exit_price),
        is_bought=is_bought,
        opened_ms=row.opened_ms,
        held=lasted and f"{'held' if is_bought else 'waited'} {lasted}",
        fees=money(row.fees) if is_bought else "–",
        pnl=None if row.pnl is None else pnl(row.pnl),
        percent="" if row.pnl_pct is None else f"{row.pnl_pct * 100:+.3f} %".replace("-", "−"),
        reason=_words(row.exit_reason),
    )


def _wanted(document: Mapping[str, Any]) -> tuple[Decimal | None, Decimal | None]:
    """Quantity and price of the entry order; None where the document does not say."""
    entry: Mapping[str, Any] = next((leg for leg in document.get("legs") or () if leg.get("role") == Role.ENTRY), {})
    return decimal_or_none(entry.get("quantity")), decimal_or_none(entry.get("price"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FillLine:
    """One execution of the list."""

    id: int
    bot_id: int
    bot: str
    symbol: str
    side: str
    base: str
    quote: str
    price: str
    price_exact: str
    quantity: str
    worth: str
    fee: str
    fee_exact: str
    fee_asset: str
    fee_quote: str
    maker: str
    time_ms: int
    trade_id: int
    order_id: int
    client_order_id: str
    position_id: int | None
    reason: str
    pnl: Pnl | None


def fill_line(row: Row[Any]) -> FillLine:
    """A fill as the list shows it; exit reason and result are its position's, shown where it was sold."""
    base, quote = split_symbol(row.symbol)
    is_exit = row.side == Side.SELL
    return FillLine(
        id=row.id,
        bot_id=row.bot_id,
        bot=row.bot,
        symbol=row.symbol,
        side=row.side.lower(),
        base=base,
        quote=quote,
        price=price(row.price),
        price_exact=exact_price(row.price),
        quantity=plain(row.quantity),
        worth=money(row.price * row.quantity),
        fee=money(row.fee),
        fee_exact=plain(row.fee),
        fee_asset=row.fee_asset,
        fee_quote="not valued" if row.fee_quote is None else money(row.fee_quote),
        maker="maker" if row.is_maker else "taker",
        time_ms=row.time_ms,
        trade_id=row.trade_id,
        order_id=row.order_id,
        client_order_id=row.client_order_id,
        position_id=row.position_id,
        reason=_words(row.exit_reason) if is_exit else "",
        pnl=pnl(row.pnl) if is_exit and row.pnl is not None else None,
    )


POSITION_HEAD = (
    "id", "bot_id", "bot", "symbol", "side", "status", "quantity", "entry_price", "exit_price", "opened_at",
    "closed_at", "fees", "pnl", "pnl_pct", "confidence", "exit_reason", "entry_logic", "exit_logic", "config_version",
    "model_id", "exchange", "mode",
)  # fmt: skip
FILL_HEAD = (
    "id", "time", "bot_id", "bot", "symbol", "side", "price", "quantity", "fee", "fee_asset", "fee_quote", "is_maker",
    "trade_id", "order_id", "client_order_id", "position_id",
)  # fmt: skip


def position_cells(row: Row[Any]) -> list[Any]:
    """A position's line of the CSV."""
    own = {"opened_at": iso(row.opened_ms), "closed_at": iso(row.closed_ms)}
    return [own[name] if name in own else getattr(row, name) for name in POSITION_HEAD]


def fill_cells(row: Row[Any]) -> list[Any]:
    """A fill's line of the CSV."""
    return [iso(row.time_ms) if name == "time" else getattr(row, name) for name in FILL_HEAD]


# One position: the life of its orders


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """One thing that happened to an order. *css*: done, fill or wait; *raw* is the event as the bot wrote it."""

    css: str
    title: str
    at_ms: int
    after: str
    text: str
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLife:
    """One exchange order with all that happened to it."""

    title: str
    client_order_id: str
    exchange_order_id: int | None
    status: str
    badge: str
    quantity: str
    executed: str
    price: str
    average: str
    reason: str
    stations: tuple[Station, ...]


def order_lives(
    orders: Sequence[Row[Any]], fills: Sequence[Row[Any]], events: Mapping[str, Sequence[Row[Any]]]
) -> list[OrderLife]:
    """The orders of one position in the order in which they were made; *events* by client order id, oldest first."""
    return [
        _order_life(order, [f for f in fills if f.client_order_id == order.client_order_id],
                    events.get(order.client_order_id, ()))
        for order in orders
    ]  # fmt: skip


def _order_life(order: Row[Any], fills: Sequence[Row[Any]], events: Sequence[Row[Any]]) -> OrderLife:
    status = OrderState(order.status)
    average = order.executed_quote / order.executed_quantity if order.executed_quantity else None
    return OrderLife(
        title=f"{order.role.capitalize()} · {order.side.lower()} · {order.order_type.lower().replace('_', ' ')}",
        client_order_id=order.client_order_id,
        exchange_order_id=order.exchange_order_id,
        status=status.value.replace("_", " "),
        badge="badge-ok" if status is OrderState.FILLED else "" if status.is_final else "badge-info",
        quantity=plain(order.quantity),
        executed=plain(order.executed_quantity),
        price="market" if order.price is None else price(order.price),
        average="–" if average is None else price(average),
        reason=_words(order.reason),
        stations=_stations(order, fills, events),
    )


_TITLES = {
    OrderState.NEW: "Acked",
    OrderState.UNKNOWN: "No answer: being asked about",
    OrderState.PARTIALLY_FILLED: "Partly filled",
    OrderState.FILLED: "Filled in full",
    OrderState.CANCELLED: "Cancelled",
    OrderState.EXPIRED: "Expired",
    OrderState.REJECTED: "Refused",
    OrderState.INTENT: "Intent",
}


def _stations(order: Row[Any], fills: Sequence[Row[Any]], events: Sequence[Row[Any]]) -> tuple[Station, ...]:
    began = order.created_ms
    found: list[tuple[int, int, Station]] = []
    for event in events:
        data, raw = event.data, json.dumps({"ts": event.ts, "type": event.type, "data": event.data}, indent=1)
        at = int(data.get("time_ms") or began)
        if event.type == "order.intent":
            found.append((at, 0, _station("done", "Intent, then sent", at, began, _intent(order), raw)))
        elif event.type == "order":
            state = OrderState(data.get("status", OrderState.UNKNOWN))
            number = data.get("exchange_order_id")
            text = " · ".join(filter(None, [f"exchange order {number}" if number else "", _words(data.get("reason"))]))
            css = "wait" if state is OrderState.UNKNOWN else "done"
            found.append((at, 3 if state.is_final else 1, _station(css, _TITLES[state], at, began, text, raw)))
    raws = {e.data.get("trade_id"): e for e in events if e.type == "fill"}
    for fill in fills:
        told = raws.get(fill.trade_id)
        raw = "" if told is None else json.dumps({"ts": told.ts, "type": "fill", "data": told.data}, indent=1)
        maker = "maker" if fill.is_maker else "taker"
        text = f"@ {price(fill.price)} · {maker} · fee {plain(fill.fee)} {fill.fee_asset} · trade {fill.trade_id}"
        title = f"Fill {plain(fill.quantity)}"
        found.append((fill.time_ms, 2, _station("fill", title, fill.time_ms, began, text, raw)))
    if not any(station.title.startswith("Intent") for _, _, station in found):
        found.append((began, 0, _station("done", "Intent, then sent", began, began, _intent(order))))
    if not OrderState(order.status).is_final:
        found.append((1 << 62, 4, Station(css="wait", title="Resting", at_ms=0, after="now", text="not final yet")))
    return tuple(station for _, _, station in sorted(found, key=lambda one: one[:2]))


def _words(reason: Any) -> str:
    return str(reason or "").replace("_", " ")


def _station(css: str, title: str, at: int, began: int, text: str, raw: str = "") -> Station:
    after = (iso(at) or "")[11:23] if at == began else f"{(at - began) / 1000:+.3f} s"
    return Station(css=css, title=title, at_ms=at, after=after, text=text, raw=raw)


def _intent(order: Row[Any]) -> str:
    at = "at market" if order.price is None else f"@ {price(order.price)}"
    return f"{order.side.lower()} {plain(order.quantity)} {at}"


def decimal_or_none(value: Any) -> Decimal | None:
    """A Decimal of a JSON value."""
    return None if value is None else Decimal(str(value))
