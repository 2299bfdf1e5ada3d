"""A line without axes: how a bot's closed PnL went over the last 24 hours. Pictures are floats; money is elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Float, Integer, cast, func, select

from server.storage.models import TradingOrder
from server.storage.times import DAY_MS

WIDTH, HEIGHT, EDGE = 96.0, 28.0, 3.0
BUCKET_MS = 1_800_000
BUCKETS = DAY_MS // BUCKET_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Spark:
    """Points and paths in a box of 96 × 28; *css* is up, down or muted."""

    css: str
    label: str
    points: str
    area: str
    zero: str
    end: tuple[str, str] | None


def closed_pnl(connection: Connection, bot_ids: Sequence[int], since_ms: int) -> dict[int, dict[int, float]]:
    """What each bot's positions made per half hour (number of the half hour since 1970 → quote), from *since_ms* on."""
    bucket = cast(TradingOrder.closed_ms / BUCKET_MS, Integer)
    query = (
        select(TradingOrder.bot_id, bucket.label("bucket"), func.sum(cast(TradingOrder.pnl, Float)).label("pnl"))
        .where(TradingOrder.closed_ms >= since_ms, TradingOrder.bot_id.in_(bot_ids), TradingOrder.pnl.is_not(None))
        .group_by(TradingOrder.bot_id, bucket)
    )
    made: dict[int, dict[int, float]] = defaultdict(dict)
    for row in connection.execute(query):
        made[row.bot_id][int(row.bucket)] = row.pnl or 0.0
    return made


def spark(made: Mapping[int, float], now_ms: int, *, is_stale: bool = False) -> Spark:
    """The line of what was *made* per half hour up to *now_ms*, cumulated from zero."""
    last = now_ms // BUCKET_MS
    total, series = 0.0, [0.0]
    for bucket in range(last - BUCKETS + 1, last + 1):
        total += made.get(bucket, 0.0)
        series.append(total)
    low, high = min(series), max(series)
    if low == high:
        flat = f"{HEIGHT / 2:.1f}"
        return Spark(
            css="muted", label="PnL over 24 hours, ends flat", points=f"0.0,{flat} {WIDTH},{flat}", area="",
            zero=f"M0,{flat}H96", end=None,
        )  # fmt: skip
    step, scale = WIDTH / (len(series) - 1), (HEIGHT - 2 * EDGE) / (high - low)
    heights = [HEIGHT - EDGE - (value - low) * scale for value in series]
    points = " ".join(f"{i * step:.1f},{y:.1f}" for i, y in enumerate(heights))
    zero = f"{HEIGHT - EDGE + low * scale:.1f}"
    return Spark(
        css="muted" if is_stale or total == 0 else "up" if total > 0 else "down",
        label=f"PnL over 24 hours, ends {_signed(total)}",
        points=points,
        area=f"M0,{zero} L{points.replace(' ', ' L')} L96,{zero}z",
        zero=f"M0,{zero}H96",
        end=(f"{WIDTH:.1f}", f"{heights[-1]:.1f}"),
    )


def _signed(amount: float) -> str:
    return f"{amount:+,.2f}".replace("-", "−") if round(amount, 2) else "flat"
