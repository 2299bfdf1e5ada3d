"""A person launches a bot in a second terminal: it trades, reports, and is looked after like any other."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PATIENT: dict[str, Any] = {
    "capital_per_trade": "200",
    "max_positions": 1,
    "entry_order_type": "market",
    "holding_time": 600,
    "profit_target_pct": 0.05,
    "stop_loss_pct": 0.2,
    "rsi_period": 5,
    "buy_below": 90,
    "sell_above": 99.9,
    "cooldown": 5,
}
QUICK = PATIENT | {"holding_time": 3, "cooldown": 1}


class Terminal:
    """A bot that was launched by hand; what it prints goes into two files."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str, stdout: int | None = None) -> None:
        self.out, self.err = folder / "out", folder / "err"
        folder.mkdir(parents=True)
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "bots" / "trading_bot.py"), *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout or out,
                stderr=err,
                start_new_session=True,
            )

    def ends(self) -> int:
        return self.process.wait(40)

    def end_with(self, number: int) -> int:
        self.process.send_signal(number)
        return self.ends()

    def said(self) -> str:
        return self.err.read_text()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]


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


def is_running(fleet: Any, bot_id: int) -> bool:
    return bool(fleet.bot(bot_id)["status"] == "running")


def test_a_bot_in_a_terminal_trades_and_reports_like_any_other_and_ends_with_ctrl_c(
    house, launch, wait_for, check_books_agree
):
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")

    terminal = launch("--bot-id", bot_id, "--symbol", "btcusdt")
    wait_for("it runs", lambda: is_running(house, bot_id), 40)
    bot = house.bot(bot_id)
    assert (bot["desired_state"], bot["pid"], bot["run_id"]) == ("running", terminal.process.pid, f"{bot_id}.1")
    wait_for("a trade is booked", lambda: house.positions(bot_id, "closed"), 40)
    house.call("PUT", f"/api/trading/bots/{bot_id}/config", json={"cooldown": 2})
    wait_for("a new config acts", lambda: house.bot(bot_id)["applied_config_version"] == 2, 5)
    assert terminal.end_with(signal.SIGINT) == 0

    assert house.bot(bot_id)["desired_state"] == "stopped"
    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped", 10)
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")
    journal = house.home / "var" / "journals" / str(bot_id) / f"{bot_id}.1.jsonl"
    assert terminal.out.read_bytes() == journal.read_bytes()
    assert "Traceback" not in terminal.said()
    logged = [e["data"]["message"] for e in house.events(bot_id, "log")]
    assert any("Ctrl-C ends it" in message for message in logged)
    secrets = [key, (house.home / "var" / "cli.token").read_text().strip()]
    told = terminal.said() + journal.read_text() + journal.with_suffix(".err").read_text()
    assert not [secret for secret in secrets if secret in told]


def test_a_kill_ends_it_in_order_too(house, launch, wait_for, check_books_agree):
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=PATIENT, USDT="10000")
    terminal = launch("--bot-id", bot_id)
    wait_for("a position opens", lambda: house.positions(bot_id, "active"), 40)

    assert terminal.end_with(signal.SIGTERM) == 0

    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped", 10)
    assert house.bot(bot_id)["desired_state"] == "stopped"
    assert len(house.call("GET", f"/api/bots/{bot_id}/events?type=started")["items"]) == 1
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


