"""The command line as a person or a script calls it: real processes, a real web server on a port of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import pytest
import requests
from sqlalchemy import Engine, insert, select, update

from server.cli.root import cli
from server.security.users import check_password
from server.settings import Settings, load_settings
from server.storage.engine import make_engine, read, write
from server.storage.models import AuditEntry, Bot, Event, User
from server.storage.times import now_ms
from tests.ports import free_port
from tests.waiting import DEADLINE_S, wait_for

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery staple"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    """What every process of this installation gets; nothing listens on its ports yet."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FLOTILLA_") and k != "DATABASE_URL"}
    ports = {"FLOTILLA_PORT": str(free_port()), "FLOTILLA_SIM_PORT": str(free_port())}
    return {**kept, **ports, "FLOTILLA_HOME": str(settings.home), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def flotilla(environment: dict[str, str]) -> Run:
    """Run a command to its end."""

    def run(*words: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "server", *words]
        return subprocess.run(
            command, cwd=ROOT, env={**environment, **more}, input=stdin, capture_output=True, text=True, timeout=60
        )

    return run


@pytest.fixture
def database(settings: Settings) -> Iterator[Engine]:
    """The same database, from outside."""
    engine = make_engine(settings.database_url)
    yield engine
    engine.dispose()


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[str]:
    """A web server; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "web"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = load_settings(environment).base_url

    def answers() -> bool:
        assert process.poll() is None
        with suppress(requests.RequestException):
            return requests.get(f"{address}/health", timeout=5).ok
        return False

    try:
        wait_for(answers, what="the server answers")
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[str]:
    with serving(environment) as address:
        yield address


@pytest.fixture
def add_bot(database: Engine) -> Callable[..., int]:
    """Put a bot into the fleet."""

    def add(name: str, **columns: Any) -> int:
        row = {
            "name": name, "strategy": "rsi", "symbol": "ETHUSDT", "exchange": "simulator", "mode": "paper",
            "interval": "1m", "tags": [], "created_ms": now_ms(), "updated_ms": now_ms(), "status_since_ms": now_ms(),
        }  # fmt: skip
        with write(database) as connection:
            made = connection.execute(insert(Bot).values(**{**row, **columns}))
        return int(made.inserted_primary_key[0])

    return add


def add_lines(engine: Engine, bot_id: int, first: int, *texts: str, level: str = "info") -> None:
    with write(engine) as connection:
        for seq, text in enumerate(texts, first):
            data = {"level": level, "message": text}
            row = {"bot_id": bot_id, "run_id": f"{bot_id}.1", "seq": seq, "ts": now_ms(), "type": "log", "data": data}
            connection.execute(insert(Event).values(**row))


# Bots


def test_bots_are_listed_for_people_and_for_scripts(flotilla: Run, server: str, add_bot: Callable[..., int]):
    first, second = add_bot("eth-rsi"), add_bot("btc\x1b[31m-rsi", symbol="BTCUSDT")

    piped, scripted = flotilla("bots", "list"), flotilla("bots", "list", "--json")

    assert (piped.returncode, piped.stderr) == (0, "")
    header, *lines = [line.split("\t") for line in piped.stdout.splitlines()]
    assert header[:3] == ["ID", "NAME", "SYMBOL"]
    assert [line[:3] for line in lines] == [
        [str(first), "eth-rsi", "ETHUSDT"],
        [str(second), "btc [31m-rsi", "BTCUSDT"],
    ]
    document = json.loads(scripted.stdout)
    assert [b["id"] for b in document["items"]] == [first, second]
    assert {"name", "status", "desired_state", "pnl_total"} <= set(document["items"][0])


def test_one_bot_is_shown_by_name_or_id(flotilla: Run, server: str, add_bot: Callable[..., int]):
    bot_id = add_bot("eth-rsi")

    assert json.loads(flotilla("bots", "show", "eth-rsi", "--json").stdout)["id"] == bot_id
    assert "ETHUSDT" in flotilla("bots", "show", str(bot_id)).stdout
    wrong = flotilla("bots", "show", "eth-rsy")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "There is no bot 'eth-rsy'. Did you mean eth-rsi?\n"


def test_a_name_that_two_bots_have_is_not_guessed(flotilla: Run, server: str, add_bot: Callable[..., int]):
    ids = add_bot("twin"), add_bot("twin")

    answer = flotilla("bots", "stop", "twin")

    assert answer.returncode == 1
    assert answer.stderr == f"2 bots are called 'twin'. Take an id: {ids[0]}, {ids[1]}.\n"


def test_several_bots_are_told_and_the_audit_says_from_where_and_why(
    flotilla: Run, server: str, add_bot: Callable[..., int], database: Engine
):
    running, stopped = add_bot("one", desired_state="running", status="running"), add_bot("two")

    answer = flotilla("bots", "pause", "one", str(stopped), "--reason", "lunch")

    assert answer.returncode == 1
    assert answer.stdout == f"{running} one: wanted paused, now running\n"
    assert "nothing to pause" in answer.stderr
    with read(database) as connection:
        entry = connection.execute(select(AuditEntry)).one()
    assert (entry.action, entry.via, entry.reason, entry.bot_id) == ("bot.pause", "cli", "lunch", running)


def test_all_bots_are_only_told_when_somebody_says_yes(flotilla: Run, server: str, add_bot: Callable[..., int]):
    ids = [add_bot(name, desired_state="running", status="running") for name in ("one", "two")]

    unsure = flotilla("bots", "stop", "--all")
    nobody = flotilla("bots", "stop")
    sure = flotilla("bots", "stop", "--all", "--yes", "--json")

    assert (unsure.returncode, nobody.returncode, sure.returncode) == (2, 2, 0)
    assert "--yes" in unsure.stderr
    document = json.loads(sure.stdout)
    assert [b["id"] for b in document["items"]] == ids
    assert (document["failed"], {b["desired_state"] for b in document["items"]}) == ([], {"stopped"})


def test_waiting_ends_when_the_bot_was_seen_there(
    environment: dict[str, str], flotilla: Run, server: str, add_bot: Callable[..., int], database: Engine
):
    bot_id = add_bot("eth-rsi", desired_state="running", status="running")
    command = [sys.executable, "-m", "server", "bots", "stop", "eth-rsi", "--wait"]
    waiting = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)

    def wanted() -> str:
        with read(database) as connection:
            return connection.execute(select(Bot.desired_state)).scalar_one()

    wait_for(lambda: wanted() == "stopped", what="the stop did not arrive")
    assert waiting.poll() is None
    with write(database) as connection:
        connection.execute(update(Bot).values(status="stopped", status_since_ms=now_ms()))
    out, _ = waiting.communicate(timeout=30)

    assert (waiting.returncode, out) == (0, f"{bot_id} eth-rsi: now stopped\n")


def test_waiting_in_vain_ends_with_what_was_seen(flotilla: Run, server: str, add_bot: Callable[..., int]):
    bot_id = add_bot("eth-rsi", desired_state="running", status="running")

    answer = flotilla("bots", "stop", "eth-rsi", "--wait", "--timeout", "0.5")

    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == f"{bot_id} eth-rsi: still running; wanted stopped.\n"


def test_a_paused_bot_that_is_started_is_waited_for_until_it_runs(
    flotilla: Run, server: str, a_bot: Callable[..., int], observe: Callable[..., None]
):
    bot_id = a_bot(name="eth-rsi")
    observe(bot_id, desired_state="paused", status="paused")

    answer = flotilla("bots", "start", "eth-rsi", "--wait", "--timeout", "0.5")

    assert (answer.returncode, answer.stderr) == (1, f"{bot_id} eth-rsi: still paused; wanted running.\n")


# Logs


def test_log_lines_come_oldest_first_and_as_json_lines(
    flotilla: Run, server: str, add_bot: Callable[..., int], database: Engine
):
    bot_id = add_bot("eth-rsi")
    add_lines(database, bot_id, 1, "one", "two", "three")
    add_lines(database, bot_id, 4, "four", level="error")

    people = flotilla("bots", "logs", "eth-rsi", "-n", "2").stdout.splitlines()
    scripts = flotilla("bots", "logs", "eth-rsi", "--level", "error", "--json").stdout.splitlines()

    assert [line[25:] for line in people] == ["INFO    three", "ERROR   four"]
    assert [json.loads(line)["text"] for line in scripts] == ["four"]


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """What is started meanwhile hears Ctrl-C, also where the tests themselves run in the background and do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_following_survives_a_restart_of_the_server_and_ends_with_ctrl_c(
    environment: dict[str, str], add_bot: Callable[..., int], database: Engine, tmp_path: Path
):
    bot_id = add_bot("eth-rsi")
    add_lines(database, bot_id, 1, "before")
    out, err = tmp_path / "out", tmp_path / "err"
    command = [sys.executable, "-m", "server", "bots", "logs", "eth-rsi", "-f", "-n", "0"]
    with out.open("w") as stdout, err.open("w") as stderr:
        with serving(environment):
            following = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stdout, stderr=stderr)
            seq = 2
            while "while" not in out.read_text():  # it asks for what is new only once it has begun
                add_lines(database, bot_id, seq, f"while {seq}")
                seq += 1
                assert seq < 300, err.read_text()
                time.sleep(0.1)
        wait_for(lambda: "Waiting for it" in err.read_text(), what="it did not notice that the server went")
        add_lines(database, bot_id, 1000, "while nobody listened")
        with serving(environment):
            wait_for(lambda: "nobody listened" in out.read_text(), what="it did not go on")
            following.send_signal(signal.SIGINT)
            code = following.wait(DEADLINE_S)

    assert code == 130
    lines = [line[33:] for line in out.read_text().splitlines()]
    assert lines == [*sorted(set(lines[:-1]), key=lines.index), "while nobody listened"]
    assert "before" not in lines
    assert "Traceback" not in err.read_text()


