"""Positions and fills of all bots, found by what people know of them, in pages and in one long stream.

The filter is the same for both, so a CSV holds exactly what a page shows. Archived bots are found as well: what they
did stays readable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, and_, or_, select

from server.storage.engine import read
from server.storage.models import Bot, ExchangeOrder, Fill, TradingOrder

MAX_ID = 2**63 - 1
BATCH = 500
_Query = Select[*tuple[Any, ...]]
_CLIENT_ID = re.compile(r"f[a-z0-9]+-(\d{1,18})-(\d{1,18})-[a-z]\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for; empty or None means any. *first_ms* and *end_ms*: opened or executed in ``[first, end)``."""

    q: str = ""
    bot_id: int | None = None
    symbol: str = ""
    side: str = ""
    status: str = ""
    reason: str = ""
    maker: bool | None = None
    first_ms: int | None = None
    end_ms: int | None = None


def find_positions(connection: Connection, wanted: Wanted, *, limit: int, before: int | None = None) -> list[Row[Any]]:
    """Up to *limit* + 1 positions with their bot's name, newest first."""
    table = TradingOrder
    query: _Query = _narrowed(select(table, Bot.name.label("bot")).join(Bot, Bot.id == table.bot_id), table, wanted)
    query = _in_time(query, table.opened_ms, wanted)
    for column, value in ((table.status, wanted.status), (table.exit_reason, wanted.reason)):
        if value:
            query = query.where(column == value)
    for word in wanted.q.split():
        query = query.where(_position_is(word))
    return _page(connection, query, table.id, limit, before)


def find_fills(connection: Connection, wanted: Wanted, *, limit: int, before: int | None = None) -> list[Row[Any]]:
    """Up to *limit* + 1 fills with their bot's name and their position's id, newest first."""
    table = Fill
    mine = and_(TradingOrder.bot_id == table.bot_id, TradingOrder.position_key == table.position_key)
    query: _Query = (
        select(
            table, Bot.name.label("bot"), TradingOrder.id.label("position_id"), TradingOrder.exit_reason,
            TradingOrder.pnl,
        )
        .join(Bot, Bot.id == table.bot_id)
        .join(TradingOrder, mine, isouter=True)
    )  # fmt: skip
    query = _in_time(_narrowed(query, table, wanted), table.time_ms, wanted)
    if wanted.maker is not None:
        query = query.where(table.is_maker.is_(wanted.maker))
    for word in wanted.q.split():
        query = query.where(_fill_is(word))
    return _page(connection, query, table.id, limit, before)


def each(find: Callable[..., list[Row[Any]]], engine: Engine, wanted: Wanted) -> Iterator[Row[Any]]:
    """All that *find* finds, in batches with a transaction each: a slow reader holds none open."""
    before: int | None = None
    while True:
        with read(engine) as connection:
            rows = find(connection, wanted, limit=BATCH, before=before)
        yield from rows[:BATCH]
        if len(rows) <= BATCH:
            return
        before = rows[BATCH - 1].id


def day_ms(text: str) -> int | None:
    """When the UTC day ``2026-11-20`` begins; None for what is no day."""
    try:
        day = date.fromisoformat(text)
        return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def day_after_ms(text: str) -> int | None:
    """When the UTC day after ``2026-11-20`` begins."""
    first = day_ms(text)
    return None if first is None else first + int(timedelta(days=1).total_seconds() * 1000)


def _narrowed(query: _Query, table: Any, wanted: Wanted) -> _Query:
    for column, value in (
        (table.bot_id, wanted.bot_id),
        (table.symbol, wanted.symbol.upper()),
        (table.side, wanted.side),
    ):
        if value:
            query = query.where(column == value)
    return query


def _in_time(query: _Query, column: Any, wanted: Wanted) -> _Query:
    if wanted.first_ms is not None:
        query = query.where(column >= wanted.first_ms)
    return query if wanted.end_ms is None else query.where(column < wanted.end_ms)


def _page(connection: Connection, query: _Query, key: Any, limit: int, before: int | None) -> list[Row[Any]]:
    if before is not None:
        query = query.where(key < before)
    return list(connection.execute(query.order_by(key.desc()).limit(limit + 1)))


def _number(word: str) -> int | None:
    digits = word.removeprefix("#")
    return int(digits) if digits.isascii() and digits.isdigit() and int(digits) <= MAX_ID else None


def _is_named(word: str, symbol: Any) -> list[Any]:
    return [Bot.name.icontains(word, autoescape=True), symbol.icontains(word, autoescape=True)]


def _position_is(word: str) -> Any:
    table, order = TradingOrder, _CLIENT_ID.fullmatch(word.lower())
    if order is not None:
        return and_(table.bot_id == int(order[1]), table.position_key == int(order[2]))
    number = _number(word)
    if number is None:
        return or_(*_is_named(word, table.symbol), table.exit_reason == word)
    placed = (
        select(ExchangeOrder.id)
        .where(
            ExchangeOrder.bot_id == table.bot_id, ExchangeOrder.position_key == table.position_key,
            ExchangeOrder.exchange_order_id == number,
        )
        .exists()
    )  # fmt: skip
    return or_(table.id == number, table.position_key == number, placed, *_is_named(word, table.symbol))


def _fill_is(word: str) -> Any:
    table, number = Fill, _number(word)
    if _CLIENT_ID.fullmatch(word.lower()):
        return table.client_order_id == word.lower()
    if number is None:
        return or_(*_is_named(word, table.symbol))
    return or_(table.trade_id == number, table.order_id == number, table.position_key == number, table.id == number,
               *_is_named(word, table.symbol))  # fmt: skip
