"""The steps of a script in the order they are taken.

Steps that repeat are worked out one at a time. At the same moment faults end first, then accounts open, faults begin,
and orders come last, each in the order of the document; so the number of steps taken says exactly which they were.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from simulator.core.orders import AccountOpened
from simulator.scenario.script import Script, ScriptedFault, ScriptedOrder, When

NEVER = 1 << 62
_END, _OPEN, _BEGIN, _CALL = range(4)


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """An account is opened."""

    at_ms: int
    account: AccountOpened


@dataclass(frozen=True, slots=True)
class Begin:
    """A fault is switched on for the *nth* time; *end_ms* is when it ends by itself, if it does by time."""

    at_ms: int
    index: int
    nth: int
    scripted: ScriptedFault
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class End:
    """The fault that began as *index*, *nth* is over."""

    at_ms: int
    index: int
    nth: int


@dataclass(frozen=True, slots=True)
class CallStep:
    """A scripted customer calls, for the *nth* time."""

    at_ms: int
    index: int
    nth: int
    scripted: ScriptedOrder


Step = OpenAccount | Begin | End | CallStep


class Timeline:
    """The steps that are still to come."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._coming: list[tuple[int, int, int, int]] = []  # time, sort, index, nth
        for index in range(len(script.accounts)):
            self._push(script.start_ms, _OPEN, index, 0)
        for index, fault in enumerate(script.faults):
            self._push(fault.when.at_ms, _BEGIN, index, 0)
        for index, order in enumerate(script.orders):
            self._push(order.when.at_ms, _CALL, index, 0)

    def next_ms(self) -> int:
        """Market time of the next step; `NEVER` when there is none."""
        return self._coming[0][0] if self._coming else NEVER

    def pop(self) -> Step:
        """The next step; there must be one."""
        at_ms, sort, index, nth = heapq.heappop(self._coming)
        if sort == _OPEN:
            return OpenAccount(at_ms, self._script.accounts[index])
        if sort == _END:
            return End(at_ms, index, nth)
        if sort == _CALL:
            order = self._script.orders[index]
            self._push_next(order.when, sort, index, nth)
            return CallStep(at_ms, index, nth, order)
        fault = self._script.faults[index]
        self._push_next(fault.when, sort, index, nth)
        lasting_s = fault.fault.lasting_s
        end_ms = None if lasting_s is None else at_ms + max(1, round(lasting_s * 1000))
        if end_ms is not None:
            self._push(end_ms, _END, index, nth)
        return Begin(at_ms, index, nth, fault, end_ms)

    def due(self, market_ms: int) -> Iterator[Step]:
        """All steps up to and at *market_ms*, in order."""
        while self.next_ms() <= market_ms:
            yield self.pop()

    def _push_next(self, when: When, sort: int, index: int, nth: int) -> None:
        if when.every_ms and (when.times is None or nth + 1 < when.times):
            self._push(when.at_ms + (nth + 1) * when.every_ms, sort, index, nth + 1)

    def _push(self, at_ms: int, sort: int, index: int, nth: int) -> None:
        heapq.heappush(self._coming, (at_ms, sort, index, nth))
