"""A real app on a real database in a temporary home, and rows put straight into the tables."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import Engine, insert, update
from waitress import wasyncore
from waitress.server import create_server
from werkzeug.test import TestResponse

from server.app import create_app
from server.security import users
from server.security.tokens import issue_api_token, issue_bot_token
from server.security.users import create_user, first_start
from server.settings import Settings, load_settings
from server.storage.engine import write
from server.storage.models import Bot, Model, SupervisorBeat, TradingOrder, TradingStats
from server.storage.times import now_ms
from server.web.assets import are_missing
from tests.browsers import a_browser, need
from tests.waiting import LONG_S, wait_for

PASSWORD = "correct horse battery staple"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Passwords that cost little to check: that they cost much is what protects people, not what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        yield


@pytest.fixture(scope="session")
def prepared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home after its first start, with a viewer and a trader; copied for each test."""
    home = tmp_path_factory.mktemp("prepared") / "home"
    settings = load_settings({"FLOTILLA_HOME": str(home), "FLOTILLA_ADMIN_PASSWORD": PASSWORD})
    first_start(settings)
    engine = create_app(settings).extensions["flotilla"].engine
    with write(engine) as connection:
        for role in ("viewer", "trader"):
            create_user(connection, username=role, password=PASSWORD, role=role)
    engine.dispose()
    return home


@pytest.fixture
def settings(prepared_home: Path, tmp_path: Path) -> Settings:
    home = tmp_path / "home"
    shutil.copytree(prepared_home, home)
    # Nothing listens on port 1: the exchange is silent unless a test starts one.
    return load_settings({"FLOTILLA_HOME": str(home), "FLOTILLA_SIM_PORT": "1"})


