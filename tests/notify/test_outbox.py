"""What people are told is written where its cause is booked: once, in plain words, as each bot's switches say."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert

from server.notify import outbox
from server.storage import ledger
from server.storage.engine import write
from server.storage.ledger import BotRef
from server.storage.models import BotRun
from shared.events import Alert, Envelope, ErrorSeen, Heartbeat, LogLine, Payload, Position, Ready, SignalTaken, to_data
from shared.positions import Terms
from shared.states import BotState, PositionState, Side

NOW = 1_795_185_128_000  # 14:32:08 UTC
MINUTE = 60_000
OTHER_CHAT = -100815


def position(status: str, key: int = NOW, **facts: Any) -> Position:
    base: dict[str, Any] = {
        "position_key": key, "symbol": "ETHUSDT", "side": Side.BUY, "status": PositionState(status), "opened_ms": key,
        "activated_ms": key + 1000, "config_version": 1, "quantity": Decimal("0.0589"),
        "entry_price": Decimal("3388.1"), "cost": Decimal("199.7587"),
        "terms": Terms(
            profit_target_pct=None, stop_loss_pct=None, holding_time=None, take_profit_order="resting",
            maker_order_timeout=60, on_entry_timeout="cancel",
        ),
    }  # fmt: skip
    return Position(**(base | facts))


CLOSED = {
    "closed_ms": NOW + 2_001_000, "exit_price": Decimal("3391.2"), "exit_reason": "holding_time",
    "pnl": Decimal("-0.217012"), "pnl_pct": -0.001086, "fees": Decimal("0.4"),
}  # fmt: skip
READY = Ready(reconciled_orders=0, open_positions=0, seconds=0.1)


class Books:
    """A bot whose events are booked."""

    def __init__(self, house: Any, **bot: Any) -> None:
        self.house, self.bot_id, self.seq = house, house.add_bot(**bot), 0
        with write(house.engine) as connection:
            row = {"generation": 1, "state": "running", "created_ms": 0, "wanted": False}
            connection.execute(insert(BotRun).values(bot_id=self.bot_id, **row))
        house.set_bot(self.bot_id, run_id=self.run_id)

    @property
    def run_id(self) -> str:
        return f"{self.bot_id}.1"

    def book(self, *payloads: Payload, ts: int = NOW) -> list[Envelope]:
        envelopes = []
        for payload in payloads:
            self.seq += 1
            envelopes.append(
                Envelope(
                    bot_id=self.bot_id, run_id=self.run_id, seq=self.seq, ts=ts, type=payload.type,
                    data=to_data(payload),
                )
            )  # fmt: skip
        self.repeat(envelopes)
        return envelopes

    def repeat(self, envelopes: list[Envelope]) -> None:
        with write(self.house.engine) as connection:
            bot = BotRef(id=self.bot_id, exchange="simulator", mode="trade")
            ledger.apply_events(connection, bot, self.run_id, envelopes)

    def set_status(self, status: BotState, reason: str | None = None) -> None:
        with write(self.house.engine) as connection:
            ledger.set_status(connection, self.bot_id, status, reason, NOW)

    def note(self, kind: str, message: str) -> None:
        with write(self.house.engine) as connection:
            ledger.add_note(connection, self.bot_id, self.run_id, kind, message, NOW)

    def texts(self) -> list[str]:
        return [row.text for row in self.house.rows()]


@pytest.fixture
def books(house) -> Books:
    return Books(house)


def error(kind: str = "timeout") -> ErrorSeen:
    return ErrorSeen(kind=kind, message="no answer", correlation_id="c")


# --- what is told, and in which words -----------------------------------------------------------------------------


def test_a_started_bot_is_told_with_its_name_and_where_its_money_is(books):
    books.book(READY)

    assert books.texts() == ["[SIM] eth-scalper (bot 1): started"]


def test_live_is_never_left_out(house):
    books = Books(house, exchange="binance", mode="trade")
    books.book(READY)

    assert books.texts()[0].startswith("[LIVE] ")


def test_an_opened_position_is_told_once_with_its_price_and_terms(books):
    active = position("active", target_price=Decimal("3389.2"), stop_price=Decimal("3357.61"))
    books.book(position("pending"), active, active)

    assert books.texts() == [
        "[SIM] eth-scalper (bot 1): opened ETHUSDT\n"
        "0.0589 at 3388.1, cost 199.7587 USDT, target 3389.2, stop 3357.61"
    ]  # fmt: skip


def test_a_closed_position_is_told_with_its_net_result_reason_and_holding_time(books):
    books.book(position("closed", **CLOSED))

    assert books.texts() == [
        "[SIM] eth-scalper (bot 1): closed ETHUSDT -0.217012 USDT (-0.109 %) net\n"
        "0.0589: 3388.1 → 3391.2, holding time over, held 33 min"
    ]


def test_a_cancelled_entry_signals_heartbeats_and_log_lines_are_not_told(books):
    beat = Heartbeat(
        last_candle_ms=1, last_price=1.0, loop_lag_ms=0, latency_p50_us=None, latency_p99_us=None, decisions=0,
        above_threshold=0, blocked={}, best_score=None, last_decision_ms=None, decision_digest="", open_orders=0,
        positions=0, unrealised_pnl=Decimal(0), rss_mib=1, cpu_s=0, config_version=1, errors={}, streams={},
    )  # fmt: skip
    signal = SignalTaken(decision_ms=1, action="enter", price=1.0, score=None, threshold=None, values={})
    books.book(position("pending"), position("cancelled"), beat, signal, LogLine(level="info", message="x"))

    assert books.texts() == []


def test_a_bot_that_stopped_is_told_and_on_its_way_there_is_not(books):
    books.set_status(BotState.STOPPING)
    books.set_status(BotState.STOPPED, "It did not end in order: killed by signal 9.")

    assert books.texts() == ["[SIM] eth-scalper (bot 1): stopped\nIt did not end in order: killed by signal 9."]


def test_the_supervisors_own_alerts_are_told(books):
    books.note("bot_ended", "The bot ended by itself: killed by signal 9")
    books.note("bot_fault", "Crash loop: 5 ends in 10 minutes. Press start to try again.")

    assert books.texts() == [
        "[SIM] eth-scalper (bot 1): alert bot ended\nThe bot ended by itself: killed by signal 9",
        "[SIM] eth-scalper (bot 1): ERROR\nCrash loop: 5 ends in 10 minutes. Press start to try again.",
    ]


def test_what_a_person_typed_cannot_pose_as_lines_of_ours(house):
    books = Books(house, name="x\n[LIVE] other\u202e (bot 9): stopped" + "y" * 90)
    books.book(READY)

    assert books.texts() == ["[SIM] x [LIVE] other (bot 9): stoppedyyyyyyyy… (bot 1): started"]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("system.halt", "KILL SWITCH engaged: no bot takes entries. By ada (telegram).\nfire"),
        ("system.release", "Kill switch released. By ada (telegram).\nfire"),
        ("bot.halt", "[SIM] eth-scalper (bot 1): halted by ada (telegram)\nfire"),
        ("bot.release", "[SIM] eth-scalper (bot 1): released by ada (telegram)\nfire"),
    ],
)
def test_halts_and_releases_are_told_with_who_and_why(books, house, action, words):
    with write(house.engine) as connection:
        outbox.tell_change(connection, action, books.bot_id, "ada", "telegram", "fire", NOW)

    assert books.texts() == [words]


# --- once ---------------------------------------------------------------------------------------------------------


def test_an_event_that_is_told_again_is_not_told_again(books):
    envelopes = books.book(READY, position("closed", **CLOSED))
    books.repeat(envelopes)

    assert len(books.texts()) == 2


def test_the_same_error_is_told_once_in_ten_minutes_and_then_with_its_count(books):
    books.book(error())
    for minute in range(1, 10):
        books.book(error(), ts=NOW + minute * MINUTE)
    books.book(error(), ts=NOW + 10 * MINUTE)

    assert books.texts() == [
        "[SIM] eth-scalper (bot 1): error timeout\nno answer",
        "[SIM] eth-scalper (bot 1): error timeout\nno answer\n10 times since 14:32 UTC",
    ]


def test_another_kind_and_another_bot_are_told_on_their_own(house, books):
    other = Books(house, name="b2")
    books.book(error(), error("refused"), Alert(kind="timeout", message="m"))
    other.book(error())

    assert len(books.texts()) == 4


def test_every_chat_is_told(house, books):
    house.set_chats(4711, OTHER_CHAT)
    books.book(READY)

    assert [row.channel for row in house.rows()] == ["telegram:4711", f"telegram:{OTHER_CHAT}"]


# --- not told -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switch", "left"),
    [
        ("notify_start_stop", {"opened", "closed", "error"}),
        ("notify_positions", {"started", "stopped", "error"}),
        ("notify_errors", {"started", "opened", "closed", "stopped"}),
        ("notify_daily", {"started", "opened", "closed", "error", "stopped"}),
    ],
)
def test_each_switch_turns_off_its_own_kind(house, switch, left):
    books = Books(house, config={switch: False})
    books.book(READY, position("active"), position("closed", **CLOSED), error())
    books.set_status(BotState.STOPPED)

    assert {row.kind for row in house.rows()} == left


def test_a_bot_that_was_given_up_is_told_whatever_the_switches_say(house):
    books = Books(house, config={"notify_errors": False, "notify_start_stop": False})
    books.note("bot_fault", "Crash loop.")

    assert [row.kind for row in house.rows()] == ["fault"]


def test_without_a_channel_nothing_is_written(house, books):
    house.set_chats()
    books.book(READY, position("closed", **CLOSED), error())
    books.set_status(BotState.STOPPED)

    assert house.rows() == []


def test_a_message_that_cannot_be_made_keeps_no_event_from_being_booked(house, books, monkeypatch):
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("server.notify.templates.message_of", broken)
    books.book(READY, position("closed", **CLOSED))

    assert house.rows() == []
    with write(house.engine) as connection:
        assert connection.exec_driver_sql("select count(*) from trading_orders").scalar_one() == 1
        assert connection.exec_driver_sql("select count(*) from events").scalar_one() == 2


def test_a_message_goes_with_its_cause_or_not_at_all(house, books):
    def stop_and_fail() -> None:
        with write(house.engine) as connection:
            ledger.set_status(connection, books.bot_id, BotState.STOPPED, None, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop_and_fail()

    assert house.rows() == []