@pytest.mark.parametrize("end", ["closed", "Ctrl-C", "stands still"])
def test_a_real_terminal_may_be_closed_stopped_or_typed_into(house, wait_for, check_books_agree, end):
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")
    screen, keyboard = os.openpty()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "bots" / "trading_bot.py"), "--bot-id", str(bot_id)],
        env=house.environment,
        stdin=keyboard,
        stdout=keyboard,
        stderr=keyboard,
        preexec_fn=lambda: os.login_tty(keyboard),
    )
    os.close(keyboard)
    try:
        # Nobody reads the screen: after some lines the terminal takes no more, as after Ctrl-S.
        wait_for("it trades", lambda: len(house.positions(bot_id, "closed")) >= 3, 60)
        if end == "closed":
            os.close(screen)
        elif end == "Ctrl-C":
            os.write(screen, b"\x03")
        else:
            process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0
    finally:
        process.kill()
        process.wait()
        if end != "closed":
            os.close(screen)

    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped", 10)
    assert house.bot(bot_id)["desired_state"] == "stopped"
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_bot_killed_in_its_terminal_is_taken_over_with_its_position(house, launch, wait_for, check_books_agree):
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=PATIENT, USDT="10000")
    terminal = launch("--bot-id", bot_id)
    opened = wait_for("a position opens", lambda: house.positions(bot_id, "active"), 40)[0]

    terminal.process.kill()
    wait_for("the supervisor runs it", lambda: house.bot(bot_id)["run_id"] == f"{bot_id}.2", 20)
    wait_for("it guards", lambda: is_running(house, bot_id), 30)

    (guarded,) = house.positions(bot_id, "active")
    assert (guarded["position_key"], guarded["stop_price"]) == (opened["position_key"], opened["stop_price"])
    house.stop_bot(bot_id)
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_killed_supervisor_and_a_dead_web_server_leave_it_alone(house, launch, wait_for, check_books_agree):
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")
    terminal = launch("--bot-id", bot_id)
    wait_for("it runs", lambda: is_running(house, bot_id), 40)

    house.kill("supervisor")
    house.kill("web")
    seen = len(house.ledger(key)["fills"])
    wait_for("it trades alone", lambda: len(house.ledger(key)["fills"]) >= seen + 2, 40)
    assert terminal.end_with(signal.SIGINT) == 0  # nobody there who could be told
    house.start_web()
    house.start_supervisor()

    wait_for("it is not started again", lambda: house.bot(bot_id)["desired_state"] == "stopped", 10)
    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped", 10)
    assert house.bot(bot_id)["run_id"] == f"{bot_id}.1"
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_one_bot_runs_once_whoever_starts_it(house, launch, wait_for):
    bot_id, _ = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")
    first, second = launch("--bot-id", bot_id), launch("--bot-id", bot_id)
    wait_for("one of them is refused", lambda: 73 in (first.process.poll(), second.process.poll()), 30)
    refused, runs = (first, second) if first.process.poll() == 73 else (second, first)
    assert len(refused.said().splitlines()) == 1
    wait_for("the other runs", lambda: is_running(house, bot_id), 40)
    house.start_bot(bot_id)  # it runs already
    assert house.bot(bot_id)["pid"] == runs.process.pid
    assert runs.end_with(signal.SIGINT) == 0

    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped", 10)
    house.start_bot(bot_id)
    late = launch("--bot-id", bot_id)
    assert late.ends() == 73
    assert late.said().count("\n") == 1
    assert "already runs" in late.said()
    assert house.bot(bot_id)["status"] == "running"


def test_what_is_in_the_way_is_one_sentence(house, launch):
    bot_id, _ = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")
    cases = [
        ((99,), {}, 78, "There is no bot 99"),
        ((bot_id, "--symbol", "ETHUSDT"), {}, 78, f"Bot {bot_id} trades BTCUSDT, not ETHUSDT"),
        ((bot_id, "--token", "fla_wrong"), {}, 78, "does not know the token from --token"),
        ((bot_id,), {"FLOTILLA_TOKEN": "fla_wrong"}, 78, "does not know the token from FLOTILLA_TOKEN"),
        ((bot_id,), {"FLOTILLA_HOME": "/nowhere"}, 78, "There is no token"),
        ((bot_id, "--server", "http://127.0.0.1:1"), {}, 1, "http://127.0.0.1:1 cannot be reached"),
        ((bot_id, "--server", "ftp://x"), {}, 78, "is no address"),
    ]
    terminals = [(launch("--bot-id", *args, **env), code, words) for args, env, code, words in cases]
    for terminal, code, words in terminals:
        assert (terminal.ends(), terminal.said().count("\n")) == (code, 1), terminal.said()
        assert words in terminal.said()
    assert house.bot(bot_id)["desired_state"] == "stopped"


