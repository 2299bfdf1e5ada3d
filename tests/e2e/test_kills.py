"""SIGKILL in the middle of a position: nothing is lost, nothing happens twice."""

from __future__ import annotations

import os
import signal
from typing import Any

PATIENT: dict[str, Any] = {
    "capital_per_trade": "200",
    "max_positions": 1,
    "entry_order_type": "market",
    "holding_time": 60,
    "profit_target_pct": 0.05,
    "stop_loss_pct": 0.2,
    "rsi_period": 5,
    "buy_below": 90,
    "sell_above": 100,  # never: it closes on its terms alone
    "cooldown": 5,
}


def test_a_position_outlives_a_killed_bot_and_a_killed_supervisor(fleet, wait_for, check_books_agree):
    fleet.start_simulator()
    fleet.start_web()
    fleet.start_supervisor()
    bot_id, key = fleet.create_bot(strategy="rsi", symbol="BTCUSDT", config=PATIENT, USDT="10000")
    fleet.start_bot(bot_id)
    opened = wait_for("a position opens", lambda: fleet.positions(bot_id, "active"), 60)[0]
    terms = (opened["stop_price"], opened["target_price"], opened["exit_deadline_at"])
    first = fleet.bot(bot_id)

    os.kill(first["pid"], signal.SIGKILL)
    second = wait_for(
        "the bot is restarted",
        lambda: (b := fleet.bot(bot_id))["status"] == "running" and b["run_id"] != first["run_id"] and b,
        25,
    )
    guarded = fleet.positions(bot_id, "active")[0]
    assert guarded["position_key"] == opened["position_key"]
    assert (guarded["stop_price"], guarded["target_price"], guarded["exit_deadline_at"]) == terms

    fleet.kill("supervisor")
    assert fleet.bot_pids() == [second["pid"]]
    fleet.start_supervisor()
    wait_for("the position closes on its own terms", lambda: fleet.positions(bot_id, "closed"), 90)
    closed = fleet.positions(bot_id, "closed")[0]
    assert (closed["position_key"], closed["exit_reason"]) == (opened["position_key"], "holding_time")
    adopted = fleet.bot(bot_id)
    assert (adopted["pid"], adopted["run_id"]) == (second["pid"], second["run_id"])

    fleet.stop_bot(bot_id)
    check_books_agree(fleet, bot_id, key, base="BTC", quote="USDT", deposit="10000")
    events = fleet.pages(f"/api/bots/{bot_id}/events")
    assert not [e for e in events if e["type"] == "alert" and e["seq"] > 0]
    numbers = [(e["run_id"], e["seq"]) for e in events]
    assert len(numbers) == len(set(numbers))


def test_what_a_bot_did_while_the_supervisor_was_dead_is_booked_afterwards(fleet, wait_for, check_books_agree):
    fleet.start_simulator()
    fleet.start_web()
    fleet.start_supervisor()
    config = PATIENT | {"holding_time": 4, "cooldown": 1}
    bot_id, key = fleet.create_bot(strategy="rsi", symbol="ETHUSDT", config=config, USDT="10000")
    fleet.start_bot(bot_id)
    pid = fleet.bot(bot_id)["pid"]

    for _ in range(4):
        seen = len(fleet.ledger(key)["fills"])
        fleet.kill("supervisor")
        wait_for("the bot trades alone", lambda seen=seen: len(fleet.ledger(key)["fills"]) >= seen + 2, 60)
        fleet.start_supervisor()
        wait_for("its fills are booked", lambda: len(fleet.fills(bot_id)) >= len(fleet.ledger(key)["fills"]))
    assert fleet.bot(bot_id)["pid"] == pid

    fleet.stop_bot(bot_id)
    check_books_agree(fleet, bot_id, key, base="ETH", quote="USDT", deposit="10000")
