"""A simulator of one's own: a real process on a free port, driven over HTTP and websockets."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest

from simulator.witness.check import violations
from tests.waiting import DEADLINE_S, LONG_S, wait_for

ROOT = Path(__file__).parents[2]
WIDE_MS = 60_000  # the widest recvWindow there is, where the window is not what is tested
RECORDED = ROOT.parent / "shared" / "data"


@dataclass
class Reply:
    """An HTTP answer."""

    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def code(self) -> int:
        return int(self.json["code"])


@dataclass
class Running:
    """A running simulator."""

    process: subprocess.Popen[bytes]
    port: int
    args: list[str]
    errors: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        request = urllib.request.Request(self.url + path, body, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE_S) as reply:
                return Reply(reply.status, reply.read().decode(), dict(reply.headers))
        except urllib.error.HTTPError as error:
            return Reply(error.code, error.read().decode(), dict(error.headers))

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def sim(self, method: str, path: str, body: object = None) -> Reply:
        return self.ask(method, "/sim/" + path, None if body is None else json.dumps(body).encode())

    def account(self, **balances: str) -> Customer:
        reply = self.sim("POST", "accounts", {"balances": balances or {"USDT": "100000", "BTC": "2"}})
        assert reply.status == 201
        return Customer(self, reply.json["api_key"], reply.json["api_secret"])

    def price(self, symbol: str = "BTCUSDT") -> float:
        return float(self.get(f"/api/v3/ticker/price?symbol={symbol}").json["price"])

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@dataclass
class Customer:
    """An account that signs its requests."""

    simulator: Running
    api_key: str
    secret: str
    skew_ms: int = 0
    extra: dict[str, str] = field(default_factory=dict)

    def sign(self, text: str) -> str:
        return hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()

    def call(self, method: str, path: str, **params: object) -> Reply:
        params = {k: v for k, v in {"recvWindow": WIDE_MS, **params}.items() if v is not None}
        query = urlencode({**params, **self.extra, "timestamp": int(time.time() * 1000) + self.skew_ms})
        target = f"/api/v3/{path}?{query}&signature={self.sign(query)}"
        return self.simulator.ask(method, target, headers={"X-MBX-APIKEY": self.api_key})

    def order(self, side: str = "BUY", kind: str = "LIMIT", symbol: str = "BTCUSDT", **params: object) -> Reply:
        if kind == "LIMIT":
            params.setdefault("timeInForce", "GTC")
        return self.call("POST", "order", symbol=symbol, side=side, type=kind, **params)

    def balances(self) -> dict[str, tuple[str, str]]:
        rows = self.call("GET", "account").json["balances"]
        return {row["asset"]: (row["free"], row["locked"]) for row in rows}


@contextmanager
def simulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Start a simulator with these arguments, as often as wanted; all are ended with the context.

    Whatever was done to those that still run, and whichever faults struck them: no coin was made or lost.
    """
    running: list[Running] = []

    def run(*args: object, port: int = 0) -> Running:
        folder = tmp_path_factory.mktemp("simulator")
        port_file, errors = folder / "port", folder / "stderr"
        command = [str(arg) for arg in args]
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "simulator", "--port", str(port), "--port-file", str(port_file), *command],
                cwd=ROOT,
                stderr=stderr,
            )

        def up() -> bool:
            assert process.poll() is None, errors.read_text()
            return port_file.exists()

        wait_for(up, LONG_S)
        running.append(Running(process, int(port_file.read_text()), command, errors))
        return running[-1]

    try:
        yield run
        for simulator in running:
            if simulator.process.poll() is None:
                assert violations(simulator.sim("GET", "ledger").json) == []
    finally:
        for simulator in running:
            if simulator.process.poll() is None:
                simulator.process.kill()
                simulator.process.wait()


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Start simulators of this test's own."""
    with simulators(tmp_path_factory) as run:
        yield run


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One generated market for every test that does not break it."""
    with simulators(tmp_path_factory) as run:
        yield run("--seed", 7, "--unlimited")


@pytest.fixture(scope="session")
def eventually() -> Callable[..., object]:
    """Wait for a true answer."""
    return wait_for


@pytest.fixture
def recorded() -> Path:
    """Folder of recorded market data beside the project."""
    if not RECORDED.is_dir():
        pytest.skip(f"no recorded market data in {RECORDED}")
    return RECORDED
