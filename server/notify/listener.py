"""Hear what the allowed chats say, have it done, and say what came of it.

What is heard is confirmed in the same transaction that carries it out, so that a restart neither loses nor repeats a
command. Questions that wait for their button live in memory: after a restart one has to ask again. The kill switch does
not wait for the database: its file is written first.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog
from sqlalchemy import Connection, Engine, delete, insert, select
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from server.notify import commands, outbox
from server.notify.channels import Button, Said, Telegram, channel_of
from server.notify.commands import Answer, Plan
from server.notify.deliveries import RetryPolicy, Trouble, Undelivered, cut
from server.notify.templates import Message, one_line
from server.settings import Settings, TelegramSettings
from server.storage import kill_switch
from server.storage.audit import Author, Via
from server.storage.engine import read, write
from server.storage.models import Setting
from server.storage.times import DAY_MS, now_ms
from shared.halt import HaltOrder

log = structlog.get_logger(__name__)

OLD_COMMAND_MS = 300_000
"""A command that arrives later than this after it was written is not carried out."""
CONFIRM_S = 60.0
WATCH_S = 30.0
_LOOK_S = 0.5
_MOST_DEAF_S = 30.0
"""After a failure that passes, commands are looked for again within this."""
_MOST_STRANGERS = 100
_OFFSET_LASTS_MS = 6 * DAY_MS
"""After a week of silence Telegram counts its updates anew; one confirmed long ago does not come back."""
_NOT_DONE = "That did not work; nothing was changed. The supervisor's log says why."
_HALTED_BY_FILE = "The halt file halts all bots of this machine; the rest did not work. The supervisor's log says why."
NO_LONGER = "This question is no longer valid. Send the command again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A change that waits for its button, for the one who asked alone."""

    plan: Plan
    chat_id: int
    user_id: int
    until: float


