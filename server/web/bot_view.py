"""What the page of one bot shows above its tabs: state, key figures, open positions. Texts are decided here.

Pure: made from what `server.web.bot_read` has read; the templates only place it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Row

from server.web.bot_read import BotSeen, Totals
from server.web.formats import Pnl, clock, duration, money, pnl, price, split_symbol
from server.web.observed import STALE_MS
from server.web.shell import place_of
from shared.intervals import INTERVAL_MS
from shared.states import OrderState, PositionState
from shared.units import ZERO, plain

_DECISION_LATE = 3
_PLACES = {"simulator": "simulator", "binance": "Binance", "binance_testnet": "Binance testnet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Who the bot is and how it is. *wanted* is set where the wish is not fulfilled yet."""

    id: int
    name: str
    pill: str
    label: str
    icon: str
    spins: bool
    since_ms: int | None
    reason: str | None
    wanted: str | None
    observed: str
    halted: str | None
    place: str
    line: str
    more: str
    description: str
    tags: tuple[str, ...]
    archived_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kpi:
    """One key figure: an amount, or a text, or an age. *meter* is 0 to 100 of a limit."""

    title: str
    amount: Pnl | None = None
    text: str = ""
    age_ms: int | None = None
    unit: str = ""
    sub: str = ""
    meter: float | None = None
    meter_css: str = "f-ink"
    is_old: bool = False

    @property
    def is_long(self) -> bool:
        """It needs smaller digits to stay in its box."""
        return len(self.amount.text if self.amount else self.text) > 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line of a position: label, text, and something beside it."""

    label: str
    text: str
    title: str = ""
    amount: Pnl | None = None
    beside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One station in the life of an order. *css*: done, fill or wait."""

    css: str
    title: str
    when: str
    when_exact: str
    small: str = ""
    mono: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPosition:
    """One position that is pending or active."""

    id: int
    key: int
    title: str
    pnl: Pnl | None
    facts: tuple[Fact, ...]
    life: tuple[Step, ...]


def head_of(seen: BotSeen, strategy_name: str) -> Head:
    """The title, the state and the line under it."""
    row, state = seen.row, seen.observed
    decides = seen.config.get("signal_interval")
    every = f"every {decides} s" if decides else f"on each {row.interval} bar"
    line = [row.symbol, strategy_name, _PLACES.get(row.exchange, row.exchange), f"decides {every}"]
    return Head(
        id=row.id,
        name=row.name,
        pill=state.pill,
        label=state.label,
        icon=state.icon,
        spins=state.spins,
        since_ms=row.status_since_ms,
        reason=None if row.halted and row.status_reason == "halted" else row.status_reason,
        wanted=None if seen.is_archived else state.wanted,
        observed=state.status.value,
        halted=(row.halt_reason or "halted") if row.halted and not seen.is_archived else None,
        place=place_of(row.exchange, row.mode),
        line=" · ".join(line),
        more=_running_since(seen),
        description=row.description,
        tags=tuple(row.tags),
        archived_ms=row.archived_ms,
    )


def _running_since(seen: BotSeen) -> str:
    run = seen.run
    if run is None:
        return "never started"
    by = f", started by {run.started_by}" if run.started_by else ""
    kind = "" if run.kind == "supervised" else f", run by hand{' on ' + run.host if run.host else ''}"
    if run.ended_ms is not None:
        return f"last run {run.bot_id}.{run.generation} ended {clock(run.ended_ms)}"
    return f"run {run.bot_id}.{run.generation} since {clock(seen.row.started_ms or run.created_ms)}{by}{kind}"


# Key figures


def kpis_of(seen: BotSeen) -> tuple[Kpi, ...]:
    """The six figures of the strip."""
    quote = split_symbol(seen.row.symbol)[1]
    old = seen.observed.is_silent
    return (
        Kpi(title="PnL today, net", amount=pnl(seen.today.pnl), unit=quote, sub=_trades(seen.today), is_old=old),
        Kpi(
            title="PnL total, net",
            amount=pnl(seen.total.pnl),
            unit=quote,
            sub=f"fees {money(seen.total.fees)} · {_trades(seen.total).partition(' · ')[0]}",
            is_old=old,
        ),
        _drawdown_kpi(seen, quote),
        _loss_kpi(seen, quote),
        _decision_kpi(seen),
        _heartbeat_kpi(seen),
    )


def _trades(totals: Totals) -> str:
    if not totals.trades:
        return "no trade closed"
    won = round(100 * totals.wins / totals.trades)
    return f"{totals.trades:,} trade{'' if totals.trades == 1 else 's'} · {won} % won"


def _drawdown_kpi(seen: BotSeen, quote: str) -> Kpi:
    fall, share = seen.drawdown
    limit = seen.config.get("max_drawdown_pct")
    sub = f"{money(fall)} {quote} below the peak".replace("  ", " ")
    if share is None:
        return Kpi(title="Max drawdown", text=money(fall), unit=quote, sub="nothing is allocated")
    if limit is None:
        return Kpi(title="Max drawdown", text=f"{share * 100:.2f}", unit="%", sub=sub)
    used = min(100.0, share / float(limit) * 100) if limit else 100.0
    css = "f-bad" if used >= 100 else "f-warn" if used >= 75 else "f-ink"
    unit = f"% of {float(limit) * 100:.2f} limit"
    return Kpi(title="Max drawdown", text=f"{share * 100:.2f}", unit=unit, meter=used, meter_css=css)


