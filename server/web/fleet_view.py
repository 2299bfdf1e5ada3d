"""What the fleet page shows of each bot: texts and classes, decided here so that the template only places them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from server.web.actions_view import Action, actions_of
from server.web.fleet_filter import needs_attention
from server.web.formats import Pnl, pnl, price, split_symbol
from server.web.holdings import Holding
from server.web.observed import Observed, is_old
from server.web.shell import place_of
from server.web.spark import Spark
from shared.states import BotState, DesiredState
from shared.units import ZERO, plain

_PLACES = ("live", "testnet", "paper", "simulator")
_WORST_FIRST = (
    BotState.ERROR,
    BotState.STOPPING,
    BotState.STARTING,
    BotState.PAUSED,
    BotState.RUNNING,
    BotState.STOPPED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One bot with all that was read of it: the API's document and what stands beside it. Times are UTC ms.

    *decision_ms* is when it last decided by the wall clock; *cpu_pct* its share of one core over the last minute.
    """

    bot: Mapping[str, Any]
    strategy: str
    holding: Holding
    spark: Spark
    observed: Observed
    decision_ms: int | None = None
    cpu_pct: float | None = None
    allocated: Decimal = ZERO
    unrealised: Decimal | None = None

    @property
    def id(self) -> int:
        """The bot's id."""
        return int(self.bot["id"])

    @property
    def heartbeat_ms(self) -> int | None:
        """When it gave its last sign of life."""
        return self.observed.heartbeat_ms

    def old_ms(self, now: int) -> int | None:
        """Of when the price is that values what it holds, if that is old; else None."""
        if self.holding.worth is None or not self.holding.active or not is_old(self.heartbeat_ms, now):
            return None
        return self.heartbeat_ms

    @property
    def place(self) -> str:
        """Where its money is."""
        return place_of(self.bot["exchange"], self.bot["mode"])

    @property
    def quote(self) -> str:
        """The asset its results are in."""
        return split_symbol(self.bot["symbol"])[1] or str(self.bot["symbol"])


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """One bot of the table."""

    id: int
    name: str
    place: str
    market: str
    tags: list[str]
    quote: str
    status: str
    label: str
    icon: str
    pill: str
    spins: bool
    css: str
    halted: str | None
    since_ms: int | None
    reason: str | None
    wanted: str | None
    spark: Spark
    position: str
    entry: str | None
    pnl_today: Pnl
    pnl_total: Pnl
    decision_ms: int | None
    heartbeat_ms: int | None
    is_stale: bool
    is_position_old: bool
    restarts: int
    cpu: str
    rss: str
    first: Action
    stop: Action
    more: list[Action]
    verbs: str


def fleet_row(seen: Seen, now: int, role: str, *, is_latched: bool) -> FleetRow:
    """One bot as the table shows it. *is_latched*: the kill switch is set."""
    bot, state, status = seen.bot, seen.observed, seen.observed.status
    base, _ = split_symbol(bot["symbol"])
    is_stale = state.is_silent
    actions = actions_of(bot, role, is_latched=is_latched)
    first = _first(actions, status, state.desired)
    is_off = status is BotState.STOPPED
    position, entry = _position(seen.holding, base)
    return FleetRow(
        id=seen.id,
        name=bot["name"],
        place=seen.place,
        market=f"{bot['symbol']} · {seen.strategy}",
        tags=bot["tags"],
        quote=seen.quote,
        status=status.value,
        label=state.label,
        icon=state.icon,
        pill=state.pill,
        spins=state.spins,
        css="is-error" if status is BotState.ERROR else "is-stale" if is_stale else "",
        halted=(bot.get("halt_reason") or "Halted: release it with a reason") if bot["halted"] else None,
        since_ms=bot["status_since"],
        reason=bot["status_reason"],
        wanted=state.wanted,
        spark=seen.spark,
        position=position,
        entry=entry,
        pnl_today=pnl(Decimal(bot["pnl_today"])),
        pnl_total=pnl(Decimal(bot["pnl_total"])),
        decision_ms=None if is_off else seen.decision_ms,
        heartbeat_ms=None if is_off and not seen.holding.active else seen.heartbeat_ms,
        is_stale=is_stale,
        is_position_old=is_stale or seen.old_ms(now) is not None,
        restarts=bot["restarts_24h"],
        cpu="–" if is_off or seen.cpu_pct is None else f"{seen.cpu_pct:.1f}",
        rss="" if is_off or bot["rss_mib"] is None else f"{bot['rss_mib']:.0f}",
        first=first,
        stop=actions["stop"],
        verbs=" ".join(a.verb for a in actions.values() if a.why_not is None),
        more=[a for a in actions.values() if a.verb not in (first.verb, "stop")],
    )


