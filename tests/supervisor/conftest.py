"""A home folder with a database, fake bots that speak JSON lines and hold the lock, and supervisors in any number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, update

from server.settings import CHECKOUT, Settings, load_settings
from server.storage.engine import make_engine, migrate, read, write
from server.storage.models import Bot, BotRun, DeadLetter, Event, JournalOffset, TradingConfigVersion, TradingOrder
from server.storage.times import now_ms
from server.supervisor import rows
from server.supervisor.decisions import Policy
from server.supervisor.identity import Identity, boot_id, has_exited, open_process, read_identity, start_ticks
from server.supervisor.launcher import Launcher, Process
from server.supervisor.run_tickets import make_ticket
from server.supervisor.supervisor import Supervisor
from shared.events import Position, to_data
from shared.positions import Terms
from shared.states import PositionState, RunKind, Side
from shared.tickets import RunTicket
from tests.waiting import DEADLINE_S, wait_for

FAKE_BOT = """
import fcntl, json, os, signal, sys, time
from pathlib import Path
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with os.fdopen(int(args["--ticket-fd"]), "rb") as f:
    ticket = json.load(f)
home = Path(ticket["home"]); bot = ticket["bot_id"]; run_id = f"{bot}.{ticket['generation']}"
plan = json.loads((home / "plan.json").read_text()) if (home / "plan.json").exists() else {}
lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(73)
ticks = int(open("/proc/self/stat").read().rpartition(")")[2].split()[19])
boot = open("/proc/sys/kernel/random/boot_id").read().strip()
os.ftruncate(lock, 0)
os.pwrite(lock, json.dumps({"pid": os.getpid(), "start_ticks": ticks, "boot_id": boot,
                            "generation": ticket["generation"], "run_id": run_id}).encode(), 0)
seq, out = 0, 1
def say(type_, cut=None, **data):
    global seq
    seq += 1
    line = json.dumps({"v": 1, "bot_id": bot, "run_id": run_id, "seq": seq, "ts": int(time.time() * 1000),
                       "type": type_, "data": data}).encode() + b"\\n"
    os.write(out, line[:cut] if cut else line)
stop = []
hups = []
signal.signal(signal.SIGTERM, lambda *a: stop.append(1))
signal.signal(signal.SIGHUP, lambda *a: stop.append(1) if ticket["kind"] == "manual" else hups.append(1))
signal.signal(signal.SIGUSR1, lambda *a: hups.append(1))
signal.signal(signal.SIGUSR2, lambda *a: stop.append("hand over"))
version = ticket["document"]["config_version"]
say("started", version="0", pid=os.getpid(), strategy="rsi", symbol="BTCUSDC", exchange="simulator", mode="paper",
    interval="1s", config_version=version, model_sha256=None)
if "exit" in plan:
    say("exit", code=plan["exit"], reason=plan.get("reason", ""))
    sys.exit(plan["exit"])
if plan.get("crash"):
    os.kill(os.getpid(), 9)
say("status", status="running" if ticket["document"]["control"]["desired"] == "running" else "paused", reason=None)
part = 1
beat = 0.0
sent = 0
def keeps_on():
    if not stop and ticket["document"]["control"]["desired"] != "stopped":
        return True
    if not plan.get("stuck"):
        return False
    plan.update(stuck=json.loads((home / "plan.json").read_text())["stuck"])
    return True
