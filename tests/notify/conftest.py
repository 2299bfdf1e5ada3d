"""A Bot API of our own over real HTTP, a database beside it, and the thread that talks to it.

The stand-in knows one bot and some chats. It can be slow, deaf, rude or broken, and keeps everything that it was asked.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import Engine, insert, select, update

from server.notify import outbox
from server.notify.channels import channel_of
from server.notify.deliveries import RetryPolicy
from server.notify.dispatcher import Dispatcher
from server.settings import Settings, TelegramSettings, load_settings
from server.storage.engine import make_engine, migrate, read, write
from server.storage.models import Bot, Notification, TradingConfigVersion
from server.storage.times import now_ms

TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
CHAT, OTHER_CHAT = 4711, -100815
QUICK = RetryPolicy(first_s=0.05, most_s=0.2, attempts=200, refused_first_s=0.1, refused_most_s=0.2, refused_attempts=3)


class StandIn:
    """The Bot API for one bot. Answers are set with `answers`; all that was asked is in `calls`."""

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.sent: list[dict[str, Any]] = []
        self.edits: list[dict[str, Any]] = []
        self.acknowledged: list[dict[str, Any]] = []
        self.failure: Callable[[str, dict[str, Any]], Any] | None = None
        """What goes wrong: given method and parameters, a response, seconds to wait first, or None for nothing."""
        self._updates: list[dict[str, Any]] = []
        self._next_update = 1000
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.port = 0
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- what people do ---

    def say(self, text: str, *, chat: int = CHAT, user: int = 7, age_s: int = 0, username: str = "ada") -> None:
        message = {
            "message_id": self._next_update,
            "date": int(time.time()) - age_s,
            "chat": self._chat(chat),
            "from": self._user(user, username),
            "text": text,
        }
        self._add({"message": message})

    def press(self, label: str, *, chat: int = CHAT, user: int = 7, message: dict[str, Any] | None = None) -> None:
        """Press the button *label* below *message*, or below the newest message that has it."""
        shown = [message] if message else [m for m in self.sent if "reply_markup" in m and m["chat_id"] == chat]
        buttons = {b["text"]: b["callback_data"] for b in shown[-1]["reply_markup"]["inline_keyboard"][0]}
        below = {"message_id": shown[-1]["message_id"], "date": int(time.time()), "chat": self._chat(chat)}
        press = {
            "id": f"press-{self._next_update}",
            "from": self._user(user, "ada"),
            "chat_instance": "1",
            "data": buttons[label],
            "message": below,
        }
        self._add({"callback_query": press})

    def texts(self, chat: int = CHAT) -> list[str]:
        return [m["text"] for m in self.sent if m["chat_id"] == chat]

    def told(self, words: str, chat: int = CHAT) -> list[str]:
        return [text for text in self.texts(chat) if words in text]

    def is_read(self) -> bool:
        """Whether every update was fetched and confirmed."""
        return not self._updates

    # --- the server ---

    def start(self) -> None:
        self._ready.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._end.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        head, _, method = request.match_info["path"].partition("/")
        if head != f"bot{self.token}":
            return failed(404, "Not Found")
        body = {k: _value(v) for k, v in (await request.post()).items()} if request.can_read_body else {}
        self.calls.append((method, body))
        failure = self.failure(method, body) if self.failure else None
        if isinstance(failure, int | float):
            await asyncio.sleep(failure)
        elif failure == "half":
            return await self._half(request)
        elif failure is not None:
            return failure  # type: ignore[no-any-return]
        result = await getattr(self, f"_{method}")(body)
        return web.json_response({"ok": True, "result": result})

    async def _half(self, request: web.Request) -> web.StreamResponse:
        """Begin an answer and hang up."""
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"ok": tru')
        assert request.transport is not None
        request.transport.close()
        return response

    async def _getMe(self, body: dict[str, Any]) -> Any:
        return {"id": 110201543, "is_bot": True, "first_name": "Flotilla", "username": "flotilla_test_bot"}

    async def _getUpdates(self, body: dict[str, Any]) -> Any:
        offset = body.get("offset")
        if offset is not None:
            self._updates = [u for u in self._updates if u["update_id"] >= offset]
        until = time.monotonic() + min(body.get("timeout", 0), 0.3)  # a long poll, not so long
        while not self._updates and time.monotonic() < until:  # noqa: ASYNC110 - filled from another thread
            await asyncio.sleep(0.02)
        return list(self._updates)

    async def _sendMessage(self, body: dict[str, Any]) -> Any:
        if body["chat_id"] not in (CHAT, OTHER_CHAT):
            raise web.HTTPBadRequest(
                text='{"ok": false, "error_code": 400, "description": "Bad Request: chat not found"}'
            )
        message = {**body, "message_id": len(self.sent) + 1, "at": time.monotonic()}
        self.sent.append(message)
        return {"message_id": message["message_id"], "date": int(time.time()), "chat": self._chat(body["chat_id"])}

    async def _editMessageText(self, body: dict[str, Any]) -> Any:
        self.edits.append(body)
        return {"message_id": body["message_id"], "date": int(time.time()), "chat": self._chat(body["chat_id"])}

    async def _answerCallbackQuery(self, body: dict[str, Any]) -> Any:
        self.acknowledged.append(body)
        return True

    def _add(self, update_: dict[str, Any]) -> None:
        self._updates = [*self._updates, {"update_id": self._next_update, **update_}]
        self._next_update += 1

    @staticmethod
    def _chat(chat: int) -> dict[str, Any]:
        return {"id": chat, "type": "private" if chat > 0 else "supergroup"}

    @staticmethod
    def _user(user: int, username: str) -> dict[str, Any]:
        return {"id": user, "is_bot": False, "first_name": "Ada", "username": username}


def failed(code: int, description: str, **parameters: Any) -> web.Response:
    """An error as the Bot API words it."""
    body: dict[str, Any] = {"ok": False, "error_code": code, "description": description}
    return web.json_response(body | ({"parameters": parameters} if parameters else {}), status=code)


def _value(text: Any) -> Any:
    """Parameters come as form fields; all but texts are JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


