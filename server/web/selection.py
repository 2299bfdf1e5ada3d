"""Several bots at once: what a verb would do to those selected, and the sums of the selection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from server.web.actions_view import Action, actions_of
from server.web.fleet_view import Line, Seen
from server.web.formats import pnl
from shared.units import ZERO

BATCH = ("start", "pause", "resume", "stop")
_DONE = {
    "start": "started already",
    "pause": "paused already",
    "resume": "not paused",
    "stop": "stopped already",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Affected:
    """One selected bot: whether the verb changes it, and if not why."""

    id: int
    name: str
    place: str
    position: str
    open_orders: int
    why_not: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """What a verb does to a selection. *lines* are today's results, never added across places or assets."""

    verb: str
    title: str
    words: str
    submit: str
    affected: tuple[Affected, ...]
    lines: tuple[Line, ...]
    is_mixed: bool
    has_live: bool
    held: int

    @property
    def typed(self) -> str:
        """What has to be typed: the verb, where it starts or stops real money; else nothing."""
        return self.verb if self.has_live and self.verb in ("start", "stop") else ""

    @property
    def changing(self) -> int:
        """How many bots it changes."""
        return sum(bot.why_not is None for bot in self.affected)


def impact(selected: Sequence[Seen], verb: str, role: str, *, is_latched: bool) -> Impact:
    """What *verb* would do to the *selected* bots. *is_latched*: the kill switch is set."""
    affected = tuple(
        _affected(seen, actions_of(seen.bot, role, is_latched=is_latched).get(verb), verb) for seen in selected
    )
    count = sum(bot.why_not is None for bot in affected)
    label = verb.capitalize()
    places = {seen.place for seen in selected}
    return Impact(
        verb=verb,
        title=f"{label} {count} of {len(selected)} selected",
        words=_left_out(affected),
        submit=f"{label} {count} bot{'' if count == 1 else 's'}",
        affected=affected,
        lines=sums(selected),
        is_mixed="live" in places and len(places) > 1,
        has_live="live" in places,
        held=sum(seen.holding.active for seen, bot in zip(selected, affected, strict=True) if bot.why_not is None),
    )


def sums(selected: Sequence[Seen]) -> tuple[Line, ...]:
    """Today's result of the selection per place and asset."""
    totals: dict[tuple[str, str], Decimal] = {}
    for seen in selected:
        key = (seen.place, seen.quote)
        totals[key] = totals.get(key, ZERO) + Decimal(seen.bot["pnl_today"])
    return tuple(Line(place=place, unit=unit, amount=pnl(totals[place, unit])) for place, unit in sorted(totals))


def _affected(seen: Seen, action: Action | None, verb: str) -> Affected:
    return Affected(
        id=seen.id,
        name=seen.bot["name"],
        place=seen.place,
        position="flat" if not seen.holding.positions else f"{seen.holding.positions} open",
        open_orders=len(seen.holding.orders),
        why_not=_why_not(action, verb),
    )


def _why_not(action: Action | None, verb: str) -> str | None:
    if action is None:
        return _DONE[verb]
    if action.verb != verb:  # it asks a question about one bot that no answer about many can be
        return "Its silent host may still trade: take it over by itself"
    return action.why_not


def _left_out(affected: Sequence[Affected]) -> str:
    """``1 is paused already; 2 are stopped``: why some stay as they are."""
    reasons: dict[str, int] = {}
    for bot in affected:
        if bot.why_not is not None:
            reason = bot.why_not[0].lower() + bot.why_not[1:]
            reasons[reason] = reasons.get(reason, 0) + 1
    words = []
    for why, count in reasons.items():
        is_state = why in _DONE.values() or why.startswith("already")
        words.append(f"{count} {'is' if count == 1 else 'are'} {why}" if is_state else f"{count}: {why}")
    return "; ".join(words)
