"""What the environment says about this installation: where its state lives, where it listens, which keys it uses.

Read once, in the entry points; everything else is handed a `Settings`. A value that makes no sense is refused with one
sentence that names the variable, the value and the remedy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from shared.errors import FlotillaError
from shared.halt import HALT_FILE

CHECKOUT = Path(__file__).resolve().parent.parent
_TELEGRAM_URL = "https://api.telegram.org"


class BadSetting(FlotillaError):
    """An environment variable, or what it points at, cannot be used."""

    code = "bad_setting"


@dataclass(frozen=True, slots=True, kw_only=True)
class TelegramSettings:
    """A Telegram bot that alerts people. Without *chat_ids* it only says in the log which chats write to it."""

    token: str = field(repr=False)
    chat_ids: tuple[int, ...] = ()
    url: str = _TELEGRAM_URL

    @property
    def bot_id(self) -> str:
        """The public part of the token."""
        return self.token.partition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One installation. Two with different *home* and ports never touch each other."""

    home: Path
    database_url: str
    host: str = "127.0.0.1"
    port: int = 5000
    sim_port: int = 9700
    admin_password: str | None = None
    secret_keys: tuple[str, ...] = ()
    telegram: TelegramSettings | None = None

    @property
    def base_url(self) -> str:
        """Where local tools reach the web server."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::", ""} else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def models(self) -> Path:
        """Folder of the model files, each named by its SHA-256."""
        return self.home / "models"

    @property
    def key_file(self) -> Path:
        """The generated encryption key, used when the environment names none."""
        return self.home / "secret.key"

    @property
    def cli_token_file(self) -> Path:
        """An admin token for tools on this machine."""
        return self.home / "cli.token"

    @property
    def halt_file(self) -> Path:
        """While it is there, no bot of this home opens a position: the kill switch that needs no server."""
        return self.home / HALT_FILE

    def model_file(self, sha256: str) -> Path:
        """Where the model with this content lives."""
        return self.models / f"{sha256}.txt"

    def journals(self, bot_id: int) -> Path:
        """Folder of one bot's journals and its lock."""
        return self.home / "journals" / str(bot_id)

    def make_home(self) -> None:
        """Create the home folder, readable by its owner alone. Raises `BadSetting`."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.models.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise BadSetting(
                f"FLOTILLA_HOME {self.home} cannot be used ({error.strerror}). Name a folder that this user may write."
            ) from None


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. Raises `BadSetting`."""
    given = os.environ if environment is None else environment
    home = Path(given.get("FLOTILLA_HOME") or CHECKOUT / "var").expanduser().resolve()
    return Settings(
        home=home,
        database_url=_database_url(given.get("DATABASE_URL") or f"sqlite:///{home / 'flotilla.db'}"),
        host=given.get("FLOTILLA_HOST") or "127.0.0.1",
        port=_port(given, "FLOTILLA_PORT", 5000),
        sim_port=_port(given, "FLOTILLA_SIM_PORT", 9700),
        admin_password=given.get("FLOTILLA_ADMIN_PASSWORD") or None,
        secret_keys=tuple(k for k in given.get("FLOTILLA_SECRET_KEYS", "").replace(",", " ").split() if k),
        telegram=_telegram(given),
    )


def _port(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535):
        raise BadSetting(f"{name} is {text!r}, which is no port. Give a number from 1 to 65535, such as {default}.")
    return int(text)


_TELEGRAM_TOKEN = re.compile(r"[0-9]{3,20}:[A-Za-z0-9_-]{20,100}")
_CHAT_ID = re.compile(r"-?[0-9]{1,19}")


def _telegram(given: Mapping[str, str]) -> TelegramSettings | None:
    """Telegram's three variables; messages never show the token."""
    token = (given.get("FLOTILLA_TELEGRAM_TOKEN") or "").strip()
    chats = [c for c in (given.get("FLOTILLA_TELEGRAM_CHAT_ID") or "").replace(",", " ").split() if c]
    url = (given.get("FLOTILLA_TELEGRAM_URL") or _TELEGRAM_URL).strip().rstrip("/")
    if not token and not chats:
        return None
    if not token:
        raise BadSetting("FLOTILLA_TELEGRAM_CHAT_ID is set, FLOTILLA_TELEGRAM_TOKEN is not. Set the token of your bot.")
    if _TELEGRAM_TOKEN.fullmatch(token) is None:
        raise BadSetting(
            "FLOTILLA_TELEGRAM_TOKEN is no token of a Telegram bot. Give the whole line that @BotFather shows, "
            "such as 110201543:AAHdqTcv…: digits, a colon, letters."
        )
    for chat in chats:
        if _CHAT_ID.fullmatch(chat) is None:
            raise BadSetting(
                f"FLOTILLA_TELEGRAM_CHAT_ID holds {chat!r}, which is no chat id. Give a whole number such as 123456789 "
                "(groups have negative ones), several with commas between them."
            )
    return TelegramSettings(token=token, chat_ids=tuple(dict.fromkeys(map(int, chats))), url=_telegram_url(url))


def _telegram_url(url: str) -> str:
    remedy = "Give an address such as https://api.telegram.org, without the token."
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username or any(c.isspace() for c in url):
        raise BadSetting(f"FLOTILLA_TELEGRAM_URL cannot be used as an address. {remedy}")
    if "/bot" in parts.path:
        raise BadSetting(f"FLOTILLA_TELEGRAM_URL names a bot. {remedy}")
    return url


def _database_url(text: str) -> str:
    text = "postgresql" + text[len("postgres") :] if text.startswith("postgres://") else text
    remedy = "Give an address such as sqlite:////srv/flotilla/flotilla.db or postgresql://user@host/flotilla."
    try:
        url = make_url(text)
    except ArgumentError:
        raise BadSetting(f"DATABASE_URL cannot be read as a database address. {remedy}") from None
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise BadSetting(f"DATABASE_URL names {url.get_backend_name()!r}, which is not supported. {remedy}")
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise BadSetting(f"DATABASE_URL {text} is kept in memory, where no other process sees it. {remedy}")
    return text
