"""What is particular about a run that a person launched: its files, who reads along, and how it is ended.

The journal and the log go into files, as for any run; the terminal gets copies of both, so that a terminal that is gone
or stands still never touches trading. Ctrl-C, and a terminal that is closed, also tell the server that the bot is not
wanted any more. A remote run posts its journal, and makes way at once for a run that has taken its place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from bots.reporters.backend_reporter import BackendReporter
from bots.reporters.followers import Follower, Mirror
from bots.reporters.telegram_reporter import TelegramReporter
from bots.utils.manual_launch import (
    EXIT_TEMPORARY,
    WITHDRAW_S,
    LaunchRefused,
    Wanted,
    fetch_model,
    take_ticket,
    withdraw,
)
from bots.utils.run_lock import take_run_lock
from shared.states import RunKind

MIRRORED_WITHIN_S: Final = 1.0
POSTED_WITHIN_S: Final = 10.0

log = logging.getLogger(__name__)


class Replaced(Exception):
    """Another run has taken this one's place; its positions are that run's."""


class ByHand:
    """One manual launch, from its ticket on. Raises `LaunchRefused`."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self.ticket = take_ticket(wanted)
        self.secrets = (wanted.token, os.environ.get("FLOTILLA_TELEGRAM_TOKEN", ""))
        self.followers: list[Follower] = []
        self._mirrors: list[Follower] = []
        self._backend: BackendReporter | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._poll: Callable[[], None] = lambda: None
        self._replaced_by: asyncio.Future[str] | None = None
        self._replacement: str | None = None
        self._withdrawing: threading.Thread | None = None

    def begin(self) -> int:
        """Take the run's lock and open its files; the descriptor for events. Raises `AlreadyRunning` too."""
        folder, run_id = Path(self.ticket.home), self.ticket.run_id
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            take_run_lock(folder, self.ticket.generation, run_id)
            events, errors = _append(folder / f"{run_id}.jsonl"), _append(folder / f"{run_id}.err")
        except OSError as error:
            withdraw(self._wanted).join(WITHDRAW_S)
            raise LaunchRefused(
                f"The run's files cannot be written: {error.filename} ({error.strerror}).", EXIT_TEMPORARY
            ) from None
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a job in the background may print
        terminal = os.dup(1), os.dup(2)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        self._mirrors = [
            Mirror(folder, f"{run_id}.jsonl", terminal[0]),
            Mirror(folder, f"{run_id}.err", terminal[1]),
        ]
        self.followers += self._mirrors
        if self.ticket.kind is RunKind.REMOTE:
            self._report_from_afar(folder)
        return events

    def attend(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], None], poll: Callable[[], None]) -> None:
        """Say how the run is stopped and made to poll; called in the loop's thread."""

        def end() -> None:
            if self._withdrawing is None:
                log.info("ending in order, by on_stop")
                self._withdrawing = withdraw(self._wanted)
            stop()

        loop.add_signal_handler(signal.SIGINT, end)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup wants it
            loop.add_signal_handler(signal.SIGHUP, end)
        self._loop, self._poll = loop, poll
        self._replaced_by = loop.create_future()
        if self._replacement is not None:
            self._make_way(self._replacement)
        where = "remotely" if self._backend else "here"
        log.info("bot %s (%s) runs %s as %s; Ctrl-C ends it", self.ticket.bot_id, self.ticket.name, where, _of(self))

    async def unless_replaced(self, work: Coroutine[Any, Any, None]) -> None:
        """Do *work*. Raises `Replaced`, with all orders left as they are, when another run takes over."""
        assert self._replaced_by is not None
        working = asyncio.create_task(work)
        awaited: set[asyncio.Future[Any]] = {working, self._replaced_by}
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            raise Replaced(f"run {self._replaced_by.result()} has taken over; positions and orders are left to it")
        await working

    def end(self) -> None:
        """The last line is written: let it reach those who read along, for a moment."""
        self._loop = None
        if self._backend is not None and not self._backend.close(time.monotonic() + POSTED_WITHIN_S):
            log.warning("not all was posted; the next launch on this machine posts the rest from %s", self.ticket.home)
        until = time.monotonic() + MIRRORED_WITHIN_S
        for follower in self.followers:
            if follower is not self._backend:
                follower.close(until)
        if self._withdrawing is not None:
            self._withdrawing.join(WITHDRAW_S)

    def _report_from_afar(self, folder: Path) -> None:
        ticket = self.ticket
        self.ticket = fetch_model(ticket)
        self._backend = BackendReporter(
            folder,
            ticket.run_id,
            f"{ticket.server_url}/api/trading/bots/{ticket.bot_id}/events",
            ticket.token,
            on_control=self._on_control,
            on_replaced=self._on_replaced,
        )
        self.followers.append(self._backend)
        token, chat = os.environ.get("FLOTILLA_TELEGRAM_TOKEN"), os.environ.get("FLOTILLA_TELEGRAM_CHAT_ID")
        if token and chat:
            base = os.environ.get("FLOTILLA_TELEGRAM_URL") or "https://api.telegram.org"
            self.followers.append(
                TelegramReporter(folder, ticket.run_id, ticket.name, base_url=base, token=token, chat_id=chat)
            )

    def _on_control(self) -> None:
        self._in_loop(self._poll)

    def _on_replaced(self, run_id: str) -> None:
        self._replacement = run_id
        self._in_loop(lambda: self._make_way(run_id))

    def _in_loop(self, call: Callable[[], None]) -> None:
        loop = self._loop
        with suppress(RuntimeError):  # it was just closed
            if loop is not None:
                loop.call_soon_threadsafe(call)

    def _make_way(self, run_id: str) -> None:
        if self._replaced_by is not None and not self._replaced_by.done():
            self._replaced_by.set_result(run_id)


def _of(launch: ByHand) -> str:
    return f"{launch.ticket.run_id} on {launch.ticket.symbol}, files in {launch.ticket.home}"


def _append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