# What goes wrong


def test_a_server_that_is_down_is_one_sentence(flotilla: Run):
    answer = flotilla("bots", "list")

    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("No answer from http://127.0.0.1:")
    assert answer.stderr.count("\n") == 1


def test_a_token_that_is_no_good_and_one_that_may_too_little_are_sentences(
    flotilla: Run, server: str, add_bot: Callable[..., int]
):
    add_bot("eth-rsi")
    viewer = flotilla("tokens", "create", "look").stdout.strip()

    wrong = flotilla("bots", "list", FLOTILLA_TOKEN="fla_nonsense")
    little = flotilla("bots", "stop", "eth-rsi", "--token", viewer)

    assert (wrong.returncode, wrong.stderr.startswith("The token is unknown")) == (1, True)
    assert (little.returncode, "needs the role trader" in little.stderr) == (1, True)


def test_the_admin_token_of_this_machine_is_sent_to_no_other_server(flotilla: Run, server: str):
    answer = flotilla("bots", "list", "--server", server.replace("127.0.0.1", "localhost"))

    assert answer.returncode == 1
    assert "token of its own" in answer.stderr


def test_something_else_on_the_port_is_told_apart(flotilla: Run):
    import http.server
    import threading

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{other.server_port}"
        answer = flotilla("bots", "list", "--server", address, "--token", "x")
    finally:
        other.shutdown()
        other.server_close()

    assert answer.stderr == f"What answers at {address} is not Flotilla.\n"


