"""How tests wait: for a condition to come true, until a deadline that only a broken program misses.

A machine that is busy with other tests takes many times what an idle one takes, so the deadline is generous; it costs
nothing where the condition does come true. A shorter one is named only where being that quick is what is tested.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
DEADLINE_S = 30.0
LONG_S = 100.0  # for many waits after one another, and for a process that is not up yet
AT_ONCE_S = 10.0  # by a push: a bot asks for its config by itself only each 30 s


def wait_for(
    ask: Callable[[], T], within_s: float = DEADLINE_S, what: str = "a true answer", pause_s: float = 0.02
) -> T:
    """The first true answer of *ask*, asked again and again."""
    deadline = time.monotonic() + within_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s; last answer: {answer!r}"
        time.sleep(pause_s)
    return answer


async def until(ask: Callable[[], object], within_s: float = DEADLINE_S) -> None:
    """Let everything else go on until *ask* answers true."""
    deadline = time.monotonic() + within_s
    while not ask():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        await asyncio.sleep(0.005)
