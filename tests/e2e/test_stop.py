"""Stop means closed: also for a bot that is dead when it is pressed."""

from __future__ import annotations

import os
import signal
from typing import Any

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
    "cooldown": 5,
}


def test_a_dead_bot_that_is_stopped_sells_what_it_holds(fleet, wait_for, check_books_agree):
    fleet.start_simulator()
    fleet.start_web()
    fleet.start_supervisor()
    bot_id, key = fleet.create_bot(strategy="rsi", symbol="BTCUSDT", config=PATIENT, USDT="10000")
    fleet.start_bot(bot_id)
    opened = wait_for("a position opens", lambda: fleet.positions(bot_id, "active"), 60)[0]
    fleet.kill("supervisor")
    os.kill(fleet.bot(bot_id)["pid"], signal.SIGKILL)

    fleet.call("POST", f"/api/bots/{bot_id}/stop", expect=202)
    fleet.start_supervisor()
    wait_for("it is closed", lambda: fleet.bot(bot_id)["status"] == "stopped", 40)

    closed = fleet.positions(bot_id, "closed")[0]
    assert (closed["position_key"], closed["exit_reason"]) == (opened["position_key"], "bot_stopped")
    assert fleet.bot(bot_id)["run_id"] == f"{bot_id}.2"
    check_books_agree(fleet, bot_id, key, base="BTC", quote="USDT", deposit="10000")


def test_a_stop_while_the_exchange_is_away_goes_on_until_it_is_back(fleet, wait_for):
    fleet.start_simulator()
    fleet.start_web()
    fleet.start_supervisor()
    bot_id, _ = fleet.create_bot(strategy="rsi", symbol="BTCUSDT", config=PATIENT, USDT="10000")
    fleet.start_bot(bot_id)
    wait_for("a position opens", lambda: fleet.positions(bot_id, "active"), 60)
    os.kill(fleet.bot(bot_id)["pid"], signal.SIGKILL)
    fleet.kill("simulator")

    fleet.call("POST", f"/api/bots/{bot_id}/stop", expect=202)
    seen = wait_for(
        "it says what it waits for",
        lambda: (b := fleet.bot(bot_id))["status"] == "stopping" and "exchange" in (b["status_reason"] or "") and b,
        40,
    )
    assert seen["pid"] is not None
    fleet.start_simulator()

    wait_for("it is closed", lambda: fleet.bot(bot_id)["status"] == "stopped", 40)
    assert [p["exit_reason"] for p in fleet.positions(bot_id, "closed")] == ["bot_stopped"]
