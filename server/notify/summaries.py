"""The fleet in a few lines: now, its results, and each day's summary. Currencies are never added together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from server.notify import outbox
from server.notify.templates import NAME_CHARS, Message, one_line, place_label, signed
from server.storage.models import Bot, Event, Setting, TradingConfigVersion, TradingStats
from server.storage.queries import bot_documents, bot_rows, open_positions
from server.storage.times import DAY_MS, day_of, iso_day, now_ms
from server.web.formats import split_symbol
from shared.states import BotState
from shared.units import ZERO, plain

MOST_BOTS = 500
_LAST_DAY = "notify.last_day"


@dataclass(slots=True)
class Sums:
    """Results in one quote asset."""

    trades: int = 0
    wins: int = 0
    pnl: Decimal = ZERO
    fees: Decimal = ZERO
    by_bot: dict[str, Decimal] = field(default_factory=lambda: defaultdict(lambda: ZERO))


def fleet_documents(connection: Connection) -> list[dict[str, Any]]:
    """The bots as the API shows them, by id."""
    rows = bot_rows(connection, limit=MOST_BOTS)[:MOST_BOTS]
    return sorted(bot_documents(connection, rows), key=lambda bot: int(bot["id"]))


def status_text(connection: Connection) -> str:
    """The fleet at a glance."""
    bots = fleet_documents(connection)
    if not bots:
        return "There are no bots yet."
    counts = Counter(bot["status"] for bot in bots)
    states = ", ".join(f"{counts[state]} {state}" for state in BotState if counts[state])
    held = sum(bot["open_positions"] for bot in bots)
    lines = [f"{_count(len(bots), 'bot')} ({_places(bots)}): {states}", _count(held, "open position")]
    lines += [f"PNL today {signed(sums)} {quote}" for quote, sums in _by_quote(bots, "pnl_today").items()]
    lines += [f"! {bot_label(bot)}: {one_line(bot['status_reason'] or 'error', 120)}" for bot in bots if _is_bad(bot)]
    lines += [f"! {bot_label(bot)} is halted" for bot in bots if bot["halted"]]
    return "\n".join(lines)


def bots_text(connection: Connection) -> str:
    """Every bot on a line: id, name, state, positions, PNL of today."""
    bots = fleet_documents(connection)
    return "\n".join(bot_line(bot) for bot in bots) or "There are no bots yet."


def bot_line(bot: Mapping[str, Any]) -> str:
    """One bot, its state as observed, and what is wanted where that differs."""
    parts = [state_text(bot)]
    if bot["open_positions"]:
        parts.append(f"{bot['open_positions']} open")
    quote = split_symbol(bot["symbol"])[1]
    parts.append(f"today {signed(Decimal(bot['pnl_today']))} {quote}".rstrip())
    return f"{bot_label(bot)}: {', '.join(parts)}"


def bot_label(bot: Mapping[str, Any]) -> str:
    """``3 eth-scalper [SIM]``."""
    return f"{bot['id']} {one_line(bot['name'], NAME_CHARS)} [{place_label(bot['exchange'], bot['mode'])}]"


def state_text(bot: Mapping[str, Any]) -> str:
    """``paused``, or ``running, wanted paused``."""
    halted = ", halted" if bot["halted"] else ""
    wanted = "" if bot["status"] == bot["desired_state"] else f", wanted {bot['desired_state']}"
    return f"{bot['status']}{wanted}{halted}"


def pnl_text(connection: Connection, span: str) -> str:
    """Results of *span*, today or total, per quote asset, net of fees."""
    query = _results()
    if span == "today":
        query = query.where(TradingStats.day == day_of(now_ms()))
    lines = _result_lines(_sums(connection.execute(query)))
    title = "Today (UTC)" if span == "today" else "Total"
    return "\n".join([f"{title}, net of fees:", *lines]) if lines else f"{title}: no closed position."


def write_daily(connection: Connection, today: int, now: int) -> None:
    """Queue the summary of the day before *today*, once; the first call ever only notes where to begin."""
    name = Setting.name == _LAST_DAY
    last = connection.execute(select(Setting.value).where(name)).scalar_one_or_none()
    if last is not None and int(last) >= today:
        return
    connection.execute(delete(Setting).where(name))
    connection.execute(insert(Setting).values(name=_LAST_DAY, value=str(today)))
    if last is not None and outbox.channels(connection):
        outbox.tell(
            connection, Message(kind="daily", text=daily_text(connection, today - 1), key=f"daily:{today}"), now
        )


def daily_text(connection: Connection, day: int) -> str:
    """The summary of one UTC day, of the bots whose config has it switched on."""
    told = _told_daily(connection)
    days = connection.execute(_results().where(TradingStats.day == day))
    lines = _result_lines(_sums(row for row in days if row.id in told)) or ["No closed position."]
    held = sum(open_positions(connection, sorted(told)).values())
    lines.append(f"{_count(held, 'open position')}, {_count(_errors(connection, sorted(told), day), 'error')}")
    return "\n".join([f"Summary of {iso_day(day)} (UTC)", *lines])


def _told_daily(connection: Connection) -> set[int]:
    newest = (TradingConfigVersion.bot_id == Bot.id) & (TradingConfigVersion.version == Bot.config_version)
    rows = connection.execute(
        select(Bot.id, TradingConfigVersion.config).join(TradingConfigVersion, newest, isouter=True)
    )
    return {row.id for row in rows if (row.config or {}).get("notify_daily", True)}


def _errors(connection: Connection, bot_ids: Sequence[int], day: int) -> int:
    begin, end = day * DAY_MS, (day + 1) * DAY_MS
    found = connection.execute(
        select(func.count()).where(
            Event.bot_id.in_(bot_ids), Event.type == "error", Event.ts >= begin, Event.ts < end
        )
    )  # fmt: skip
    return int(found.scalar_one())


def _results() -> Any:
    figures = (TradingStats.trades, TradingStats.wins, TradingStats.pnl, TradingStats.fees)
    return select(Bot.id, Bot.name, Bot.symbol, *figures).join(TradingStats, TradingStats.bot_id == Bot.id)


def _sums(rows: Iterable[Row[Any]]) -> dict[str, Sums]:
    by_quote: dict[str, Sums] = defaultdict(Sums)
    for row in rows:
        sums = by_quote[split_symbol(row.symbol)[1] or row.symbol]
        sums.trades += row.trades
        sums.wins += row.wins
        sums.pnl += row.pnl
        sums.fees += row.fees
        sums.by_bot[f"{one_line(row.name, NAME_CHARS)} ({row.id})"] += row.pnl
    return dict(sorted(by_quote.items()))


def _result_lines(by_quote: Mapping[str, Sums]) -> list[str]:
    lines = []
    for quote, sums in by_quote.items():
        lines.append(
            f"{signed(sums.pnl)} {quote}: {_count(sums.trades, 'trade')}, {sums.wins} won, fees {plain(sums.fees)}"
        )
        best, worst = max(sums.by_bot, key=sums.by_bot.__getitem__), min(sums.by_bot, key=sums.by_bot.__getitem__)
        if best != worst:
            lines.append(f"  best {best} {signed(sums.by_bot[best])}, worst {worst} {signed(sums.by_bot[worst])}")
    return lines


def _by_quote(bots: Sequence[Mapping[str, Any]], name: str) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for bot in bots:
        sums[split_symbol(bot["symbol"])[1] or bot["symbol"]] += Decimal(bot[name])
    return dict(sorted(sums.items()))


def _places(bots: Sequence[Mapping[str, Any]]) -> str:
    counts = Counter(place_label(bot["exchange"], bot["mode"]) for bot in bots)
    return ", ".join(counts) if len(counts) == 1 else ", ".join(f"{n} {place}" for place, n in counts.items())


def _is_bad(bot: Mapping[str, Any]) -> bool:
    return bool(bot["status"] == BotState.ERROR)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
