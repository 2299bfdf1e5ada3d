"""All that the fleet's pages read of the bots, in a fixed number of queries whatever their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, select

from server.storage import queries
from server.storage.figures import allocated
from server.storage.models import Bot, TradingConfigVersion
from server.storage.strategies import definitions
from server.storage.times import DAY_MS
from server.web.cpu_share import cpu_shares
from server.web.fleet_view import Seen
from server.web.holdings import holding_of, open_position_rows
from server.web.observed import observed
from server.web.spark import closed_pnl, spark

MAX_BOTS = 500


def load_fleet(connection: Connection, now: int) -> list[Seen]:
    """Every bot of the fleet with what the pages show of it."""
    rows = queries.bot_rows(connection, limit=MAX_BOTS)[:MAX_BOTS]
    ids = [row.id for row in rows]
    documents = {document["id"]: document for document in queries.bot_documents(connection, rows)}
    held, configs = open_position_rows(connection, ids), _configs(connection, ids)
    made = closed_pnl(connection, ids, min((_market_now(row, now) for row in rows), default=now) - DAY_MS)
    cpu, names = cpu_shares(connection, rows), {id_: d.name for id_, d in definitions().items()}
    fleet = []
    for row in rows:
        holding = holding_of(held[row.id], row.heartbeat)
        document = documents[row.id]
        state = observed(row.status, row.desired_state, row.status_since_ms, row.heartbeat_ms, now)
        fleet.append(
            Seen(
                bot=document,
                strategy=names.get(row.strategy, row.strategy),
                holding=holding,
                spark=spark(made.get(row.id, {}), _market_now(row, now), is_stale=state.is_silent),
                observed=state,
                decision_ms=_decision_ms(row),
                cpu_pct=cpu.get(row.id),
                allocated=allocated(configs.get(row.id, {})),
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
