"""Wall-clock times: UTC milliseconds in rows, ISO 8601 with ``Z`` in what people read."""

from __future__ import annotations

import time
from datetime import UTC, datetime

DAY_MS = 86_400_000


def now_ms() -> int:
    """The wall clock in UTC milliseconds."""
    return time.time_ns() // 1_000_000


def iso(ms: int | None) -> str | None:
    """``2026-11-20T14:32:08.123Z`` for UTC milliseconds; None stays None."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day_of(ms: int) -> int:
    """Number of the UTC day, counted from 1970-01-01."""
    return ms // DAY_MS


def iso_day(day: int) -> str:
    """``2026-11-20`` for a day number."""
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")