def test_a_reader_that_leaves_early_is_no_error(environment: dict[str, str], server: str, add_bot: Callable[..., int]):
    for number in range(20):
        add_bot(f"bot-{number}")
    command = f"{sys.executable} -m server bots list | head -1"

    answer = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )

    assert (answer.stdout.split("\t")[0], answer.stderr) == ("ID", "")


# Users, straight in the database


def test_an_admin_who_is_locked_out_gets_a_new_password_without_a_server(flotilla: Run, database: Engine):
    with write(database) as connection:
        connection.execute(update(User).where(User.username == "admin").values(disabled=True, role="viewer"))

    answers = [
        flotilla("users", "passwd", "admin", stdin="three blue boats\n"),
        flotilla("users", "enable", "admin"),
        flotilla("users", "role", "admin", "admin"),
    ]

    assert [a.returncode for a in answers] == [0, 0, 0], answers
    user = check_password(database, "admin", "three blue boats")
    assert user is not None
    assert user.role == "admin"
    assert check_password(database, "admin", PASSWORD) is None
    with read(database) as connection:
        entries = connection.execute(select(AuditEntry.action, AuditEntry.via)).all()
    assert [tuple(e) for e in entries] == [("user.password", "cli"), ("user.change", "cli"), ("user.change", "cli")]


def test_a_password_can_be_typed_twice_at_a_terminal_and_is_not_shown(environment: dict[str, str], database: Engine):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "users", "add", "maria", "--role", "trader"],
        cwd=ROOT,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    seen = b""
    for prompt in (b"Password:", b"confirmation:"):
        while prompt not in seen:
            seen += os.read(master, 1000)
        os.write(master, b"three blue boats\n")
    process.wait(30)
    os.close(master)

    assert process.returncode == 0, seen
    assert b"three blue" not in seen
    assert check_password(database, "maria", "three blue boats") is not None


