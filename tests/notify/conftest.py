"""The stand-in of the Bot API, a database beside it, and the threads that serve its outbox."""

from __future__ import annotations

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
from tests import waiting
from tests.notify.bot_api import CHAT, StandIn, failed
from tests.waiting import DEADLINE_S

QUICK = RetryPolicy(first_s=0.05, most_s=0.2, attempts=200, refused_first_s=0.1, refused_most_s=0.2, refused_attempts=3)


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


def wait_for(what: str, look: Callable[[], Any], within_s: float = DEADLINE_S) -> Any:
    """The first true answer of *look*; fails with *what* when there is none in time."""
    return waiting.wait_for(look, within_s, what)


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
