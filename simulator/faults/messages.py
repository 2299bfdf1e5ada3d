"""How messages get lost, doubled, swapped or late on their way to a receiver.

One ``Mail`` stands between whoever publishes and the connections. A *line* is what has an order of its own: one
stream, or all user events of one account, to one receiver. Late messages keep the order of their line, also when the
fault that made them late has ended: nobody overtakes.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from simulator.faults.kinds import DelayEvents, Drop, Duplicate, LoseFill, Reorder, Silence

if TYPE_CHECKING:
    from simulator.faults.switchboard import Active

Send = Callable[[str], None]
Line = tuple[Hashable, Send]


class Mail:
    """Messages under way. *used* is told of a fault whose strikes may be used up."""

    def __init__(
        self, later: Callable[[float, Callable[[], None]], object], used: Callable[[Active], None]
    ) -> None:
        self._later = later
        self._used = used
        self._held: dict[tuple[int, Line], str] = {}  # (fault, line) -> the message that waits for its neighbour
        self._late: dict[Line, deque[tuple[int, str]]] = {}  # line -> (due in wall ms, message), in order

    @property
    def waiting(self) -> bool:
        """Is anything held back?"""
        return bool(self._held or self._late)

    def post(
        self, faults: Sequence[Active], channel: str, text: str, send: Send, now_ms: int, owner: str = ""
    ) -> None:
        """Pass *text* through *faults*, in the order they were switched on, and on to *send*."""
        line: Line = (owner or channel, send)
        texts, late_s = [text], 0.0
        struck = []
        for active in faults:
            fault = active.fault
            if isinstance(fault, Silence):
                active.hits += 1
                return
            if isinstance(fault, LoseFill) and not _is_fill(text):
                continue
            if isinstance(fault, Reorder):
                texts = self._swapped(active, line, texts)
            elif not active.strikes_now(line, fault.every if isinstance(fault, Drop) else 1):
                continue
            struck.append(active)
            if isinstance(fault, Drop | LoseFill):
                texts = []
            elif isinstance(fault, Duplicate):
                texts = [copy for text in texts for copy in (text, text)]
            elif isinstance(fault, DelayEvents):
                late_s += active.wall_s(fault.seconds)
            if not texts:
                break
        for message in texts:
            self._hand_over(line, message, late_s, now_ms)
        for active in struck:
            self._used(active)

    def release(self, active: Active) -> None:
        """*active* has ended: what it held back goes on its way, behind what is late already."""
        for key in [key for key in self._held if key[0] == active.id]:
            line = key[1]
            text = self._held.pop(key)
            if line in self._late:
                self._late[line].append((self._late[line][-1][0], text))
            else:
                line[1](text)

    def flush(self) -> None:
        """Late messages arrive now."""
        late, self._late = self._late, {}
        for (_, send), queue in late.items():
            while queue:
                send(queue.popleft()[1])

    def _swapped(self, active: Active, line: Line, texts: list[str]) -> list[str]:
        """Nothing while the first of two is held; the second before the first when it has come."""
        first = self._held.pop((active.id, line), None)
        if first is not None:
            active.strikes_now(line, 1)
            return [*texts, first]
        self._held[active.id, line] = texts[0]
        return texts[1:]

    def _hand_over(self, line: Line, text: str, late_s: float, now_ms: int) -> None:
        queue = self._late.get(line)
        if queue is None and not late_s:
            line[1](text)
            return
        due = now_ms + int(late_s * 1000)
        if queue is None:
            queue = self._late[line] = deque()
        else:
            due = max(due, queue[-1][0])
        queue.append((due, text))
        self._later((due - now_ms) / 1000, self._arrival(line, queue))

    def _arrival(self, line: Line, queue: deque[tuple[int, str]]) -> Callable[[], None]:
        """A timer brings the first of its queue and all that are due with it, so that timers of one moment cannot
        change the order."""

        def arrive() -> None:
            due = queue[0][0] if queue else 0
            while queue and queue[0][0] <= due:
                line[1](queue.popleft()[1])
            if not queue and self._late.get(line) is queue:
                del self._late[line]

        return arrive


def _is_fill(text: str) -> bool:
    frame = json.loads(text)
    event = frame.get("event", frame) if isinstance(frame, dict) else {}
    return isinstance(event, dict) and event.get("e") == "executionReport" and event.get("x") == "TRADE"
