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

    assert line == (Level.INFO, "Fill: BUY 0.0589 ETHUSDT at 3388.1, fee 0.0000589 ETH, maker, trade 901")


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


def test_a_rare_line_is_found_behind_many_others(api: Any, a_bot: Make, said: Make):
    bot_id = a_bot()
    said(bot_id, "error the needle", *(["debug hay"] * 10_500))
    answer = api.get(f"/api/bots/{bot_id}/logs?level=error")
    assert texts(answer) == []  # as far as one request looks

    answer = api.get(f"/api/bots/{bot_id}/logs?level=error&cursor={answer.json['next_cursor']}")

    assert texts(answer) == ["the needle"]
    assert answer.json["next_cursor"] is None
