"""Follow a run on another host by what it posts. Nothing here can end it, so nothing here replaces it by itself.

A host that is silent may trade on: it has lost its way to this server, not to the exchange. So silence is told, and
after ten minutes (when such a bot takes no more entries) it is an error, until the host is heard again or a person
takes the bot over (`verbs.take_over`), which says that nothing trades there any more.

Silence counts only while this server could hear: what was missed while it was down is no silence.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from server.storage import ledger
from server.storage.remote_runs import NO_WORD
from server.supervisor import rows
from server.supervisor.rows import BotRow
from shared.states import BotState

QUIET_S = 40
LOST_S = 600
TOLD_EVERY_S = 20


@dataclass(frozen=True, slots=True)
class Leave:
    """All is well, or all is said."""


@dataclass(frozen=True, slots=True)
class Say:
    """Tell people how long it was silent."""

    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It is lost until a person decides."""

    reason: str


@dataclass(frozen=True, slots=True)
class Recover:
    """It is heard again: its own words count."""


def judge(bot: BotRow, silent_s: float, up_s: float = float("inf")) -> Leave | Say | GiveUp | Recover:
    """What to do about an open remote run that was not heard for *silent_s*, by a server up for *up_s*. Pure."""
    told = (bot.status_reason or "").startswith(NO_WORD)
    if silent_s < QUIET_S:
        return Recover() if told or bot.status is BotState.ERROR else Leave()
    if bot.status is BotState.ERROR or up_s < QUIET_S:
        return Leave()
    if min(silent_s, up_s) < LOST_S:
        so_far = int(silent_s - QUIET_S) // TOLD_EVERY_S * TOLD_EVERY_S + QUIET_S
        reason = f"{NO_WORD} {bot.host} for {so_far} s. It goes on by itself; nothing is started here."
        return Say(reason) if reason != bot.status_reason else Leave()
    return GiveUp(
        f"{NO_WORD} {bot.host} for {int(silent_s) // 60} minutes. It may still trade there: end it on that host "
        "with Ctrl-C. If nothing runs there any more for certain, take it over, and this server runs it."
    )


def silence_s(bot: BotRow, now: int) -> float:
    """How long it was not heard of."""
    return abs(now - (bot.heard_ms if bot.heard_ms is not None else bot.run_created_ms)) / 1000


def carry_out(connection: Connection, bot: BotRow, action: Leave | Say | GiveUp | Recover, now: int) -> None:
    """Write what `judge` said."""
    match action:
        case Say(reason=reason):
            ledger.set_status(connection, bot.id, bot.status, reason, now)
        case GiveUp(reason=reason):
            rows.fault(connection, bot.id)
            ledger.set_status(connection, bot.id, BotState.ERROR, reason, now)
            ledger.add_note(connection, bot.id, bot.run_id, "remote_lost", reason, now)
        case Recover():
            rows.lift_fault(connection, bot.id)
            ledger.set_status(connection, bot.id, *rows.last_status(connection, bot.run_id), now)
