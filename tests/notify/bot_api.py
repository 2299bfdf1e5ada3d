"""A Bot API of our own over real HTTP, with one bot and some chats, that can be slow, deaf, rude or broken."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.ports import free_port
from tests.waiting import DEADLINE_S

TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
CHAT, OTHER_CHAT = 4711, -100815


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
        self.port = free_port()
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
        assert self._ready.wait(DEADLINE_S)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(DEADLINE_S)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
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
