"""What is read again and again, in the shapes that the API and the bots get to see."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, func, select
from sqlalchemy.orm import aliased

from server.storage import kill_switch
from server.storage.models import Bot, BotCommand, BotRun, Event, Fill, TradingConfigVersion, TradingOrder, TradingStats
from server.storage.times import DAY_MS, day_of, iso, now_ms
from shared.errors import NotFound
from shared.states import DesiredState, PositionState
from shared.tickets import Control, ControlDocument, OneShot
from shared.units import ZERO, plain

OPEN = (PositionState.PENDING.value, PositionState.ACTIVE.value)


def bot_row(connection: Connection, bot_id: int) -> Row[Any]:
    """The bot's row. Raises `NotFound`, also for an archived bot."""
    row = connection.execute(select(Bot).where(Bot.id == bot_id, Bot.archived_ms.is_(None))).first()
    if row is None:
        raise NotFound(f"There is no bot {bot_id}. GET /api/bots lists those there are.")
    return row


def bot_rows(connection: Connection, *, limit: int, before: int | None = None) -> list[Row[Any]]:
    """Up to *limit* + 1 bots, newest first."""
    query = select(Bot).where(Bot.archived_ms.is_(None))
    if before is not None:
        query = query.where(Bot.id < before)
    return list(connection.execute(query.order_by(Bot.id.desc()).limit(limit + 1)))


def is_faulted(faulted_at_start_request: int | None, start_requests: int) -> bool:
    """Whether a bot was given up and nobody has pressed start since."""
    return faulted_at_start_request is not None and start_requests <= faulted_at_start_request


def control_document(connection: Connection, bot_id: int) -> ControlDocument:
    """What a bot polls: what people want of it, and its newest config. Raises `NotFound`.

    A bot that was given up while it held a position is only to guard it: to it, running means paused.
    """
    bot = bot_row(connection, bot_id)
    desired = DesiredState(bot.desired_state)
    if desired is DesiredState.RUNNING and is_faulted(bot.faulted_at_start_request, bot.start_requests):
        desired = DesiredState.PAUSED
    latch = kill_switch.state(connection)
    return ControlDocument(
        control=Control(
            desired=desired,
            halted=bot.halted or latch.engaged,
            halt_reason=latch.order.words if latch.engaged else bot.halt_reason,
            close_positions=latch.engaged and latch.close_positions,
        ),
        config_version=bot.config_version,
        config=config_of(connection, bot_id, bot.config_version),
        commands=tuple(OneShot(number=c.number, verb=c.verb, args=c.args) for c in _commands(connection, bot_id)),
    )


def _commands(connection: Connection, bot_id: int) -> list[Row[Any]]:
    waiting = (BotCommand.bot_id == bot_id, BotCommand.done_ms.is_(None))
    return list(connection.execute(select(BotCommand).where(*waiting).order_by(BotCommand.number)))


def config_of(connection: Connection, bot_id: int, version: int) -> dict[str, Any]:
    """One version of a bot's config. Raises `NotFound`."""
    config = connection.execute(
        select(TradingConfigVersion.config).where(
            TradingConfigVersion.bot_id == bot_id, TradingConfigVersion.version == version
        )
    ).scalar_one_or_none()
    if config is None:
        raise NotFound(f"Bot {bot_id} has no config version {version}.")
    found: dict[str, Any] = config
    return found


# Bots with their figures


def bot_document(connection: Connection, bot_id: int) -> dict[str, Any]:
    """One bot as the API shows it. Raises `NotFound`."""
    return bot_documents(connection, [bot_row(connection, bot_id)])[0]


