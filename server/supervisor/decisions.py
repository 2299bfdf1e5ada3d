"""Decide what happens next to one bot's process.

Pure: no clock, no process, no database. ``supervisor.py`` observes, asks here, and acts. Everything is decided from the
state of things, never from what was done before, so that any crash between two decisions heals at the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from server.supervisor.backoff import RestartPolicy
from server.supervisor.health import HealthPolicy
from shared.states import BotState, DesiredState


class Life(StrEnum):
    """What is known of a bot's process."""

    NONE = "none"
    AWAITED = "awaited"
    """A generation was taken a moment ago; its process may be about to take the lock."""
    UNKNOWN = "unknown"
    """Someone holds the bot's lock and cannot be identified."""
    ALIVE = "alive"


class ExitCode:
    """What the exit codes of a bot mean."""

    WANTED = 0
    LOCKED = 73
    TEMPORARY = 75
    UNUSABLE = 78


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All limits of supervision."""

    restart: RestartPolicy = field(default_factory=RestartPolicy)
    health: HealthPolicy = field(default_factory=HealthPolicy)
    stop_s: float = 30.0
    stop_may_extend: bool = True
    awaited_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One bot as seen now. Times are seconds; ages count back from now."""

    desired: DesiredState
    life: Life
    faulted: bool = False
    has_open_position: bool = False
    must_close: bool = False
    """It is to be stopped, and holds what its `on_stop` does not leave as it is."""
    is_told_to_close: bool = False
    """It was told to close something after its last end, so it is started for that without a pause."""
    is_restart_wanted: bool = False
    """Restart was pressed since the live process was started."""
    is_unread: bool = False
    """It is to be stopped, and not all it reported is in the rows."""
    is_close_only: bool = False
    """The live process was started after a fault, to guard and close positions only."""
    told: bool = True
    """The live process was told of the newest rows."""
    listens: bool = True
    """It wrote its first line a moment ago or earlier, so its signal handlers are in place."""
    stopping_s: float | None = None
    """Since its SIGTERM."""
    quiet_s: float = 0.0
    """Since its last progress while stopping, at most *stopping_s*."""
    silent_s: float = 0.0
    silence_limit_s: float = 30.0
    aborted_s: float | None = None
    """Since its SIGABRT."""
    death_ages_s: tuple[float, ...] = ()
    """Of its unwanted ends."""
    failure_ages_s: tuple[float, ...] = ()
    """Of all ends that were not in order, wanted or not."""
    since_end_s: float = float("inf")
    jitter: float = 0.0
    status: BotState = BotState.STOPPED


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process; *close_only*: it may guard and close positions, not open any."""

    close_only: bool = False


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask the process to stop in order."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Make a silent process write its stack."""

    reason: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End the process now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Renew:
    """Start was pressed while a close-only process runs: end it as it stands, positions untouched, for a new one."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """Restart was pressed: end the process for a new one, which goes on with its positions as they stand."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Make the process poll its config and control now."""


@dataclass(frozen=True, slots=True)
class Postpone:
    """There is no process, one is needed to close what the bot holds, and the time for it has not come."""


@dataclass(frozen=True, slots=True)
class Settle:
    """There is no process, and none is wanted: say so."""


Action = Wait | Spawn | Terminate | Abort | Kill | Renew | HandOver | Tell | Postpone | Settle


def next_action(seen: Observation, policy: Policy) -> Action:
    """What to do now about one bot."""
    match seen.life:
        case Life.ALIVE:
            return _of_the_living(seen, policy)
        case Life.NONE:
            return _of_the_absent(seen, policy)
    return Wait()


def _of_the_living(seen: Observation, policy: Policy) -> Action:
    if seen.aborted_s is not None:
        if seen.aborted_s >= policy.health.dump_s:
            return Kill(f"no heartbeat for {seen.silent_s:.0f} s")
        return Wait()
    if seen.stopping_s is not None:
        return _of_the_stopping(seen, seen.stopping_s, policy)
    if seen.desired is DesiredState.STOPPED:
        return Terminate()
    if seen.silent_s >= seen.silence_limit_s:
        return Abort(f"no heartbeat for {seen.silent_s:.0f} s")
    if seen.is_close_only and not seen.faulted:
        return Renew()
    if seen.is_restart_wanted and seen.listens:
        return HandOver()
    if not seen.told and seen.listens:
        return Tell()
    return Wait()


