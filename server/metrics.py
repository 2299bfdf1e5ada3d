"""Prometheus figures, read from the database at each scrape: the rows are the truth, also after a restart."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, func, select

from server.storage.engine import read
from server.storage.models import Bot, Fill, SupervisorBeat
from server.storage.queries import bot_documents
from server.storage.times import now_ms
from shared.states import BotState

Family = GaugeMetricFamily | CounterMetricFamily


def metrics_text(engine: Engine) -> bytes:
    """All figures in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fleet(engine))
    return generate_latest(registry)


class _Fleet(Collector):
    """Reads the fleet when it is scraped."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterator[Family]:
        """Nothing is known before the scrape."""
        return iter(())

    def collect(self) -> Iterator[Family]:
        """The families, from one snapshot of the database."""
        with read(self._engine) as connection:
            yield from _families(connection)


def _families(connection: Connection) -> Iterator[Family]:
    bots = list(connection.execute(select(Bot).where(Bot.archived_ms.is_(None)).order_by(Bot.id)))
    documents = {d["id"]: d for d in bot_documents(connection, bots)}
    now = now_ms()

    by_status = GaugeMetricFamily("flotilla_bots", "Bots by observed status.", labels=["status"])
    for status in BotState:
        by_status.add_metric([status.value], sum(bot.status == status for bot in bots))
    yield by_status

    labels = ["bot", "name", "symbol"]
    age = GaugeMetricFamily("flotilla_bot_heartbeat_age_seconds", "Age of the latest heartbeat.", labels=labels)
    pnl = GaugeMetricFamily("flotilla_bot_pnl_quote", "Realised PNL net of fees, in quote.", labels=labels)
    today = GaugeMetricFamily("flotilla_bot_pnl_today_quote", "The same since 00:00 UTC.", labels=labels)
    held = GaugeMetricFamily("flotilla_bot_open_positions", "Pending and active positions.", labels=labels)
    restarts = GaugeMetricFamily("flotilla_bot_restarts_24h", "Restarts in the last 24 hours.", labels=labels)
    memory = GaugeMetricFamily("flotilla_bot_rss_mebibytes", "Resident memory of the process.", labels=labels)
    fills = CounterMetricFamily("flotilla_bot_fills", "Executions booked.", labels=labels)
    counts = {row[0]: row[1] for row in connection.execute(select(Fill.bot_id, func.count()).group_by(Fill.bot_id))}
    for bot in bots:
        who, document = [str(bot.id), bot.name, bot.symbol], documents[bot.id]
        if bot.heartbeat_ms is not None and bot.status != BotState.STOPPED:
            age.add_metric(who, max(0, now - bot.heartbeat_ms) / 1000)
        if bot.rss_mib is not None and bot.status != BotState.STOPPED:
            memory.add_metric(who, bot.rss_mib)
        pnl.add_metric(who, float(document["pnl_total"]))
        today.add_metric(who, float(document["pnl_today"]))
        held.add_metric(who, document["open_positions"])
        restarts.add_metric(who, document["restarts_24h"])
        fills.add_metric(who, counts.get(bot.id, 0))
    yield from (age, pnl, today, held, restarts, memory, fills)

    beat = connection.execute(select(SupervisorBeat).order_by(SupervisorBeat.beat_ms.desc()).limit(1)).first()
    if beat is not None:
        seconds = max(0, now - beat.beat_ms) / 1000
        yield GaugeMetricFamily(
            "flotilla_supervisor_beat_age_seconds", "Age of the supervisor's sign of life.", seconds
        )
        yield GaugeMetricFamily("flotilla_journal_lag_bytes", "Journal bytes not yet booked.", beat.journal_lag_bytes)
