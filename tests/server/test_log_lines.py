from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from server.storage.engine import write
from server.storage.log_lines import Level, log_line
from server.storage.models import Event
from shared.events import PAYLOADS, FillBooked, Status, to_data
from shared.states import BotState, Role, Side

Make = Callable[..., Any]


def test_a_fill_is_told_with_its_price_fee_and_trade():
    fill = FillBooked(
        trade_id=901, order_id=88, client_order_id="f-3-1-e1", position_key=1, symbol="ETHUSDT", role=Role.ENTRY,
        side=Side.BUY, price=Decimal("3388.10"), quantity=Decimal("0.0589"), fee=Decimal("0.0000589"), fee_asset="ETH",
        fee_quote=None, is_maker=True, time_ms=1,
    )  # fmt: skip

    line = log_line("fill", to_data(fill))

    assert line == (Level.INFO, "Bought 0.0589 ETHUSDT at 3388.1 as maker, fee 0.0000589 ETH (trade 901)")


@pytest.mark.parametrize(
    ("type_", "data", "line"),
    [
        ("log", {"level": "WARN", "message": "slow"}, (Level.WARNING, "slow")),
        ("log", {"level": "critical", "message": "a\nb\x1b[31m"}, (Level.ERROR, "a b [31m")),
        ("status", {"status": "error", "reason": "crash loop"}, (Level.ERROR, "Now error: crash loop")),
        ("status", to_data(Status(status=BotState.RUNNING)), (Level.INFO, "Now running")),
        ("alert", {"kind": "naked", "message": "no stop"}, (Level.WARNING, "naked: no stop")),
        ("exit", {"code": 0, "reason": "stopped"}, (Level.INFO, "Ended with exit code 0: stopped")),
        ("exit", {"code": 70, "reason": "bug"}, (Level.ERROR, "Ended with exit code 70: bug")),
        (
            "config.rejected",
            {"version": 3, "message": "no", "fields": {"max_positions": "too many"}},
            (Level.ERROR, "Config version 3 refused: no; max_positions: too many"),
        ),
        ("config.applied", {"version": 3, "changed": ["a", "b"]}, (Level.INFO, "Config version 3 in force; changed: a, b")),  # noqa: E501
        ("error", {"kind": "timeout", "message": "no answer"}, (Level.ERROR, "timeout: no answer [?]")),
        ("heartbeat", {"decisions": 1}, None),
    ],
)  # fmt: skip
def test_each_type_has_its_sentence_and_level(type_: str, data: dict[str, Any], line: Any):
    assert log_line(type_, data) == line


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["level", "message", "status", "reason", "score", "threshold", "fields", "changed", "code"])


