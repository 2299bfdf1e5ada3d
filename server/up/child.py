"""One process under ``flotilla up``: started, started again with back-off when it dies, and ended in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from server.settings import CHECKOUT
from server.supervisor.backoff import RestartPolicy

LEASH = Path(__file__).with_name("leash.py")
MAX_LOG_BYTES = 10_000_000
_POLICY = RestartPolicy(window_s=60.0)


class Child:
    """A process with a name, a log file and a session of its own, so that a terminal's Ctrl-C passes it by."""

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        *,
        restarts: bool = True,
    ) -> None:
        self.name, self._command, self._log, self._say = name, command, log, say
        self._environment, self._restarts = dict(environment), restarts
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths: list[float] = []
        self._start_at: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its last process; 0 before the first."""
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        """How its last process ended; None while it runs or before the first."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start the process. Raises ``OSError``."""
        self._start_at = None
        with _log_file(self._log) as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=CHECKOUT,
                env=self._environment,
            )

    def look(self) -> None:
        """Notice a death, and start the process again when its time has come. Raises nothing."""
        now = time.monotonic()
        if self._start_at is None and not self.is_running and self._restarts:
            when = self._start_later(now)
            self._say(f"The {self.name} ended ({self._last_words()}); starting it again {when}.")
        if self._start_at is not None and now >= self._start_at:
            try:
                self.start()
            except OSError as error:  # no process, memory or disk left for it: everything else goes on
                when = self._start_later(now)
                self._say(f"The {self.name} cannot be started ({error.strerror}); trying again {when}.")

    def _start_later(self, now: float) -> str:
        self._deaths = [at for at in self._deaths if now - at <= _POLICY.window_s] + [now]
        delay = _POLICY.delay_s(len(self._deaths), 0.0)
        self._start_at = now + delay
        return f"in {delay:.0f} s" if delay else "now"

    def ask_to_end(self) -> None:
        """SIGTERM."""
        self._restarts = False
        if self.is_running and self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to all of its session."""
        self._restarts = False
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass

    def wait(self, until: float) -> bool:
        """Wait for its end, at most to *until* (monotonic clock); whether it ended."""
        if self._process is None:
            return True
        try:
            self._process.wait(max(until - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def _last_words(self) -> str:
        code = self.exit_code
        cause = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"{cause}; see {self._log}"


def _log_file(path: Path) -> BinaryIO:
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")
