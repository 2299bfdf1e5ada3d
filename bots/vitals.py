"""A bot's signs of life: latencies, loop lag, memory and errors, gathered for its heartbeat."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections import Counter, deque
from typing import Final

from bots.core.candles import Candle
from bots.core.trader import Trader
from shared.events import ErrorSeen, Heartbeat

ERROR_AGAIN_S: Final = 60.0
LATENCIES_KEPT: Final = 1024

log = logging.getLogger(__name__)


class Vitals:
    """What one run measures of itself. `lag_ms` is how late the latest heartbeat was."""

    def __init__(self) -> None:
        self.lag_ms = 0.0
        self._latencies_us: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._errors: Counter[str] = Counter()
        self._told_at: dict[tuple[str, str], float] = {}

    def decided(self, arrived: float) -> None:
        """A decision was taken on a frame that arrived at *arrived* (``time.perf_counter``)."""
        self._latencies_us.append((time.perf_counter() - arrived) * 1e6)

    def error(self, kind: str, message: str) -> ErrorSeen | None:
        """Count an error; the event to tell, or None: of what fails again and again with one subject, one a minute.

        The subject is the message up to its first colon.
        """
        self._errors[kind] += 1
        now, about = time.monotonic(), (kind, message.partition(":")[0])
        self._told_at = {key: at for key, at in self._told_at.items() if now - at < ERROR_AGAIN_S}
        if self._told_at.setdefault(about, now) != now:
            return None
        correlation_id = uuid.uuid4().hex[:12]
        log.warning("%s (%s): %s", kind, correlation_id, message)
        return ErrorSeen(kind=kind, message=message, correlation_id=correlation_id)

    def heartbeat(self, trader: Trader, candle: Candle | None, streams: dict[str, str]) -> Heartbeat:
        """The heartbeat of this moment; *candle* is the last one delivered."""
        latencies = sorted(self._latencies_us)
        return Heartbeat(
            last_candle_ms=candle.end_ms if candle else None,
            last_price=candle.close if candle else None,
            loop_lag_ms=round(self.lag_ms, 3),
            latency_p50_us=_quantile(latencies, 0.50),
            latency_p99_us=_quantile(latencies, 0.99),
            decisions=trader.tally.decisions,
            above_threshold=trader.tally.above_threshold,
            blocked=dict(trader.blocked),
            best_score=trader.tally.best_score,
            last_decision_ms=trader.tally.last_decision_ms,
            decision_digest=trader.digest,
            open_orders=trader.orders.open_orders,
            positions=len(trader.orders.positions),
            unrealised_pnl=trader.orders.unrealised(),
            rss_mib=round(_rss_mib(), 1),
            cpu_s=round(time.process_time(), 2),
            config_version=trader.config_version,
            errors=dict(self._errors),
            streams=streams,
        )


def _quantile(ordered: list[float], fraction: float) -> float | None:
    return round(ordered[min(int(len(ordered) * fraction), len(ordered) - 1)], 1) if ordered else None


def _rss_mib() -> float:
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1_048_576
