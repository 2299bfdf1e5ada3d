"""Which buttons a bot has, why one of them makes no sense now, and what pressing it will do, in words and figures.

Pure: the fleet page, the bot page and the confirmation pages place what is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.security.roles import Role
from server.storage.remote_runs import is_lost
from server.web.formats import Pnl, duration, money, pnl, price, split_symbol
from server.web.holdings import Holding
from server.web.observed import STALE_MS
from server.web.shell import place_of
from shared.states import BotState, DesiredState
from shared.units import plain

_AT_REST = (BotState.STOPPED, BotState.ERROR)
_ALWAYS_ASK = ("take-over", "restart", "halt", "release", "close-positions", "archive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One button. *why_not* says why it makes no sense now. One that *asks* leads to a page that states its effect."""

    verb: str
    label: str
    icon: str
    path: str
    why_not: str | None = None
    asks: bool = False
    css: str = ""
    explains: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line of what will happen: a text, or an amount with its unit."""

    label: str
    text: str = ""
    amount: Pnl | None = None
    unit: str = ""
    is_old: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several ways to do it; *value* is what the form sends."""

    value: str
    label: str
    text: str
    chosen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What a confirmation page says. *name*: to be typed. *reason*: ``""`` (none asked), ``optional``, ``required``."""

    title: str
    lead: str
    icon: str
    submit: str
    place: str
    facts: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    name: str | None = None
    reason: str = "optional"
    hint: str = ""


def actions_of(bot: Mapping[str, Any], role: str, *, is_latched: bool) -> dict[str, Action]:
    """All buttons of *bot* (the API's document) by verb, in the order in which a page shows them.

    *is_latched*: the kill switch is set. Where another host may still run the bot, the button in the place of ``start``
    is that for ``take-over``.
    """
    status, desired = BotState(bot["status"]), DesiredState(bot["desired_state"])
    held, halted = bot["open_positions"], bot["halted"]
    why = {
        "start": _start_not(status, desired, halted, is_latched),
        "pause": "Stopped: there is nothing to pause" if desired is DesiredState.STOPPED else None,
        "resume": _held_back(halted, is_latched),
        "stop": _stop_not(status, desired),
        "restart": "Stopped: start it" if desired is DesiredState.STOPPED else None,
        "close-positions": None if held else "It holds no position",
        "archive": _archive_not(status, desired, held),
    }
    if Role(role) is Role.VIEWER:
        why = dict.fromkeys(_LOOKS, "Needs the role trader")
    shown = ["start", "resume" if desired is DesiredState.PAUSED else "pause", "stop", "restart"]
    shown += ["release" if halted else "halt", "close-positions", "archive"]
    actions = {}
    for verb in shown:
        label, icon, css, explains = _LOOKS[verb]
        act = verb
        if verb == "start" and is_lost(status, bot.get("status_reason")):
            act = "take-over"
            label, icon, css, explains = _LOOKS[act]
        elif verb == "start" and status is BotState.ERROR:
            label, icon = "Start again", "restart"
        asks = must_ask(bot, act)
        actions[verb] = Action(
            verb=act,
            label=label + ("…" if asks else ""),
            icon=icon,
            path=f"/bots/{bot['id']}/{act}",
            why_not=why.get(verb),
            asks=asks,
            css=css,
            explains=explains,
        )
    return actions


def must_ask(bot: Mapping[str, Any], verb: str) -> bool:
    """Whether *verb* is done only after a page that states its effect, as *bot* stands now."""
    is_live = place_of(bot["exchange"], bot["mode"]) == "live"
    return (
        verb in _ALWAYS_ASK
        or (verb == "start" and is_live)
        or (verb == "stop" and (is_live or bot["open_positions"] > 0))
    )


_LOOKS = {
    "start": ("Start", "play", "", "Let it trade"),
    "take-over": ("Take over", "restart", "btn-danger", "Run it here, once nothing runs on its silent host any more"),
    "pause": ("Pause", "pause", "", "No new entries; open positions stay guarded"),
    "resume": ("Resume", "play", "", "New entries again"),
    "stop": ("Stop", "stop", "", "Orderly end: what is held is closed or kept by its config, then it ends"),
    "restart": ("Restart", "restart", "", "A new process that takes up the positions of this one"),
    "halt": ("Halt", "halt", "btn-danger", "Withdraw its entry orders now, and hold that until it is released"),
    "release": ("Release", "halt", "btn-danger", "Lift the halt; the bot goes on as it is wanted to"),
    "close-positions": ("Close positions", "x", "btn-danger", "Sell all it holds at market"),
    "archive": ("Archive", "lock", "btn-danger", "Take it out of the fleet; its history stays"),
}


def _held_back(halted: bool, is_latched: bool) -> str | None:
    if is_latched:
        return "The kill switch is set: release that first, with a reason"
    return "Halted: release it first, with a reason" if halted else None


def _start_not(status: BotState, desired: DesiredState, halted: bool, is_latched: bool) -> str | None:
    if halted or is_latched:
        return _held_back(halted, is_latched)
    if desired is not DesiredState.STOPPED and status not in _AT_REST:
        return "Already started"
    return None


def _stop_not(status: BotState, desired: DesiredState) -> str | None:
    if desired is not DesiredState.STOPPED:
        return None
    return "Already stopped" if status is BotState.STOPPED else "Already stopping"


def _archive_not(status: BotState, desired: DesiredState, held: int) -> str | None:
    if desired is not DesiredState.STOPPED or status not in _AT_REST:
        return "Stop it first"
    return "It holds a position: close it first" if held else None


# What a confirmation page says


def confirmation(
    bot: Mapping[str, Any], verb: str, holding: Holding, *, on_stop: str, heartbeat_age_ms: int | None
) -> Confirmation:
    """What *verb* will do to *bot* (the API's document)."""
    place = place_of(bot["exchange"], bot["mode"])
    facts = _facts(bot, holding, heartbeat_age_ms)
    title, lead, submit = _WORDS[verb]
    typed = verb in ("archive", "take-over") or (
        place == "live" and verb in ("start", "stop", "restart", "close-positions")
    )
    return Confirmation(
        title=title.format(name=bot["name"]),
        lead=f"{bot.get('status_reason')} {lead}" if verb == "take-over" else lead,
        icon=_LOOKS[verb][1],
        submit=submit,
        place=place,
        facts=facts,
        warnings=_warnings(verb, holding),
        choices=_choices(on_stop) if verb == "stop" and holding.active else (),
        name=bot["name"] if typed else None,
        reason="required" if verb in ("release", "take-over") else "optional",
        hint=_HINT if typed and verb not in ("archive", "take-over") else "",
    )


_HINT = "In an emergency use Halt or the kill switch: no typing there."
_WORDS = {
    "take-over": (
        "Take {name} over?",
        "You say that nothing trades there any more. Otherwise two processes trade these positions at once, and every "
        "order may be sent twice.",
        "Run it here",
    ),
    "start": ("Start {name}?", "It trades real money as soon as it is ready.", "Start bot"),
    "stop": ("Stop {name}?", "It enters nothing more, settles what it holds, and its process ends.", "Stop bot"),
    "restart": (
        "Restart {name}?",
        "A new process takes up the positions of this one. Between the two, for some seconds, nobody watches its "
        "stops.",
        "Restart bot",
    ),
    "halt": (
        "Halt {name}?",
        "Its entry orders are withdrawn now and it enters nothing until somebody releases it with a reason. Positions "
        "stay guarded; it stays halted across restarts.",
        "Halt bot",
    ),
    "release": ("Release {name}?", "The halt is lifted, and the bot goes on as it is wanted to.", "Release bot"),
    "close-positions": (
        "Close the positions of {name}?",
        "Its resting orders are cancelled and all it holds is sold at market, at the price as it comes.",
        "Sell at market",
    ),
    "archive": (
        "Archive {name}?",
        "It leaves the fleet for good, and its token is revoked. Runs, orders and fills stay readable.",
        "Archive bot",
    ),
}


def _facts(bot: Mapping[str, Any], holding: Holding, heartbeat_age_ms: int | None) -> tuple[Fact, ...]:
    base, quote = split_symbol(bot["symbol"])
    is_old = heartbeat_age_ms is None or heartbeat_age_ms > STALE_MS
    facts = [Fact(label="Position", text=_position(holding, base, quote), is_old=is_old and holding.active > 0)]
    if holding.active:
        facts.append(
            Fact(label="Unrealised", amount=pnl(holding.unrealised), unit=quote, is_old=is_old)
            if holding.unrealised is not None
            else Fact(label="Unrealised", text="not reported")
        )
    facts.append(Fact(label="Open orders", text=_orders(holding)))
    age = "none: no heartbeat yet" if heartbeat_age_ms is None else f"{duration(heartbeat_age_ms)} old"
    return (*facts, Fact(label="Figures are", text=age))


def _position(holding: Holding, base: str, quote: str) -> str:
    if not holding.active:
        return f"{holding.pending} pending, nothing filled" if holding.pending else "flat"
    worth = holding.worth if holding.worth is not None else holding.cost
    value = f", {money(worth)} {quote}".rstrip() if worth is not None else ""
    more = f" in {holding.active} positions" if holding.active > 1 else ""
    return f"long {plain(holding.quantity)} {base}{value}{more}"


def _orders(holding: Holding) -> str:
    if not holding.orders:
        return "none"
    words = [f"{o.role} {price(o.price)}" if o.price is not None else f"{o.role} at market" for o in holding.orders]
    more = f" and {len(words) - 4} more" if len(words) > 4 else ""
    return f"{len(words)}: {', '.join(words[:4])}{more}"


def _warnings(verb: str, holding: Holding) -> tuple[str, ...]:
    said = []
    if verb in ("halt", "restart", "stop") and holding.unguarded:
        count = holding.unguarded
        said.append(
            f"{count} position{' has' if count == 1 else 's have'} no stop price; "
            "only its target, its time limit or a person closes it."
        )
    return tuple(said)


def _choices(on_stop: str) -> tuple[Choice, ...]:
    holds = on_stop == "hold"
    keep = Choice(
        value="policy",
        label="Keep it." if holds else "Sell at market.",
        text=(
            "Orders that are not filled are withdrawn; nobody watches its stop until the bot runs again."
            if holds
            else "Resting orders are cancelled first, the price is as it comes."
        )
        + " This bot’s policy.",
        chosen=True,
    )
    sell = Choice(
        value="close", label="Sell at market.", text="Resting orders are cancelled first, the price is as it comes."
    )
    return (keep, sell) if holds else (keep,)
