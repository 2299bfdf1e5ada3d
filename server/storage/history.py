"""What was: a bot's runs, and its equity after each closed position."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, select

from server.storage.figures import allocated
from server.storage.models import BotRun, TradingOrder
from server.storage.queries import bot_row, config_of
from server.storage.times import iso, now_ms
from shared.units import ZERO, plain

MOST_POINTS = 2_000


def run_rows(connection: Connection, bot_id: int, *, limit: int, before: int | None = None) -> list[Row[Any]]:
    """Up to *limit* + 1 runs, newest first. Raises `NotFound`."""
    bot_row(connection, bot_id)
    query = select(BotRun).where(BotRun.bot_id == bot_id)
    if before is not None:
        query = query.where(BotRun.id < before)
    return list(connection.execute(query.order_by(BotRun.id.desc()).limit(limit + 1)))


def run_document(row: Row[Any]) -> dict[str, Any]:
    """A run as the API shows it."""
    ended_ms = row.ended_ms if row.ended_ms is not None else now_ms()
    return {
        "run_id": f"{row.bot_id}.{row.generation}",
        "generation": row.generation,
        "kind": row.kind,
        "state": row.state,
        "started_by": row.started_by,
        "host": row.host,
        "pid": row.pid,
        "started_at": iso(row.created_ms),
        "ended_at": iso(row.ended_ms),
        "uptime": max(0, ended_ms - row.created_ms) // 1000,
        "exit_code": row.exit_code,
        "reason": row.exit_reason,
        "wanted": row.wanted if row.ended_ms is not None else None,
    }


def equity_document(connection: Connection, bot_id: int) -> dict[str, Any]:
    """Allocated capital and what every closed position added to it, in the order of closing. Raises `NotFound`.

    Of more than `MOST_POINTS` positions every n-th is shown, and the last.
    """
    bot = bot_row(connection, bot_id)
    base = allocated(config_of(connection, bot_id, bot.config_version))
    table = TradingOrder
    rows = connection.execute(
        select(table.closed_ms, table.pnl)
        .where(table.bot_id == bot_id, table.closed_ms.is_not(None), table.pnl.is_not(None))
        .order_by(table.closed_ms, table.id)
    ).all()
    step = -(-len(rows) // MOST_POINTS) or 1
    points, pnl, peak = [], ZERO, base
    for number, row in enumerate(rows, start=1):
        pnl += row.pnl
        peak = max(peak, base + pnl)
        if number % step == 0 or number == len(rows):
            points.append(_point(row.closed_ms, base + pnl, pnl, peak))
    return {"bot_id": bot_id, "allocated": plain(base), "positions": len(rows), "points": points}


def _point(time_ms: int, equity: Decimal, pnl: Decimal, peak: Decimal) -> dict[str, Any]:
    drawdown = float((peak - equity) / peak) if peak > 0 else None
    return {"time": time_ms, "equity": plain(equity), "pnl": plain(pnl), "drawdown": drawdown}
