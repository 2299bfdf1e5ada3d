"""What the system page shows: each check with value, limit, since when and what to do. Pure: figures in, lines out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from server.api.health import BEAT_LIMIT_MS
from server.web.formats import duration
from server.web.observed import STALE_MS
from server.web.probe import Answer

LAG_LIMIT = 1_000_000
DATABASE_LIMIT = 2_000_000_000
DISK_LIMIT = 2_000_000_000
OFFSET_LIMIT_MS = 500
WEIGHT_LIMIT, WEIGHT_BUDGET = 3600, 6000
QUEUE_LIMIT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line. *level*: ok, warn, bad or unknown; *share* of the limit, 0 to 1, None where it makes no sense."""

    name: str
    small: str
    level: str
    value: str
    unit: str
    limit: str
    share: float | None
    since_ms: int | None
    todo: str

    @property
    def pill(self) -> tuple[str, str, str]:
        """Kind, word and icon."""
        return _PILLS[self.level]


_SILENT = "It is asked again within a minute. If it stays so, check the network and the exchange."
_ORDER = ("bad", "warn", "unknown", "ok")
_PILLS = {
    "ok": ("running", "OK", "check"),
    "warn": ("warn", "Watch", "alert"),
    "bad": ("error", "Act", "alert"),
    "unknown": ("stopped", "Unknown", "info"),
}


def worst_first(checks: list[Check]) -> list[Check]:
    """What needs somebody on top."""
    return sorted(checks, key=lambda check: _ORDER.index(check.level))


def summary(checks: list[Check]) -> str:
    """``9 of 10 checks fine``."""
    fine = sum(check.level == "ok" for check in checks)
    unknown = sum(check.level == "unknown" for check in checks)
    return f"{fine} of {len(checks)} checks fine" + (f" · {unknown} not reported" if unknown else "")


def _check(name: str, amount: float | None, most: float, **texts: Any) -> Check:
    """A check that is fine up to *most*, to be watched above it, and bad above three times that."""
    level = "unknown" if amount is None else "ok" if amount <= most else "warn" if amount <= 3 * most else "bad"
    share = min(1.0, amount / most) if amount is not None and most else None
    blank: dict[str, Any] = {"small": "", "value": "not reported", "unit": "", "limit": "", "since_ms": None}
    return Check(name=name, level=level, share=share, **{**blank, "todo": "", **texts})


def supervisor_check(beat_ms: int | None, started_ms: int | None, pid: int | None, now: int) -> Check:
    """The supervisor's sign of life."""
    age = None if beat_ms is None else max(0, now - beat_ms)
    check = _check(
        "Supervisor heartbeat", age, BEAT_LIMIT_MS, small=f"process {pid}" if pid else "never seen",
        value="never" if age is None else f"{age / 1000:.1f}", unit="" if age is None else "s",
        limit=f"{BEAT_LIMIT_MS // 1000} s", since_ms=started_ms,
        todo="Start it: flotilla supervisor. Bots trade on and guard their positions meanwhile.",
    )  # fmt: skip
    return replace(check, level="bad" if age is None else check.level)


def heartbeat_check(oldest: tuple[str, int] | None) -> Check:
    """The oldest heartbeat (whose, how old in ms) of the bots that should speak; None where none should."""
    whose, age = oldest or ("", 0)
    return _check(
        "Bot heartbeats", age, STALE_MS, small=f"oldest: {whose}" if oldest else "no bot runs",
        value=f"{age / 1000:.0f}" if oldest else "none", unit="s" if oldest else "", limit=f"{STALE_MS // 1000} s",
        todo="Open its log; the supervisor kills and restarts a bot that stays silent.",
    )  # fmt: skip


def lag_check(lag_bytes: int | None) -> Check:
    """What bots wrote and nobody has booked yet."""
    return _check(
        "Journal lag", lag_bytes, LAG_LIMIT, small="written by bots, not booked yet",
        value="not reported" if lag_bytes is None else f"{lag_bytes / 1000:,.1f}",
        unit="" if lag_bytes is None else "kB",
        limit=f"{LAG_LIMIT // 1000:,} kB", todo="It falls by itself; if not, the database is too slow or locked.",
    )  # fmt: skip


def unread_check(count: int, newest_ms: int | None) -> Check:
    """Journal lines that could not be read."""
    check = _check(
        "Unreadable lines", count, 0, small="kept aside, nothing is lost", value=str(count), limit="0",
        since_ms=newest_ms, todo="Look at the table dead_letters: file, position and reason.",
    )  # fmt: skip
    return replace(check, level="warn" if count else "ok", share=None)


