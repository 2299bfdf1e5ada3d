"""What the page of one bot reads: a fixed number of queries, whatever the bot has traded."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, select

from server.storage import queries
from server.storage.figures import allocated, max_drawdown
from server.storage.models import Bot, BotRun, Event, Fill, TradingOrder, TradingStats
from server.storage.times import day_of, now_ms
from server.web.cpu_share import cpu_shares
from server.web.observed import Observed, is_old, observed
from shared.errors import NotFound
from shared.units import ZERO

MAX_POSITIONS = 20
_LIFE_EVENTS = ("order.intent", "order")
_LIFE_READ = 400
_DRAWDOWNS_KEPT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Closed positions of some days, money in quote."""

    trades: int = 0
    wins: int = 0
    pnl: Decimal = ZERO
    fees: Decimal = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class BotSeen:
    """One bot as it stands. *document* is the API's, *config* the newest; *held* are its open positions, newest first.

    *beat* is the last heartbeat, *cpu_pct* its share of one core over the last minute; *offset_ms* is wall clock −
    market time.
    *drawdown*: in quote, and as a fraction of the peak (None where nothing is allocated).
    """

    row: Row[Any]
    document: dict[str, Any]
    config: dict[str, Any]
    run: Row[Any] | None
    held: Sequence[Row[Any]]
    today: Totals
    total: Totals
    drawdown: tuple[Decimal, float | None]
    beat: Mapping[str, Any]
    observed: Observed
    cpu_pct: float | None
    offset_ms: int
    now: int

    @property
    def is_archived(self) -> bool:
        """It was taken out of the fleet; its history stays."""
        return self.row.archived_ms is not None

    @property
    def old_ms(self) -> int | None:
        """Of when the last price is, if that is old, whatever state the bot is in; else None."""
        return self.row.heartbeat_ms if is_old(self.row.heartbeat_ms, self.now) else None

    @property
    def last_price(self) -> Decimal | None:
        """The price that the bot saw last."""
        price = self.beat.get("last_price")
        return None if price is None else Decimal(repr(float(price)))


def any_bot_row(connection: Connection, bot_id: int) -> Row[Any]:
    """The bot's row, also of an archived bot. Raises `NotFound`."""
    row = connection.execute(select(Bot).where(Bot.id == bot_id)).first()
    if row is None:
        raise NotFound(f"There is no bot {bot_id}, and there never was one.")
    return row


def load_bot(connection: Connection, bot_id: int) -> BotSeen:
    """One bot with what its page shows on every tab. Raises `NotFound`."""
    row = any_bot_row(connection, bot_id)
    document = queries.bot_documents(connection, [row])[0]
    config = queries.config_of(connection, bot_id, row.config_version)
    days = connection.execute(select(TradingStats).where(TradingStats.bot_id == bot_id)).all()
    now = now_ms()
    offset = row.heartbeat_ms - row.market_ms if row.heartbeat_ms and row.market_ms else 0
    today = day_of(now - offset)
    return BotSeen(
        row=row,
        document=document,
        config=config,
        run=_newest_run(connection, row),
        held=_open(connection, bot_id),
        today=_totals([day for day in days if day.day == today]),
        total=_totals(days),
        drawdown=_drawdown(connection, bot_id, config, sum(day.trades for day in days)),
        beat=row.heartbeat or {},
        observed=observed(row.status, row.desired_state, row.status_since_ms, row.heartbeat_ms, now),
        cpu_pct=cpu_shares(connection, [row]).get(row.id),
        offset_ms=offset,
        now=now,
    )


def life_of(connection: Connection, bot_id: int, positions: Sequence[Row[Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """What happened to the orders of each position, oldest first, as ``{ts, type, **data}``; by position key.

    Fills come from their rows. Events of orders are looked for among the bot's latest.
    """
    keys = [row.position_key for row in positions]
    found: dict[int, list[Mapping[str, Any]]] = {key: [] for key in keys}
    if not keys:
        return found
    events = connection.execute(
        select(Event.ts, Event.type, Event.data)
        .where(Event.bot_id == bot_id, Event.type.in_(_LIFE_EVENTS))
        .order_by(Event.id.desc())
        .limit(_LIFE_READ)
    ).all()
    for event in reversed(events):
        key = event.data.get("position_key")
        if key in found:
            found[key].append({"ts": event.ts, "type": event.type, **event.data})
    fills = select(Fill).where(Fill.bot_id == bot_id, Fill.position_key.in_(keys)).order_by(Fill.time_ms, Fill.id)
    for fill in connection.execute(fills):
        found[fill.position_key].append({"type": "fill", **queries.fill_document(fill)})
    return found


def _open(connection: Connection, bot_id: int) -> Sequence[Row[Any]]:
    wanted = TradingOrder.bot_id == bot_id, TradingOrder.status.in_(queries.OPEN)
    query = select(TradingOrder).where(*wanted).order_by(TradingOrder.id.desc()).limit(MAX_POSITIONS)
    return connection.execute(query).all()


def _newest_run(connection: Connection, bot: Row[Any]) -> Row[Any] | None:
    return connection.execute(
        select(BotRun).where(BotRun.bot_id == bot.id).order_by(BotRun.generation.desc()).limit(1)
    ).first()


def _totals(days: Sequence[Row[Any]]) -> Totals:
    return Totals(
        trades=sum(day.trades for day in days),
        wins=sum(day.wins for day in days),
        pnl=sum((day.pnl for day in days), ZERO),
        fees=sum((day.fees for day in days), ZERO),
    )


# The drawdown runs over every closed position; it is computed again only when one more has closed.
_drawdowns: dict[tuple[str, int], tuple[tuple[int, Decimal], tuple[Decimal, float | None]]] = {}
_drawdowns_lock = threading.Lock()


def _drawdown(
    connection: Connection, bot_id: int, config: Mapping[str, Any], trades: int
) -> tuple[Decimal, float | None]:
    base = allocated(dict(config))
    place, state = (str(connection.engine.url), bot_id), (trades, base)
    known = _drawdowns.get(place)
    if known is not None and known[0] == state:
        return known[1]
    closed = connection.execute(
        select(TradingOrder.pnl)
        .where(TradingOrder.bot_id == bot_id, TradingOrder.closed_ms.is_not(None), TradingOrder.pnl.is_not(None))
        .order_by(TradingOrder.closed_ms, TradingOrder.id)
    ).scalars()
    fall = max_drawdown([pnl for pnl in closed if pnl is not None], base)
    with _drawdowns_lock:
        if len(_drawdowns) >= _DRAWDOWNS_KEPT:
            _drawdowns.clear()
        _drawdowns[place] = (state, fall)
    return fall
