"""``flotilla up`` as a person meets it: real processes, real ports, an empty environment."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import delete, select

from server.demo import DONE
from server.settings import CHECKOUT, load_settings
from server.storage.engine import make_engine, read, write
from server.storage.models import Bot, BotRun, Credential, Event, Fill, Model, Setting
from server.supervisor.identity import Identity, probe
from tests.ports import free_port
from tests.waiting import DEADLINE_S

pytestmark = pytest.mark.timeout(600)  # a start alone may take a minute


class Home:
    """One installation with ports of its own."""

    def __init__(self, home: Path, waiting: Callable[..., None]) -> None:
        self.waiting = waiting
        self.port, self.sim_port = free_port(), free_port()
        self.environment = {
            "FLOTILLA_HOME": str(home),
            "FLOTILLA_PORT": str(self.port),
            "FLOTILLA_SIM_PORT": str(self.sim_port),
        }
        self.settings = load_settings(self.environment)
        self.output = home.parent / "output"
        self.started: list[subprocess.Popen[bytes]] = []
        self.seen: dict[int, psutil.Process] = {}

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        with self.output.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "server", *arguments],
                cwd=CHECKOUT, env=self.environment | more, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self.started.append(process)
        return process

    def up(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = self.start("up", *arguments)
        self.waiting(lambda: process.poll() is not None or self.is_ready(), 60)
        assert process.poll() is None, self.said()
        self.remember(process)
        return process

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.settings.base_url}/health/ready", timeout=1) as answer:
                return bool(json.load(answer)["status"] == "ready")
        except OSError:
            return False

    def said(self) -> str:
        return self.output.read_text()

    def remember(self, process: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
        """The process's children by what they are, to be looked for after its end."""
        found = {}
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                found[child.cmdline()[0]] = child
            except (psutil.NoSuchProcess, IndexError):  # gone, or between fork and exec
                continue
            self.seen[child.pid] = child
        return found

    def is_empty(self) -> bool:
        """Nothing of it is left."""
        return not any(p.is_running() for p in self.seen.values())

    def rows(self, table: Any) -> list[Any]:
        engine = make_engine(self.settings.database_url)
        with read(engine) as connection:
            found = list(connection.execute(select(table)))
        engine.dispose()
        return found

    def forget_demo(self) -> None:
        engine = make_engine(self.settings.database_url)
        with write(engine) as connection:
            connection.execute(delete(Setting).where(Setting.name == DONE))
        engine.dispose()

    def holders(self) -> dict[str, int]:
        """Process ids of the bots that run, by bot."""
        locks = self.settings.home.glob("journals/*/lock")
        found = {lock.parent.name: probe(lock) for lock in locks}
        return {bot: holder.pid for bot, holder in found.items() if isinstance(holder, Identity)}

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        for process in self.seen.values():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for pid in self.holders().values():
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()


@pytest.fixture
def home(tmp_path: Path, waiting: Any) -> Iterator[Home]:
    made = Home(tmp_path / "home", waiting)
    yield made
    made.close()


def test_it_starts_tells_the_password_once_restarts_what_dies_and_ends(home: Home) -> None:
    first = home.up()
    home.waiting(lambda: "Ctrl-C" in home.said())
    assert re.search(r"Log in as admin with the password \S{12,}", home.said())
    assert f"http://127.0.0.1:{home.port}" in home.said()

    children = home.remember(first)
    for name in ("flotilla: web", "flotilla: supervisor"):
        children[name].kill()
    home.waiting(lambda: {"flotilla: web", "flotilla: supervisor"} <= set(home.remember(first)))
    home.waiting(home.is_ready)
    assert "ended (signal 9" in home.said()
    home.waiting(home.is_ready)

    refused = home.start("up", FLOTILLA_PORT=str(free_port()))
    assert refused.wait(DEADLINE_S) == 1
    assert home.said().startswith("Flotilla already runs on ")
    assert home.said().count("\n") == 1

    first.send_signal(signal.SIGINT)
    assert first.wait(DEADLINE_S) == 0
    assert home.is_empty()

    second = home.up()
    home.waiting(lambda: "Ctrl-C" in home.said())
    assert "password" not in home.said()
    second.send_signal(signal.SIGHUP)
    assert second.wait(DEADLINE_S) == 0
    assert home.is_empty()


