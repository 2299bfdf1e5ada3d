"""What people tell bots, with real processes: close, halt, the kill switch, and a restart in mid-position."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENT: dict[str, Any] = {
    "capital_per_trade": "200",
    "max_positions": 1,
    "entry_order_type": "market",
    "holding_time": 3600,
    "profit_target_pct": 0.05,
    "stop_loss_pct": 0.2,
    "rsi_period": 5,
    "buy_below": 90,
    "sell_above": 99.9,
    "cooldown": 2,
}
RESTING = PATIENT | {"entry_order_type": "limit", "entry_offset_ticks": 1000, "maker_order_timeout": 3600}


def begin(fleet: Any, config: dict[str, Any]) -> tuple[int, str]:
    fleet.start_simulator()
    fleet.start_web()
    fleet.start_supervisor()
    bot_id, key = fleet.create_bot(strategy="rsi", symbol="BTCUSDT", config=config, USDT="10000")
    fleet.start_bot(bot_id)
    return bot_id, key


def resting_entries(fleet: Any, key: str) -> list[Any]:
    orders = fleet.ledger(key)["orders"]
    return [o for o in orders if o["side"] == "BUY" and o["status"] in ("NEW", "PARTIALLY_FILLED")]


def commands(fleet: Any, bot_id: int) -> list[Any]:
    return [e["data"] for e in fleet.events(bot_id, "command.done")]


def flotilla(fleet: Any, *arguments: str) -> None:
    command = [sys.executable, "-m", "server", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=fleet.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_running_bot_closes_on_command_and_trades_on(fleet, wait_for, check_books_agree):
    bot_id, key = begin(fleet, PATIENT)
    opened = wait_for("a position opens", lambda: fleet.positions(bot_id, "active"), 60)[0]
    run_id = fleet.bot(bot_id)["run_id"]

    fleet.call("POST", f"/api/bots/{bot_id}/close-positions", expect=202)

    closed = wait_for("it is closed", lambda: fleet.positions(bot_id, "closed"), 30)[0]
    assert (closed["position_key"], closed["exit_reason"]) == (opened["position_key"], "by_hand")
    wait_for("the command is acknowledged", lambda: commands(fleet, bot_id))
    wait_for("it enters again", lambda: fleet.positions(bot_id, "active"), 60)
    assert fleet.call("GET", f"/api/bots/{bot_id}/control")["commands"] == []
    assert fleet.bot(bot_id)["run_id"] == run_id
    fleet.stop_bot(bot_id)
    check_books_agree(fleet, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_stopped_bot_that_held_its_position_is_started_to_close_it_and_rests_again(
    fleet, wait_for, check_books_agree
):
    bot_id, key = begin(fleet, PATIENT | {"on_stop": "hold"})
    opened = wait_for("a position opens", lambda: fleet.positions(bot_id, "active"), 60)[0]
    fleet.stop_bot(bot_id)
    assert fleet.positions(bot_id, "active")

    path = f"/api/trading/bots/{bot_id}/orders/{opened['id']}/close"
    fleet.call("POST", path, expect=202, json={"reason": "had enough"})

    wait_for("it is closed", lambda: fleet.positions(bot_id, "closed"), 40)
    wait_for("it rests", lambda: fleet.bot(bot_id)["status"] == "stopped")
    assert [c["result"] for c in commands(fleet, bot_id)] == ["closed 1"]
    assert fleet.bot(bot_id)["run_id"] == f"{bot_id}.2"
    check_books_agree(fleet, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_halt_withdraws_resting_entries_and_a_release_lets_the_bot_go_on(fleet, wait_for):
    bot_id, key = begin(fleet, RESTING)
    wait_for("an entry rests", lambda: resting_entries(fleet, key), 60)

    fleet.call("POST", f"/api/bots/{bot_id}/halt", expect=202, json={"reason": "strange book"})

    wait_for("no entry rests", lambda: not resting_entries(fleet, key))
    seen = wait_for("it says so", lambda: (b := fleet.bot(bot_id))["status"] == "paused" and b)
    assert seen["status_reason"] == "halted by admin: strange book"
    wait_for("it confirms", lambda: [e for e in fleet.events(bot_id, "halt") if e["data"]["waiting"] == 0])
    fleet.call("POST", f"/api/bots/{bot_id}/start", expect=409)

    fleet.call("POST", f"/api/bots/{bot_id}/release", expect=202, json={"reason": "it was nothing"})
    wait_for("an entry rests again", lambda: resting_entries(fleet, key), 60)


def test_the_kill_switch_works_with_the_web_server_and_the_supervisor_dead_and_latches(fleet, wait_for):
    bot_id, key = begin(fleet, RESTING)
    wait_for("an entry rests", lambda: resting_entries(fleet, key), 60)
    fleet.kill("web")
    fleet.kill("supervisor")

    flotilla(fleet, "halt", "--reason", "smoke in the server room")
    wait_for("no entry rests", lambda: not resting_entries(fleet, key))

    fleet.start_web()
    fleet.start_supervisor()
    state = wait_for(
        "every bot confirms",
        lambda: (s := fleet.call("GET", "/api/system/halt"))["totals"]["confirmed"] == s["totals"]["bots"] and s,
        20,
    )
    assert (state["engaged"], state["totals"]["waiting"], state["totals"]["unknown"]) == (True, 0, 0)

    os.kill(fleet.bot(bot_id)["pid"], signal.SIGKILL)
    again = wait_for(
        "the bot is back, halted",
        lambda: (b := fleet.bot(bot_id))["run_id"] == f"{bot_id}.2" and b["status"] == "paused" and b,
        40,
    )
    assert "smoke in the server room" in again["status_reason"]
    assert not resting_entries(fleet, key)

    flotilla(fleet, "release", "--reason", "only steam")
    wait_for("it trades on", lambda: resting_entries(fleet, key), 60)


def test_the_kill_switch_closes_positions_where_that_is_asked_also_of_a_stopped_bot(fleet, wait_for):
    bot_id, _ = begin(fleet, PATIENT | {"on_stop": "hold"})
    wait_for("a position opens", lambda: fleet.positions(bot_id, "active"), 60)
    fleet.stop_bot(bot_id)

    fleet.call("POST", "/api/system/halt", expect=202, json={"reason": "out", "close_positions": True})

    wait_for("it is sold", lambda: fleet.positions(bot_id, "closed"))
    assert fleet.positions(bot_id, "closed")[0]["exit_reason"] == "kill_switch"
    wait_for("it rests", lambda: fleet.bot(bot_id)["status"] == "stopped")


def test_a_restart_holds_the_position_over_and_the_next_run_takes_it_up(fleet, wait_for, check_books_agree):
    bot_id, key = begin(fleet, PATIENT | {"on_stop": "close"})
    opened = wait_for("a position opens", lambda: fleet.positions(bot_id, "active"), 60)[0]
    first = fleet.bot(bot_id)

    fleet.call("POST", f"/api/bots/{bot_id}/restart", expect=202)

    second = wait_for(
        "another run runs",
        lambda: (b := fleet.bot(bot_id))["run_id"] == f"{bot_id}.2" and b["status"] == "running" and b,
        40,
    )
    assert second["pid"] != first["pid"]
    held = fleet.positions(bot_id, "active")[0]
    terms = ("position_key", "stop_price", "target_price", "exit_deadline_at", "quantity")
    assert [held[name] for name in terms] == [opened[name] for name in terms]
    exits = [e["data"] for e in fleet.events(bot_id, "exit")]
    assert exits == [{"code": 0, "reason": "restarting; positions are held over"}]
    assert second["restarts_24h"] == 0
    fleet.stop_bot(bot_id)
    check_books_agree(fleet, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_position_that_nobody_can_follow_is_forgotten_also_by_the_bot(fleet, wait_for):
    bot_id, key = begin(fleet, PATIENT | {"on_stop": "hold"})
    opened = wait_for("a position opens", lambda: fleet.positions(bot_id, "active"), 60)[0]
    path = f"/api/trading/bots/{bot_id}/orders/{opened['id']}/forget"
    fleet.call("POST", path, expect=409, json={"reason": "too early"})
    fleet.stop_bot(bot_id)

    fleet.call("POST", path, expect=202, json={"reason": "the account is gone"})

    forgotten = fleet.positions(bot_id, "closed")[0]
    assert (forgotten["exit_reason"], forgotten["pnl"]) == ("forgotten", None)
    fleet.start_bot(bot_id)
    wait_for("the bot has dropped it", lambda: [c["result"] for c in commands(fleet, bot_id)] == ["forgotten"])
    wait_for("it begins anew", lambda: fleet.positions(bot_id, "active"), 60)
    sold = [o for o in fleet.ledger(key)["orders"] if o["side"] == "SELL" and o["status"] == "FILLED"]
    assert sold == []
    stats = fleet.call("GET", f"/api/trading/bots/{bot_id}/stats")["totals"]
    assert (stats["trades"], stats["pnl"]) == (0, "0")
