"""A person launches a bot on another host, with a home folder that is not the server's: it posts what it does."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.by_hand import PATIENT, QUICK, Terminal, is_running
from tests.waiting import AT_ONCE_S


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


@pytest.fixture
def impatient(house: Any) -> Any:
    """The house with a supervisor that gives up a silent host within seconds."""
    house.kill("supervisor", signal.SIGTERM)
    house.start("supervisor", "tests.e2e.impatient_supervisor", "supervisor")
    return house


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
    wait_for("a new config acts", lambda: house.bot(bot_id)["applied_config_version"] == 2, AT_ONCE_S)

    for _ in range(2):
        seen = len(house.ledger(key)["fills"])
        house.kill("web")
        wait_for("it trades alone", lambda seen=seen: len(house.ledger(key)["fills"]) >= seen + 4, 60)
        house.start_web()
        wait_for("all is booked", lambda: len(house.fills(bot_id)) >= len(house.ledger(key)["fills"]), 40)
    assert terminal.end_with(signal.SIGINT) == 0

    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped")
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
    wait_for("it runs again", lambda: house.bot(bot_id)["run_id"] == f"{bot_id}.2" and is_running(house, bot_id), 60)
    third = launch_remotely(bot_id)
    assert (third.ends(), third.said().count("\n")) == (73, 1)

    (guarded,) = house.positions(bot_id, "active")
    assert (guarded["position_key"], guarded["stop_price"]) == (opened["position_key"], opened["stop_price"])
    assert second.end_with(signal.SIGTERM) == 0
    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped")
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_position_moves_from_host_to_host_with_its_bot(house, launch_remotely, wait_for, check_books_agree):
    config = PATIENT | {"on_stop": "hold"}
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=config, USDT="10000")
    house.start_bot(bot_id)
    opened = wait_for("a position opens", lambda: house.positions(bot_id, "active"), 60)[0]
    house.stop_bot(bot_id)

    terminal = launch_remotely(bot_id)
    wait_for("it runs remotely", lambda: is_running(house, bot_id), 60)
    (snapshot,) = house.events(bot_id, "snapshot")[1:]
    assert [p["position_key"] for p in snapshot["data"]["positions"]] == [opened["position_key"]]
    assert terminal.end_with(signal.SIGINT) == 0
    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped")
    assert len(house.positions(bot_id, "active")) == 1

    house.call("PUT", f"/api/trading/bots/{bot_id}/config", json={"on_stop": "close"})
    house.start_bot(bot_id)
    house.stop_bot(bot_id)
    (closed,) = house.positions(bot_id, "closed")
    assert closed["position_key"] == opened["position_key"]
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_silent_host_is_told_of_and_replaced_only_when_a_person_says_so(
    impatient, launch_remotely, wait_for, check_books_agree
):
    house = impatient
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=PATIENT, USDT="10000")
    terminal = launch_remotely(bot_id)
    opened = wait_for("a position opens", lambda: house.positions(bot_id, "active"), 60)[0]
    terminal.process.send_signal(signal.SIGSTOP)

    wait_for("silence is told", lambda: "No word from host" in (house.bot(bot_id)["status_reason"] or ""))
    assert house.bot(bot_id)["status"] == "running"
    wait_for("it is an error", lambda: house.bot(bot_id)["status"] == "error")
    assert "take it over" in house.bot(bot_id)["status_reason"]
    refusal = house.call("POST", f"/api/bots/{bot_id}/start", expect=409)
    assert "take" in refusal["error"]["message"]
    assert len(runs(house, bot_id)) == 1

    why = {"reason": "that host is gone"}
    house.call("POST", f"/api/bots/{bot_id}/take-over", json=why, expect=202)
    wait_for("it runs here", lambda: house.bot(bot_id)["status"] == "running", 40)
    assert house.bot(bot_id)["run_id"] == f"{bot_id}.2"
    assert [p["position_key"] for p in house.positions(bot_id, "active")] == [opened["position_key"]]
    terminal.process.send_signal(signal.SIGCONT)
    assert terminal.ends() == 73  # it makes way, and touches no order
    assert house.bot(bot_id)["status"] == "running"
    house.stop_bot(bot_id)
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_host_that_is_heard_again_goes_on_as_if_nothing_was(impatient, launch_remotely, wait_for):
    house = impatient
    bot_id, _ = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")
    terminal = launch_remotely(bot_id)
    wait_for("it runs", lambda: is_running(house, bot_id), 60)
    terminal.process.send_signal(signal.SIGSTOP)
    wait_for("it is an error", lambda: house.bot(bot_id)["status"] == "error", 60)

    terminal.process.send_signal(signal.SIGCONT)

    wait_for("it runs", lambda: is_running(house, bot_id))
    house.call("POST", f"/api/bots/{bot_id}/stop", expect=202)  # reaches it with the answer to its next report
    assert terminal.ends() == 0
    assert len(runs(house, bot_id)) == 1