class Listener:
    """Hears the chats of one Telegram bot. Used within one event loop."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        telegram_settings: TelegramSettings,
        telegram: Telegram,
        pause: Callable[[float], Awaitable[None]],
        policy: RetryPolicy,
    ) -> None:
        self._engine, self._telegram, self._pause, self._policy = engine, telegram, pause, policy
        self._halt_file, self._allowed = settings.halt_file, frozenset(telegram_settings.chat_ids)
        self._offset_name = f"telegram.offset.{telegram_settings.bot_id}"
        self._username: str | None = None
        self._offset: tuple[int, int] | None = None
        self._failures = 0
        self._strangers: set[int] = set()
        self._questions: dict[str, Question] = {}
        self._watches: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Hear what is said now; waits a while for something."""
        try:
            if self._username is None:
                self._username = await self._telegram.fetch_username()
            began = time.monotonic()
            said = await self._telegram.fetch_said(self._load_offset())
        except Undelivered as failure:
            await self._wait_after(failure)
            return
        if self._failures:
            log.info("telegram_heard_again")
            self._failures = 0
        for one in said:
            await self._hear(one)
        if not said and time.monotonic() - began < _LOOK_S:  # a server that does not wait is not to be hammered
            await self._pause(_LOOK_S)

    def close(self) -> None:
        """Give up watching for what is still to come."""
        for watch in self._watches:
            watch.cancel()

    async def _wait_after(self, failure: Undelivered) -> None:
        self._failures += 1
        if self._failures == 1:
            say = log.error if failure.trouble is Trouble.REFUSED else log.warning
            say("telegram_not_heard", reason=failure.message)
        pause_s = self._policy.pause_s(failure, self._failures, 1.0)
        is_short = failure.trouble is Trouble.PASSING and failure.retry_after_s is None
        await self._pause(min(pause_s, _MOST_DEAF_S) if is_short else pause_s)

    # --- one thing said -------------------------------------------------------------------------------------------

    async def _hear(self, said: Said) -> None:
        answer = Answer()
        nonce = self._hold_question(said)
        halts = nonce is not None and self._engage_file_first(self._questions[nonce].plan, said)
        try:
            with write(self._engine) as connection:
                answer = self._answer(connection, said)
                self._save_offset(connection, said.update_id + 1)
        except OperationalError:
            raise  # the database: it is heard again
        except Exception:
            log.exception("command_failed", update_id=said.update_id)
            answer = Answer(text=_HALTED_BY_FILE if halts else _NOT_DONE)
            with write(self._engine) as connection:
                self._save_offset(connection, said.update_id + 1)
        if nonce is not None:
            del self._questions[nonce]
        self._offset = (said.update_id + 1, now_ms())
        if said.chat_id is None or not (answer.text or answer.hint):
            return
        try:
            if said.press_id is not None:
                await self._acknowledge(said.press_id, answer.hint)
            if answer.text:
                await self._say(said, said.chat_id, answer)
        except Undelivered as failure:
            log.warning("answer_not_sent", reason=failure.message)
            if answer.text and answer.asks is None:
                self._queue(said.chat_id, said.update_id, answer.text)

    def _answer(self, connection: Connection, said: Said) -> Answer:
        if said.chat_id not in self._allowed:
            self._note_stranger(said)
            return Answer()
        if said.user_id is None:
            return Answer()
        author = Author(one_line(said.user, 40), Via.TELEGRAM)
        if said.press_id is not None:
            return self._pressed(connection, said, author)
        command = commands.parse(said.text, self._username or "")
        if command is None:
            return Answer()
        age_ms = now_ms() - (said.sent_ms or 0)
        if age_ms > OLD_COMMAND_MS and command.name != "halt":  # a halt asks before it does anything
            return Answer(text=f"/{command.name} was sent {age_ms // 60_000} min ago: too old, send it again.")
        answer = commands.answer(connection, command, author, self._halt_file)
        log.info("command_heard", command=command.name, user=said.user, chat_id=said.chat_id)
        return answer

    def _pressed(self, connection: Connection, said: Said, author: Author) -> Answer:
        verdict, _, nonce = said.text.partition(":")
        question = self._questions.get(nonce)
        if question is None or question.chat_id != said.chat_id or question.until < time.monotonic():
            self._questions.pop(nonce, None)
            return Answer(text=NO_LONGER)
        if question.user_id != said.user_id:
            return Answer(hint="Only the one who asked can answer this.")
        if verdict != "yes":
            return Answer(text="Cancelled; nothing was changed.")
        log.info("command_confirmed", verb=question.plan.verb, user=said.user, chat_id=said.chat_id)
        return commands.carry_out(connection, question.plan, author, self._halt_file)

    def _hold_question(self, said: Said) -> str | None:
        """The nonce of the question that *said* answers: it stays valid until the answer is carried out."""
        nonce = said.text.partition(":")[2] if said.press_id is not None else ""
        question = self._questions.get(nonce)
        if question is None or (said.chat_id, said.user_id) != (question.chat_id, question.user_id):
            return None
        if said.chat_id not in self._allowed or question.until < time.monotonic():
            return None
        self._questions[nonce] = replace(question, until=float("inf"))
        return nonce

    def _engage_file_first(self, plan: Plan, said: Said) -> bool:
        """Engage the kill switch by its file at once if that was confirmed, whatever the database does."""
        if plan != commands.KILL_SWITCH or not said.text.startswith("yes:"):
            return False
        try:
            kill_switch.engage_file(self._halt_file, HaltOrder(by=one_line(said.user, 40), at_ms=now_ms()))
        except OSError as error:
            log.error("halt_file_not_written", file=str(self._halt_file), reason=error.strerror)
            return False
        return True

    def _note_stranger(self, said: Said) -> None:
        if said.chat_id is None or said.chat_id in self._strangers or len(self._strangers) >= _MOST_STRANGERS:
            return
        self._strangers.add(said.chat_id)
        log.warning("telegram_chat_unknown", chat_id=said.chat_id, remedy="yours? FLOTILLA_TELEGRAM_CHAT_ID allows it")

    # --- saying ---------------------------------------------------------------------------------------------------

    async def _say(self, said: Said, chat_id: int, answer: Answer) -> None:
        if said.press_id is not None and said.message_id is not None:
            message_id = said.message_id
            await self._telegram.edit(chat_id, message_id, cut(answer.text))
        else:
            message_id = await self._telegram.send(chat_id, cut(answer.text), self._buttons(said, chat_id, answer.asks))
        if answer.done is not None:
            watch = asyncio.create_task(self._watch(chat_id, message_id, answer.done, answer.text))
            self._watches.add(watch)
            watch.add_done_callback(self._watches.discard)

    async def _acknowledge(self, press_id: str, hint: str | None) -> None:
        try:
            await self._telegram.acknowledge(press_id, hint)
        except Undelivered as failure:  # the button only spins a little longer
            log.warning("press_not_acknowledged", reason=failure.message)

    def _buttons(self, said: Said, chat_id: int, plan: Plan | None) -> list[Button]:
        if plan is None or said.user_id is None:
            return []
        now = time.monotonic()
        self._questions = {n: q for n, q in self._questions.items() if q.until >= now}
        nonce = secrets.token_hex(8)
        self._questions[nonce] = Question(plan=plan, chat_id=chat_id, user_id=said.user_id, until=now + CONFIRM_S)
        return [Button(label="Cancel", data=f"no:{nonce}"), Button(label=commands.label_of(plan), data=f"yes:{nonce}")]

    async def _watch(self, chat_id: int, message_id: int, plan: Plan, text: str) -> None:
        """Put what is observed in place of what is wanted, once it has come, or when the wait for it is over."""
        until, since_ms = time.monotonic() + WATCH_S, now_ms()
        try:
            while True:
                with read(self._engine) as connection:
                    come = commands.is_observed(connection, plan, since_ms)
                    now = commands.observed(connection, plan)
                if come or time.monotonic() >= until:
                    break
                await asyncio.sleep(_LOOK_S)
            seen = now if come else f"{now}\nNot there yet after {WATCH_S:g} s; /bots shows how it goes on."
            if seen != text:
                await self._telegram.edit(chat_id, message_id, cut(seen))
        except (Undelivered, SQLAlchemyError) as error:
            log.warning("observed_state_not_told", reason=str(error))

    def _queue(self, chat_id: int, update_id: int, text: str) -> None:
        message = Message(kind="answer", text=cut(text), key=f"answer:{update_id}")
        with write(self._engine) as connection:
            outbox.tell(connection, message, now_ms(), only=channel_of(chat_id))

    # --- up to where it was heard ---------------------------------------------------------------------------------

    def _load_offset(self) -> int | None:
        if self._offset is None:
            with read(self._engine) as connection:
                value = connection.execute(
                    select(Setting.value).where(Setting.name == self._offset_name)
                ).scalar_one_or_none()
            number, _, at_ms = (value or "0 0").partition(" ")
            self._offset = (int(number), int(at_ms))
        number_, at = self._offset
        return number_ if now_ms() - at < _OFFSET_LASTS_MS else None

    def _save_offset(self, connection: Connection, offset: int) -> None:
        connection.execute(delete(Setting).where(Setting.name == self._offset_name))
        connection.execute(insert(Setting).values(name=self._offset_name, value=f"{offset} {now_ms()}"))
