"""What the fleet page shows of each bot: texts and classes, decided here so that the template only places them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Row

from server.web.formats import Pnl, pnl, price, split_symbol
from shared.states import BotState, DesiredState, PositionState
from shared.units import ZERO, plain

STALE_MS = 30_000
_ICONS = {
    BotState.STOPPED: "off",
    BotState.STARTING: "spin",
    BotState.RUNNING: "play",
    BotState.PAUSED: "pause",
    BotState.STOPPING: "spin",
    BotState.ERROR: "alert",
}
_MOVING = {BotState.STARTING, BotState.STOPPING}
# The state in which a wish is fulfilled.
_FULFILLED = {
    DesiredState.RUNNING: {BotState.RUNNING},
    DesiredState.PAUSED: {BotState.PAUSED},
    DesiredState.STOPPED: {BotState.STOPPED},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """One action; *why_not* says why it makes no sense now."""

    verb: str
    label: str
    icon: str
    why_not: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """One bot of the table."""

    id: int
    name: str
    market: str
    tags: list[str]
    quote: str
    status: str
    label: str
    icon: str
    pill: str
    spins: bool
    css: str
    since_ms: int | None
    reason: str | None
    wanted: str | None
    position: str
    entry: str | None
    pnl_today: Pnl
    pnl_total: Pnl
    heartbeat_ms: int | None
    is_stale: bool
    restarts: int
    buttons: list[Button]


def fleet_row(
    bot: Mapping[str, Any], held: Sequence[Row[Any]], strategy: str, heartbeat_ms: int | None, now: int
) -> FleetRow:
    """One bot as the table shows it. *bot* is the API's document, *held* its open positions, times in UTC ms."""
    status, desired = BotState(bot["status"]), DesiredState(bot["desired_state"])
    base, quote = split_symbol(bot["symbol"])
    age_ms = None if heartbeat_ms is None else max(0, now - heartbeat_ms)
    is_stale = status in (BotState.RUNNING, BotState.PAUSED) and (age_ms is None or age_ms > STALE_MS)
    position, entry = _position(held, base)
    return FleetRow(
        id=bot["id"],
        name=bot["name"],
        market=f"{bot['symbol']} · {strategy}",
        tags=bot["tags"],
        quote=quote,
        status=status.value,
        label=status.value.capitalize() + ("?" if is_stale else ""),
        icon=_ICONS[status],
        pill="stale" if is_stale else status.value,
        spins=status in _MOVING,
        css="is-error" if status is BotState.ERROR else "is-stale" if is_stale else "",
        since_ms=bot["status_since"],
        reason=bot["status_reason"],
        wanted=None if status in _FULFILLED[desired] else desired.value,
        position=position,
        entry=entry,
        pnl_today=pnl(Decimal(bot["pnl_today"])),
        pnl_total=pnl(Decimal(bot["pnl_total"])),
        heartbeat_ms=None if status is BotState.STOPPED else heartbeat_ms,
        is_stale=is_stale,
        restarts=bot["restarts_24h"],
        buttons=_buttons(status, desired, bot["halted"]),
    )


def summary(bots: Sequence[Mapping[str, Any]]) -> list[str]:
    """The line under the title: how many bots, and how they are."""
    words = [f"{len(bots)} bot{'' if len(bots) == 1 else 's'}"]
    for status in (BotState.RUNNING, BotState.PAUSED, BotState.STARTING, BotState.STOPPING, BotState.ERROR):
        count = sum(bot["status"] == status for bot in bots)
        if count:
            words.append(f"{count} {status.value}")
    return words


def _position(held: Sequence[Row[Any]], base: str) -> tuple[str, str | None]:
    active = [row for row in held if row.status == PositionState.ACTIVE]
    pending = len(held) - len(active)
    if not active:
        return (f"{pending} pending", None) if pending else ("flat", None)
    quantity = sum((row.quantity for row in active), ZERO)
    worth = sum((row.quantity * row.entry_price for row in active if row.entry_price is not None), ZERO)
    entry = f"@ {price(worth / quantity)}" if quantity and worth else None
    if len(held) > 1:
        entry = f"{entry or ''} · {len(held)} positions".lstrip(" ·")
    return f"+{plain(quantity)} {base}", entry


def _buttons(status: BotState, desired: DesiredState, halted: bool) -> list[Button]:
    stopped = desired is DesiredState.STOPPED
    start_not = None
    if halted:
        start_not = "Halted: release it first"
    elif not stopped and status not in (BotState.ERROR, BotState.STOPPED):
        start_not = "Already started"
    buttons = [Button(verb="start", label="Start", icon="play", why_not=start_not)]
    if desired is DesiredState.PAUSED:
        buttons.append(Button(verb="resume", label="Resume", icon="right", why_not="Halted" if halted else None))
    else:
        buttons.append(Button(verb="pause", label="Pause", icon="pause", why_not="Stopped" if stopped else None))
    stop_not = None if not stopped else "Stopped" if status is BotState.STOPPED else "Already stopping"
    buttons.append(Button(verb="stop", label="Stop", icon="stop", why_not=stop_not))
    return buttons