def database_check(size: int | None, wal: int | None) -> Check:
    """How large the database is."""
    return _check(
        "Database", size, DATABASE_LIMIT, small="WAL not reported" if wal is None else f"WAL {wal / 1e6:,.1f} MB",
        value="not reported" if size is None else f"{size / 1e6:,.1f}", unit="" if size is None else "MB",
        limit=f"{DATABASE_LIMIT // 1_000_000:,} MB", todo="Back it up; archive old runs, or move to PostgreSQL.",
    )  # fmt: skip


def disk_check(free: int, home: str) -> Check:
    """Room for journals and database."""
    level = "bad" if free < DISK_LIMIT // 4 else "warn" if free < DISK_LIMIT else "ok"
    return Check(
        name="Disk free", small=home, level=level, value=f"{free / 1e9:,.1f}", unit="GB",
        limit=f"≥ {DISK_LIMIT / 1e9:.0f}", share=min(1.0, DISK_LIMIT / free) if free else 1.0, since_ms=None,
        todo="Make room: on a full disk no position is opened, exits go on.",
    )  # fmt: skip


def clock_check(exchange: str, answer: Answer | None) -> Check:
    """How far the exchange's clock is from ours; requests bear our time."""
    offset = None if answer is None else answer.offset_ms
    small = "asked each minute" if answer is None or not answer.error else f"no answer: {answer.error}"
    if offset is not None and answer is not None and answer.round_trip_ms is not None:
        small = f"asked each minute, good to ±{answer.round_trip_ms / 2:.0f} ms"
    return _check(
        f"Clock offset, {exchange}", None if offset is None else abs(offset), OFFSET_LIMIT_MS, small=small,
        value="not reported" if offset is None else f"{offset:+.0f}".replace("-", "−"),
        unit="" if offset is None else "ms", limit=f"{OFFSET_LIMIT_MS} ms",
        todo=_SILENT
        if offset is None
        else "Let this machine's clock be set by NTP; the exchange refuses requests with a wrong time.",
    )  # fmt: skip


def weight_check(exchange: str, answer: Answer | None) -> Check:
    """Request weight used by this address in this minute, as the exchange counts it."""
    weight = None if answer is None else answer.weight
    return _check(
        f"Request weight, {exchange}", weight, WEIGHT_LIMIT, small="this minute, this address, all processes",
        value="not reported" if weight is None else f"{weight:,}",
        unit="" if weight is None else f"of {WEIGHT_BUDGET:,}", limit=f"{WEIGHT_LIMIT:,}",
        todo=_SILENT if weight is None else "Entries stop at 60 % of the budget; run fewer bots from this address.",
    )  # fmt: skip


def streams_check(count: int, most: int) -> Check:
    """Open pages with live updates."""
    return _check(
        "Web streams", count, most - 1, small="then pages ask each 10 s", value=str(count), limit=str(most),
        todo="Close pages that nobody looks at.",
    )  # fmt: skip


def queue_check(waiting: int, failed: int) -> Check:
    """Messages to people."""
    check = _check(
        "Notifications", waiting, QUEUE_LIMIT, small=f"{failed} given up in 24 hours" if failed else "none given up",
        value=str(waiting), unit="waiting", limit=str(QUEUE_LIMIT),
        todo="Try the channel out; its answer says what is wrong.",
    )  # fmt: skip
    return replace(check, level="warn") if failed and check.level == "ok" else check


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLine:
    """One process of this installation; *bot_id* for a bot's."""

    name: str
    pid: int
    cpu: str
    rss: str
    since_ms: int | None
    bot_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """A run that ended although nobody wanted it to."""

    bot_id: int
    bot: str
    run_id: str
    ended_ms: int
    lived: str
    how: str


def run_line(row: Any) -> RunLine:
    """A row of runs with its bot's name."""
    code = "" if row.exit_code is None else f"code {row.exit_code}"
    return RunLine(
        bot_id=row.bot_id,
        bot=row.bot,
        run_id=f"{row.bot_id}.{row.generation}",
        ended_ms=row.ended_ms,
        lived=duration(row.ended_ms - row.created_ms),
        how=" · ".join(filter(None, [code, row.exit_reason or ""])) or "ended without a word",
    )