def bot_documents(connection: Connection, bots: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    """Bots as the API shows them, their figures read for all at once."""
    ids = [bot.id for bot in bots]
    held, restarts, pnl = open_positions(connection, ids), _restarts(connection, ids), _pnl_by_day(connection, ids)
    return [_bot_document(bot, held.get(bot.id, 0), restarts.get(bot.id, 0), pnl.get(bot.id, {})) for bot in bots]


def _market_now(bot: Row[Any]) -> int:
    """The bot's market time now: its latest heartbeat's, and the time since then; without one the wall clock."""
    if bot.market_ms is None or bot.heartbeat_ms is None:
        return now_ms()
    return int(bot.market_ms + max(0, now_ms() - bot.heartbeat_ms))


def _bot_document(bot: Row[Any], held: int, restarts: int, pnl: dict[int, Decimal]) -> dict[str, Any]:
    today = day_of(_market_now(bot))
    return {
        "id": bot.id,
        "name": bot.name,
        "description": bot.description,
        "strategy": bot.strategy,
        "symbol": bot.symbol,
        "exchange": bot.exchange,
        "mode": bot.mode,
        "interval": bot.interval,
        "tags": bot.tags,
        "credential_id": bot.credential_id,
        "desired_state": bot.desired_state,
        "halted": bot.halted,
        "halt_reason": bot.halt_reason,
        "status": bot.status,
        "status_reason": bot.status_reason,
        "status_since": bot.status_since_ms,
        "pid": bot.pid,
        "run_id": bot.run_id,
        "config_version": bot.config_version,
        "applied_config_version": bot.applied_config_version,
        "started_at": iso(bot.started_ms),
        "heartbeat_at": iso(bot.heartbeat_ms),
        "last_decision_at": iso(bot.last_decision_ms),
        "created_at": iso(bot.created_ms),
        "restarts_24h": restarts,
        "open_positions": held,
        "balance": _quote_balance(bot.balance),
        "pnl_today": plain(pnl.get(today, ZERO)),
        "pnl_total": plain(sum(pnl.values(), ZERO)),
        "rss_mib": bot.rss_mib,
    }


def open_positions(connection: Connection, bot_ids: Sequence[int]) -> dict[int, int]:
    """How many pending or active positions each bot has."""
    counts = connection.execute(
        select(TradingOrder.bot_id, func.count())
        .where(TradingOrder.bot_id.in_(bot_ids), TradingOrder.status.in_(OPEN))
        .group_by(TradingOrder.bot_id)
    )
    return {row[0]: row[1] for row in counts}


def _restarts(connection: Connection, bot_ids: Sequence[int]) -> Counter[int]:
    """Runs of the last 24 hours that followed one which ended unwanted."""
    before = aliased(BotRun)
    rows = connection.execute(
        select(BotRun.bot_id)
        .join(before, (before.bot_id == BotRun.bot_id) & (before.generation == BotRun.generation - 1))
        .where(
            BotRun.bot_id.in_(bot_ids),
            BotRun.created_ms > now_ms() - DAY_MS,
            before.ended_ms.is_not(None),
            before.wanted.is_(False),
        )
    )
    return Counter(row.bot_id for row in rows)


def _pnl_by_day(connection: Connection, bot_ids: Sequence[int]) -> dict[int, dict[int, Decimal]]:
    days: dict[int, dict[int, Decimal]] = defaultdict(dict)
    query = select(TradingStats.bot_id, TradingStats.day, TradingStats.pnl).where(TradingStats.bot_id.in_(bot_ids))
    for row in connection.execute(query):
        days[row.bot_id][row.day] = row.pnl
    return days


def _quote_balance(balance: dict[str, Any] | None) -> str | None:
    if not balance or balance.get("quote_free") is None:
        return None
    return plain(Decimal(str(balance["quote_free"])) + Decimal(str(balance.get("quote_locked") or 0)))


# Positions, fills, events


def position_rows(
    connection: Connection, bot_id: int, *, statuses: Sequence[str] | None, limit: int, before: int | None = None
) -> list[Row[Any]]:
    """Up to *limit* + 1 positions of a bot, newest first; of all statuses if *statuses* is None."""
    query = select(TradingOrder).where(TradingOrder.bot_id == bot_id)
    if statuses is not None:
        query = query.where(TradingOrder.status.in_(statuses))
    if before is not None:
        query = query.where(TradingOrder.id < before)
    return list(connection.execute(query.order_by(TradingOrder.id.desc()).limit(limit + 1)))


def position_row(connection: Connection, bot_id: int, order_id: int) -> Row[Any]:
    """One position of a bot. Raises `NotFound`."""
    row = connection.execute(
        select(TradingOrder).where(TradingOrder.id == order_id, TradingOrder.bot_id == bot_id)
    ).first()
    if row is None:
        raise NotFound(f"Bot {bot_id} has no position {order_id}.")
    return row


def position_document(row: Row[Any], tags: list[str]) -> dict[str, Any]:
    """A position as the API shows it; there it is called a trading order."""
    document = row.document
    return {
        "id": row.id,
        "bot_id": row.bot_id,
        "position_key": row.position_key,
        "symbol": row.symbol,
        "side": row.side,
        "status": row.status,
        "quantity": plain(row.quantity),
        "entry_price": _text(row.entry_price),
        "exit_price": _text(row.exit_price),
        "opened_at": iso(row.opened_ms),
        "closed_at": iso(row.closed_ms),
        "fees": plain(row.fees),
        "pnl": _text(row.pnl),
        "pnl_pct": row.pnl_pct,
        "confidence": row.confidence,
        "exit_reason": row.exit_reason,
        "entry_logic": row.entry_logic,
        "exit_logic": row.exit_logic,
        "config_version": row.config_version,
        "model_id": row.model_id,
        "exchange": row.exchange,
        "mode": row.mode,
        "tags": tags,
        "activated_at": iso(document.get("activated_ms")),
        "stop_price": document.get("stop_price"),
        "target_price": document.get("target_price"),
        "exit_deadline_at": iso(document.get("exit_deadline_ms")),
        "exiting": document.get("exiting"),
        "dust_quantity": document.get("dust_quantity", "0"),
        "dust_cost": document.get("dust_cost", "0"),
        "legs": document.get("legs", []),
    }


def fill_rows(connection: Connection, bot_id: int, *, limit: int, before: int | None = None) -> list[Row[Any]]:
    """Up to *limit* + 1 fills of a bot, newest first."""
    query = select(Fill).where(Fill.bot_id == bot_id)
    if before is not None:
        query = query.where(Fill.id < before)
    return list(connection.execute(query.order_by(Fill.id.desc()).limit(limit + 1)))


def fill_document(row: Row[Any]) -> dict[str, Any]:
    """A fill as the API shows it."""
    return {
        "id": row.id,
        "trade_id": row.trade_id,
        "order_id": row.order_id,
        "client_order_id": row.client_order_id,
        "position_key": row.position_key,
        "symbol": row.symbol,
        "side": row.side,
        "price": plain(row.price),
        "quantity": plain(row.quantity),
        "fee": plain(row.fee),
        "fee_asset": row.fee_asset,
        "fee_quote": _text(row.fee_quote),
        "is_maker": row.is_maker,
        "time": row.time_ms,
    }


def event_rows(
    connection: Connection, bot_id: int, *, type_: str | None, limit: int, before: int | None = None
) -> list[Row[Any]]:
    """Up to *limit* + 1 events of a bot, newest first."""
    query = select(Event).where(Event.bot_id == bot_id)
    if type_ is not None:
        query = query.where(Event.type == type_)
    if before is not None:
        query = query.where(Event.id < before)
    return list(connection.execute(query.order_by(Event.id.desc()).limit(limit + 1)))


def event_document(row: Row[Any]) -> dict[str, Any]:
    """An event as the bot wrote it."""
    return {
        "v": 1,
        "bot_id": row.bot_id,
        "run_id": row.run_id,
        "seq": row.seq,
        "ts": row.ts,
        "type": row.type,
        "data": row.data,
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)