def test_users_are_listed_and_the_last_admin_stays(flotilla: Run):
    assert flotilla("users", "disable", "viewer").returncode == 0

    listed = json.loads(flotilla("users", "list", "--json").stdout)["items"]
    refused = flotilla("users", "disable", "admin")
    weak = flotilla("users", "add", "maria", "--role", "viewer", stdin="short\n")

    assert {(u["username"], u["disabled"]) for u in listed} == {("admin", False), ("viewer", True), ("trader", False)}
    assert (refused.returncode, "last enabled admin" in refused.stderr) == (1, True)
    assert (weak.returncode, "password: must have" in weak.stderr) == (1, True)


def test_without_a_database_there_is_one_sentence_and_no_file(flotilla: Run, tmp_path: Path):
    answer = flotilla("users", "list", FLOTILLA_HOME=str(tmp_path / "nowhere"))

    assert answer.returncode == 1
    assert answer.stderr.startswith("There is no database in")
    assert not (tmp_path / "nowhere").exists()


# Credentials and tokens


def test_exchange_keys_come_from_standard_input_and_never_out(flotilla: Run, server: str):
    added = flotilla("credentials", "add", "sim", "--exchange", "simulator", stdin="the-api-key\nits-secret\n")
    listed = flotilla("credentials", "list", "--json")
    (found,) = json.loads(listed.stdout)["items"]

    assert (added.returncode, added.stdout) == (0, f"Stored as credential {found['id']}.\n")
    assert (found["name"], found["api_key_last4"]) == ("sim", "-key")
    assert "its-secret" not in listed.stdout + flotilla("credentials", "list").stdout
    assert flotilla("credentials", "remove", str(found["id"])).returncode == 0
    assert json.loads(flotilla("credentials", "list", "--json").stdout) == {"items": []}


def test_a_token_is_made_used_and_revoked(flotilla: Run, server: str):
    secret = flotilla("tokens", "create", "script", "--days", "1").stdout.strip()
    (token,) = [t for t in json.loads(flotilla("tokens", "list", "--json").stdout)["items"] if t["name"] == "script"]

    assert flotilla("bots", "list", FLOTILLA_TOKEN=secret).returncode == 0
    assert flotilla("tokens", "revoke", str(token["id"])).returncode == 0
    assert flotilla("bots", "list", FLOTILLA_TOKEN=secret).returncode == 1


# The doctor


def test_the_doctor_names_what_is_broken_and_the_remedy(flotilla: Run, server: str, settings: Settings):
    settings.cli_token_file.chmod(0o644)

    people, scripts = flotilla("doctor"), flotilla("doctor", "--json")

    assert (people.returncode, scripts.returncode) == (1, 1)
    found = {f["part"]: f for f in json.loads(scripts.stdout)["items"]}
    assert {part for part, f in found.items() if f["ok"]} >= {
        "python",
        "packages",
        "disk",
        "database",
        "secrets",
        "web",
    }
    assert {part for part, f in found.items() if not f["ok"]} >= {"home", "supervisor", "simulator"}
    assert found["home"]["remedy"] == f"Close it: chmod go-rwx {settings.cli_token_file}"
    assert "✗ home" in people.stdout
    assert "✓ web" in people.stdout


def test_the_doctor_of_a_new_home_says_where_to_begin(flotilla: Run, tmp_path: Path):
    answer = flotilla("doctor", "--json", FLOTILLA_HOME=str(tmp_path / "nowhere"))

    document = json.loads(answer.stdout)
    assert (answer.returncode, document["ok"]) == (1, False)
    assert {"part": "home", "ok": False, "seen": f"{tmp_path / 'nowhere'} does not exist"}.items() <= next(
        f for f in document["items"] if f["part"] == "home"
    ).items()


# Help and documentation


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that people see, with its whole name."""
    context = click.Context(cli)

    def walk(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group):
                assert command.help
                yield from walk(command, f"{path} {name}")
            elif not command.hidden:
                yield f"{path} {name}", command

    yield from walk(cli, "flotilla")


def test_every_command_and_option_says_what_it_does():
    options = [(path, o) for path, command in commands() for o in command.params if isinstance(o, click.Option)]

    assert [path for path, command in commands() if not (command.help or "").strip()] == []
    assert [f"{path} {o.opts[0]}" for path, o in options if not o.help and not isinstance(o.type, click.Choice)] == []


def test_every_command_is_documented_and_every_documented_one_exists():
    text = (ROOT / "docs" / "command-line.md").read_text()
    documented = set(re.findall(r"`(flotilla [a-z]+(?: [a-z]+)?)`", text)) - {"flotilla users"}

    assert documented == {path for path, _ in commands()}