def _loss_kpi(seen: BotSeen, quote: str) -> Kpi:
    text = seen.config.get("max_daily_loss")
    if text is None:
        return Kpi(title="Daily loss left", text="no limit", sub="set one under Config")
    limit = Decimal(str(text))
    unrealised = Decimal(str(seen.beat.get("unrealised_pnl") or 0)) if seen.held else ZERO
    is_old = seen.old_ms is not None and unrealised != ZERO
    left = max(ZERO, limit + min(ZERO, seen.today.pnl + unrealised))
    used = float((limit - left) / limit * 100) if limit else 100.0
    css = "f-bad" if left == ZERO else "f-warn" if used >= 75 else "f-ink"
    sub = f"of {money(limit)} · resets 00:00 UTC" if left else f"of {money(limit)}: no entries until 00:00 UTC"
    return Kpi(
        title="Daily loss left", text=money(left), unit=quote, sub=sub, meter=used or None, meter_css=css, is_old=is_old
    )


def _decision_kpi(seen: BotSeen) -> Kpi:
    beat, decided = seen.beat, seen.row.last_decision_ms
    taken, above = beat.get("decisions") or 0, beat.get("above_threshold") or 0
    if decided is None:
        waits = "" if seen.is_archived else "it decides once it runs and has its bars"
        return Kpi(title="Last decision", text="none", sub=waits)
    best, needs = beat.get("best_score"), seen.config.get("confidence_threshold")
    # A best score says something only where more is better, up to a threshold.
    has_score = best is not None and needs is not None
    sub = f"best {best:.3g}, needs {needs:g}" if has_score else f"{taken:,} taken, {above:,} to enter"
    step = 1000 * int(seen.config.get("signal_interval") or INTERVAL_MS.get(seen.row.interval, 1000) // 1000)
    at = decided + (seen.offset_ms if abs(seen.offset_ms) > 10_000 else 0)
    return Kpi(
        title="Last decision",
        age_ms=at,
        unit="ago",
        sub=sub,
        is_old=seen.observed.speaks and seen.now - at > max(STALE_MS, _DECISION_LATE * step),
    )


def _heartbeat_kpi(seen: BotSeen) -> Kpi:
    if seen.row.heartbeat_ms is None:
        return Kpi(title="Heartbeat", text="none", sub="" if seen.is_archived else "no run has reported yet")
    rss = seen.row.rss_mib
    cpu = seen.cpu_pct
    words = [] if rss is None else [f"{rss:.0f} MiB"]
    words += [] if cpu is None else [f"{cpu:.1f} % CPU"]
    return Kpi(
        title="Heartbeat",
        age_ms=seen.row.heartbeat_ms,
        unit="ago",
        sub=" · ".join(words),
        is_old=seen.observed.is_silent,
    )


# Open positions


def positions_of(seen: BotSeen, life: Mapping[int, Sequence[Mapping[str, Any]]]) -> tuple[OpenPosition, ...]:
    """The open positions, newest first."""
    return tuple(_position(seen, row, life.get(row.position_key, ())) for row in seen.held)


def unrealised_of(row: Row[Any], last: Decimal | None) -> Decimal | None:
    """What the position would gain if it were sold at *last*, before the fees of that sale."""
    held, cost = held_of(row), Decimal(str(row.document.get("cost") or 0))
    if last is None or not held or not row.quantity or not cost:
        return None
    return held * last - cost * held / row.quantity


def held_of(row: Row[Any]) -> Decimal:
    """Base quantity bought and not yet sold."""
    return row.quantity - Decimal(str(row.document.get("sold_quantity") or 0))


def _position(seen: BotSeen, row: Row[Any], life: Sequence[Mapping[str, Any]]) -> OpenPosition:
    base, quote = split_symbol(row.symbol)
    gain = unrealised_of(row, seen.last_price)
    is_pending = row.status == PositionState.PENDING
    title = f"Entry of {_ordered(row)} {base} waits" if is_pending else f"{plain(held_of(row))} {base}"
    return OpenPosition(
        id=row.id,
        key=row.position_key,
        title=title,
        pnl=None if gain is None else pnl(gain),
        facts=_facts(seen, row, base, quote),
        life=_life(row, life, quote),
    )


def _ordered(row: Row[Any]) -> str:
    legs = [leg for leg in row.document.get("legs", []) if leg.get("role") == "entry"]
    return plain(Decimal(str(legs[-1]["quantity"]))) if legs and legs[-1].get("quantity") is not None else ""


def _facts(seen: BotSeen, row: Row[Any], base: str, quote: str) -> tuple[Fact, ...]:
    document, last, facts = row.document, seen.last_price, []
    held = held_of(row)
    if held:
        facts.append(Fact(label="Long", text=f"{plain(held)} {base}"))
        if last is not None:
            facts.append(Fact(label="Value", text=f"{money(held * last)} {quote}", title=plain(held * last)))
    if row.entry_price is not None:
        facts.append(Fact(label="Entry", text=price(row.entry_price), title=plain(row.entry_price)))
    if last is not None:
        change = pnl(round((last / row.entry_price - 1) * 100, 2)) if row.entry_price else None
        facts.append(
            Fact(label="Last", text=price(last), title=plain(last), amount=change, beside="%" if change else "")
        )
    for name, label in (("target_price", "Target"), ("stop_price", "Stop")):
        if document.get(name) is not None:
            level = Decimal(str(document[name]))
            away = f"{(level / last - 1) * 100:+.2f} % away".replace("-", "−") if last else ""
            facts.append(Fact(label=label, text=price(level), title=plain(level), beside=away))
        elif held:
            facts.append(Fact(label=label, text="none"))
    deadline = document.get("exit_deadline_ms") if held else document.get("entry_deadline_ms")
    if deadline is not None:
        left = int(deadline) + seen.offset_ms - seen.now
        beside = f"in {duration(left)}" if left > 0 else "now due"
        label = "Closes by time" if held else "Entry given up"
        facts.append(Fact(label=label, text=clock(int(deadline))[11:19], title=clock(int(deadline)), beside=beside))
    if document.get("exiting"):
        facts.append(Fact(label="Being sold", text=str(document["exiting"]).replace("_", " ")))
    facts.append(Fact(label="Exit terms from", text=f"v{row.config_version}"))
    return tuple(facts)


def _life(row: Row[Any], life: Sequence[Mapping[str, Any]], quote: str) -> tuple[Step, ...]:
    """Intent, acknowledgement, fills of the entry, then what guards the position now."""
    entries = [leg for leg in row.document.get("legs", []) if leg.get("role") == "entry"]
    entry_ids = {leg.get("client_order_id") for leg in entries}
    mine = [event for event in life if event.get("client_order_id") in entry_ids]
    intents = [event for event in mine if event["type"] == "order.intent"]
    began = intents[0]["time_ms"] if intents else row.opened_ms
    steps = [_intent(event, began) for event in intents[:1]]
    steps += [_acked(event, began) for event in mine if event["type"] == "order" and event["status"] == "new"][:1]
    steps += [_fill(event, began, quote) for event in mine if event["type"] == "fill"]
    steps += [_guard(row)] if row.status == PositionState.ACTIVE else [_waits(entries)]
    return tuple(step for step in steps if step is not None)


def _intent(event: Mapping[str, Any], began: int) -> Step:
    at = f" @ {price(Decimal(event['price']))}" if event.get("price") is not None else ""
    kind = str(event.get("order_type", "")).lower().replace("_", " ")
    return Step(
        css="done",
        title="Intent",
        when=clock(began)[11:19] + f".{began % 1000:03d}",
        when_exact=clock(began),
        small=f"{str(event['side']).lower()} {event['quantity']}{at} {kind}",
        mono=str(event["client_order_id"]),
    )


def _acked(event: Mapping[str, Any], began: int) -> Step:
    number = event.get("exchange_order_id")
    small = "" if number is None else f"exchange order {number}"
    return Step(css="done", title="Acked", **_after(event["time_ms"], began), small=small)


def _fill(event: Mapping[str, Any], began: int, quote: str) -> Step:
    fee = "" if event.get("fee_quote") is None else f" · fee {money(Decimal(event['fee_quote']))} {quote}".rstrip()
    maker = "maker" if event["is_maker"] else "taker"
    small = f"@ {price(Decimal(event['price']))} · {maker}{fee} · trade {event['trade_id']}"
    return Step(css="fill", title=f"Fill {event['quantity']}", **_after(event["time"], began), small=small)


def _after(at: int, began: int) -> dict[str, str]:
    return {"when": f"+{max(0, at - began) / 1000:.3f} s", "when_exact": clock(at)}


def _guard(row: Row[Any]) -> Step:
    document = row.document
    targets = [leg for leg in document.get("legs", []) if leg.get("role") == "target"]
    resting = [leg for leg in targets if not OrderState(leg.get("status", OrderState.FILLED)).is_final]
    selling = document.get("exiting")
    if selling:
        return Step(css="wait", title="Being sold", when="now", when_exact="", small=str(selling).replace("_", " "))
    words = []
    if resting:
        asked = resting[-1].get("price")
        words.append("target rests at the exchange" + ("" if asked is None else f", {price(Decimal(asked))}"))
    elif document.get("target_price") is not None:
        words.append("target watched by the bot")
    if document.get("stop_price") is not None:
        words.append("stop watched by the bot each second")
    title = "Guarded" if document.get("stop_price") is not None else "Held without a stop"
    return Step(css="wait", title=title, when="now", when_exact="", small="; ".join(words))


def _waits(entries: Sequence[Mapping[str, Any]]) -> Step:
    asked = entries[-1].get("price") if entries else None
    rests = "" if asked is None else f"in the book at {price(Decimal(asked))}"
    return Step(css="wait", title="Waits for a fill", when="now", when_exact="", small=rests)