while keeps_on():
    now = time.monotonic()
    if now - beat > 0.2 and not plan.get("mute"):
        beat = now
        say("heartbeat", last_candle_ms=1, last_price=1.0, loop_lag_ms=0, latency_p50_us=None, latency_p99_us=None,
            decisions=0, above_threshold=0, blocked={}, best_score=None, last_decision_ms=2, decision_digest="",
            open_orders=0, positions=0, unrealised_pnl="0", rss_mib=1.5, cpu_s=0, config_version=version, errors={},
            streams={})
    for _ in range(plan.get("lines", 0)):
        sent += 1
        say("log", level="info", message=f"line {sent}")
    if plan.get("rotate") and seq > plan["rotate"] * part:
        part += 1
        name = f"{run_id}.{part}.jsonl"
        say("rotate", next=name)
        fd = os.open(home / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(fd, out); os.close(fd)
    if plan.get("tear") and seq > plan["tear"]:
        say("log", cut=30, level="info", message="torn")
        os.kill(os.getpid(), 9)
    if hups:
        hups.clear()
        say("config.applied", version=99, changed=[])
    time.sleep(0.02)
if plan.get("deaf"):
    while True:
        time.sleep(1)
for step in range(plan.get("slow_stop", 0)):
    say("status", status="stopping", reason=f"step {step}")
    time.sleep(0.2)
if stop == ["hand over"]:
    say("exit", code=0, reason="handed over")
    sys.exit(0)
if "closes" in plan:
    say("position", **plan["closes"])
for command in ticket["document"]["commands"]:
    say("command.done", number=command["number"], result="closed 1")
say("exit", code=0, reason="asked to stop")
"""

RUNNER = """
import sys, time
sys.path.insert(0, {tests!r})
from conftest import Fleet
from pathlib import Path
fleet = Fleet(Path({home!r}), Path({program!r}), create=False)
supervisor = fleet.supervisor(**{options!r})
print("up", flush=True)
while True:
    supervisor.tick()
    time.sleep(0.05)
"""


class RecordingLauncher(Launcher):
    """A launcher that knows what it started, for the clean-up."""

    def __init__(self, program: Path, started: list[Process]) -> None:
        super().__init__(program)
        self._started = started

    def spawn(self, ticket: RunTicket) -> Process:
        process = super().spawn(ticket)
        self._started.append(process)
        return process


class Fleet:
    """One installation under test."""

    def __init__(self, home: Path, program: Path, *, create: bool = True) -> None:
        self.home, self.program = home, program
        self.settings: Settings = load_settings({"FLOTILLA_HOME": str(home)})
        if create:
            program.write_text(FAKE_BOT)
            migrate(self.settings)
        self.engine: Engine = make_engine(self.settings.database_url)
        self.children: list[subprocess.Popen[bytes]] = []
        self.bots: list[Process] = []

    def add_bot(self, desired: str = "running", **plan: Any) -> int:
        with write(self.engine) as connection:
            result = connection.execute(
                insert(Bot).values(
                    name="b", description="", strategy="rsi", symbol="BTCUSDC", exchange="simulator", mode="paper",
                    interval="1s", tags=[], desired_state=desired, halted=False, config_version=1, generation=0,
                    created_ms=0, updated_ms=0, start_requests=1, status="stopped",
                )
            )  # fmt: skip
            bot_id: int = result.inserted_primary_key[0]  # type: ignore[index]
            connection.execute(
                insert(TradingConfigVersion).values(
                    bot_id=bot_id, version=1, config={}, diff={}, author="t", created_ms=0
                )
            )
        self.plan(bot_id, **plan)
        return bot_id

    def add_position(self, bot_id: int, status: str = "active") -> dict[str, Any]:
        """Let the bot hold a position; what it will say when it has closed that."""
        opened = Position(
            position_key=1, symbol="BTCUSDC", side=Side.BUY, status=PositionState(status), opened_ms=1,
            config_version=1, quantity=Decimal(1), cost=Decimal(10),
            terms=Terms(
                profit_target_pct=None, stop_loss_pct=None, holding_time=None, take_profit_order="resting",
                maker_order_timeout=60, on_entry_timeout="cancel",
            ),
        )  # fmt: skip
        with write(self.engine) as connection:
            connection.execute(
                insert(TradingOrder).values(
                    bot_id=bot_id, position_key=1, symbol="BTCUSDC", side="BUY", status=status, quantity=1,
                    opened_ms=1, fees=0, entry_logic="", exit_logic="", config_version=1, exchange="simulator",
                    mode="paper", document=to_data(opened),
                )
            )  # fmt: skip
        closed = replace(opened, status=PositionState.CLOSED, closed_ms=2, exit_reason="bot_stopped", pnl=Decimal(0))
        return to_data(closed)

    def set_config(self, bot_id: int, **config: Any) -> None:
        table = TradingConfigVersion
        with write(self.engine) as connection:
            connection.execute(update(table).where(table.bot_id == bot_id).values(config=config))

    def plan(self, bot_id: int, **plan: Any) -> None:
        folder = self.settings.journals(bot_id)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.new").write_text(json.dumps(plan))
        (folder / "plan.new").replace(folder / "plan.json")  # a bot may be reading it

    def supervisor(
        self, *, policy: Policy | None = None, ending: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> Supervisor:
        def ticket(connection: Any, bot_id: int, generation: int) -> Any:
            vault: Any = None
            return make_ticket(connection, self.settings, vault, bot_id, generation)

        return Supervisor(
            self.settings,
            self.engine,
            RecordingLauncher(self.program, self.bots),
            ticket,
            policy=policy,
            ending=ending,
            jitter=lambda: 0.0,
            clock=clock,
        )

    def supervisor_process(self) -> subprocess.Popen[bytes]:
        code = RUNNER.format(
            tests=str(Path(__file__).parent), home=str(self.home), program=str(self.program), options={}
        )
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=CHECKOUT)
        self.children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        return child

    def ticket(self, bot_id: int, kind: RunKind, **columns: Any) -> RunTicket:
        """What a person gets who launches the bot by hand: the run is open, and wanted."""
        vault: Any = None
        with write(self.engine) as connection:
            connection.execute(update(Bot).where(Bot.id == bot_id).values(desired_state="running"))
            generation = rows.open_run(connection, bot_id, now_ms(), kind=kind.value, **columns)
            return make_ticket(connection, self.settings, vault, bot_id, generation, kind)

    def launch(self, ticket: RunTicket) -> Process:
        """The process that a person starts with *ticket*, once it holds the bot's lock."""
        process = RecordingLauncher(self.program, self.bots).spawn(ticket)
        wait_for(lambda: (holder := self.identity(ticket.bot_id)) and holder.run_id == ticket.run_id)
        return process

    def run(self, supervisor: Supervisor, until: Callable[[], bool], seconds: float = DEADLINE_S) -> None:
        def step() -> bool:
            supervisor.tick()
            return until()

        wait_for(step, seconds)

    def set(self, bot_id: int, **values: Any) -> None:
        with write(self.engine) as connection:
            connection.execute(update(Bot).where(Bot.id == bot_id).values(**values))

    def bot(self, bot_id: int) -> Any:
        with read(self.engine) as connection:
            return connection.execute(select(Bot).where(Bot.id == bot_id)).one()

    def rows(self, table: Any, bot_id: int) -> list[Any]:
        with read(self.engine) as connection:
            return list(connection.execute(select(table).where(table.bot_id == bot_id).order_by(table.id)))

    def runs(self, bot_id: int) -> list[Any]:
        return self.rows(BotRun, bot_id)

    def events(self, bot_id: int, type_: str | None = None) -> list[Any]:
        return [e for e in self.rows(Event, bot_id) if type_ in (None, e.type)]

    def dead_letters(self, bot_id: int) -> list[Any]:
        return self.rows(DeadLetter, bot_id)

    def offsets(self, bot_id: int) -> list[Any]:
        return self.rows(JournalOffset, bot_id)

    def identity(self, bot_id: int) -> Identity | None:
        return read_identity(self.settings.journals(bot_id) / "lock")

    def kill_bot(self, bot_id: int, number: int = signal.SIGKILL) -> int:
        identity = self.identity(bot_id)
        assert identity is not None
        os.kill(identity.pid, number)
        return identity.pid

    def journal_lines(self, bot_id: int) -> list[dict[str, Any]]:
        """Every whole line on disk, the witness that rows are compared with."""
        lines: list[dict[str, Any]] = []
        for path in sorted(self.settings.journals(bot_id).glob("*.jsonl")):
            whole = path.read_bytes().rpartition(b"\n")[0]
            lines += [json.loads(line) for line in whole.splitlines()]
        return sorted(lines, key=lambda e: (e["run_id"], e["seq"]))

    def close(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
        for bot in self.bots:
            assert bot.child is not None
            bot.child.kill()
            bot.child.wait()
        for folder in self.settings.home.glob("journals/*/lock"):
            identity = read_identity(folder)
            descriptor = open_process(identity) if identity else None
            if identity and descriptor is not None:
                os.kill(identity.pid, signal.SIGKILL)
                wait_for(lambda d=descriptor: has_exited(d))  # type: ignore[misc]
                os.close(descriptor)
        self.engine.dispose()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path / "home", tmp_path / "fake_bot.py")
    yield made
    made.close()


@pytest.fixture
def waiting() -> Callable[..., None]:
    return wait_for


@pytest.fixture
def own_identity() -> Identity:
    ticks = start_ticks(os.getpid())
    assert ticks is not None
    return Identity(pid=os.getpid(), start_ticks=ticks, boot_id=boot_id(), generation=1, run_id="1.1")