@pytest.mark.parametrize("name", ["FLOTILLA_PORT", "FLOTILLA_SIM_PORT"])
def test_a_taken_port_is_one_sentence_and_nothing_is_started(home: Home, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(home.environment[name])))
        taken.listen()

        process = home.start("up")

        assert process.wait(DEADLINE_S) == 1
    assert re.fullmatch(rf"{name} \d+ is taken on 127\.0\.0\.1\. .*\n", home.said())


def test_a_second_supervisor_gives_way_with_one_sentence(home: Home) -> None:
    first = home.start("supervisor")
    home.waiting(lambda: isinstance(probe(home.settings.home / "supervisor.lock"), Identity))

    second = home.start("supervisor")

    assert second.wait(DEADLINE_S) == 73
    assert home.said().startswith("Another supervisor looks after ")
    first.terminate()
    assert first.wait(DEADLINE_S) == 0


def test_bad_settings_are_a_sentence(home: Home) -> None:
    process = home.start("up", FLOTILLA_PORT="many")

    assert process.wait(DEADLINE_S) == 1
    assert home.said().startswith("FLOTILLA_PORT is 'many', which is no port.")


def test_unusable_keys_are_a_sentence_and_nothing_is_started(home: Home) -> None:
    process = home.start("up", FLOTILLA_SECRET_KEYS="abc")

    assert process.wait(DEADLINE_S) == 1
    assert home.said().startswith("FLOTILLA_SECRET_KEYS: entry 1 (3 characters) is not a Fernet key.")
    assert home.said().count("\n") == 1


def test_a_start_that_is_cut_short_has_told_the_password(home: Home) -> None:
    process = home.start("up")
    home.waiting(lambda: (home.settings.home / "cli.token").exists())

    process.send_signal(signal.SIGTERM)

    assert process.wait(DEADLINE_S) == 0
    assert re.search(r"Log in as admin with the password \S{12,}", home.said())


def test_what_it_writes_is_its_owners_alone_and_a_later_password_is_said_to_have_no_effect(home: Home) -> None:
    home.settings.home.mkdir(mode=0o755)
    first = home.up()
    first.send_signal(signal.SIGTERM)
    assert first.wait(DEADLINE_S) == 0
    written = [path for path in home.settings.home.rglob("*") if path.is_file()]
    assert {"flotilla.db", "secret.key", "web.log"} <= {path.name for path in written}
    assert [path for path in written if path.stat().st_mode & 0o077] == []

    second = home.start("up", FLOTILLA_ADMIN_PASSWORD="another one")
    home.waiting(lambda: "FLOTILLA_ADMIN_PASSWORD has no effect" in home.said())
    second.send_signal(signal.SIGTERM)
    assert second.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("command", [[], ["up"], ["web"], ["supervisor"]])
def test_every_command_explains_itself(home: Home, command: list[str]) -> None:
    assert home.start(*command, "--help").wait(DEADLINE_S) == 0
    assert home.said().startswith("Usage: flotilla")


@pytest.mark.slow
def test_the_demo_fleet_trades_survives_the_death_of_everything_else_and_ends_in_order(home: Home) -> None:
    first = home.up("--demo")
    home.waiting(lambda: bool(home.rows(Fill)), 60)
    home.waiting(lambda: "three bots trade" in home.said())
    home.waiting(lambda: set(home.holders()) == {"1", "2", "3"})
    bots = home.holders()
    home.forget_demo()
    assert home.start("demo").wait(DEADLINE_S) == 0  # as after a load that was cut short: nothing is made twice
    assert [len(home.rows(table)) for table in (Bot, Credential, Model)] == [3, 3, 2]
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    home.waiting(lambda: not any(p.is_running() for p in home.seen.values() if p.pid not in bots.values()))
    assert home.holders() == bots

    second = home.up("--demo")

    assert home.holders() == bots
    second.send_signal(signal.SIGTERM)
    assert second.wait(DEADLINE_S) == 0
    home.waiting(home.is_empty)  # the bots are orphans of the killed one: init collects them
    assert not home.holders()
    assert "Ending 3 bots in order" in home.said()
    rows = home.rows(Bot)
    assert {(b.name, b.desired_state, b.status) for b in rows} == {
        ("btc-scalper", "running", "stopped"),
        ("eth-scalper", "running", "stopped"),
        ("eth-rsi", "running", "stopped"),
    }
    assert [(r.generation, r.state, r.exit_code, r.wanted) for r in home.rows(BotRun)] == [(1, "ended", 0, True)] * 3
    assert [e.seq for e in home.rows(Event) if e.type == "alert" and e.seq < 0] == []
