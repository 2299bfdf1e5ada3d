"""All that the fleet's pages read of the bots, in a fixed number of queries whatever their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from server.storage import queries
from server.storage.models import Bot, Event, TradingConfigVersion
from server.storage.strategies import definitions
from server.storage.times import DAY_MS
from server.web.fleet_view import Seen, silent_ms
from server.web.holdings import holding_of, open_position_rows
from server.web.spark import closed_pnl, spark
from shared.states import BotState
from shared.units import ZERO

MAX_BOTS = 500
_CPU_OVER_MS = 20_000


def load_fleet(connection: Connection, now: int) -> list[Seen]:
    """Every bot of the fleet with what the pages show of it."""
    rows = queries.bot_rows(connection, limit=MAX_BOTS)[:MAX_BOTS]
    ids = [row.id for row in rows]
    documents = {document["id"]: document for document in queries.bot_documents(connection, rows)}
    held, configs = open_position_rows(connection, ids), _configs(connection, ids)
    made = closed_pnl(connection, ids, min((_market_now(row, now) for row in rows), default=now) - DAY_MS)
    cpu, names = _cpu(connection, rows), {id_: d.name for id_, d in definitions().items()}
    fleet = []
    for row in rows:
        holding = holding_of(held[row.id], row.heartbeat)
        document = documents[row.id]
        is_stale = silent_ms(document, row.heartbeat_ms, now) is not None
        fleet.append(
            Seen(
                bot=document,
                strategy=names.get(row.strategy, row.strategy),
                holding=holding,
                spark=spark(made.get(row.id, {}), _market_now(row, now), is_stale=is_stale),
                heartbeat_ms=row.heartbeat_ms,
                decision_ms=_decision_ms(row),
                cpu_pct=cpu.get(row.id),
                allocated=_allocated(configs.get(row.id, {})),
                unrealised=holding.unrealised,
            )
        )
    return fleet


def _market_now(row: Row[Any], now: int) -> int:
    if row.market_ms is None or row.heartbeat_ms is None:
        return now
    return int(row.market_ms + max(0, now - row.heartbeat_ms))


def _decision_ms(row: Row[Any]) -> int | None:
    """When the bot last decided, by the wall clock: decisions carry the market's time."""
    if row.last_decision_ms is None or row.market_ms is None or row.heartbeat_ms is None:
        return None
    return int(row.heartbeat_ms - max(0, row.market_ms - row.last_decision_ms))


def _configs(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    newest = and_(TradingConfigVersion.bot_id == Bot.id, TradingConfigVersion.version == Bot.config_version)
    query = select(Bot.id, TradingConfigVersion.config).join(TradingConfigVersion, newest).where(Bot.id.in_(ids))
    return {row.id: row.config for row in connection.execute(query)}


def _allocated(config: Mapping[str, Any]) -> Decimal:
    per_trade, most = config.get("capital_per_trade"), config.get("max_positions")
    return Decimal(str(per_trade)) * int(most or 1) if per_trade is not None else ZERO


def _cpu(connection: Connection, rows: Sequence[Row[Any]]) -> dict[int, float]:
    """Share of one core (percent) between the latest heartbeat and the one kept before it, at least 20 s earlier."""
    running = [row for row in rows if row.status != BotState.STOPPED and row.heartbeat and row.heartbeat_ms]
    newest = (
        select(Event.id)
        .where(
            Event.bot_id == Bot.id, Event.type == "heartbeat", Event.run_id == Bot.run_id,
            Event.ts < Bot.heartbeat_ms - _CPU_OVER_MS,
        )
        .order_by(Event.id.desc()).limit(1).correlate(Bot).scalar_subquery()
    )  # fmt: skip
    query = select(Event.bot_id, Event.ts, Event.data).join(Bot, Event.id == newest)
    before = {row.bot_id: row for row in connection.execute(query.where(Bot.id.in_([r.id for r in running])))}
    shares = {}
    for row in running:
        spent, then = row.heartbeat.get("cpu_s"), before.get(row.id)
        if spent is None:
            continue
        if then is not None and then.data.get("cpu_s") is not None:
            shares[row.id] = 100_000 * (spent - then.data["cpu_s"]) / (row.heartbeat_ms - then.ts)
        elif row.started_ms is not None and row.heartbeat_ms > row.started_ms:
            shares[row.id] = 100_000 * spent / (row.heartbeat_ms - row.started_ms)
    return shares