LEG = {"side": "BUY", "quantity": "0.06", "price": "3357.77", "status": "intent"}
POSITION = {"position_key": 7, "symbol": "ETHUSDC", "side": "BUY", "quantity": "0.06", "entry_price": "3357.77"}
ORDER = {
    "client_order_id": "f-1-7-e1", "position_key": 7, "symbol": "ETHUSDC", "role": "entry", "side": "BUY",
    "quantity": "0.06", "price": "3357.77", "executed_quantity": "0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("type_", "more", "text"),
    [
        ("position", {"status": "pending", "legs": [LEG]}, "Position #20 waits for its entry: buy 0.06 ETHUSDC at 3357.77"),  # noqa: E501
        ("position", {"status": "active"}, "Position #20 holds 0.06 ETHUSDC, bought at 3357.77"),
        (
            "position",
            {"status": "active", "exiting": "holding_time"},
            "Position #20 holds 0.06 ETHUSDC, bought at 3357.77, selling: holding time",
        ),
        (
            "position",
            {"status": "closed", "exit_price": "3359", "pnl": "0.07", "fees": "0", "exit_reason": "take_profit"},
            "Position #20 closed: take profit; 0.06 ETHUSDC sold at 3359, PnL +0.07, fees 0",
        ),
        (
            "position",
            {"status": "cancelled", "exit_reason": "entry_timeout"},
            "Position #20 cancelled: entry timeout; nothing was bought",
        ),
        (
            "order",
            {"status": "new"},
            "Entry order rests at the exchange: buy 0.06 ETHUSDC at 3357.77 (position #20, order f-1-7-e1)",
        ),
        (
            "order",
            {"status": "cancelled", "reason": "entry_timeout", "executed_quantity": "0.01"},
            "Entry order cancelled: buy 0.06 ETHUSDC at 3357.77, 0.01 of it executed: entry timeout"
            " (position #20, order f-1-7-e1)",
        ),
        ("signal", {"action": "enter", "price": 3357.78, "score": 0.5331, "threshold": 0.5}, "Decided to enter at 3357.78, score 0.533 (needs 0.5)"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_happens_to_a_position_is_told_in_words_with_its_number(type_: str, more: dict[str, Any], text: str):
    line = log_line(type_, {**(POSITION if type_ == "position" else ORDER), **more}, 20)

    assert line is not None
    assert line[1] == text


@given(type_=st.sampled_from(sorted(PAYLOADS)), data=st.dictionaries(NAMES, ANYTHING))
def test_whatever_an_event_holds_its_line_is_one_line(type_: str, data: dict[str, Any]):
    line = log_line(type_, data)

    assert line is None or line[1].isprintable()


@pytest.fixture
def said(engine: Any) -> Make:
    """Add log events of a bot; *messages* are ``level text``."""

    def add(bot_id: int, *messages: str, first_seq: int = 1, type_: str = "log") -> None:
        rows = [
            {
                "bot_id": bot_id,
                "run_id": f"{bot_id}.1",
                "seq": seq,
                "ts": 1000 + seq,
                "type": type_,
                "data": dict(zip(("level", "message"), message.split(" ", 1), strict=True)),
            }
            for seq, message in enumerate(messages, first_seq)
        ]
        with write(engine) as connection:
            connection.execute(insert(Event), rows)

    return add


def texts(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.json
    return [item["text"] for item in answer.json["items"]]


def test_lines_come_newest_first_filtered_by_level_and_text(api: Any, a_bot: Make, said: Make):
    bot_id, other = a_bot(), a_bot()
    said(bot_id, "info one", "warning Two", "error three", "debug four")
    said(other, "error another bot's")
    logs = f"/api/bots/{bot_id}/logs"

    assert texts(api.get(logs)) == ["four", "three", "Two", "one"]
    assert texts(api.get(f"{logs}?level=warning")) == ["three", "Two"]
    assert texts(api.get(f"{logs}?search=tWO")) == ["Two"]
    assert api.get(f"{logs}?level=loud").status_code == 422


def test_pages_follow_each_other_without_hole_or_repeat(api: Any, a_bot: Make, said: Make):
    bot_id = a_bot()
    said(bot_id, *(f"info line {number}" for number in range(25)))
    seen, cursor = [], ""
    while True:
        answer = api.get(f"/api/bots/{bot_id}/logs?limit=10{cursor}")
        seen += texts(answer)
        if answer.json["next_cursor"] is None:
            break
        cursor = f"&cursor={answer.json['next_cursor']}"

    assert seen == [f"line {number}" for number in reversed(range(25))]


def test_what_is_newer_than_a_line_can_be_asked_for(api: Any, a_bot: Make, said: Make):
    bot_id = a_bot()
    said(bot_id, "info one")
    (last,) = api.get(f"/api/bots/{bot_id}/logs").json["items"]

    said(bot_id, "info two", "info three", first_seq=2)

    assert texts(api.get(f"/api/bots/{bot_id}/logs?after={last['id']}")) == ["three", "two"]


@pytest.fixture
def positions_told(engine: Any) -> Make:
    """Add events of positions of a bot: each ``(key, status)``."""

    def add(bot_id: int, *told: tuple[int, str], first_seq: int = 1) -> None:
        rows = [
            {
                "bot_id": bot_id,
                "run_id": f"{bot_id}.1",
                "seq": seq,
                "ts": 1000 + seq,
                "type": "position",
                "data": {**POSITION, "position_key": key, "status": status},
            }
            for seq, (key, status) in enumerate(told, first_seq)
        ]
        with write(engine) as connection:
            connection.execute(insert(Event), rows)

    return add


def test_a_position_that_is_written_again_unchanged_makes_no_second_line(
    api: Any, a_bot: Make, positions_told: Make, a_position: Make
):
    bot_id, key, position_id = a_bot(), 7, 1
    a_position(bot_id, position_key=key)
    positions_told(bot_id, (key, "pending"), (9, "pending"), (key, "pending"), (key, "active"), (key, "active"))
    logs = f"/api/bots/{bot_id}/logs"

    lines = texts(api.get(logs))

    assert lines == [
        f"Position #{position_id} holds 0.06 ETHUSDC, bought at 3357.77",
        "Position 9 waits for its entry",
        f"Position #{position_id} waits for its entry",
    ]
    newest = api.get(logs).json["items"][0]["id"]
    positions_told(bot_id, (key, "active"), (9, "pending"), first_seq=6)
    assert texts(api.get(f"{logs}?after={newest}")) == []


def test_a_rare_line_is_found_behind_many_others(api: Any, a_bot: Make, said: Make):
    bot_id = a_bot()
    said(bot_id, "error the needle", *(["debug hay"] * 10_500))
    answer = api.get(f"/api/bots/{bot_id}/logs?level=error")
    assert texts(answer) == []  # as far as one request looks

    answer = api.get(f"/api/bots/{bot_id}/logs?level=error&cursor={answer.json['next_cursor']}")

    assert texts(answer) == ["the needle"]
    assert answer.json["next_cursor"] is None
