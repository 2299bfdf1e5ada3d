"""A whole Flotilla of real processes on free ports: simulator, web, supervisor, and the bots that these start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from tests import waiting
from tests.e2e.by_hand import Terminal
from tests.ports import free_port
from tests.waiting import DEADLINE_S

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery"
T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T], within_s: float = DEADLINE_S, pause_s: float = 0.05) -> T:
    """The first true answer of *look*; fails with *what* and the last answer after *within_s*."""
    return waiting.wait_for(look, within_s, what, pause_s)


class Fleet:
    """Processes and an API client of one installation in *home*."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port, self.sim_port = free_port(), free_port()
        self.api = f"http://127.0.0.1:{self.port}"
        self.sim = f"http://127.0.0.1:{self.sim_port}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "FLOTILLA_HOME": str(home / "var"),
            "FLOTILLA_PORT": str(self.port),
            "FLOTILLA_SIM_PORT": str(self.sim_port),
            "FLOTILLA_ADMIN_PASSWORD": PASSWORD,
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token: str | None = None

    # --- processes ---

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self.home / f"{name}.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.processes[name] = process
        return process

    def start_simulator(self, *options: str) -> None:
        state = str(self.home / "sim")
        self.start("simulator", "simulator", "--port", str(self.sim_port), "--state", state, *options)
        wait_for("the simulator answers", lambda: answers(f"{self.sim}/api/v3/ping"))

    def start_web(self) -> None:
        self.start("web", "server", "web")
        wait_for("the web answers", lambda: answers(f"{self.api}/health"))

    def start_supervisor(self) -> None:
        self.start("supervisor", "server", "supervisor")

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(30)

    def bot_pids(self) -> list[int]:
        """Bots of this installation that live, found by the locks they hold."""
        found = []
        for lock in (self.home / "var" / "journals").glob("*/lock"):
            try:
                pid = int(json.loads(lock.read_text())["pid"])
                os.kill(pid, 0)
                command = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/comm").read_bytes()
            except (OSError, ValueError):
                continue
            if b"trading_bot" in command or b"flotilla" in command:
                found.append(pid)
        return found

    def end(self) -> None:
        for name in ("supervisor", "web"):
            if name in self.processes:
                self.kill(name)
        for pid in self.bot_pids():
            os.kill(pid, signal.SIGKILL)
        for name in list(self.processes):
            self.kill(name)

    # --- API ---

    def call(self, method: str, path: str, *, expect: int = 200, **kwargs: Any) -> Any:
        if self._token is None:
            login = requests.post(
                f"{self.api}/api/auth/login", json={"username": "admin", "password": PASSWORD}, timeout=20
            )
            assert login.status_code == 200, login.text
            self._token = login.json()["access_token"]
        answer = requests.request(
            method, self.api + path, headers={"Authorization": f"Bearer {self._token}"}, timeout=20, **kwargs
        )
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def pages(self, path: str) -> list[Any]:
        """All items of a list, oldest first."""
        found, cursor = [], None
        while True:
            page = self.call("GET", path, params={"limit": 500} | ({"cursor": cursor} if cursor else {}))
            found += page["items"]
            cursor = page["next_cursor"]
            if not cursor:
                return found[::-1]

    def bot(self, bot_id: int) -> Any:
        return self.call("GET", f"/api/bots/{bot_id}")

    def events(self, bot_id: int, type_: str) -> list[Any]:
        return [e for e in self.pages(f"/api/bots/{bot_id}/events") if e["type"] == type_]

    def fills(self, bot_id: int) -> list[Any]:
        return self.pages(f"/api/trading/bots/{bot_id}/fills")

    def positions(self, bot_id: int, status: str) -> list[Any]:
        return self.pages(f"/api/trading/bots/{bot_id}/orders?status={status}")

    def account(self, **balances: str) -> dict[str, str]:
        answer = requests.post(f"{self.sim}/sim/accounts", json={"balances": balances}, timeout=20)
        assert answer.status_code == 201, answer.text
        keys: dict[str, str] = answer.json()
        return keys

    def ledger(self, api_key: str) -> Any:
        answer = requests.get(f"{self.sim}/sim/ledger", params={"api_key": api_key}, timeout=20)
        return answer.json()["accounts"][0]

    def create_bot(self, *, strategy: str, symbol: str, config: dict[str, Any], **balances: str) -> tuple[int, str]:
        """A stopped bot with an account of its own; its id and its API key."""
        keys = self.account(**balances)
        name = f"{strategy}-{keys['api_key'][-6:]}"
        credential = self.call(
            "POST", "/api/credentials", expect=201, json={"name": name, "exchange": "simulator", **keys}
        )
        bot = self.call(
            "POST",
            "/api/bots",
            expect=201,
            json={
                "name": name,
                "strategy": strategy,
                "symbol": symbol,
                "exchange": "simulator",
                "mode": "trade",
                "interval": "1s",
                "credential_id": credential["id"],
                "config": config,
            },
        )
        return bot["id"], keys["api_key"]

    def upload_model(self, symbol: str, *options: str) -> int:
        """Train on the simulator's history and upload; the model's id."""
        path = self.home / f"model-{symbol}.txt"
        command = [
            "research",
            "train",
            "--candles",
            f"{self.sim}/api",
            "--symbol",
            symbol,
            "--out",
            str(path),
            *options,
        ]
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, capture_output=True, timeout=120)
        with path.open("rb") as file:
            model = self.call(
                "POST",
                "/api/models/upload",
                expect=201,
                data={"symbol": symbol, "name": f"test {symbol}"},
                files={"file": ("model.txt", file)},
            )
        return int(model["id"])

    def start_bot(self, bot_id: int) -> None:
        self.call("POST", f"/api/bots/{bot_id}/start", expect=202)
        wait_for(f"bot {bot_id} runs", lambda: self.bot(bot_id)["status"] == "running", 40)

    def stop_bot(self, bot_id: int) -> None:
        self.call("POST", f"/api/bots/{bot_id}/stop", expect=202)
        wait_for(f"bot {bot_id} stops", lambda: self.bot(bot_id)["status"] == "stopped", 40)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False


