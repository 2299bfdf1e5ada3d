"""A person launches a bot in a second terminal: it trades, reports, and is looked after like any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.e2e.by_hand import PATIENT, QUICK, ROOT, is_running
from tests.waiting import AT_ONCE_S


def test_a_bot_in_a_terminal_trades_and_reports_like_any_other_and_ends_with_ctrl_c(
    house, launch, wait_for, check_books_agree
):
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")

    terminal = launch("--bot-id", bot_id, "--symbol", "btcusdt")
    wait_for("it runs", lambda: is_running(house, bot_id), 60)
    bot = house.bot(bot_id)
    assert (bot["desired_state"], bot["pid"], bot["run_id"]) == ("running", terminal.process.pid, f"{bot_id}.1")
    house.call("PUT", f"/api/trading/bots/{bot_id}/config", json={"cooldown": 2})
    wait_for("a new config acts", lambda: house.bot(bot_id)["applied_config_version"] == 2, AT_ONCE_S)
    wait_for("a trade is booked", lambda: house.positions(bot_id, "closed"), 60)
    assert terminal.end_with(signal.SIGINT) == 0

    assert house.bot(bot_id)["desired_state"] == "stopped"
    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped")
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
    wait_for("a position opens", lambda: house.positions(bot_id, "active"), 60)

    assert terminal.end_with(signal.SIGTERM) == 0

    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped")
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

    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped")
    assert house.bot(bot_id)["desired_state"] == "stopped"
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_bot_killed_in_its_terminal_is_taken_over_with_its_position(house, launch, wait_for, check_books_agree):
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=PATIENT, USDT="10000")
    terminal = launch("--bot-id", bot_id)
    opened = wait_for("a position opens", lambda: house.positions(bot_id, "active"), 60)[0]

    terminal.process.kill()
    wait_for("the supervisor runs it", lambda: house.bot(bot_id)["run_id"] == f"{bot_id}.2")
    wait_for("it guards", lambda: is_running(house, bot_id), 60)

    (guarded,) = house.positions(bot_id, "active")
    assert (guarded["position_key"], guarded["stop_price"]) == (opened["position_key"], opened["stop_price"])
    house.stop_bot(bot_id)
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_killed_supervisor_and_a_dead_web_server_leave_it_alone(house, launch, wait_for, check_books_agree):
    bot_id, key = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")
    terminal = launch("--bot-id", bot_id)
    wait_for("it runs", lambda: is_running(house, bot_id), 60)

    house.kill("supervisor")
    house.kill("web")
    seen = len(house.ledger(key)["fills"])
    wait_for("it trades alone", lambda: len(house.ledger(key)["fills"]) >= seen + 2, 60)
    assert terminal.end_with(signal.SIGINT) == 0  # nobody there who could be told
    house.start_web()
    house.start_supervisor()

    wait_for("it is not started again", lambda: house.bot(bot_id)["desired_state"] == "stopped")
    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped")
    assert house.bot(bot_id)["run_id"] == f"{bot_id}.1"
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_one_bot_runs_once_whoever_starts_it(house, launch, wait_for):
    bot_id, _ = house.create_bot(strategy="rsi", symbol="BTCUSDT", config=QUICK, USDT="10000")
    first, second = launch("--bot-id", bot_id), launch("--bot-id", bot_id)
    wait_for("one of them is refused", lambda: 73 in (first.process.poll(), second.process.poll()), 60)
    refused, runs = (first, second) if first.process.poll() == 73 else (second, first)
    assert len(refused.said().splitlines()) == 1
    wait_for("the other runs", lambda: is_running(house, bot_id), 60)
    house.start_bot(bot_id)  # it runs already
    assert house.bot(bot_id)["pid"] == runs.process.pid
    assert runs.end_with(signal.SIGINT) == 0

    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped")
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
    wait_for("it trades", lambda: house.positions(bot_id, "closed"), 60)
    os.close(reader)
    seen = len(house.fills(bot_id))
    wait_for("it goes on", lambda: len(house.fills(bot_id)) >= seen + 2, 60)
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.ends() == 0
    wait_for("it is stopped", lambda: house.bot(bot_id)["status"] == "stopped")
    check_books_agree(house, bot_id, key, base="BTC", quote="USDT", deposit="10000")
