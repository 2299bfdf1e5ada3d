"""The tabs of a bot's page that are tables: orders, closed positions, decisions, runs, health.

Each has a function that reads and one dataclass per row; texts are decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, select

from server.storage.models import BotRun, Event, TradingOrder
from server.web.bot_read import BotSeen
from server.web.formats import Pnl, clock, duration, exact_price, money, pnl, price
from shared.states import OrderState, PositionState
from shared.units import ZERO, plain

CLOSED_SHOWN = 50
_SIGNALS_SHOWN = 100
_RUNS_SHOWN = 50
_INPUTS_SHOWN = 6
_ORDER_BADGES = {
    OrderState.FILLED: ("badge-ok", "check"),
    OrderState.NEW: ("badge-info", ""),
    OrderState.PARTIALLY_FILLED: ("badge-info", ""),
    OrderState.INTENT: ("badge-want", "hourglass"),
    OrderState.UNKNOWN: ("badge-want", "alert"),
    OrderState.REJECTED: ("badge-bad", "x"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """One order of an open position."""

    position_id: int
    position_key: int
    role: str
    kind: str
    client_order_id: str
    state: str
    css: str
    icon: str
    quantity: str
    filled: str
    price: str
    average: str
    average_exact: str
    reason: str


def order_rows(seen: BotSeen) -> tuple[OrderRow, ...]:
    """The orders of all open positions, newest position first."""
    return tuple(_order(row, leg) for row in seen.held for leg in row.document.get("legs", []))


def _order(row: Row[Any], leg: Mapping[str, Any]) -> OrderRow:
    known = leg.get("status") in set(OrderState)
    state = OrderState(leg["status"]) if known else None
    css, icon = _ORDER_BADGES.get(state, ("", "")) if state else ("", "")
    done, quote_done = _decimal(leg.get("executed_quantity")), _decimal(leg.get("executed_quote"))
    words = {OrderState.NEW: "resting", OrderState.INTENT: "being sent", OrderState.UNKNOWN: "asking the exchange"}
    return OrderRow(
        position_id=row.id,
        position_key=row.position_key,
        role=str(leg.get("role", "order")).capitalize(),
        kind=f"{str(leg.get('side', '')).lower()} · {str(leg.get('order_type', '')).lower().replace('_', ' ')}",
        client_order_id=str(leg.get("client_order_id", "")),
        state=words.get(state, state.value.replace("_", " ")) if state else str(leg.get("status", "unknown")),
        css=css,
        icon=icon,
        quantity=plain(_decimal(leg.get("quantity"))),
        filled=plain(done),
        price="at market" if leg.get("price") is None else price(_decimal(leg["price"])),
        average=price(quote_done / done) if done else "–",
        average_exact=exact_price(quote_done / done) if done else "",
        reason=str(leg.get("reason") or "").replace("_", " "),
    )


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value)) if value is not None else ZERO


# Closed positions


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedRow:
    """One closed position."""

    id: int
    closed_ms: int
    quantity: str
    entry: str
    entry_exact: str
    exit: str
    exit_exact: str
    pnl: Pnl
    percent: str
    fees: str
    reason: str
    held: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedPage:
    """Some closed positions, newest first. *older* leads to the page after; the sum is over the rows *shown*."""

    rows: tuple[ClosedRow, ...]
    shown_pnl: Pnl
    shown_fees: str
    all_pnl: Pnl
    all_fees: str
    all_trades: int
    older: int | None


def closed_page(connection: Connection, seen: BotSeen, before: int | None) -> ClosedPage:
    """Closed positions whose id is below *before* (None: the newest)."""
    query = select(TradingOrder).where(
        TradingOrder.bot_id == seen.row.id, TradingOrder.status == PositionState.CLOSED.value
    )
    if before is not None:
        query = query.where(TradingOrder.id < before)
    rows = connection.execute(query.order_by(TradingOrder.id.desc()).limit(CLOSED_SHOWN + 1)).all()
    shown = rows[:CLOSED_SHOWN]
    return ClosedPage(
        rows=tuple(_closed(row) for row in shown),
        shown_pnl=pnl(sum((row.pnl or ZERO for row in shown), ZERO)),
        shown_fees=money(sum((row.fees for row in shown), ZERO)),
        all_pnl=pnl(seen.total.pnl),
        all_fees=money(seen.total.fees),
        all_trades=seen.total.trades,
        older=shown[-1].id if len(rows) > CLOSED_SHOWN else None,
    )


def _closed(row: Row[Any]) -> ClosedRow:
    closed_ms = row.closed_ms if row.closed_ms is not None else row.opened_ms
    began = row.document.get("activated_ms") or row.opened_ms
    percent = "" if row.pnl_pct is None else f"{row.pnl_pct * 100:+.2f} %".replace("-", "−")
    return ClosedRow(
        id=row.id,
        closed_ms=closed_ms,
        quantity=plain(row.quantity),
        entry="–" if row.entry_price is None else price(row.entry_price),
        entry_exact=exact_price(row.entry_price),
        exit="–" if row.exit_price is None else price(row.exit_price),
        exit_exact=exact_price(row.exit_price),
        pnl=pnl(row.pnl if row.pnl is not None else ZERO),
        percent=percent,
        fees=money(row.fees),
        reason=(row.exit_reason or "").replace("_", " "),
        held=duration(closed_ms - began),
        version=row.config_version,
    )


# Decisions


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRow:
    """One decision that led to an action."""

    at_ms: int
    action: str
    score: str
    threshold: str
    price: str
    values: str
    all_values: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """What the bot decided in this run. *why_none* says in figures why there is no row."""

    taken: int
    above: int
    best: str
    threshold: str
    blocked: tuple[tuple[str, int], ...]
    last_held_back: str
    last_held_back_ms: int | None
    rows: tuple[SignalRow, ...]
    why_none: str


def decisions_of(connection: Connection, seen: BotSeen) -> Decisions:
    """Signals, newest first, and what the heartbeat counts."""
    beat = seen.beat
    wanted = select(Event).where(Event.bot_id == seen.row.id)
    signals = connection.execute(
        wanted.where(Event.type == "signal").order_by(Event.id.desc()).limit(_SIGNALS_SHOWN)
    ).all()
    held_back = connection.execute(wanted.where(Event.type == "risk").order_by(Event.id.desc()).limit(1)).first()
    threshold = _threshold(seen, signals)
    best = beat.get("best_score")
    taken, above = int(beat.get("decisions") or 0), int(beat.get("above_threshold") or 0)
    blocked = {str(k): int(v) for k, v in (beat.get("blocked") or {}).items() if isinstance(v, int)}
    return Decisions(
        taken=taken,
        above=above,
        best="–" if best is None else f"{best:.4g}",
        threshold="–" if threshold is None else f"{threshold:g}",
        blocked=tuple(sorted(blocked.items(), key=lambda item: -item[1])),
        last_held_back=str(held_back.data.get("message", "")) if held_back else "",
        last_held_back_ms=held_back.ts if held_back else None,
        rows=tuple(_signal(event) for event in signals),
        why_none=why_none(seen),
    )


def _threshold(seen: BotSeen, signals: Sequence[Row[Any]]) -> float | None:
    needs = seen.config.get("confidence_threshold")
    if needs is None and signals:
        needs = signals[0].data.get("threshold")
    return None if needs is None else float(needs)


def why_none(seen: BotSeen) -> str:
    """Why no decision has led to anything, in figures."""
    taken, above = int(seen.beat.get("decisions") or 0), int(seen.beat.get("above_threshold") or 0)
    if seen.run is None:
        return "It has never run. Decisions stand here as soon as one leads to an order."
    if seen.is_archived:
        return "The bot is archived and decides nothing more."
    if not taken:
        return "No decision in this run yet: it first gathers the bars that its strategy needs."
    needs = seen.config.get("confidence_threshold")
    reached = "to enter" if needs is None else f"above the threshold {float(needs):g}"
    return f"{taken:,} decision{'' if taken == 1 else 's'}, {above:,} {reached}."


def _signal(event: Row[Any]) -> SignalRow:
    data = event.data
    inputs = [f"{name} {_number(value)}" for name, value in (data.get("values") or {}).items()]
    more = len(inputs) > _INPUTS_SHOWN
    return SignalRow(
        at_ms=int(data.get("decision_ms") or event.ts),
        action=str(data.get("action", "?")),
        score="–" if data.get("score") is None else f"{data['score']:.4g}",
        threshold="–" if data.get("threshold") is None else f"{data['threshold']:.4g}",
        price="–" if data.get("price") is None else price(Decimal(repr(float(data["price"])))),
        values=", ".join(inputs[:_INPUTS_SHOWN]) + (f" and {len(inputs) - _INPUTS_SHOWN} more" if more else ""),
        all_values=", ".join(inputs),
        digest=str(data.get("feature_digest") or "")[:12],
    )


def _number(value: Any) -> str:
    text = f"{value:,.2f}" if abs(value) >= 100 else f"{value:.6f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text.replace("-", "−")


# Runs


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One process lifetime."""

    run_id: str
    kind: str
    by: str
    began_ms: int
    uptime: str
    state: str
    css: str
    code: str
    reason: str