def test_a_reader_that_goes_away_or_stands_still_never_hurts_trading(house, launch, wait_for, check_books_agree):
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")
    reader, writer = os.pipe()
    terminal = launch("--bot-id", bot_id, stdout=writer)
    os.close(writer)
    wait_for("it trades", lambda: house.positions(bot_id, "closed"), 40)
    os.close(reader)
    seen = len(house.fills(bot_id))
    wait_for("it goes on", lambda: len(house.fills(bot_id)) >= seen + 2, 30)
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.ends() == 0
    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped", 10)
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


# --- on another host: a home folder that is not the server's ----------------------------------------------------------


@pytest.fixture
def launch_remotely(house: Any, launch: Any, tmp_path: Path) -> Any:
    """Launch a bot as from another machine: with a home of its own, and a token from the environment."""

    def open_terminal(bot_id: int, **environment: str) -> Terminal:
        token = (house.home / "var" / "cli.token").read_text()
        away = {"FLOTILLA_HOME": str(tmp_path / "away"), "FLOTILLA_TOKEN": token} | environment
        terminal: Terminal = launch("--bot-id", bot_id, "--server", house.api, **away)
        return terminal

    return open_terminal


def runs(fleet: Any, bot_id: int) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(fleet.home / "var" / "flotilla.db")) as database:
        database.row_factory = sqlite3.Row
        query = "select * from bot_runs where bot_id = ? order by generation"
        return [dict(row) for row in database.execute(query, (bot_id,))]


def let_pass(fleet: Any, bot_id: int, seconds: int) -> None:
    """Make the server believe that it has not heard of the remote run for so much longer."""
    with closing(sqlite3.connect(fleet.home / "var" / "flotilla.db", timeout=20)) as database:
        database.execute("update bot_runs set heard_ms = heard_ms - ? where bot_id = ?", (seconds * 1000, bot_id))
        database.commit()


def test_a_remote_bot_trades_while_the_server_is_away_and_nothing_is_lost_or_doubled(
    house, launch_remotely, wait_for, check_books_agree
):
    model = house.upload_model("BTCUSDT", "--hours", "1")
    config = {
        "model_id": model, "confidence_threshold": 0.0, "signal_interval": 1, "capital_per_trade": "200",
        "entry_order_type": "market", "holding_time": 2, "profit_target_pct": 0.5, "stop_loss_pct": 0.5, "cooldown": 1,
        "take_profit_order": "watched",
    }  # fmt: skip
    bot_id, key = house.create_bot(strategy="lightgbm_scalper", symbol="BTCUSDT", config=config, USDT="10000")
    terminal = launch_remotely(bot_id)
    wait_for("a trade is booked", lambda: house.positions(bot_id, "closed"), 60)
    (run,) = runs(house, bot_id)
    assert (run["kind"], run["state"], run["pid"]) == ("remote", "running", None)
    house.call("PUT", f"/api/trading/bots/{bot_id}/config", json={"cooldown": 2})
    wait_for("a new config acts", lambda: house.bot(bot_id)["applied_config_version"] == 2, 10)

    for _ in range(2):
        seen = len(house.ledger(key)["fills"])
        house.kill("web")
        wait_for("it trades alone", lambda seen=seen: len(house.ledger(key)["fills"]) >= seen + 4, 60)
        house.start_web()
        wait_for("all is booked", lambda: len(house.fills(bot_id)) >= len(house.ledger(key)["fills"]), 40)
    assert terminal.end_with(signal.SIGINT) == 0

    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped", 10)
    assert house.bot(bot_id)["desired_state"] == "stopped"
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")
    posted = [e["seq"] for e in house.pages(f"/api/bots/{bot_id}/events") if e["type"] != "heartbeat"]
    told = [line["seq"] for line in terminal.lines() if line["type"] != "heartbeat"]
    assert posted == told  # not one journal_gap among them
    assert [run["kind"] for run in runs(house, bot_id)] == ["remote"]
    assert not list((house.home / "var" / "journals").glob(f"{bot_id}/*.jsonl"))