def _first(actions: Mapping[str, Action], status: BotState, desired: DesiredState) -> Action:
    """The one thing that is most likely wanted of a bot in this state."""
    if "resume" in actions:
        return actions["resume"]
    if desired is DesiredState.STOPPED or status is BotState.ERROR:
        return actions["start"]
    return actions["pause"]


def _position(holding: Holding, base: str) -> tuple[str, str | None]:
    if not holding.active:
        return (f"{holding.pending} pending", None) if holding.pending else ("flat", None)
    entry = f"@ {price(holding.entry_price)}" if holding.entry_price is not None else None
    if holding.positions > 1:
        entry = f"{entry or ''} · {holding.positions} positions".lstrip(" ·")
    return f"+{plain(holding.quantity)} {base}", entry


def sort_rows(fleet: Sequence[Seen], sort: str, silent: set[int], now: int) -> list[Seen]:
    """In the order that *sort* names; by itself real money first, then what needs somebody, then by name."""
    name, falls = sort.removeprefix("-"), sort.startswith("-")
    key = _KEYS.get(name)
    if key is not None:
        return sorted(fleet, key=lambda seen: (key(seen, now), seen.bot["name"].lower()), reverse=falls)

    def by_need(seen: Seen) -> tuple[Any, ...]:
        urgent = needs_attention(seen.bot, silent)
        state = _WORST_FIRST.index(BotState(seen.bot["status"]))
        return seen.place != "live", not urgent, state, seen.bot["name"].lower(), seen.id

    return sorted(fleet, key=by_need, reverse=name == "state")


_FAR = 1 << 60
_KEYS: dict[str, Callable[[Seen, int], Any]] = {
    "name": lambda seen, now: seen.bot["name"].lower(),
    "position": lambda seen, now: (seen.quote, seen.holding.worth or seen.holding.cost or ZERO),
    "today": lambda seen, now: (seen.quote, Decimal(seen.bot["pnl_today"])),
    "total": lambda seen, now: (seen.quote, Decimal(seen.bot["pnl_total"])),
    "decision": lambda seen, now: _FAR if seen.decision_ms is None else now - seen.decision_ms,
    "heartbeat": lambda seen, now: _FAR if seen.heartbeat_ms is None else now - seen.heartbeat_ms,
    "restarts": lambda seen, now: seen.bot["restarts_24h"],
    "cpu": lambda seen, now: seen.cpu_pct or 0.0,
}


