"""Everything a bot tells goes through here: into its journal, which counts, and to those who read along.

Log lines from INFO on become events too, a bounded number a minute; standard error has all of them. The journal is
written in the bot's own thread only: what other threads log waits for its next turn.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from bots.reporters.followers import Follower
from bots.reporters.journal import Journal
from shared.events import Exit, LogLine, Payload, Snapshot

LINES_A_MINUTE: Final = 60
MINUTE_S: Final = 60.0
LONGEST_MESSAGE: Final = 1_000


class CompositeReporter:
    """The journal of a run and its *followers*."""

    def __init__(
        self, journal: Journal, followers: Sequence[Follower] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._journal, self._followers, self._clock = journal, followers, clock
        self._writer = threading.get_ident()
        self._log: deque[LogLine] = deque()
        self._minute_began = clock()
        self._in_minute = self._left_out = 0
        self._is_over = False
        for follower in followers:
            follower.start()

    @property
    def healthy(self) -> bool:
        """Whether all that was told is written."""
        return self._journal.healthy

    def write(self, payloads: Iterable[Payload], *, sync: bool = False) -> bool:
        """Append log lines that wait, then *payloads*; see `Journal.write`. Nothing follows an `Exit`."""
        if self._left_out and self._clock() - self._minute_began >= MINUTE_S:
            self._begin_minute()
        waiting = [self._log.popleft() for _ in range(len(self._log))]
        told = [*waiting, *payloads]
        self._is_over = self._is_over or any(isinstance(payload, Exit) for payload in told)
        written = self._journal.write(told, sync=sync)
        for follower in self._followers:
            follower.wake()
        return written

    def rotate_if_large(self, snapshot: Callable[[], Snapshot]) -> None:
        """See `Journal.rotate_if_large`."""
        self._journal.rotate_if_large(snapshot)

    def log(self, level: str, message: str) -> None:
        """A log line, unless too many came in this minute. Any thread may call this."""
        if self._is_over:
            return
        if self._clock() - self._minute_began >= MINUTE_S:
            self._begin_minute()
        if self._in_minute >= LINES_A_MINUTE:
            self._left_out += 1
            return
        self._in_minute += 1
        self._log.append(LogLine(level=level, message=message[:LONGEST_MESSAGE]))
        if threading.get_ident() == self._writer:
            self.write(())

    def _begin_minute(self) -> None:
        left_out, self._left_out, self._in_minute = self._left_out, 0, 0
        self._minute_began = self._clock()
        if left_out:
            text = f"{left_out} more log lines in a minute were left out here; the run's .err file has them all"
            self._log.append(LogLine(level="warning", message=text))


class LogEvents(logging.Handler):
    """Hands log records on to *reporter*."""

    def __init__(self, reporter: CompositeReporter) -> None:
        super().__init__(logging.INFO)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Tell *record*, with its exception's last line."""
        try:
            self._reporter.log(record.levelname.lower(), self.format(record))
        except Exception:
            self.handleError(record)
