"""What people write to the bot is done for those who may, once, and answered with what came of it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.event import listen
from sqlalchemy.exc import OperationalError

from server.notify.commands import Command, parse
from server.notify.listener import CONFIRM_S, NO_LONGER, Listener
from server.storage.audit import Author, Via
from server.storage.engine import read, write
from server.storage.models import AuditEntry, Credential, Event, ExchangeOrder, KillSwitch, TradingOrder
from server.storage.times import now_ms
from server.storage.verbs import VERBS
from tests.notify.bot_api import CHAT, OTHER_CHAT


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/status", Command("status", "")),
        ("  /Pause  all ", Command("pause", "all")),
        ("/stop\neth scalper", Command("stop", "eth scalper")),
        ("/halt@flotilla_test_bot 3", Command("halt", "3")),
        ("/halt@some_other_bot 3", None),
        ("hello", None),
        ("stop all", None),
        ("/", None),
    ],
)
def test_a_command_is_read_with_its_argument_and_other_talk_is_left_alone(text, command):
    assert parse(text, "Flotilla_Test_Bot") == command


# --- over HTTP ----------------------------------------------------------------------------------------------------


class Chat:
    """A person with a phone."""

    def __init__(self, house: Any, stand_in: Any, wait_for: Any) -> None:
        self.house, self.stand_in, self.wait_for = house, stand_in, wait_for

    def ask(self, text: str, **how: Any) -> str:
        """Write *text*; the answer to it."""
        before = len(self.stand_in.sent)
        self.stand_in.say(text, **how)
        self.wait_for(f"an answer to {text}", lambda: len(self.stand_in.sent) > before)
        return str(self.stand_in.sent[before]["text"])

    def press(self, label: str, **how: Any) -> str:
        """Press a button; what the question becomes."""
        before = len(self.stand_in.edits)
        self.stand_in.press(label, **how)
        self.wait_for(f"an answer to {label}", lambda: len(self.stand_in.edits) > before)
        return str(self.stand_in.edits[before]["text"])

    def ignored(self, text: str, **how: Any) -> bool:
        """Write *text*, and see that it was read and not answered."""
        before = len(self.stand_in.sent)
        self.stand_in.say(text, **how)
        self.wait_for("it is read", self.stand_in.is_read)
        return len(self.stand_in.sent) == before

    def shows(self, words: str) -> bool:
        """Whether an answer was changed into one that holds *words*."""
        return any(words in edit["text"] for edit in self.stand_in.edits)


@pytest.fixture
def chat(house, stand_in, wait_for) -> Chat:
    house.dispatcher()
    return Chat(house, stand_in, wait_for)


@pytest.fixture
def bot_id(house) -> int:
    return add_bot(house)


def add_bot(house: Any, name: str = "eth-scalper", **columns: Any) -> int:
    with write(house.engine) as connection:
        keys = {
            "name": f"{name} {time.monotonic_ns()}",
            "exchange": "simulator",
            "api_key_last4": "abcd",
            "sealed": b"",
            "created_ms": 0,
        }
        made = connection.execute(insert(Credential).values(**keys))
    return int(house.add_bot(name, credential_id=made.inserted_primary_key[0], **columns))


def hold(house: Any, bot_id: int) -> None:
    """Let the bot hold a position."""
    row = {
        "bot_id": bot_id, "position_key": now_ms(), "symbol": "ETHUSDT", "side": "BUY", "status": "active",
        "quantity": Decimal("0.0589"), "opened_ms": 1, "fees": Decimal(0), "entry_logic": "", "exit_logic": "",
        "config_version": 1, "exchange": "simulator", "mode": "trade",
        "document": {"cost": "199.7587", "sold_quantity": "0.01"},
    }  # fmt: skip
    with write(house.engine) as connection:
        connection.execute(insert(TradingOrder).values(**row))
    house.set_bot(bot_id, heartbeat={"unrealised_pnl": "-0.2217"})


def rest_an_entry(house: Any, bot_id: int) -> None:
    row = {
        "bot_id": bot_id, "client_order_id": f"f-{bot_id}", "position_key": 1, "symbol": "ETHUSDT", "role": "entry",
        "side": "BUY", "order_type": "LIMIT_MAKER", "status": "new", "quantity": Decimal(1), "price": Decimal(1),
        "executed_quantity": Decimal(0), "executed_quote": Decimal(0), "created_ms": 1, "updated_ms": 1,
    }  # fmt: skip
    with write(house.engine) as connection:
        connection.execute(insert(ExchangeOrder).values(**row))


def pend(house: Any, bot_id: int) -> None:
    """Let the bot wait for the entry of a position."""
    rest_an_entry(house, bot_id)
    row = {
        "bot_id": bot_id, "position_key": now_ms(), "symbol": "ETHUSDT", "side": "BUY", "status": "pending",
        "quantity": Decimal(1), "opened_ms": 1, "fees": Decimal(0), "entry_logic": "", "exit_logic": "",
        "config_version": 1, "exchange": "simulator", "mode": "trade",
        "document": {"legs": [{"role": "entry", "status": "new"}]},
    }  # fmt: skip
    with write(house.engine) as connection:
        connection.execute(insert(TradingOrder).values(**row))


def say_halted(house: Any, bot_id: int) -> None:
    """Let the bot say that it is halted, and has no entry order any more."""
    row = {
        "bot_id": bot_id,
        "run_id": f"{bot_id}.1",
        "seq": 1,
        "ts": now_ms(),
        "type": "halt",
        "data": {"halted": True},
    }
    with write(house.engine) as connection:
        connection.exec_driver_sql("update trading_orders set status = 'expired'")
        connection.execute(insert(Event).values(**row))


def audit(house: Any) -> list[tuple[str, str, str, int | None]]:
    with read(house.engine) as connection:
        rows = connection.execute(select(AuditEntry).order_by(AuditEntry.id))
        return [(row.actor, row.via, row.action, row.bot_id) for row in rows]


def test_status_bots_pnl_and_help_are_answered(chat, bot_id):
    assert chat.ask("/status").startswith("1 bot (SIM): 1 running")
    assert chat.ask("/bots") == "1 eth-scalper [SIM]: running, today 0 USDT"
    assert chat.ask("/pnl") == "Today (UTC): no closed position."
    assert chat.ask("/pnl total") == "Total: no closed position."
    assert "/halt all" in chat.ask("/help")
    assert chat.ask("/start") == chat.ask("/help")
    assert chat.ask("/dance") == "There is no command /dance. /help lists those there are."


def test_a_pause_is_wanted_at_once_told_so_and_the_observed_state_follows(chat, house, bot_id, wait_for):
    assert chat.ask("/pause 1") == "1 eth-scalper [SIM]: running, wanted paused"
    assert house.bot(bot_id).desired_state == "paused"
    assert audit(house) == [("ada", "telegram", "bot.pause", bot_id)]

    house.set_bot(bot_id, status="paused")

    wait_for("the answer changes", lambda: chat.shows("1 eth-scalper [SIM]: paused"))


def test_what_has_not_come_in_time_is_said(chat, house, bot_id, wait_for, monkeypatch):
    monkeypatch.setattr("server.notify.listener.WATCH_S", 0.2)
    chat.ask("/pause 1")

    wait_for("the answer says so", lambda: chat.shows("Not there yet"))


def test_a_bot_that_fell_into_error_before_is_waited_for_and_one_that_does_so_now_is_told(chat, house, wait_for):
    bot_id = add_bot(house, desired_state="stopped", status="error", status_reason="Before.", status_since_ms=5)
    assert chat.ask("/start_bot 1") == "1 eth-scalper [SIM]: error, wanted running. Before."

    house.set_bot(bot_id, status_reason="Now.", status_since_ms=now_ms() + 3_600_000)

    wait_for("the answer says so", lambda: chat.shows("error, wanted running. Now."))


def test_bots_are_named_by_id_by_name_or_all_at_once(chat, house, bot_id):
    add_bot(house, "Second one")
    add_bot(house, "third", desired_state="stopped", status="stopped")

    chat.ask("/pause second ONE")
    assert house.bot(2).desired_state == "paused"
    assert len(chat.ask("/pause all").splitlines()) == 1
    assert [house.bot(n).desired_state for n in (1, 2, 3)] == ["paused", "paused", "stopped"]
    assert chat.ask("/resume all").count("wanted") == 0
    assert [house.bot(n).desired_state for n in (1, 2, 3)] == ["running", "running", "stopped"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("/pause 99", "There is no bot '99'. /bots lists those there are."),
        ("/pause twin", "Several bots are called 'twin': 1, 2. Write the id."),
        ("/pause", "Which bot? Write /pause with an id, a name or all. /bots lists them."),
        ("/start_bot all", "There is no bot that /start_bot would change."),
        ("/halt", "Which bot? Write /halt with an id, a name or all. /bots lists them."),
    ],
)
def test_a_target_that_is_none_is_answered_with_the_remedy(chat, house, text, answer):
    add_bot(house, "twin")
    add_bot(house, "twin")

    assert chat.ask(text) == answer


def test_what_the_state_does_not_allow_is_answered_in_the_same_words_as_everywhere(chat, house):
    house.add_bot(desired_state="stopped", status="stopped")

    assert "no credential" in chat.ask("/start_bot 1")
    assert "nothing to pause" in chat.ask("/pause 1")


# --- questions ----------------------------------------------------------------------------------------------------


def test_stopping_a_flat_bot_needs_no_question(chat, house, bot_id):
    chat.ask("/stop 1")

    assert house.bot(bot_id).desired_state == "stopped"


def test_stopping_a_bot_with_a_position_asks_first_and_says_what_it_costs(chat, house, bot_id, wait_for):
    hold(house, bot_id)

    question = chat.ask("/stop 1")

    assert question == (
        "Stop?\n1 eth-scalper [SIM]: 0.0489 ETH long, cost 199.7587 USDT, unrealised -0.2217 USDT; sold at market"
    )
    assert house.bot(bot_id).desired_state == "running"
    assert "wanted stopped" in chat.press("Stop")
    assert house.bot(bot_id).desired_state == "stopped"
    house.set_bot(bot_id, status="stopped")
    wait_for("the observed state follows", lambda: chat.shows("1 eth-scalper [SIM]: stopped"))


def test_a_question_says_that_a_held_position_has_no_stop(chat, house):
    hold(house, add_bot(house, config={"on_stop": "hold"}))

    assert "held without a stop" in chat.ask("/stop 1")


def test_a_cancelled_question_changes_nothing(chat, house, bot_id):
    hold(house, bot_id)
    chat.ask("/stop 1")

    assert chat.press("Cancel") == "Cancelled; nothing was changed."
    assert house.bot(bot_id).desired_state == "running"
    assert chat.press("Stop") == NO_LONGER
    assert house.bot(bot_id).desired_state == "running"


def test_an_expired_question_changes_nothing(chat, house, bot_id, monkeypatch):
    monkeypatch.setattr("server.notify.listener.CONFIRM_S", 0.0)
    hold(house, bot_id)
    chat.ask("/stop 1")

    assert chat.press("Stop") == NO_LONGER
    assert house.bot(bot_id).desired_state == "running"


def test_a_question_can_be_answered_once(chat, house, bot_id):
    hold(house, bot_id)
    chat.ask("/stop 1")
    chat.press("Stop")
    house.set_bot(bot_id, desired_state="running")

    assert chat.press("Stop") == NO_LONGER
    assert house.bot(bot_id).desired_state == "running"


def test_only_the_one_who_asked_can_answer(chat, house, stand_in, bot_id, wait_for):
    hold(house, bot_id)
    chat.ask("/stop 1", user=7)

    stand_in.press("Stop", user=8)

    hint = wait_for("the other one is told", lambda: stand_in.acknowledged)[0]
    assert hint["text"] == "Only the one who asked can answer this."
    assert house.bot(bot_id).desired_state == "running"
    assert "wanted stopped" in chat.press("Stop", user=7)


def test_a_question_cannot_be_answered_from_another_chat(house, stand_in, wait_for, bot_id):
    house.dispatcher(CHAT, OTHER_CHAT)
    chat = Chat(house, stand_in, wait_for)
    hold(house, bot_id)
    chat.ask("/stop 1")

    assert chat.press("Stop", chat=OTHER_CHAT, message=stand_in.sent[-1]) == NO_LONGER
    assert house.bot(bot_id).desired_state == "running"


@pytest.mark.parametrize(("text", "label"), [("/start_bot 1", "Start"), ("/resume 1", "Resume")])
def test_live_money_is_asked_about_in_figures(chat, house, text, label):
    desired = "stopped" if label == "Start" else "paused"
    bot_id = add_bot(
        house, exchange="binance", desired_state=desired, config={"capital_per_trade": "250", "max_positions": 2}
    )

    question = chat.ask(text)

    assert question.splitlines()[1:] == [
        "1 eth-scalper [LIVE]: up to 2 × 250 USDT in ETHUSDT",
        "LIVE: this trades real money.",
    ]
    assert house.bot(bot_id).desired_state == desired
    chat.press(label)
    assert house.bot(bot_id).desired_state == "running"


def test_halting_a_bot_asks_and_tells_when_the_bot_has_confirmed(chat, house, bot_id, wait_for):
    house.set_bot(bot_id, pid=4711, run_id=f"{bot_id}.1")
    pend(house, bot_id)

    assert "1 entry order will be withdrawn" in chat.ask("/halt eth-scalper")
    assert not house.bot(bot_id).halted
    assert chat.press("Halt") == "1 eth-scalper [SIM] to halt: 0 of 1 confirmed, 1 entry order still to withdraw."
    assert house.bot(bot_id).halted

    say_halted(house, bot_id)
    wait_for("it says so", lambda: chat.shows("1 eth-scalper [SIM] halted: 1 of 1 confirmed, no entry order is left."))


def test_all_are_halted_only_once_each_bot_that_runs_has_said_so(chat, house, stand_in, bot_id, wait_for, monkeypatch):
    monkeypatch.setattr("server.notify.listener.WATCH_S", 1.0)
    house.set_bot(bot_id, pid=4711, run_id=f"{bot_id}.1")

    chat.ask("/halt all")
    chat.press("Halt")
    wait_for("the wait is over", lambda: chat.shows("All bots to halt: 0 of 1 confirmed, no entry order is left.\nNot"))

    say_halted(house, bot_id)
    chat.ask("/halt all")
    chat.press("Halt")
    wait_for("it says so", lambda: chat.shows("All bots halted: 1 of 1 confirmed, no entry order is left."))


def test_the_kill_switch_halts_by_its_file_while_the_database_is_locked(chat, house, stand_in, bot_id, wait_for):
    chat.ask("/halt all")
    listen(house.engine, "checkout", lambda raw, *_: raw.execute("PRAGMA busy_timeout=60000"))
    with closing(sqlite3.connect(house.settings.home / "flotilla.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        stand_in.press("Halt")
        wait_for("the file is there", house.settings.halt_file.exists)  # a write of the row would wait for a minute

    wait_for("the row follows", lambda: chat.shows("Kill switch engaged by ada."))
    with read(house.engine) as connection:
        assert connection.execute(select(KillSwitch.engaged)).scalar_one()


def test_an_answer_whose_commit_fails_is_carried_out_later_and_not_forgotten(chat, house, bot_id, monkeypatch):
    later = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later[0])
    monkeypatch.setattr("server.notify.listener.time", clock)
    save, failures = Listener._save_offset, iter([True])

    def fails_once(self: Listener, connection: Any, offset: int) -> None:
        save(self, connection, offset)
        if next(failures, False):
            later[0] = 2 * CONFIRM_S  # the question's time is over meanwhile
            raise OperationalError("COMMIT", {}, Exception("database is locked"))

    chat.ask("/halt all")
    monkeypatch.setattr(Listener, "_save_offset", fails_once)

    assert chat.press("Halt") == "Kill switch engaged by ada."


def test_halt_all_is_the_kill_switch_and_blocks_a_start(chat, house, stand_in, bot_id, wait_for):
    assert chat.ask("/halt all").startswith("Engage the kill switch, for every bot?")
    assert chat.press("Halt") == "Kill switch engaged by ada."

    with read(house.engine) as connection:
        assert connection.execute(select(KillSwitch.engaged)).scalar_one()
    assert house.settings.halt_file.exists()
    assert ("ada", "telegram", "system.halt", None) in audit(house)
    wait_for("everybody is alerted", lambda: stand_in.told("KILL SWITCH engaged"))
    assert "kill switch is engaged" in chat.ask("/start_bot 1")


# --- who may, and when --------------------------------------------------------------------------------------------


def test_a_foreign_chat_gets_no_answer_changes_nothing_and_is_logged_once(chat, house, bot_id, capsys):
    for text in ("/status", "/pause all", "/halt all", "/help"):
        assert chat.ignored(text, chat=OTHER_CHAT)

    assert house.bot(bot_id).desired_state == "running"
    assert audit(house) == []
    logged = capsys.readouterr()
    assert (logged.out + logged.err).count("telegram_chat_unknown") == 1
    assert str(OTHER_CHAT) in logged.out + logged.err


def test_a_command_that_is_old_at_its_arrival_is_not_carried_out(chat, house, bot_id):
    assert chat.ask("/pause all", age_s=400) == "/pause was sent 6 min ago: too old, send it again."
    assert house.bot(bot_id).desired_state == "running"


def test_an_old_halt_is_asked_about_like_any_other(chat, house, bot_id):
    assert chat.ask("/halt all", age_s=4000).startswith("Engage the kill switch")
    assert audit(house) == []


def test_a_restart_neither_loses_nor_repeats_a_command(house, stand_in, wait_for, bot_id):
    first = house.dispatcher()
    stand_in.say("/pause 1")
    wait_for("it is done", lambda: house.bot(bot_id).desired_state == "paused")
    first.stop()
    with write(house.engine) as connection:
        VERBS["resume"](connection, bot_id, Author("eve", Via.WEB))
    stand_in.say("/bots")

    house.dispatcher()

    wait_for("the command of between is answered", lambda: stand_in.told("1 eth-scalper [SIM]: running, today"))
    assert house.bot(bot_id).desired_state == "running"
    assert [entry[2] for entry in audit(house)] == ["bot.pause", "bot.resume"]


def test_an_answer_that_does_not_go_out_is_sent_later(chat, house, stand_in, bot_id, wait_for, failed):
    stand_in.failure = lambda method, body: failed(500, "Oops") if method == "sendMessage" else None
    stand_in.say("/pause 1")
    wait_for("it is done", lambda: house.bot(bot_id).desired_state == "paused")
    wait_for("its answer waits", lambda: [row.kind for row in house.rows()] == ["answer"])

    stand_in.failure = None

    wait_for("its answer arrives", lambda: stand_in.told("wanted paused"))


def test_a_command_that_fails_inside_changes_nothing_and_does_not_stop_the_next(chat, house, bot_id, monkeypatch):
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(VERBS, "pause", broken)

    assert "nothing was changed" in chat.ask("/pause 1")
    assert chat.ask("/bots").startswith("1 eth-scalper")


def test_commands_are_heard_again_after_telegram_was_away(chat, stand_in, bot_id, wait_for):
    chat.ask("/bots")
    stand_in.stop()
    stand_in.start()

    assert chat.ask("/bots").startswith("1 eth-scalper")


def test_a_webhook_or_another_reader_of_the_same_bot_is_said_once(house, stand_in, wait_for, failed, capsys):
    stand_in.failure = lambda m, _: (
        failed(409, "Conflict: terminated by other getUpdates") if m == "getUpdates" else None
    )
    house.dispatcher()
    wait_for("it was tried again", lambda: sum(m == "getUpdates" for m, _ in stand_in.calls) >= 3)

    logged = capsys.readouterr()
    assert (logged.out + logged.err).count("telegram_not_heard") == 1
    assert "Another program reads" in logged.out + logged.err