class House:
    """One installation: a database, and the threads that serve its outbox."""

    def __init__(self, home: Path, stand_in: StandIn) -> None:
        self.stand_in = stand_in
        self.settings: Settings = load_settings(
            {
                "FLOTILLA_HOME": str(home),
                "FLOTILLA_TELEGRAM_TOKEN": stand_in.token,
                "FLOTILLA_TELEGRAM_CHAT_ID": str(CHAT),
                "FLOTILLA_TELEGRAM_URL": stand_in.url,
            }
        )
        migrate(self.settings)
        self.engine: Engine = make_engine(self.settings.database_url)
        self.dispatchers: list[Dispatcher] = []
        self.set_chats(CHAT)

    @property
    def telegram(self) -> TelegramSettings:
        assert self.settings.telegram is not None
        return self.settings.telegram

    def set_chats(self, *chats: int) -> None:
        with write(self.engine) as connection:
            outbox.set_channels(connection, [channel_of(chat) for chat in chats])

    def dispatcher(self, *chats: int, **options: Any) -> Dispatcher:
        telegram = TelegramSettings(token=self.telegram.token, chat_ids=chats or (CHAT,), url=self.stand_in.url)
        made = Dispatcher(self.settings, telegram, self.engine, **{"policy": QUICK, "jitter": lambda: 0.0} | options)
        made.start()
        self.dispatchers.append(made)
        return made

    def queue(self, *texts: str, channel: int = CHAT, age_s: int = 0, kind: str = "closed", **columns: Any) -> None:
        for text in texts:
            row = {
                "created_ms": now_ms() - 1000 * age_s, "channel": channel_of(channel), "kind": kind, "text": text,
                "state": "queued", "attempts": 0, "next_try_ms": 0,
            }  # fmt: skip
            with write(self.engine) as connection:
                connection.execute(insert(Notification).values(**row | columns))

    def rows(self) -> list[Any]:
        with read(self.engine) as connection:
            return list(connection.execute(select(Notification).order_by(Notification.id)))

    def states(self) -> list[str]:
        return [row.state for row in self.rows()]

    def add_bot(self, name: str = "eth-scalper", **columns: Any) -> int:
        config = columns.pop("config", {})
        row: dict[str, Any] = {
            "name": name, "description": "", "strategy": "rsi", "symbol": "ETHUSDT", "exchange": "simulator",
            "mode": "trade", "interval": "1s", "tags": [], "desired_state": "running", "halted": False,
            "config_version": 1, "generation": 1, "run_id": None, "created_ms": 0, "updated_ms": 0,
            "start_requests": 1, "status": "running",
        }  # fmt: skip
        with write(self.engine) as connection:
            made = connection.execute(insert(Bot).values(**row | columns))
            bot_id: int = made.inserted_primary_key[0]  # type: ignore[index]
            connection.execute(
                insert(TradingConfigVersion).values(
                    bot_id=bot_id, version=1, config=config, diff={}, author="t", created_ms=0
                )
            )
        return bot_id

    def set_bot(self, bot_id: int, **values: Any) -> None:
        with write(self.engine) as connection:
            connection.execute(update(Bot).where(Bot.id == bot_id).values(**values))

    def bot(self, bot_id: int) -> Any:
        with read(self.engine) as connection:
            return connection.execute(select(Bot).where(Bot.id == bot_id)).one()

    def close(self) -> None:
        for dispatcher in self.dispatchers:
            dispatcher.stop()
        self.engine.dispose()


def wait_for(what: str, look: Callable[[], Any], within_s: float = 20) -> Any:
    """The first truthy answer of *look*; fails with *what* when there is none in time."""
    deadline = time.monotonic() + within_s
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.02)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    server = StandIn()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def house(tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr("server.notify.dispatcher.SPACING_S", 0.05)
    made = House(tmp_path / "home", stand_in)
    yield made
    made.close()


@pytest.fixture(name="wait_for")
def _wait_for() -> Callable[..., Any]:
    return wait_for


@pytest.fixture(name="failed")
def _failed() -> Callable[..., web.Response]:
    return failed