def test_a_remote_bot_killed_with_a_position_guards_it_when_it_is_launched_there_again(
    house, launch_remotely, wait_for, check_books_agree
):
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=PATIENT, USDT="10000")
    first = launch_remotely(bot_id)
    opened = wait_for("a position opens", lambda: house.positions(bot_id, "active"), 60)[0]
    first.process.kill()
    first.process.wait()

    second = launch_remotely(bot_id)
    wait_for("it runs again", lambda: house.bot(bot_id)["run_id"] == f"{bot_id}.2" and is_running(house, bot_id), 40)
    third = launch_remotely(bot_id)
    assert (third.ends(), third.said().count("\n")) == (73, 1)

    (guarded,) = house.positions(bot_id, "active")
    assert (guarded["position_key"], guarded["stop_price"]) == (opened["position_key"], opened["stop_price"])
    assert second.end_with(signal.SIGTERM) == 0
    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped", 10)
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_position_moves_from_host_to_host_with_its_bot(house, launch_remotely, wait_for, check_books_agree):
    config = PATIENT | {"on_stop": "hold"}
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=config, USDT="10000")
    house.start_bot(bot_id)
    opened = wait_for("a position opens", lambda: house.positions(bot_id, "active"), 40)[0]
    house.stop_bot(bot_id)

    terminal = launch_remotely(bot_id)
    wait_for("it runs remotely", lambda: is_running(house, bot_id), 40)
    (snapshot,) = house.events(bot_id, "snapshot")[1:]
    assert [p["position_key"] for p in snapshot["data"]["positions"]] == [opened["position_key"]]
    assert terminal.end_with(signal.SIGINT) == 0
    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped", 10)
    assert len(house.positions(bot_id, "active")) == 1

    house.call("PUT", f"/api/trading/bots/{bot_id}/config", json={"on_stop": "close"})
    house.start_bot(bot_id)
    house.stop_bot(bot_id)
    (closed,) = house.positions(bot_id, "closed")
    assert closed["position_key"] == opened["position_key"]
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_silent_host_is_told_of_and_replaced_only_when_a_person_says_so(
    house, launch_remotely, wait_for, check_books_agree
):
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=PATIENT, USDT="10000")
    terminal = launch_remotely(bot_id)
    opened = wait_for("a position opens", lambda: house.positions(bot_id, "active"), 60)[0]
    terminal.process.send_signal(signal.SIGSTOP)

    let_pass(house, bot_id, 50)
    wait_for("silence is told", lambda: "No word from host" in (house.bot(bot_id)["status_reason"] or ""), 10)
    assert house.bot(bot_id)["status"] == "running"
    let_pass(house, bot_id, 600)
    wait_for("it is an error", lambda: house.bot(bot_id)["status"] == "error", 10)
    assert "press start" in house.bot(bot_id)["status_reason"]
    assert len(runs(house, bot_id)) == 1

    house.start_bot(bot_id)
    assert house.bot(bot_id)["run_id"] == f"{bot_id}.2"
    assert [p["position_key"] for p in house.positions(bot_id, "active")] == [opened["position_key"]]
    terminal.process.send_signal(signal.SIGCONT)
    assert terminal.ends() == 73  # it makes way, and touches no order
    assert house.bot(bot_id)["status"] == "running"
    house.stop_bot(bot_id)
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_host_that_is_heard_again_goes_on_as_if_nothing_was(house, launch_remotely, wait_for):
    bot_id, _ = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")
    terminal = launch_remotely(bot_id)
    wait_for("it runs", lambda: is_running(house, bot_id), 60)
    terminal.process.send_signal(signal.SIGSTOP)
    let_pass(house, bot_id, 700)
    wait_for("it is an error", lambda: house.bot(bot_id)["status"] == "error", 10)

    terminal.process.send_signal(signal.SIGCONT)

    wait_for("it runs", lambda: is_running(house, bot_id), 20)
    house.call("POST", f"/api/bots/{bot_id}/stop", expect=202)  # reaches it with the answer to its next report
    assert terminal.ends() == 0
    assert len(runs(house, bot_id)) == 1