@pytest.fixture(scope="module")
def sim_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a simulator that runs for this module; a test's settings must name it."""
    port_file = tmp_path_factory.mktemp("simulator") / "port"
    command = [sys.executable, "-m", "simulator", "--port", "0", "--port-file", str(port_file), "--unlimited"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for(lambda: port_file.exists() or process.poll() is not None, LONG_S)
    assert process.poll() is None
    yield int(port_file.read_text())
    process.kill()
    process.wait(10)


@pytest.fixture(scope="session")
def compiled_templates(tmp_path_factory: pytest.TempPathFactory) -> FileSystemBytecodeCache:
    """Templates that were compiled once: to compile them is most of what the first page of a new app costs."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def app(settings: Settings, compiled_templates: FileSystemBytecodeCache) -> Iterator[Any]:
    app = create_app(settings)
    app.jinja_env.bytecode_cache = compiled_templates
    yield app
    app.extensions["flotilla"].engine.dispose()


@pytest.fixture
def engine(app: Any) -> Engine:
    found: Engine = app.extensions["flotilla"].engine
    return found


@dataclass
class Api:
    """A caller with a token."""

    client: FlaskClient
    token: str | None

    def __call__(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = dict(options.pop("headers", {}))
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        return self.client.open(path, method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        return self("POST", path, **({"json": body} if body is not None else {}), **options)

    def put(self, path: str, body: Any, **options: Any) -> TestResponse:
        return self("PUT", path, json=body, **options)

    def delete(self, path: str) -> TestResponse:
        return self("DELETE", path)


@pytest.fixture
def api_as(app: Any, engine: Engine) -> Callable[[str | None], Api]:
    """The API as a viewer, trader, admin, ``bot:<id>``, or nobody (None)."""

    def make(who: str | None) -> Api:
        token = None
        if who is not None:
            with write(engine) as connection:
                if who.startswith("bot:"):
                    token = issue_bot_token(connection, int(who[4:]), f"{who[4:]}.1")
                else:
                    token = issue_api_token(connection, name=f"a {who}", role=who)[1]
        return Api(app.test_client(use_cookies=False), token)

    return make


@pytest.fixture
def api(api_as: Callable[[str | None], Api]) -> Api:
    """The API as an admin."""
    return api_as("admin")


@pytest.fixture
def credential_id(api: Api) -> int:
    body = {"exchange": "simulator", "name": "sim 1", "api_key": "key-of-the-account", "api_secret": "its-secret"}
    return int(api.post("/api/credentials", body).json["id"])


@pytest.fixture
def new_bot(credential_id: int) -> Callable[..., dict[str, Any]]:
    """The body that creates a bot which can be started."""

    def make(**changes: Any) -> dict[str, Any]:
        body = {
            "name": "eth-rsi",
            "strategy": "rsi",
            "symbol": "ETHUSDT",
            "exchange": "simulator",
            "mode": "trade",
            "interval": "1m",
            "config": {"capital_per_trade": "200.00", "holding_time": 2000},
            "credential_id": credential_id,
        }
        return {name: value for name, value in {**body, **changes}.items() if value is not ...}

    return make


@pytest.fixture
def a_bot(api: Api, new_bot: Callable[..., dict[str, Any]]) -> Callable[..., int]:
    """Create a bot; its id."""

    def make(**changes: Any) -> int:
        answer = api.post("/api/bots", new_bot(**changes))
        assert answer.status_code == 201, answer.json
        return int(answer.json["id"])

    return make


@pytest.fixture
def observe(engine: Engine) -> Callable[..., None]:
    """Write what the supervisor would have seen of a bot."""

    def write_row(bot_id: int, **columns: Any) -> None:
        with write(engine) as connection:
            connection.execute(update(Bot).where(Bot.id == bot_id).values(**columns))

    return write_row


@pytest.fixture
def a_position(engine: Engine) -> Callable[..., None]:
    """Add a position of a bot, with one leg."""

    def add(bot_id: int, **columns: Any) -> None:
        key = columns.pop("position_key", now_ms())
        row: dict[str, Any] = {
            "bot_id": bot_id,
            "position_key": key,
            "symbol": "ETHUSDT",
            "side": "BUY",
            "status": "active",
            "quantity": Decimal("0.0589"),
            "entry_price": Decimal("3388.1"),
            "opened_ms": key,
            "fees": Decimal("0.2"),
            "entry_logic": "rsi",
            "exit_logic": "",
            "config_version": 1,
            "exchange": "simulator",
            "mode": "trade",
            "document": {"legs": [{"client_order_id": f"fabc-{bot_id}-{key}-e1", "role": "entry", "side": "BUY"}]},
        }
        with write(engine) as connection:
            connection.execute(insert(TradingOrder).values(**{**row, **columns}))

    return add


@pytest.fixture
def a_day(engine: Engine) -> Callable[..., None]:
    """Add a bot's results of one UTC day."""

    def add(bot_id: int, day: int, pnl: str, **columns: Any) -> None:
        amount = Decimal(pnl)
        row: dict[str, Any] = {
            "trades": 1,
            "wins": int(amount > 0),
            "losses": int(amount < 0),
            "gross_pnl": amount + Decimal("0.1"),
            "pnl": amount,
            "fees": Decimal("0.1"),
            "gains": max(amount, Decimal(0)),
            "losses_sum": min(amount, Decimal(0)),
            "holding_ms": 60_000,
        }
        with write(engine) as connection:
            connection.execute(insert(TradingStats).values(bot_id=bot_id, day=day, **{**row, **columns}))

    return add


@pytest.fixture
def a_model(engine: Engine, settings: Settings) -> Callable[..., int]:
    """Register a model without asking whether it can be loaded."""

    def add(sha256: str = "ab" * 32) -> int:
        settings.make_home()
        settings.model_file(sha256).write_text("tree\n")
        row = {"name": "eth", "symbol": "ETHUSDT", "sha256": sha256, "size_bytes": 5, "trees": 1, "features": ["a"]}
        with write(engine) as connection:
            result = connection.execute(
                insert(Model).values(**row, schema_version="1", uploaded_by="admin", created_ms=now_ms())
            )
        return int(result.inserted_primary_key[0])

    return add


@pytest.fixture
def page(app: Any) -> Callable[[str], FlaskClient]:
    """A browser in which somebody has signed in."""

    def sign_in(username: str = "admin") -> FlaskClient:
        client = app.test_client()
        token = csrf_token(client.get("/login").text)
        form = {"username": username, "password": PASSWORD, "csrf_token": token}
        assert client.post("/login", data=form).status_code == 303
        return client

    return sign_in


def csrf_token(html: str) -> str:
    """The token of the first form in *html*."""
    return html.split('name="csrf_token" value="')[1].split('"')[0]


# A real browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need(not are_missing(), "script that the pages load", "flotilla assets")
    with a_browser() as browser:
        yield browser


@pytest.fixture
def address(app: Any) -> Iterator[str]:
    """The app behind its real server, with a supervisor that has just given a sign of life."""
    engine = app.extensions["flotilla"].engine
    with write(engine) as connection:
        an_hour = now_ms() + 3_600_000
        connection.execute(insert(SupervisorBeat).values(id=1, pid=1, started_ms=1, beat_ms=an_hour))
    server = create_server(
        app, host="127.0.0.1", port=0, threads=16, channel_request_lookahead=1, outbuf_high_watermark=1_000_000
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    app.extensions["flotilla.hub"].close()
    listening = dict(server._map)
    server.trigger.pull_trigger(server._map.clear)  # the thread ends; only then may what it listens on be closed
    thread.join(10)
    server.task_dispatcher.shutdown()
    wasyncore.close_all(listening)


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """A page after signing in. What the browser complains about, and every foreign request, fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_(width: int = 1280, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 844}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if _is_complaint(m.type, m.text) else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((address, "data:")) else complaints.append(r.url))
        page.goto(address)
        page.get_by_label("Name").fill("admin")
        page.get_by_label("Password").fill("correct horse battery staple")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()
        page.wait_for_load_state()  # keys and live parts are the script's
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def _is_complaint(kind: str, text: str) -> bool:
    """Errors and warnings; but a form that is refused is a page too."""
    return kind in {"error", "warning"} and "status of 422" not in text
