"""Being asked to end by signals, in a way that signals themselves cannot break.

A handler of Python's runs in the main thread between any two instructions. ``threading.Event.set`` there takes a lock
that the interrupted ``wait``, or a handler that this one interrupted, may hold: then the process hangs for good. Two
SIGTERM at once are nothing rare; the recipe of a make that is ended with its process group gets them.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress


class EndSignals:
    """From its making on, each of *numbers* asks this process to end instead of ending it. Main thread only."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._asked = False
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in numbers:
            signal.signal(number, self._on_signal)

    def is_set(self) -> bool:
        """Whether one of the signals has come."""
        return self._asked

    def wait(self, timeout_s: float) -> bool:
        """Wait for a signal, at most *timeout_s*; whether one has come."""
        if not self._asked:
            select.select([self._reader], [], [], timeout_s)
        return self._asked

    def _on_signal(self, *_: object) -> None:
        self._asked = True
        with suppress(BlockingIOError):  # full of earlier signals, which wake as well
            os.write(self._writer, b"!")
