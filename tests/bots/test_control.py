"""What people want of a bot reaches it: the halt file, commands in its ticket, and a hand-over to the next run."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from bots.control import Wishes
from shared.halt import HaltOrder
from shared.states import DesiredState
from shared.tickets import Control, OneShot

HOLDING = {"holding_time": 1000, "cooldown": 1000}
RESTING = {"entry_order_type": "limit_maker", "entry_offset_ticks": 10_000, "maker_order_timeout": 1000}


def is_open(position: dict[str, Any]) -> bool:
    return position["status"] == "active"


def test_the_halt_file_stops_entries_within_a_second_and_its_end_lets_the_bot_go_on(make_bot, tmp_path):
    bot, file = make_bot(holding_time=1, cooldown=1), tmp_path / "halt"
    bot.start(halt_file=str(file))
    bot.wait("position", is_open)

    file.touch()
    bot.wait("status", lambda s: s["status"] == "paused" and "the halt file" in str(s["reason"]))
    bot.wait("halt", lambda h: h["halted"] and h["waiting"] == h["unknown"] == 0)
    bot.wait("position", lambda p: p["status"] == "closed")
    entries = [i for i in bot.events("order.intent") if i["role"] == "entry"]

    file.unlink()
    bot.wait("halt", lambda h: not h["halted"])
    bot.wait("order.intent", lambda i: i["role"] == "entry" and i not in entries)
    assert bot.stop() == 0
    bot.check_books()


def test_a_halt_file_that_is_there_at_the_start_keeps_the_bot_from_entering(make_bot, tmp_path):
    bot, file = make_bot(), tmp_path / "halt"
    file.write_bytes(HaltOrder(by="ann", reason="odd fills").to_json())

    bot.start(halt_file=str(file))
    bot.wait("heartbeat", lambda h: h["blocked"].get("held", 0) >= 2)

    assert bot.ledger()["orders"] == []
    assert bot.events("status")[-1] == {"status": "paused", "reason": "kill switch, by ann: odd fills"}
    assert bot.stop() == 0


def test_a_halt_withdraws_entries_before_all_orders_have_been_asked_about(make_bot, simulator, tmp_path):
    bot, file = make_bot(**RESTING), tmp_path / "halt"
    bot.start()
    bot.wait("order", lambda o: o["status"] == "new")
    bot.kill()
    simulator.fault("refuse", path="/api/v3/openOrders", method="GET", status=503, count=100_000)

    bot.start(until=None, halt_file=str(file))
    bot.wait("status", lambda s: "open orders" in str(s["reason"]))
    file.touch()
    bot.wait("position", lambda p: p["status"] == "cancelled" and p["exit_reason"] == "halted")

    assert bot.events("halt")[-1]["halted"]
    assert not bot.events("ready")
    simulator.clear_faults()
    bot.wait("ready")
    assert bot.stop() == 0
    bot.check_books()


def test_a_bot_hands_its_position_over_whatever_on_stop_says(make_bot):
    bot = make_bot(**HOLDING, on_stop="close")
    bot.start()
    held = bot.wait("position", is_open)

    bot.signal(signal.SIGUSR2)
    assert bot.ends() == 0

    assert bot.events("exit") == [{"code": 0, "reason": "restarting; positions are held over"}]
    bot.start()
    assert bot.events("snapshot")[0]["positions"][0]["position_key"] == held["position_key"]
    assert bot.stop() == 0
    bot.check_books()


def test_a_command_in_the_ticket_is_carried_out_once_over_two_runs(make_bot):
    bot = make_bot(**HOLDING)
    bot.start()
    bot.wait("position", is_open)
    bot.kill()

    given = replace(bot.ticket.document, commands=(OneShot(number=5, verb="close_positions"),))
    bot.start(document=given)
    assert bot.wait("command.done") == {"number": 5, "result": "closed 1"}
    assert bot.positions("closed")[-1]["exit_reason"] == "by_hand"
    bot.kill()

    bot.start(document=given)
    assert bot.wait("command.done") == {"number": 5, "result": "done before"}
    assert bot.events("snapshot")[0]["commands_done"] == 5
    assert bot.stop() == 0
    bot.check_books()


def test_either_the_server_or_the_file_halts_and_commands_come_in_order(make_bot, tmp_path: Path):
    file = tmp_path / "halt"
    ticket = replace(make_bot().ticket, halt_file=str(file))
    wishes = Wishes(ticket)
    assert wishes.halt_words is None

    halted = Control(desired=DesiredState.RUNNING, halted=True, halt_reason="halted by ann")
    one = OneShot(number=7, verb="close_position", args={"position_key": 3})
    later = (OneShot(number=9, verb="close_positions"), one)
    assert wishes.take(replace(ticket.document, control=halted, commands=later))
    assert (wishes.control.halted, wishes.control.halt_reason) == (True, "halted by ann")
    assert [(c.number, c.position_key) for c in wishes.commands] == [(7, 3), (9, None)]

    file.write_bytes(HaltOrder(by="bob", reason="fire", close_positions=True).to_json())
    assert wishes.look_at_file()
    assert not wishes.look_at_file()
    assert wishes.take(ticket.document)
    assert (wishes.control.halt_reason, wishes.control.close_positions) == ("kill switch, by bob: fire", True)
