"""Real bot processes against a real simulator: tickets over a pipe, a control server, and journals to read."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import lightgbm
import numpy
import pytest

from bots.core.predictor import FEATURE_NAMES_IN_MODEL
from shared.events import Envelope, decode_line, from_data
from shared.states import DesiredState
from shared.tickets import Control, ControlDocument, Endpoints, ModelReference, RunTicket
from tests.ports import free_port
from tests.waiting import DEADLINE_S, wait_for

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "bots" / "trading_bot.py"


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """Wait for a true answer."""
    return wait_for


# --- the exchange -------------------------------------------------------------------------------------------------


@dataclass
class Simulator:
    """A running exchange."""

    process: subprocess.Popen[bytes]
    port: int
    args: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def endpoints(self) -> Endpoints:
        host = f"127.0.0.1:{self.port}"
        return Endpoints(rest=f"http://{host}/api", streams=f"ws://{host}/", ws_api=f"ws://{host}/ws-api/v3")

    def sim(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/sim/{path}", data, method=method), timeout=DEADLINE_S
        ) as answer:
            return json.loads(answer.read())

    def account(self, **balances: str) -> tuple[str, str]:
        opened = self.sim("POST", "accounts", {"balances": balances or {"USDT": "100000", "USDC": "100000"}})
        return opened["api_key"], opened["api_secret"]

    def ledger(self, api_key: str) -> Any:
        return self.sim("GET", f"ledger?api_key={api_key}")["accounts"][0]

    def fault(self, kind: str, **how: object) -> None:
        self.sim("POST", "faults", {"kind": kind, **how})

    def faults_left(self) -> list[Any]:
        return list(self.sim("GET", "faults")["faults"])

    def clear_faults(self) -> None:
        self.sim("DELETE", "faults")

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(DEADLINE_S)


@contextmanager
def simulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Simulator]]:
    """Start an exchange with these arguments, as often as wanted; all are ended with the context."""
    started: list[Simulator] = []

    def start(*args: object, port: int | None = None) -> Simulator:
        folder = tmp_path_factory.mktemp("simulator")
        port_file = folder / "port"
        command = [sys.executable, "-m", "simulator", "--port", str(port or free_port()), "--port-file", str(port_file)]
        with (folder / "stderr").open("wb") as errors:
            process = subprocess.Popen([*command, *map(str, args)], cwd=ROOT, stderr=errors)
        wait_for(lambda: port_file.exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "stderr").read_text()
        started.append(Simulator(process, int(port_file.read_text()), tuple(map(str, args))))
        return started[-1]

    try:
        yield start
    finally:
        for simulator in started:
            if simulator.process.poll() is None:
                simulator.end()


@pytest.fixture
def start_simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Simulator]]:
    """Start an exchange of this test's own with these arguments."""
    with simulators(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """One generated market for the tests of a file that do not stop it."""
    with simulators(tmp_path_factory) as start:
        yield start("--unlimited")


@pytest.fixture(autouse=True)
def _no_fault_outlives_its_test(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "simulator" in request.fixturenames:
        simulator = request.getfixturevalue("simulator")
        if simulator.process.poll() is None:
            simulator.clear_faults()


# --- the server ---------------------------------------------------------------------------------------------------


class ControlServer:
    """Answers the bot's polls with `document`, under one ETag; `status` other than 200 makes it fail."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {}
        self.status = 200
        self.body: bytes | None = None
        self.asked: list[dict[str, str | None]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = owner.body if owner.body is not None else json.dumps(owner.document).encode()
                etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                known = self.headers.get("If-None-Match")
                owner.asked.append(
                    {"path": self.path, "etag": known, "authorization": self.headers.get("Authorization")}
                )
                status = 304 if owner.status == 200 and known == etag else owner.status
                self.send_response(status)
                self.send_header("ETag", etag)
                self.send_header("Content-Length", str(len(body) if status == 200 else 0))
                self.end_headers()
                if status == 200:
                    self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def control_server() -> Iterator[ControlServer]:
    """The part of the server that a bot talks to."""
    server = ControlServer()
    yield server
    server.close()


# --- the bot ------------------------------------------------------------------------------------------------------


@dataclass
class Bot:
    """One bot over several runs. `ticket` is what the next run gets."""

    home: Path
    ticket: RunTicket
    simulator: Simulator
    server: ControlServer
    process: subprocess.Popen[bytes] | None = None
    generation: int = 0

    # what people do

    def configure(self, **changes: object) -> None:
        """The next version of the config, at the server and in the ticket of the next run."""
        document = self.ticket.document
        self._publish(
            replace(document, config={**document.config, **changes}, config_version=document.config_version + 1)
        )

    def control(self, desired: DesiredState, halted: bool = False) -> None:
        self._publish(replace(self.ticket.document, control=Control(desired=desired, halted=halted)))

    def _publish(self, document: ControlDocument) -> None:
        self.ticket = replace(self.ticket, document=document)
        self.server.document = {
            "control": {"desired": document.control.desired.value, "halted": document.control.halted},
            "config_version": document.config_version,
            "config": document.config,
        }

    # its process

    def start(self, *, until: str | None = "ready", **changes: Any) -> None:
        """Start a run, and wait for the first event of type *until*."""
        assert self.process is None or self.process.poll() is not None, "it still runs"
        self.generation += 1
        ticket = replace(self.ticket, generation=self.generation, **changes)
        reader, writer = os.pipe()
        os.write(writer, ticket.to_json())
        os.close(writer)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        out = os.open(self.home / f"{ticket.run_id}.jsonl", flags)
        err = os.open(self.home / f"{ticket.run_id}.err", flags)
        self.process = subprocess.Popen(
            [sys.executable, "-u", str(PROGRAM), "--bot-id", str(ticket.bot_id), "--ticket-fd", str(reader)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            pass_fds=(reader,),
            cwd=self.home,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        )
        for descriptor in (reader, out, err):
            os.close(descriptor)
        if until is not None:
            self.wait(until)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(DEADLINE_S)

    def ends(self, within_s: float = DEADLINE_S) -> int:
        """Its exit code, once it has ended by itself."""
        assert self.process is not None
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {within_s} s: {self.lines()[-3:]}") from None

    def stop(self, within_s: float = DEADLINE_S) -> int:
        self.signal(signal.SIGTERM)
        return self.ends(within_s)

    # what it wrote

    def run_lines(self, generation: int) -> list[Envelope]:
        """The lines of one run; a torn last one is passed over, anything else that is no event is an error."""
        run_id = f"{self.ticket.bot_id}.{generation}"
        text = (self.home / f"{run_id}.jsonl").read_bytes()
        whole = text[: text.rfind(b"\n") + 1].splitlines()
        return [decode_line(line) for line in whole]

    def lines(self) -> list[Envelope]:
        return self.run_lines(self.generation)

    def all_lines(self) -> list[Envelope]:
        return [line for generation in range(1, self.generation + 1) for line in self.run_lines(generation)]

    def events(self, type_: str, generation: int | None = None) -> list[dict[str, Any]]:
        """The data of this run's events of one type."""
        lines = self.run_lines(generation if generation is not None else self.generation)
        return [line.data for line in lines if line.type == type_]

    def all_events(self, type_: str) -> list[dict[str, Any]]:
        return [line.data for line in self.all_lines() if line.type == type_]

    def wait(
        self,
        type_: str,
        where: Callable[[dict[str, Any]], bool] = lambda _: True,
        within_s: float = DEADLINE_S,
    ) -> dict[str, Any]:
        """The first event of this run with that type and property."""
        assert self.process is not None

        def found() -> dict[str, Any] | None:
            hit = next((data for data in self.events(type_) if where(data)), None)
            assert hit is not None or self.process is None or self.process.poll() is None or found_late(), self.tail()
            return hit

        def found_late() -> bool:
            return any(where(data) for data in self.events(type_))

        try:
            return wait_for(found, within_s)
        except AssertionError:
            raise AssertionError(f"no {type_} within {within_s} s\n{self.tail()}") from None

    def count(self, type_: str) -> int:
        return len(self.events(type_))

    def errors(self) -> str:
        return (self.home / f"{self.ticket.bot_id}.{self.generation}.err").read_text()

    def tail(self) -> str:
        lines = (self.home / f"{self.ticket.bot_id}.{self.generation}.jsonl").read_text().splitlines()[-12:]
        return "\n".join([*lines, self.errors()[-3000:]])

    def positions(self, status: str) -> list[dict[str, Any]]:
        return [p for p in self.events("position") if p["status"] == status]

    def ledger(self) -> Any:
        return self.simulator.ledger(self.ticket.api_key)

    def check_books(self) -> None:
        """What the journals tell is what the exchange did: every fill once, every order intended, every cent found.

        For a bot that is flat: Σ PNL = Δ quote + what went into the dust account, at cost.
        """
        ledger = self.ledger()
        same = ("trade_id", "order_id", "client_order_id", "side", "is_maker")
        told = sorted(self.all_events("fill"), key=lambda fill: int(fill["trade_id"]))
        done = sorted(ledger["fills"], key=lambda fill: int(fill["trade_id"]))
        assert [[f[name] for name in same] for f in told] == [[f[name] for name in same] for f in done]
        for mine, theirs in zip(told, done, strict=True):
            assert Decimal(mine["price"]) == Decimal(theirs["price"])
            assert Decimal(mine["quantity"]) == Decimal(theirs["qty"])
            assert (Decimal(mine["fee"]), mine["fee_asset"]) == (Decimal(theirs["fee"]), theirs["fee_asset"])
        sent = [order["client_order_id"] for order in ledger["orders"]]
        intended = [intent["client_order_id"] for intent in self.all_events("order.intent")]
        assert len(set(sent)) == len(sent), "an order was sent twice"
        assert len(set(intended)) == len(intended), "an order was intended twice"
        assert set(sent) <= set(intended)
        assert all(order["status"] in ("FILLED", "CANCELED", "EXPIRED") for order in ledger["orders"])
        ended = {p["position_key"]: p for p in self.all_events("position")}.values()
        assert {p["status"] for p in ended} <= {"closed", "cancelled"}
        pnl = sum((Decimal(p["pnl"]) for p in ended if p["status"] == "closed"), Decimal(0))
        dust = sum((Decimal(p["dust_cost"]) for p in ended), Decimal(0))
        quote = ledger["balances"]["USDT"]
        assert pnl == Decimal(quote["free"]) + Decimal(quote["locked"]) - Decimal(ledger["deposits"]["USDT"]) + dust
        stats = self.all_events("stats")  # none before the first fill
        counters = stats[-1]["counters"] if stats else {"pnl": "0", "trades": 0}
        assert (Decimal(counters["pnl"]), counters["trades"]) == (pnl, sum(p["status"] == "closed" for p in ended))

    def check_journals(self) -> None:
        """Every line of every run is valid by the schema, numbered without a gap; a run opens as it must."""
        for generation in range(1, self.generation + 1):
            lines = self.run_lines(generation)
            assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
            assert [line.type for line in lines[:3]] == ["started", "status", "snapshot"][: len(lines)]
            for line in lines:
                from_data(line.type, line.data)


CONFIG: dict[str, Any] = {
    # A model whose every probability is enough, each second: what is tested is the shell.
    "model_id": 1,
    "confidence_threshold": 0.0,
    "signal_interval": 1,
    "capital_per_trade": "200",
    "entry_order_type": "market",
    "holding_time": 3,
    "profit_target_pct": 0.5,
    "take_profit_order": "watched",
    "stop_loss_pct": 0.5,
    "cooldown": 1,
}


def train(names: Sequence[str], path: Path) -> Path:
    """A tiny model over features of these names."""
    rows = numpy.random.default_rng(5).normal(size=(300, len(names)))
    data = lightgbm.Dataset(rows, rows[:, 0] > 0, feature_name=list(names))
    options = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 4}
    lightgbm.train(options, data, num_boost_round=5).save_model(path)
    return path


@pytest.fixture(scope="session")
def train_model() -> Callable[[Sequence[str], Path], Path]:
    """Train a tiny model over features of these names into this file."""
    return train


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that a bot can use."""
    return train(FEATURE_NAMES_IN_MODEL, tmp_path_factory.mktemp("models") / "model.txt")


@pytest.fixture
def make_bot(
    tmp_path: Path, simulator: Simulator, control_server: ControlServer, model: Path
) -> Iterator[Callable[..., Bot]]:
    """A bot with an account of its own, not started yet. Keywords that are not of the ticket go into its config."""
    made: list[Bot] = []

    def make(
        *,
        at: Simulator | None = None,
        desired: DesiredState = DesiredState.RUNNING,
        interval: str = "1s",
        balances: dict[str, str] | None = None,
        **config: object,
    ) -> Bot:
        exchange = at or simulator
        home = tmp_path / f"bot{len(made) + 1}"
        home.mkdir()
        key, secret = exchange.account(**(balances or {}))
        document = ControlDocument(
            control=Control(desired=desired),
            config_version=1,
            config={**CONFIG, **config},
        )
        ticket = RunTicket(
            bot_id=len(made) + 1,
            name="a bot",
            generation=0,
            install="abc123",
            strategy="lightgbm_scalper",
            symbol="BTCUSDT",
            exchange="simulator",
            mode="trade",
            interval=interval,
            document=document,
            model=ModelReference(id=1, sha256=hashlib.sha256(model.read_bytes()).hexdigest(), path=str(model)),
            endpoints=exchange.endpoints,
            api_key=key,
            api_secret=secret,
            server_url=control_server.url,
            token="secret-token",
            home=str(home),
        )
        bot = Bot(home, ticket, exchange, control_server)
        bot._publish(document)
        made.append(bot)
        return bot

    yield make
    for bot in made:
        if bot.process is not None and bot.process.poll() is None:
            bot.kill()


@pytest.fixture
def bot(make_bot: Callable[..., Bot]) -> Bot:
    """A bot that buys at market, holds for three seconds, sells, and starts over."""
    return make_bot()
