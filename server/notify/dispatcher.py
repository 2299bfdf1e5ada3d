"""The thread that sends what the outbox holds, and hears commands: everything that talks to Telegram, and nothing else.

It has an event loop and database connections of its own, so that a slow or dead Telegram holds up nobody. It remembers
nothing that the rows do not say: what waits, how often it was tried, and up to where commands were heard.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from server.notify import outbox, summaries
from server.notify.channels import Telegram, channel_of, chat_of
from server.notify.deliveries import (
    BURST,
    Delivery,
    RetryPolicy,
    Trouble,
    Undelivered,
    load_queue,
    next_delivery,
    write_channel_state,
    write_failure,
    write_sent,
)
from server.notify.listener import Listener
from server.settings import Settings, TelegramSettings
from server.storage.engine import read, write
from server.storage.times import day_of, now_ms

log = structlog.get_logger(__name__)

LOOK_S = 0.5
"""How often the outbox is looked into."""
SPACING_S = 1.0
"""Between two messages to one chat, as Telegram asks."""
SUMMARY_AFTER_MS = 60_000
"""After midnight UTC, so that what closed just before it is in the rows."""
DETACH_S = 1.0
DRAIN_S = 2.0


@contextmanager
def notifying(settings: Settings, engine: Engine, *, drain: bool = False) -> Iterator[Dispatcher | None]:
    """Send and listen while the block runs, if Telegram is set up.

    With *drain*, where everything ends: nobody is listened to, and what waits at the end of the block is sent first.
    """
    names = [channel_of(chat) for chat in settings.telegram.chat_ids] if settings.telegram else []
    try:
        with write(engine) as connection:
            if outbox.channels(connection) != names:
                outbox.set_channels(connection, names)
    except SQLAlchemyError as error:
        log.warning("channels_not_written", reason=str(error))
    if settings.telegram is None:
        yield None
        return
    dispatcher = Dispatcher(settings, settings.telegram, engine, listens=not drain)
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        dispatcher.stop(drain_s=DRAIN_S if drain else 0.0)


class Dispatcher:
    """Sends and listens in a thread of its own from `start` to `stop`."""

    def __init__(
        self,
        settings: Settings,
        telegram: TelegramSettings,
        engine: Engine,
        *,
        listens: bool = True,
        policy: RetryPolicy | None = None,
        jitter: Callable[[], float] = random.random,
        make: Callable[[TelegramSettings], Telegram] = Telegram,
    ) -> None:
        self._settings, self._telegram, self._engine = settings, telegram, engine
        self._policy, self._jitter, self._make = policy or RetryPolicy(), jitter, make
        self._listens = listens
        self._channels = [channel_of(chat) for chat in telegram.chat_ids]
        self._thread = threading.Thread(target=self._run, name="telegram", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()
        self._drains = False
        self._day: int | None = None

    def start(self) -> None:
        """Begin. Returns at once."""
        self._thread.start()

    def stop(self, *, drain_s: float = 0.0) -> None:
        """End, also in the middle of a call that hangs; with *drain_s*, wait that long for what can still go out."""
        deadline = time.monotonic() + drain_s
        self._drains = drain_s > 0
        while time.monotonic() < deadline and self._thread.is_alive() and self._waits():
            time.sleep(0.05)
        if self._loop is None:
            self._ending.set()
        else:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(DETACH_S)

    def _waits(self) -> bool:
        try:
            with read(self._engine) as connection:
                return any(
                    message.next_try_ms <= now_ms()
                    for channel in self._channels
                    for message in load_queue(connection, channel, most=1)
                )
        except SQLAlchemyError:
            return False

    # --- within the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception:
            log.exception("telegram_thread_died")

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(_DaemonThreads())
        telegram = self._make(self._telegram)
        sending = [asyncio.create_task(self._keep(partial(self._deliver, telegram, c))) for c in self._channels]
        listener = Listener(self._engine, self._settings, self._telegram, telegram, self._pause, self._policy)
        others = (
            [asyncio.create_task(self._keep(work)) for work in (listener.listen, self._summarise)]
            if self._listens
            else []
        )
        log.info("telegram_started", chats=len(self._channels))
        await self._ending.wait()
        if sending:  # what is on its way may arrive: a message that is cut off would be sent again
            await asyncio.wait(sending, timeout=DETACH_S / 2)
        listener.close()
        for task in sending + others:
            task.cancel()
        await asyncio.gather(*sending, *others, return_exceptions=True)
        await telegram.close()

    async def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work* again and again, whatever goes wrong with it."""
        while not self._ending.is_set():
            try:
                await work()
            except SQLAlchemyError as error:
                log.warning("telegram_waits_for_database", reason=str(error))
                await self._pause(1)
            except Exception:
                log.exception("telegram_task_failed")
                await self._pause(5)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)

    async def _deliver(self, telegram: Telegram, channel: str) -> None:
        with read(self._engine) as connection:
            queue = load_queue(connection, channel, most=1)
            if next_delivery(queue, now_ms()) is not None:
                queue = load_queue(connection, channel)
        delivery = next_delivery(queue, now_ms(), burst=1 if self._drains else BURST)
        if delivery is None:
            await self._pause(LOOK_S)
            return
        try:
            await telegram.send(chat_of(channel), delivery.text)
        except Undelivered as failure:
            rest_s = self._write_failure(channel, delivery, failure)
        else:
            rest_s = SPACING_S
            with write(self._engine) as connection:
                write_sent(connection, delivery, now_ms())
                write_channel_state(connection, channel, None, now_ms())
        await self._pause(rest_s)

    def _write_failure(self, channel: str, delivery: Delivery, failure: Undelivered) -> float:
        """Seconds for which nothing more is tried on *channel*."""
        refused = failure.trouble is Trouble.REFUSED
        with write(self._engine) as connection:
            pause_s = write_failure(connection, delivery, failure, now_ms(), self._policy, self._jitter())
            known = write_channel_state(connection, channel, failure, now_ms())
        if refused and not known:
            log.error("telegram_refused", channel=channel, reason=failure.message)
        else:
            log.warning("telegram_not_sent", channel=channel, reason=failure.message, gave_up=pause_s is None)
        if refused:
            return self._policy.refused_most_s if pause_s is None else pause_s
        return SPACING_S

    async def _summarise(self) -> None:
        today = day_of(now_ms() - SUMMARY_AFTER_MS)
        if self._day != today:
            with write(self._engine) as connection:
                summaries.write_daily(connection, today, now_ms())
            self._day = today
        await self._pause(5)


class _DaemonThreads(ThreadPoolExecutor):
    """Threads for name look-ups that, when one hangs, do not hold up the end of the process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future
