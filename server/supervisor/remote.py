"""Follow a run on another host by what it posts. Nothing here can end it, so nothing here replaces it by itself.

A host that is silent may trade on: it has lost its way to this server, not to the exchange. So silence is told, and
after ten minutes (when such a bot takes no more entries) it is an error, until the host is heard again or a person
presses start, which says that nothing trades there any more.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from server.storage import ledger
from server.supervisor import rows
from server.supervisor.decisions import Verdict
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


@dataclass(frozen=True, slots=True)
class TakeOver:
    """A person has pressed start: run the bot here."""


def judge(bot: BotRow, silent_s: float) -> Leave | Say | GiveUp | Recover | TakeOver:
    """What to do about an open remote run. Pure."""
    told = (bot.status_reason or "").startswith("No word from host")
    if silent_s < QUIET_S:
        return Recover() if told or bot.status is BotState.ERROR else Leave()
    if silent_s < LOST_S:
        so_far = int(silent_s - QUIET_S) // TOLD_EVERY_S * TOLD_EVERY_S + QUIET_S
        reason = f"No word from host {bot.host} for {so_far} s. It goes on by itself; nothing is started here."
        return Say(reason) if reason != bot.status_reason else Leave()
    if bot.status is not BotState.ERROR:
        return GiveUp(
            f"No word from host {bot.host} for {LOST_S // 60} minutes. It may still trade there: end it on that host "
            "with Ctrl-C. If nothing runs there any more for certain, press start, and this server takes over."
        )
    return Leave() if bot.is_faulted else TakeOver()


def silence_s(bot: BotRow, now: int) -> float:
    """How long it was not heard of."""
    return abs(now - (bot.heard_ms if bot.heard_ms is not None else bot.run_created_ms)) / 1000


def carry_out(connection: Connection, bot: BotRow, action: Leave | Say | GiveUp | Recover | TakeOver, now: int) -> None:
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
        case TakeOver():
            reason = f"taken over from host {bot.host}"
            verdict = Verdict(status=BotState.STARTING, reason=f"Taking over from host {bot.host}.")
            rows.write_end(
                connection, bot, bot.generation, code=None, reason=reason, wanted=False, verdict=verdict, now=now
            )
            rows.close_offset(connection, bot.id, bot.generation)
