"""Which faults are on, what is left of each, and when they end.

Bookkeeping without I/O. Wall time comes with each call. A timed fault of a scenario counts market time, and is ended
by the scenario. ``calls`` asks here what strikes a request; messages pass through ``deliver``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from simulator.faults.kinds import (
    Act,
    CallFault,
    ClockSkew,
    DelayEvents,
    Fault,
    Halt,
    Maintenance,
    MessageFault,
    RateLimit,
    State,
    described,
)
from simulator.faults.messages import Mail, Send
from simulator.faults.plant import Plant, act, undo

WALL, MARKET = "wall", "market"
Later = Callable[[float, Callable[[], None]], object]


@dataclass(slots=True)
class Active:
    """A fault that is on. *until_ms* is a time of *clock*; *left* is how often it still strikes."""

    id: int
    fault: Fault
    clock: str
    speed: float
    until_ms: int | None = None
    left: int | None = None
    hits: int = 0
    met: dict[object, int] = field(default_factory=dict)

    def strikes_now(self, who: object, every: int) -> bool:
        """Count one that it meets, of *who*; is it the one to strike?"""
        if every > 1:
            met = self.met.get(who, 0) + 1
            self.met[who] = met % every
            if met < every:
                return False
        self.hits += 1
        if self.left is not None:
            self.left -= 1
        return True

    def is_over(self, wall_ms: int) -> bool:
        """Has its time come by the wall?"""
        return self.until_ms is not None and self.clock == WALL and self.until_ms <= wall_ms

    def wall_s(self, seconds: float) -> float:
        """*seconds* of its clock in seconds of the wall; a market that stands still lends none."""
        return seconds / self.speed if self.clock == MARKET and self.speed else seconds


class Faults:
    """All faults. *speed* is how fast the market's clock runs; *later* calls back after seconds of the wall."""

    def __init__(self, speed: float = 1.0, later: Later | None = None) -> None:
        self._plant: Plant | None = None
        self._market_ms: Callable[[], int] = lambda: 0
        self._speed = speed
        self._later = later or _on_the_loop
        self._active: dict[int, Active] = {}
        self._given = 0
        self._mail = Mail(self._later, self._used)
        self.banned: dict[str, tuple[int, int]] = {}  # address -> (end in wall ms, id of the fault)
        self.calls: list[Active] = []
        self._messages: list[Active] = []

    def install(self, plant: Plant, market_ms: Callable[[], int], halted: Mapping[str, str]) -> None:
        """Connect to the exchange. *halted* are symbols that do not trade already, with their status: they are listed
        as halts, so that they can be cleared."""
        self._plant, self._market_ms = plant, market_ms
        for symbol, status in halted.items():
            self.begin(Halt(symbol=symbol, status=status), WALL, 0)

    # switching

    def add(self, body: Mapping[str, object], now_ms: int) -> Active:
        """Switch one on from its JSON description, timed by the wall; raises `BadFault`."""
        return self.begin(described(body), WALL, now_ms)

    def begin(self, fault: Fault, clock: str, now_ms: int, lasting_s: float | None = None) -> Active:
        """Switch *fault* on, for *lasting_s* of *clock* if that is not its own time. Raises `BadFault`."""
        seconds = fault.lasting_s if lasting_s is None else lasting_s
        until_ms = None if seconds is None else now_ms + round(seconds * 1000)
        self._given += 1
        active = Active(self._given, fault, clock, self._speed, until_ms, fault.strikes)
        if self._plant is not None:
            act(fault, self._plant)
        if isinstance(fault, Act):
            return active
        if isinstance(fault, State):
            self._replace(fault)
        self._active[active.id] = active
        self._sort()
        if seconds is not None and clock == WALL:
            self._later(seconds, lambda: self.end_due(until_ms or 0))
        return active

    def remove(self, number: int) -> bool:
        """Switch one off and undo what it held; false when it is not on."""
        active = self._active.pop(number, None)
        if active is None:
            return False
        self._end(active)
        return True

    def clear(self) -> None:
        """Switch all off, and undo what they held."""
        for number in list(self._active):
            self.remove(number)
        self._mail.flush()

    def end_due(self, now_ms: int) -> None:
        """End what is over by the wall."""
        for active in list(self._active.values()):
            if active.is_over(now_ms):
                self.remove(active.id)

    def listed(self, now_ms: int) -> list[dict[str, object]]:
        """What is on: fields as asked, `count` that is left, `left_s` seconds of its clock, `hits` so far."""
        self.end_due(now_ms)
        return [self._row(active, now_ms) for active in self._active.values()]

    # questions

    @property
    def skew_ms(self) -> int:
        """How far the API clock is ahead of the wall."""
        return sum(a.fault.ms for a in self._active.values() if isinstance(a.fault, ClockSkew))

    def is_away(self, now_ms: int) -> bool:
        """Is the exchange in maintenance?"""
        return any(isinstance(a.fault, Maintenance) and not a.is_over(now_ms) for a in self._active.values())

    def use(self, active: Active, wall_ms: int) -> None:
        """A request fault has struck: it goes when used up. A rate limit stays listed while it bans."""
        if active.left != 0:
            return
        if isinstance(active.fault, RateLimit):
            seconds = active.wall_s(active.fault.seconds)
            active.clock, active.until_ms = WALL, wall_ms + math.ceil(seconds * 1000)
            self._later(seconds, lambda: self.end_due(active.until_ms or 0))
        else:
            self._used(active)

    def deliver(self, channel: str, text: str, send: Send, now_ms: int, owner: str = "") -> None:
        """Hand *text* to *send*, unless a fault says otherwise. *channel* is a stream's name, or for account events
        ``user@`` and the event's type; *owner* is the API key whose event it is."""
        if not self._messages and not self._mail.waiting:
            send(text)
            return
        meeting = [
            active
            for active in self._messages
            if isinstance(active.fault, MessageFault)
            and active.fault.meets(channel, owner)
            and not active.is_over(now_ms)
        ]
        self._mail.post(meeting, channel, text, send, now_ms, owner)

    # inside

    def _used(self, active: Active) -> None:
        if active.left == 0:
            self.remove(active.id)

    def _replace(self, fault: State) -> None:
        """A new state takes the place of the one it contradicts; there is nothing to undo then."""
        for other in list(self._active.values()):
            same_symbol = not isinstance(fault, Halt) or fault.symbol == getattr(other.fault, "symbol", "")
            if type(other.fault) is type(fault) and same_symbol:
                del self._active[other.id]

    def _end(self, active: Active) -> None:
        self.banned = {address: ban for address, ban in self.banned.items() if ban[1] != active.id}
        self._sort()
        self._mail.release(active)
        if isinstance(active.fault, DelayEvents) and active.left != 0:
            self._mail.flush()  # a line that is well again has no backlog
        if self._plant is not None:
            undo(active.fault, self._plant)

    def _sort(self) -> None:
        self.calls = [a for a in self._active.values() if isinstance(a.fault, CallFault)]
        self._messages = [a for a in self._active.values() if isinstance(a.fault, MessageFault)]

    def _row(self, active: Active, now_ms: int) -> dict[str, object]:
        row: dict[str, object] = {"id": active.id, "kind": active.fault.kind, **active.fault.asked()}
        if active.left is not None:
            row["count"] = active.left
        if active.until_ms is not None:
            now = now_ms if active.clock == WALL else self._market_ms()
            row["left_s"] = max(0, active.until_ms - now) / 1000
            row["clock"] = active.clock
        if active.hits:
            row["hits"] = active.hits
        return row


def _on_the_loop(seconds: float, call: Callable[[], None]) -> object:
    try:
        return asyncio.get_running_loop().call_later(seconds, call)
    except RuntimeError:
        return None  # no loop, nobody connected: what is over ends when somebody asks
