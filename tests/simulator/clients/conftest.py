"""Clients of others at a simulator of their own: the market they meet, the processes they run in, what they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.simulator.clients import tape
from tests.simulator.conftest import Running, simulators

SCRIPTS = Path(__file__).parent / "scripts"
WITHIN_S = 200  # for a whole script, on a busy machine
BALANCES = {"USDT": "100000", "BTC": "1", "ETH": "10"}


@dataclass(frozen=True)
class Client:
    """A library and the Python that has it: the tests' own, or one of the environments beside it."""

    name: str
    script: str
    environment: str = ""

    @property
    def python(self) -> str:
        if not self.environment:
            return sys.executable
        python = Path(sys.prefix) / "clients" / self.environment / "bin" / "python"
        assert python.exists(), f"{self.name} is not installed in {python.parent.parent}: run `make setup-dev`"
        return str(python)


PYTHON_BINANCE = Client("python-binance", "with_python_binance.py")
CCXT = Client("ccxt", "with_ccxt.py", "ccxt")
BINANCE_SDK = Client("binance-sdk-spot", "with_binance_sdk.py")
CLIENTS = (PYTHON_BINANCE, CCXT, BINANCE_SDK)


@dataclass
class Visit:
    """A client at work at its own simulator, and later what it saw and what the exchange wrote down."""

    client: Client
    simulator: Running
    api_key: str
    process: subprocess.Popen[str]
    _seen: dict[str, Any] | None = None

    @property
    def seen(self) -> dict[str, Any]:
        """What the script printed; waits for its end."""
        if self._seen is None:
            try:
                printed, errors = self.process.communicate(timeout=WITHIN_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                printed, errors = self.process.communicate()
            assert self.process.returncode == 0, f"{self.client.name} failed:\n{errors}"
            self._seen = json.loads(printed)
        return self._seen

    @property
    def account(self) -> dict[str, Any]:
        """The client's account in the ledger, after its visit."""
        assert self.seen
        (account,) = self.simulator.sim("GET", f"ledger?api_key={self.api_key}").json["accounts"]
        return account


@pytest.fixture(scope="module")
def open_market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Running]]:
    """Start simulators with the scenario's market."""
    files = tape.write(tmp_path_factory.mktemp("tape"))
    replay = [argument for file in files for argument in ("--replay", file)]
    with simulators(tmp_path_factory) as start:
        yield lambda: start(*replay, "--rebase", "--history", tape.HISTORY_S)


@pytest.fixture(scope="module")
def visit() -> Iterator[Callable[..., Visit]]:
    """Let a client do a part of the scenario; it runs on its own until asked what it saw."""
    visits: list[Visit] = []

    def begin(client: Client, simulator: Running, mode: str, *, private_key: Ed25519PrivateKey | None = None) -> Visit:
        api_key, secret = _account(simulator, private_key)
        process = subprocess.Popen(
            [client.python, str(SCRIPTS / client.script), mode, simulator.url, api_key, secret],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A proxy of the machine is none of a local exchange's business, but clients would ask it.
            env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
        )
        visits.append(Visit(client, simulator, api_key, process))
        return visits[-1]

    yield begin
    for each in visits:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()


def _account(simulator: Running, private_key: Ed25519PrivateKey | None) -> tuple[str, str]:
    if private_key is None:
        customer = simulator.account(**BALANCES)
        return customer.api_key, customer.secret
    public = private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    reply = simulator.sim("POST", "accounts", {"balances": BALANCES, "public_key": public})
    assert reply.status == 201, reply.text
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return reply.json["api_key"], pem