def fills_as_the_exchange_lists_them(fills: list[Any]) -> list[tuple[Any, ...]]:
    return sorted(
        (
            f["trade_id"],
            f["order_id"],
            f["client_order_id"],
            f["symbol"],
            f["side"],
            Decimal(f["price"]),
            Decimal(f.get("qty") or f["quantity"]),
            Decimal(f["fee"]),
            f["fee_asset"],
            f["is_maker"],
            f["time"],
        )
        for f in fills
    )


def check_books_agree(fleet: Fleet, bot_id: int, api_key: str, *, base: str, quote: str, deposit: str) -> None:
    """Database = ledger fill by fill; PNL = an independent sum; balances agree. The bot is stopped and flat."""
    ledger, fills = fleet.ledger(api_key), fleet.fills(bot_id)
    assert fills_as_the_exchange_lists_them(fills) == fills_as_the_exchange_lists_them(ledger["fills"])

    spent = received = held = Decimal(0)
    for fill in ledger["fills"]:
        amount, quantity, fee = (
            Decimal(fill["price"]) * Decimal(fill["qty"]),
            Decimal(fill["qty"]),
            Decimal(fill["fee"]),
        )
        if fill["side"] == "BUY":
            spent, held = spent + amount, held + quantity
        else:
            received, held = received + amount, held - quantity
        if fill["fee_asset"] == quote:
            spent += fee
        else:
            assert fill["fee_asset"] == base
            held -= fee
    closed = fleet.positions(bot_id, "closed")
    dust_quantity = sum((Decimal(p["dust_quantity"]) for p in closed), Decimal(0))
    dust_cost = sum((Decimal(p["dust_cost"]) for p in closed), Decimal(0))
    pnl = sum((Decimal(p["pnl"]) for p in closed), Decimal(0))
    assert pnl == received - spent + dust_cost
    assert held == dust_quantity
    balance = {asset: Decimal(b["free"]) + Decimal(b["locked"]) for asset, b in ledger["balances"].items()}
    assert balance[quote] == Decimal(deposit) + received - spent
    assert balance.get(base, Decimal(0)) == held
    assert Decimal(fleet.bot(bot_id)["pnl_total"]) == pnl
    assert Decimal(fleet.call("GET", f"/api/trading/bots/{bot_id}/stats")["totals"]["pnl"]) == pnl
    assert not fleet.positions(bot_id, "active")
    assert not fleet.positions(bot_id, "pending")
    assert not [o for o in ledger["orders"] if o["status"] in ("NEW", "PARTIALLY_FILLED")]


def pytest_itemcollected(item: pytest.Item) -> None:
    """What is waited for here, one thing after another, takes minutes on a busy machine."""
    item.add_marker(pytest.mark.timeout(600))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    installation = Fleet(tmp_path)
    try:
        yield installation
    finally:
        installation.end()


@pytest.fixture
def make_fleet() -> Iterator[Callable[[Path], Fleet]]:
    made: list[Fleet] = []

    def make(home: Path) -> Fleet:
        home.mkdir(parents=True)
        made.append(Fleet(home))
        return made[-1]

    yield make
    for installation in made:
        installation.end()


@pytest.fixture
def launch(fleet: Any, tmp_path: Path) -> Iterator[Any]:
    """Launch a bot by hand, from a folder of its own."""
    made: list[Terminal] = []

    def open_terminal(*arguments: Any, stdout: int | None = None, **environment: str) -> Terminal:
        folder = tmp_path / f"terminal-{len(made)}"
        made.append(Terminal(folder, fleet.environment | environment, *map(str, arguments), stdout=stdout))
        return made[-1]

    yield open_terminal
    for terminal in made:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()


@pytest.fixture
def house(fleet: Any) -> Any:
    """Simulator, web and supervisor."""
    fleet.start_simulator()
    fleet.start_web()
    fleet.start_supervisor()
    return fleet


# Tests cannot import from a conftest file, so its functions come as fixtures.


@pytest.fixture(name="wait_for")
def _wait_for() -> Callable[..., Any]:
    return wait_for


@pytest.fixture(name="answers")
def _answers() -> Callable[[str], bool]:
    return answers


@pytest.fixture(name="check_books_agree")
def _check_books_agree() -> Callable[..., None]:
    return check_books_agree
