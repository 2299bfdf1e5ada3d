"""A Telegram bot as a channel: messages out, updates in, and every failure as one of three kinds of trouble.

The library is imported only here and only when Telegram is set up. It and its HTTP client write the token into log
lines and error texts; both are kept silent, and what is passed on is cleared of it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from server.notify.deliveries import Trouble, Undelivered
from server.settings import TelegramSettings

if TYPE_CHECKING:
    from telegram import InlineKeyboardMarkup, Update

_OF_THE_MESSAGE = ("message ", "can't parse", "text must", "query ")
"""How refusals begin that speak of one message, and not of the chat."""

CONNECT_S, ANSWER_S, POLL_S = 10.0, 15.0, 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """One button below a message; *data* comes back when it is pressed."""

    label: str
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What somebody wrote, or which button somebody pressed (*press_id* is set then, and *text* is its data)."""

    update_id: int
    chat_id: int | None
    user_id: int | None
    user: str
    text: str
    sent_ms: int | None
    press_id: str | None = None
    message_id: int | None = None


def channel_of(chat_id: int) -> str:
    """The name of the channel to a chat."""
    return f"telegram:{chat_id}"


def chat_of(channel: str) -> int:
    """The chat that a channel leads to."""
    return int(channel.partition(":")[2])


class Telegram:
    """One bot at the Bot API. To be made and used within one event loop; every call raises only `Undelivered`."""

    def __init__(self, settings: TelegramSettings, *, answer_s: float = ANSWER_S) -> None:
        for name in ("httpx", "httpcore", "telegram"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        from telegram import Bot
        from telegram.request import HTTPXRequest

        warnings.filterwarnings("ignore", message=".*retry_after.*")  # which unit it will be in a later version
        self._settings = settings
        times: dict[str, Any] = {"connect_timeout": CONNECT_S, "read_timeout": answer_s, "write_timeout": answer_s}
        self._requests = [
            HTTPXRequest(connection_pool_size=2, pool_timeout=answer_s, **times),
            HTTPXRequest(connection_pool_size=8, pool_timeout=answer_s, **times),
        ]
        self._bot = Bot(
            settings.token,
            base_url=f"{settings.url}/bot",
            base_file_url=f"{settings.url}/file/bot",
            get_updates_request=self._requests[0],
            request=self._requests[1],
        )

    async def fetch_username(self) -> str:
        """The bot's own name, as it is put behind a command in a group."""
        return str((await self._call(self._bot.get_me())).username)

    async def send(self, chat_id: int, text: str, buttons: Sequence[Button] = ()) -> int:
        """Send *text* as it is, without any markup; the message's id."""
        from telegram import LinkPreviewOptions

        sent = await self._call(
            self._bot.send_message(
                chat_id,
                text,
                reply_markup=_keyboard(buttons),
                link_preview_options=LinkPreviewOptions(is_disabled=True),
            )
        )
        return int(sent.message_id)

    async def edit(self, chat_id: int, message_id: int, text: str) -> None:
        """Put *text* in place of a message sent earlier; its buttons go."""
        await self._call(self._bot.edit_message_text(text, chat_id=chat_id, message_id=message_id))

    async def acknowledge(self, press_id: str, text: str | None = None) -> None:
        """Tell the one who pressed a button that it was heard."""
        await self._call(self._bot.answer_callback_query(press_id, text=text))

    async def fetch_said(self, offset: int | None) -> list[Said]:
        """What was said since *offset*; waits a while for something."""
        updates = await self._call(
            self._bot.get_updates(offset, timeout=POLL_S, allowed_updates=["message", "callback_query"])
        )
        return [_said(update) for update in updates]

    async def close(self) -> None:
        """Let go of the connections."""
        for request in self._requests:
            await request.shutdown()

    async def _call(self, call: Any) -> Any:
        from telegram.error import TelegramError

        try:
            return await call
        except TelegramError as error:
            raise self._undelivered(error) from None

    def _undelivered(self, error: Exception) -> Undelivered:
        from telegram import error as errors

        text = self._cleared(str(error) or type(error).__name__)
        match error:
            case errors.RetryAfter():
                seconds = float(error.retry_after)  # type: ignore[arg-type]
                return Undelivered(Trouble.PASSING, f"Telegram asks to wait {seconds:g} s.", seconds)
            case errors.InvalidToken():
                return Undelivered(
                    Trouble.REFUSED,
                    f"Telegram refuses the token ({text}). Check FLOTILLA_TELEGRAM_TOKEN and start again.",
                )
            case errors.ChatMigrated():
                return Undelivered(
                    Trouble.REFUSED, f"The chat is now {error.new_chat_id}: put that into FLOTILLA_TELEGRAM_CHAT_ID."
                )
            case errors.Forbidden():
                return Undelivered(
                    Trouble.REFUSED, f"Telegram does not let the bot write there ({text}). Unblock it, or add it again."
                )
            case errors.BadRequest() if "chat not found" in text.lower():
                return Undelivered(
                    Trouble.REFUSED, "Telegram knows no such chat. Write /help to the bot from it, and check its id."
                )
            case errors.BadRequest() if text.lower().startswith(_OF_THE_MESSAGE):
                return Undelivered(Trouble.UNSENDABLE, f"Telegram does not accept this message ({text}).")
            case errors.BadRequest():
                return Undelivered(Trouble.REFUSED, f"Telegram does not take messages to this chat ({text}).")
            case errors.Conflict():
                return Undelivered(Trouble.PASSING, f"Another program reads this bot's messages ({text}). End it.")
        return Undelivered(Trouble.PASSING, f"No answer from Telegram ({text}).")

    def _cleared(self, text: str) -> str:
        token = self._settings.token
        return text.replace(token, "<token>").replace(token.partition(":")[2], "<token>")[:300]


def _keyboard(buttons: Sequence[Button]) -> InlineKeyboardMarkup | None:
    from telegram import InlineKeyboardButton, InlineKeyboardMarkup

    if not buttons:
        return None
    return InlineKeyboardMarkup([[InlineKeyboardButton(b.label, callback_data=b.data) for b in buttons]])


def _said(update: Update) -> Said:
    press, message, user, chat = update.callback_query, update.message, update.effective_user, update.effective_chat
    return Said(
        update_id=update.update_id,
        chat_id=None if chat is None else chat.id,
        user_id=None if user is None else user.id,
        user="" if user is None else user.username or str(user.id),
        text=(press.data if press else message.text if message else None) or "",
        sent_ms=None if message is None or press else int(message.date.timestamp() * 1000),
        press_id=press.id if press else None,
        message_id=press.message.message_id if press and press.message else None,
    )