def run_rows(connection: Connection, seen: BotSeen) -> tuple[RunRow, ...]:
    """The newest runs first."""
    query = select(BotRun).where(BotRun.bot_id == seen.row.id).order_by(BotRun.generation.desc()).limit(_RUNS_SHOWN)
    return tuple(_run(row, seen.now) for row in connection.execute(query))


def _run(row: Row[Any], now: int) -> RunRow:
    ended = row.ended_ms is not None
    orderly = ended and row.wanted and row.exit_code in (0, None)
    kinds = {"supervised": "by the supervisor", "manual": "by hand here", "remote": "by hand elsewhere"}
    host = f", {row.host}" if row.host else ""
    return RunRow(
        run_id=f"{row.bot_id}.{row.generation}",
        kind=kinds.get(row.kind, row.kind) + host,
        by=row.started_by or "–",
        began_ms=row.created_ms,
        uptime=duration((row.ended_ms if ended else now) - row.created_ms),
        state="runs" if not ended else "ended as wanted" if orderly else "ended unwanted",
        css="badge-ok" if not ended else "" if orderly else "badge-bad",
        code="–" if row.exit_code is None else str(row.exit_code),
        reason=row.exit_reason or "",
    )


# Health


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFact:
    """One measure, its limit, and whether it is past it."""

    label: str
    value: str
    limit: str = ""
    is_bad: bool = False
    age_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Signs of life of the last heartbeat."""

    facts: tuple[HealthFact, ...]
    errors: tuple[tuple[str, int], ...]
    streams: tuple[tuple[str, str, bool], ...]
    has_run: bool


def health_of(seen: BotSeen) -> Health:
    """What the last heartbeat says; a bot without one has no facts."""
    beat, row = seen.beat, seen.row
    if row.heartbeat_ms is None:
        return Health(facts=(), errors=(), streams=(), has_run=False)
    lag, cpu = beat.get("loop_lag_ms"), seen.cpu_pct
    facts = [
        HealthFact(label="Heartbeat", value="", limit="30 s", age_ms=row.heartbeat_ms, is_bad=seen.observed.is_silent),
        HealthFact(label="Decision latency, median", value=_micros(beat.get("latency_p50_us"))),
        HealthFact(label="Decision latency, 99 of 100", value=_micros(beat.get("latency_p99_us"))),
        HealthFact(
            label="Loop lag", value="–" if lag is None else f"{lag:.1f} ms", limit="1,000 ms", is_bad=(lag or 0) > 1000
        ),
        HealthFact(label="Memory", value="–" if row.rss_mib is None else f"{row.rss_mib:.1f} MiB"),
        HealthFact(label="Processor", value="–" if cpu is None else f"{cpu:.1f} %"),
        HealthFact(label="Processor time of this run", value=f"{beat.get('cpu_s', 0):.1f} s"),
        HealthFact(
            label="Orders and positions open", value=f"{beat.get('open_orders', 0)}, {beat.get('positions', 0)}"
        ),
        HealthFact(label="Restarts in 24 hours", value=str(seen.document["restarts_24h"])),
        HealthFact(label="Process", value="–" if row.pid is None else f"pid {row.pid}, run {row.run_id}"),
    ]
    if beat.get("last_candle_ms"):
        facts.append(HealthFact(label="Last candle, market time", value=clock(int(beat["last_candle_ms"]))))
    if abs(seen.offset_ms) > 10_000:
        ahead = "behind" if seen.offset_ms > 0 else "ahead of"
        facts.append(HealthFact(label="Market time", value=f"{duration(abs(seen.offset_ms))} {ahead} the clock"))
    errors = {str(k): int(v) for k, v in (beat.get("errors") or {}).items() if isinstance(v, int)}
    streams = [(str(name), str(state), str(state) != "live") for name, state in (beat.get("streams") or {}).items()]
    return Health(
        facts=tuple(facts),
        errors=tuple(sorted(errors.items(), key=lambda item: -item[1])),
        streams=tuple(sorted(streams)),
        has_run=True,
    )


def _micros(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value / 1000:.2f} ms" if value >= 1000 else f"{value:.0f} µs"