# The strip of key figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure of a place and an asset: a text or an amount with its sign. *hint* says what it is made of,
    *old_ms* of when the oldest price in it is, if that is old."""

    place: str
    unit: str
    text: str = ""
    exact: str = ""
    amount: Pnl | None = None
    hint: str = ""
    old_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kpi:
    """One box: the leading figure, the others under it, and what is counted."""

    title: str
    counts: str
    lines: tuple[Line, ...]
    share: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """Bots by state: words, and bars ``(x, width, css)`` of a line 100 wide."""

    running: int
    total: int
    words: tuple[tuple[str, bool], ...]
    bars: tuple[tuple[str, str, str], ...]


def kpis(fleet: Sequence[Seen], now: int) -> list[Kpi]:
    """Equity, PnL today and exposure, each per place and asset: currencies and places are never added up."""
    equity = _summed(fleet, lambda s: s.allocated + Decimal(s.bot["pnl_total"]) + (s.unrealised or ZERO))
    given = _summed(fleet, lambda s: s.allocated)
    today = _summed(fleet, lambda s: Decimal(s.bot["pnl_today"]))
    exposure = _summed(fleet, lambda s: s.holding.worth if s.holding.worth is not None else s.holding.cost or ZERO)
    old = _oldest(fleet, now)
    lead = next(iter(equity), None)
    share = f"{exposure[lead] / equity[lead] * 100:.1f} %" if lead and equity[lead] > 0 else ""
    return [
        Kpi(
            title="Equity",
            counts="Per bot: capital per trade × positions at most, from its config, and what it made since it was "
            "created, open positions included as of its last heartbeat. Not the balance of an exchange account.",
            lines=tuple(
                _plain_line(key, amount, old.get(key), f"allocated {_figure(given[key])}")
                for key, amount in equity.items()
            ),
        ),
        Kpi(
            title="PnL today, net",
            counts="Positions closed since 00:00 UTC, fees taken off. Open positions count when they close.",
            lines=tuple(Line(place=p, unit=u, amount=pnl(amount)) for (p, u), amount in today.items()),
        ),
        Kpi(
            title="Open exposure",
            counts="What is held now, at the last price each bot saw; the share is of equity.",
            lines=tuple(_plain_line(key, amount, old.get(key)) for key, amount in exposure.items()),
            share=share,
        ),
    ]


def _summed(fleet: Sequence[Seen], amount: Callable[[Seen], Decimal]) -> dict[tuple[str, str], Decimal]:
    sums: dict[tuple[str, str], Decimal] = {}
    for seen in fleet:
        key = (seen.place, seen.quote)
        sums[key] = sums.get(key, ZERO) + amount(seen)
    return dict(sorted(sums.items(), key=lambda item: (_PLACES.index(item[0][0]), item[0][1])))


def _oldest(fleet: Sequence[Seen], now: int) -> dict[tuple[str, str], int]:
    """Of when the oldest price is that values what is held, for each place and asset where that is old."""
    old: dict[tuple[str, str], int] = {}
    for seen in fleet:
        if (at := seen.old_ms(now)) is not None:
            old[seen.place, seen.quote] = min(at, old.get((seen.place, seen.quote), at))
    return old


def _plain_line(key: tuple[str, str], amount: Decimal, old_ms: int | None, hint: str = "") -> Line:
    return Line(place=key[0], unit=key[1], text=_figure(amount), exact=plain(amount), hint=hint, old_ms=old_ms)


def _figure(amount: Decimal) -> str:
    return f"{amount:,.2f}".replace("-", "−")


def states(fleet: Sequence[Seen]) -> States:
    """How many bots are in which state."""
    counts = {status: sum(seen.bot["status"] == status for seen in fleet) for status in BotState}
    changing = counts[BotState.STARTING] + counts[BotState.STOPPING]
    groups = [
        (counts[BotState.RUNNING], "running", "f-ok"),
        (counts[BotState.PAUSED], "paused", "f-warn"),
        (changing, "changing", "f-info"),
        (counts[BotState.ERROR], "error", "f-bad"),
        (counts[BotState.STOPPED], "off", "f-line"),
    ]
    bars, x = [], 0.0
    for count, _, css in groups:
        width = 100 * count / len(fleet) if fleet else 0.0
        if count:
            bars.append((f"{x:.1f}", f"{max(width - 0.8, 0.4):.1f}", css))
        x += width
    words = [(f"{count} {word}", word == "error") for count, word, _ in groups[1:] if count]
    return States(running=counts[BotState.RUNNING], total=len(fleet), words=tuple(words), bars=tuple(bars))


def silent_bots(fleet: Sequence[Seen]) -> dict[int, int]:
    """Bots that should speak and do not, with how long."""
    return {seen.id: seen.observed.silent_ms for seen in fleet if seen.observed.silent_ms is not None}
