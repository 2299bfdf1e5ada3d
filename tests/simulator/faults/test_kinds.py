"""The table of kinds: every kind explains itself, takes its own example, and refuses the rest with a sentence."""

from __future__ import annotations

import json

import pytest

from simulator.faults.kinds import KINDS, Delay, Filters, Halt, LoseAck, Silence, described, kinds_table
from simulator.faults.rules import BadFault

EXPECTED = {
    "lose_ack", "refuse", "unknown", "html", "delay", "rate_limit", "order_limit",
    "silence", "drop", "duplicate", "reorder", "delay_events", "lose_fill", "deafen", "disconnect", "close",
    "clock_skew", "halt", "filters", "balance", "server_shutdown", "day_cut", "maintenance",
}  # fmt: skip


def test_every_kind_that_an_exchange_can_have_is_there():
    assert set(KINDS) == EXPECTED


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_a_kind_explains_itself_in_a_line_and_takes_its_own_example(kind):
    assert kind.help.endswith(".")
    assert len(kind.help) < 120
    assert all(field.help for field in kind.fields)

    fault = described(kind.example)

    assert type(fault) is kind.type
    assert fault.kind == kind.name


def test_the_table_is_plain_json():
    table = json.loads(json.dumps(kinds_table()))

    assert [row["name"] for row in table] == list(KINDS)
    (silence,) = [row for row in table if row["name"] == "silence"]
    (seconds,) = [field for field in silence["fields"] if field["name"] == "seconds"]
    assert (seconds["type"], seconds["required"], seconds["default"]) == ("number", True, None)


def test_what_is_left_out_has_its_default():
    bare = LoseAck(path="", method="", api_key="", symbol="", over="", every=1, count=1)
    assert described({"kind": "lose_ack"}) == bare
    assert described({"kind": "delay", "seconds": 2}) == Delay(seconds=2.0, when="after")
    assert described({"kind": "halt", "symbol": "btcusdt"}) == Halt(symbol="BTCUSDT", seconds=None, status="HALT")
    assert described({"kind": "silence", "stream": "kline_1s", "seconds": 9}) == Silence(stream="kline_1s", seconds=9.0)


def test_filters_name_what_changes():
    fault = described({"kind": "filters", "symbol": "BTCUSDT", "min_notional": "10", "tick_size": 1e-05, "max_qty": 5})

    assert isinstance(fault, Filters)
    assert fault.changes() == {"min_notional": "10", "tick_size": "0.00001", "max_qty": "5"}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "kind is None: give one of lose_ack, refuse,"),
        ({"kind": ["refuse"]}, r"kind is \['refuse'\]: give one of"),
        ({"kind": "refuse", "status": 200}, "status is 200: give a whole number from 400 to 599."),
        ({"kind": "refuse", "status": 503.0}, "status is 503.0: give a whole number"),
        ({"kind": "refuse", "count": True}, "count is True: give a whole number from 1 to 1000000."),
        ({"kind": "refuse", "when": 1}, "refuse does not take when: it takes path, method,"),
        ({"kind": "day_cut", "when": 1}, "day_cut does not take when: it takes no other fields."),
        ({"kind": "silence"}, "silence lacks seconds: for example stream btcusdt@kline_1s, seconds 30."),
        ({"kind": "silence", "seconds": float("nan")}, "seconds is nan: give a number from 0.001 to 86400."),
        ({"kind": "silence", "seconds": "5"}, "seconds is '5': give a number"),
        ({"kind": "delay", "seconds": 1, "when": "never"}, "when is 'never': give one of before, after."),
        ({"kind": "unknown", "code": -1000}, "code is -1000: give one of -1006, -1007."),
        ({"kind": "unknown", "executed": "yes"}, "executed is 'yes': give true or false."),
        ({"kind": "lose_ack", "path": 1}, "path is 1: give a text"),
        ({"kind": "lose_ack", "path": "/" * 201}, "path is '/+…: give a text of at most 200 characters."),
        ({"kind": "lose_ack", "path": "\ud800"}, r"path is '\\ud800': give a text of at most"),
        ({"kind": "close", "code": 1002}, "code is 1002: give one of 1000, 1001."),
        ({"kind": "close", "code": True}, "code is True: give one of 1000, 1001."),
        ({"kind": "halt", "symbol": ""}, "symbol is empty: say which symbol."),
        ({"kind": "balance", "api_key": "k", "asset": "BTC", "amount": "1e3"}, "amount is '1e3': give a decimal"),
        ({"kind": "balance", "api_key": "k", "asset": "BTC", "amount": "0.123456789"}, "amount is '0.123456789'"),
        ({"kind": "balance", "api_key": "k", "asset": "BTC", "amount": None}, "amount is None: give a decimal"),
    ],
)
def test_what_cannot_be_is_refused_with_field_value_and_remedy(body, sentence):
    with pytest.raises(BadFault, match=sentence) as refused:
        described(body)

    assert str(refused.value).endswith(".")
