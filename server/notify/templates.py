"""What people are told, in words: pure functions from what happened to a short plain text.

Texts go out without any markup, so that nothing in a name or an exchange's words is ever interpreted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from server.web.formats import duration, place_of, split_symbol
from shared.events import Alert, ErrorSeen, Payload, Position, Ready
from shared.states import PositionState
from shared.units import ZERO, plain

NAME_CHARS = 40
REASON_CHARS = 400
_LABELS = {"live": "LIVE", "testnet": "TESTNET", "paper": "PAPER", "simulator": "SIM"}
_EXITS = {
    "take_profit": "profit target",
    "stop_loss": "stop loss",
    "holding_time": "holding time over",
    "bot_stopped": "bot stopped",
    "external": "sold by someone else",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BotFacts:
    """What a text says of the bot it is about."""

    id: int
    name: str
    symbol: str
    exchange: str
    mode: str

    @property
    def label(self) -> str:
        """``[SIM] eth-scalper (bot 3)``; LIVE is never left out."""
        return f"[{place_label(self.exchange, self.mode)}] {one_line(self.name, NAME_CHARS)} (bot {self.id})"

    @property
    def quote(self) -> str:
        """The asset that its results are counted in."""
        return split_symbol(self.symbol)[1] or "quote"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One thing to tell. *switch* is the config field that can turn it off; *key* makes it be told once.

    A *repeats* message is told at most once in ten minutes; its *key* then names the kind of thing that repeats.
    """

    kind: str
    text: str
    key: str
    switch: str | None = None
    repeats: bool = False


def message_of(bot: BotFacts, run_id: str, seq: int, payload: Payload) -> Message | None:
    """What people are told of an event; None if nothing."""
    tell = _TELLS.get(type(payload))
    return None if tell is None else tell(bot, f"{run_id}:{seq}", payload)


def stopped(bot: BotFacts, reason: str | None, now: int) -> Message:
    """A bot has come to rest."""
    return Message(
        kind="stopped", text=_text(bot, "stopped", reason), key=f"{bot.id}:stopped:{now}", switch="notify_start_stop"
    )


def fault(bot: BotFacts, reason: str, run_id: str, now: int) -> Message:
    """A bot was given up until a person starts it again."""
    return Message(kind="fault", text=_text(bot, "ERROR", reason), key=f"{run_id}:fault:{now}")


def noted(bot: BotFacts, kind: str, message: str) -> Message:
    """An alert of the supervisor's own."""
    return _alert(bot, "", Alert(kind=kind, message=message))


def changed(bot: BotFacts, verb: str, actor: str, via: str, reason: str | None, now: int) -> Message:
    """Somebody has halted or released a bot, or launched it by hand."""
    words = f"{verb} by {one_line(actor, NAME_CHARS)} ({via})"
    return Message(kind=verb, text=_text(bot, words, reason), key=f"{bot.id}:{verb}:{now}")


def kill_switch(engaged: bool, actor: str, via: str, reason: str | None, now: int) -> Message:
    """Somebody has engaged or released the kill switch."""
    what = "KILL SWITCH engaged: no bot takes entries" if engaged else "Kill switch released"
    text = f"{what}. By {one_line(actor, NAME_CHARS)} ({via})." + (f"\n{one_line(reason)}" if reason else "")
    return Message(kind="kill_switch", text=text, key=f"kill_switch:{engaged}:{now}")


def place_label(exchange: str, mode: str) -> str:
    """Where a bot's money is, as a short word: SIM, PAPER, TESTNET or LIVE."""
    return _LABELS[place_of(exchange, mode)]


def one_line(text: str, most: int = REASON_CHARS) -> str:
    """*text* on one line without control characters and signs that turn the writing direction, cut to *most*."""
    shown = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    shown = " ".join(shown.split())
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def signed(amount: Decimal) -> str:
    """Every digit of *amount*, with its sign: ``+0.42``."""
    return ("+" if amount > 0 else "") + plain(amount)


def _text(bot: BotFacts, what: str, more: str | None = None) -> str:
    return f"{bot.label}: {what}" + (f"\n{one_line(more)}" if more else "")


def _ready(bot: BotFacts, key: str, payload: Ready) -> Message:
    held = payload.open_positions
    more = f"Guards {held} open position{'' if held == 1 else 's'}." if held else None
    return Message(kind="started", text=_text(bot, "started", more), key=key, switch="notify_start_stop")


def _position(bot: BotFacts, key: str, position: Position) -> Message | None:
    key = f"{bot.id}:{position.position_key}:{position.status.value}"
    if position.status is PositionState.ACTIVE:
        return Message(kind="opened", text=_opened(bot, position), key=key, switch="notify_positions")
    if position.status is PositionState.CLOSED:
        return Message(kind="closed", text=_closed(bot, position), key=key, switch="notify_positions")
    return None


def _opened(bot: BotFacts, position: Position) -> str:
    facts = [f"{_amount(position.quantity)} at {_amount(position.entry_price)}"]
    facts.append(f"cost {plain(position.cost)} {bot.quote}")
    if position.target_price is not None:
        facts.append(f"target {plain(position.target_price)}")
    if position.stop_price is not None:
        facts.append(f"stop {plain(position.stop_price)}")
    return f"{bot.label}: opened {position.symbol}\n{', '.join(facts)}"


def _closed(bot: BotFacts, position: Position) -> str:
    percent = "" if position.pnl_pct is None else f" ({position.pnl_pct * 100:+.3f} %)"
    result = f"{signed(position.pnl or ZERO)} {bot.quote}{percent} net"
    prices = f"{_amount(position.quantity)}: {_amount(position.entry_price)} → {_amount(position.exit_price)}"
    reason = position.exit_reason or "closed"
    since = position.activated_ms or position.opened_ms
    held = duration((position.closed_ms or since) - since)
    why = _EXITS.get(reason, one_line(reason.replace("_", " ")))
    return f"{bot.label}: closed {position.symbol} {result}\n{prices}, {why}, held {held}"


def _amount(value: Decimal | None) -> str:
    return "–" if value is None else plain(value)


def _error(bot: BotFacts, key: str, error: ErrorSeen) -> Message:
    return _repeating(bot, "error", error.kind, error.message)


def _alert(bot: BotFacts, key: str, alert: Alert) -> Message:
    return _repeating(bot, "alert", alert.kind, alert.message)


def _repeating(bot: BotFacts, what: str, kind: str, message: str) -> Message:
    text = _text(bot, f"{what} {one_line(kind.replace('_', ' '), NAME_CHARS)}", message)
    return Message(kind=what, text=text, key=f"{bot.id}:{what}:{kind}", switch="notify_errors", repeats=True)


_TELLS: dict[type[Payload], Callable[[BotFacts, str, Any], Message | None]] = {
    Ready: _ready,
    Position: _position,
    ErrorSeen: _error,
    Alert: _alert,
}
TOLD = frozenset(_TELLS)
"""The types of event that people are told of."""