def _of_the_stopping(seen: Observation, stopping_s: float, policy: Policy) -> Action:
    overdue = min(seen.quiet_s, stopping_s) if policy.stop_may_extend else stopping_s
    if overdue < policy.stop_s:
        return Wait()
    if policy.stop_may_extend and seen.must_close:  # it cannot, as long as the exchange is out of reach
        silent = seen.silent_s >= seen.silence_limit_s
        return Abort(f"no heartbeat for {seen.silent_s:.0f} s") if silent else Wait()
    return Kill(f"did not stop within {policy.stop_s:g} s")


def _of_the_absent(seen: Observation, policy: Policy) -> Action:
    if seen.desired is DesiredState.STOPPED:
        if seen.is_unread:
            return Wait()
        if seen.must_close:
            return Spawn(close_only=True) if _may_try_to_close(seen, policy) else Postpone()
        return Wait() if seen.status is BotState.STOPPED else Settle()
    if seen.faulted:
        retry = seen.has_open_position and _may_try_to_close(seen, policy)
        return Spawn(close_only=True) if retry else Wait()
    deaths = policy.restart.recent(seen.death_ages_s)
    return Spawn() if seen.since_end_s >= policy.restart.delay_s(deaths, seen.jitter) else Wait()


def _may_try_to_close(seen: Observation, policy: Policy) -> bool:
    """Never given up. Slow for a bot that was given up, and for one that ended in order and left its position open."""
    if seen.is_told_to_close:
        return True
    failures = policy.restart.recent(seen.failure_ages_s)
    if seen.faulted or not failures:
        return seen.since_end_s >= policy.restart.close_only_every_s
    return seen.since_end_s >= policy.restart.delay_s(failures, seen.jitter)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a run ended. *code* is None where nobody could collect it; negative means a signal."""

    code: int | None
    reason: str | None
    wanted: bool
    deaths: int
    """Unwanted ends that count, this one included."""
    must_close: bool = False
    """It is to be stopped, and seems to have left something to close."""
    is_final: bool = False
    """Everything ends: nothing follows before the next start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run's end means for its bot. *note*: a person should see it. *is_fault*: only a person starts it again."""

    status: BotState
    reason: str | None
    note: str | None = None
    is_fault: bool = False


def judge_end(end: End, policy: Policy) -> Verdict:
    """What follows from a run's end; asked once, in the transaction that writes the end."""
    what = describe(end.code, end.reason)
    if end.wanted and not (end.code == ExitCode.UNUSABLE and end.must_close and not end.is_final):
        disorder = disorder_of(end.code, end.reason)
        if end.is_final:
            return Verdict(status=BotState.STOPPED, reason=disorder)
        again = f"{disorder} What it holds is still to be closed." if disorder and end.must_close else disorder
        return Verdict(status=BotState.STOPPING, reason=again)  # `stopped` once its last reports are in the rows
    if end.code == ExitCode.UNUSABLE:
        return Verdict(status=BotState.ERROR, reason=end.reason or what, note=end.reason or what, is_fault=True)
    if end.code == ExitCode.LOCKED:
        return Verdict(status=BotState.STARTING, reason="Another process of this bot holds its lock.")
    if end.code == ExitCode.TEMPORARY:
        return Verdict(status=BotState.STARTING, reason=f"Waiting to start again: {end.reason or what}")
    if policy.restart.is_crash_loop(end.deaths):
        minutes = policy.restart.window_s / 60
        reason = f"Crash loop: {end.deaths} ends in {minutes:g} minutes; the last: {what}. Press start to try again."
        return Verdict(status=BotState.ERROR, reason=reason, note=reason, is_fault=True)
    return Verdict(status=BotState.STARTING, reason=f"Starting again: {what}", note=f"The bot ended by itself: {what}")


def disorder_of(code: int | None, reason: str | None) -> str | None:
    """A wanted end in words, if it was not in order."""
    return None if code == ExitCode.WANTED else f"It did not end in order: {describe(code, reason)}."


def describe(code: int | None, reason: str | None) -> str:
    """An exit in words."""
    if code is None:
        text = "ended without a word (killed?)"
    elif code < 0:
        text = f"killed by signal {-code}"
    else:
        text = f"exit code {code}"
    return f"{text}, {reason}" if reason else text
