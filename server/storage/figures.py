"""A bot's results, in all and by day. All sums of money are made here, in `Decimal`, not in SQL."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, select

from server.storage.models import TradingOrder, TradingStats
from server.storage.queries import bot_row, config_of
from server.storage.times import day_of, iso_day
from shared.units import ZERO, plain

_DAYS_A_YEAR = 365


def stats_document(connection: Connection, bot_id: int) -> dict[str, Any]:
    """Totals and days, newest day first. Raises `NotFound`."""
    bot = bot_row(connection, bot_id)
    days = list(
        connection.execute(select(TradingStats).where(TradingStats.bot_id == bot_id).order_by(TradingStats.day))
    )
    closed = _closed_pnl(connection, bot_id)
    base = allocated(config_of(connection, bot_id, bot.config_version))
    by_day: dict[int, list[Decimal]] = defaultdict(list)
    for day, pnl in closed:
        by_day[day].append(pnl)
    return {
        "bot_id": bot_id,
        "totals": {
            **_figures(days, [pnl for _, pnl in closed], base),
            "sharpe": sharpe([pnl / base for pnl in _each_day(days)]) if base else None,
        },
        "by_day": [{"day": iso_day(day.day), **_figures([day], by_day[day.day], base)} for day in reversed(days)],
    }


def max_drawdown(pnl: Iterable[Decimal], base: Decimal) -> tuple[Decimal, float | None]:
    """Largest fall of *base* + summed *pnl* from its peak: in quote, and as a fraction of that peak (None: no base)."""
    equity = peak = base
    worst, worst_share = ZERO, ZERO
    for change in pnl:
        equity += change
        peak = max(peak, equity)
        worst = max(worst, peak - equity)
        if peak > 0:
            worst_share = max(worst_share, (peak - equity) / peak)
    return worst, float(worst_share) if base else None


def sharpe(daily_returns: Sequence[Decimal]) -> float | None:
    """Annual Sharpe ratio of daily returns, riskless rate 0; None for fewer than two days, or days all alike."""
    returns = [float(r) for r in daily_returns]
    if len(returns) < 2:
        return None
    spread = statistics.stdev(returns)
    return statistics.fmean(returns) / spread * _DAYS_A_YEAR**0.5 if spread > 0 else None


def _each_day(days: Sequence[Row[Any]]) -> list[Decimal]:
    """The PNL of every day from the first to the last, those without a trade included."""
    by_day = {d.day: d.pnl for d in days}
    return [by_day.get(day, ZERO) for day in range(days[0].day, days[-1].day + 1)] if days else []


def _figures(days: Sequence[Row[Any]], closed: Sequence[Decimal], base: Decimal) -> dict[str, Any]:
    trades, wins = sum(d.trades for d in days), sum(d.wins for d in days)
    gains, losses = sum((d.gains for d in days), ZERO), abs(sum((d.losses_sum for d in days), ZERO))
    fall, fall_share = max_drawdown(closed, base)
    return {
        "trades": trades,
        "wins": wins,
        "losses": sum(d.losses for d in days),
        "win_rate": wins / trades if trades else None,
        "gross_pnl": plain(sum((d.gross_pnl for d in days), ZERO)),
        "pnl": plain(sum((d.pnl for d in days), ZERO)),
        "fees": plain(sum((d.fees for d in days), ZERO)),
        "profit_factor": float(gains / losses) if losses else None,
        "max_drawdown": plain(fall),
        "max_drawdown_pct": fall_share,
        "avg_holding_time": sum(d.holding_ms for d in days) / trades / 1000 if trades else None,
    }


def _closed_pnl(connection: Connection, bot_id: int) -> list[tuple[int, Decimal]]:
    """Day and PNL of each closed position, in the order in which they closed."""
    rows = connection.execute(
        select(TradingOrder.closed_ms, TradingOrder.pnl)
        .where(TradingOrder.bot_id == bot_id, TradingOrder.closed_ms.is_not(None), TradingOrder.pnl.is_not(None))
        .order_by(TradingOrder.closed_ms, TradingOrder.id)
    )
    return [(day_of(row.closed_ms), row.pnl) for row in rows]


def allocated(config: dict[str, Any]) -> Decimal:
    """The capital that a bot with this config may have at work at once, in quote."""
    return Decimal(str(config.get("capital_per_trade") or 0)) * int(config.get("max_positions") or 1)
