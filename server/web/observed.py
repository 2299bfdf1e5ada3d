"""How a bot is seen to be: its state in word and icon, whether it does what is wanted, how old what it said is.

Pure, and the only place where this is decided: the fleet's pages and a bot's own page say the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.states import BotState, DesiredState

STALE_MS = 30_000
"""What a bot said longer ago is old: a heartbeat is due every five seconds."""

_ICONS = {
    BotState.STOPPED: "stop",
    BotState.STARTING: "spin",
    BotState.RUNNING: "play",
    BotState.PAUSED: "pause",
    BotState.STOPPING: "spin",
    BotState.ERROR: "alert",
}
_MOVING = {BotState.STARTING, BotState.STOPPING}
_SPEAKS = {BotState.RUNNING, BotState.PAUSED}
_FULFILLED = {
    DesiredState.RUNNING: {BotState.RUNNING, BotState.STARTING},
    DesiredState.PAUSED: {BotState.PAUSED},
    DesiredState.STOPPED: {BotState.STOPPED},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A bot as it is seen. *silent_ms*: for how long one that should speak has not, if that is too long."""

    status: BotState
    desired: DesiredState
    heartbeat_ms: int | None
    silent_ms: int | None

    @property
    def is_silent(self) -> bool:
        """It should give signs of life and does not."""
        return self.silent_ms is not None

    @property
    def speaks(self) -> bool:
        """It is in a state in which bots give signs of life and decide."""
        return self.status in _SPEAKS

    @property
    def pill(self) -> str:
        """The look of its state."""
        return "stale" if self.is_silent else self.status.value

    @property
    def label(self) -> str:
        """Its state in a word."""
        return self.status.value.capitalize() + ("?" if self.is_silent else "")

    @property
    def icon(self) -> str:
        """The icon beside the word."""
        return _ICONS[self.status]

    @property
    def spins(self) -> bool:
        """It is on its way from one state to another."""
        return self.status in _MOVING

    @property
    def wanted(self) -> str | None:
        """What is wanted of it, where it neither does that nor is on its way to it."""
        return None if is_fulfilled(self.status, self.desired) else self.desired.value


def observed(status: str, desired: str, since_ms: int | None, heartbeat_ms: int | None, now: int) -> Observed:
    """A bot in *status* since then, whose last sign of life came at *heartbeat_ms*."""
    state = BotState(status)
    silent = None
    if state in _SPEAKS:  # a run that has just begun has some seconds to speak
        age = max(0, now - max(heartbeat_ms or 0, since_ms or 0))
        silent = age if age > STALE_MS else None
    return Observed(status=state, desired=DesiredState(desired), heartbeat_ms=heartbeat_ms, silent_ms=silent)


def is_fulfilled(status: str, desired: str) -> bool:
    """Whether a bot is seen to do what it is wanted to, or on its way to it."""
    return BotState(status) in _FULFILLED[DesiredState(desired)]


def is_old(heartbeat_ms: int | None, now: int) -> bool:
    """Whether a price of that heartbeat is old, whatever state the bot is in."""
    return heartbeat_ms is None or now - heartbeat_ms > STALE_MS
