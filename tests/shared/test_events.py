"""The JSON lines: what is written is what is read, whatever is in it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.events import (
    MAX_LINE_BYTES,
    PAYLOADS,
    Alert,
    ErrorSeen,
    Exit,
    Heartbeat,
    Position,
    SignalTaken,
    Snapshot,
    Status,
    decode_line,
    encode_line,
    from_data,
    json_schema,
    to_data,
)
from shared.positions import Counters, Leg, Terms
from shared.states import BotState, OrderState, OrderType, PositionState, Role, Side

D = Decimal


def encoded(payload, seq=17) -> bytes:
    return encode_line(bot_id=3, run_id="3.7", seq=seq, ts=1_760_000_000_123, payload=payload)


def decoded(line: bytes):
    envelope = decode_line(line)
    return from_data(envelope.type, envelope.data)


def anything(hint: Any) -> st.SearchStrategy[Any]:
    """A value of any type that payloads are made of."""
    origin = get_origin(hint)
    if origin is Annotated:
        return anything(get_args(hint)[0])
    if origin in (Union, UnionType):
        return st.one_of([anything(a) for a in get_args(hint)])
    if origin is list:
        return st.lists(anything(get_args(hint)[0]), max_size=2)
    if origin is dict:
        key, value = get_args(hint)
        return st.dictionaries(anything(key), anything(value), max_size=2)
    if is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        return st.builds(hint, **{f.name: anything(hints[f.name]) for f in fields(hint)})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    return PLAIN_TYPES[hint]


PLAIN_TYPES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**53), 2**53),
    str: st.text(max_size=20),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    Decimal: st.decimals("-1e12", "1e12", places=8) | st.sampled_from([D("1E-8"), D("1E+3"), D("-0.0"), D("0E-8")]),
    NoneType: st.none(),
    Any: st.integers() | st.text(max_size=5),
}


@pytest.mark.parametrize("kind", PAYLOADS.values(), ids=list(PAYLOADS))
@settings(max_examples=20)
@given(data=st.data())
def test_every_payload_comes_back_as_it_was(kind, data):
    payload = data.draw(anything(kind))

    line = encoded(payload)

    assert decoded(line) == payload
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert len(line) <= MAX_LINE_BYTES


def test_the_envelope_says_whose_and_which_line_it_is():
    line = encoded(Exit(code=0, reason="stopped"))

    assert line == (
        b'{"v":1,"bot_id":3,"run_id":"3.7","seq":17,"ts":1760000000123,"type":"exit",'
        b'"data":{"code":0,"reason":"stopped"}}\n'
    )
    envelope = decode_line(line)
    assert (envelope.bot_id, envelope.run_id, envelope.seq, envelope.ts) == (3, "3.7", 17, 1_760_000_000_123)


def test_money_is_plain_text():
    counters = Counters(pnl=D("1E-7"), fees=D("10.500"), dust_cost=D("1E+2"))

    data = to_data(Snapshot(last_event_ms=1, counters=counters, positions=[]))["counters"]

    assert (data["pnl"], data["fees"], data["dust_cost"]) == ("0.0000001", "10.5", "100")


@pytest.mark.parametrize(
    "payload",
    [
        Alert(kind="k", message="long " * 50_000),
        ErrorSeen(kind="k", message="\u2603" * 70_000, correlation_id="c"),
        Status(status=BotState.ERROR, reason="why " * 50_000),
        Exit(code=1, reason="bug: " * 50_000),
    ],
)
def test_a_text_too_long_for_a_line_is_cut(payload):
    line = encoded(payload)

    assert len(line) <= MAX_LINE_BYTES
    assert "(cut)" in str(decoded(line))


def test_numbers_that_json_does_not_have_become_null():
    signal = SignalTaken(
        decision_ms=1, action="enter", price=1.0, score=float("nan"), threshold=float("inf"), values={"a": 1.0}
    )

    line = encoded(signal)

    assert json.loads(line, parse_constant=pytest.fail)["data"]["score"] is None
    assert decoded(line) == replace(signal, score=None, threshold=None)


def test_broken_characters_do_not_break_the_line():
    assert decoded(encoded(Alert(kind="k", message="file \udcff"))).message == "file ?"


def test_fields_that_only_a_newer_writer_knows_are_ignored():
    document = json.loads(encoded(Exit(code=0, reason="stopped")))
    document["new"] = document["data"]["new"] = 1

    assert decoded(json.dumps(document).encode()) == Exit(code=0, reason="stopped")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (b"", "not an event line"),
        (b'{"v":1', "not an event line"),
        (b"[]", "not an event line"),
        (b'{"bot_id":3,"run_id":"3.7","seq":"x","ts":1,"data":{}}', "seq, type"),
        (b"\xff\xfe", "not an event line"),
    ],
)
def test_a_line_that_is_no_event_says_what_is_wrong(line, wrong):
    with pytest.raises(ValueError, match=wrong):
        decode_line(line)


def test_an_unknown_type_is_a_key_error_and_bad_data_a_value_error():
    with pytest.raises(KeyError):
        from_data("no.such", {})
    with pytest.raises(ValueError):
        from_data("exit", {"code": "x"})


# --- positions ----------------------------------------------------------------------------------------------------


def a_leg(role: Role, status=OrderState.FILLED, executed="0.00298", booked="0.00298", fills=5) -> Leg:
    return Leg(
        client_order_id=f"fab12cd-1234-1760000000000-{role.letter}12", role=role, side=Side.BUY,
        order_type=OrderType.LIMIT_MAKER, status=status, quantity=D("0.00298"), price=D("67012.34"),
        exchange_order_id=12_345_678_901, executed_quantity=D(executed), executed_quote=D("199.6967732"),
        created_ms=1_760_000_000_000, updated_ms=1_760_000_000_123, booked_quantity=D(booked),
        booked_quote=D("199.6967732"), trade_ids=list(range(10**9, 10**9 + fills)),
    )  # fmt: skip


def a_position(key: int, legs: int = 4) -> Position:
    terms = Terms(
        profit_target_pct=D("0.00015"), stop_loss_pct=D("0.009"), holding_time=2000, take_profit_order="resting",
        maker_order_timeout=60, on_entry_timeout="cancel",
    )  # fmt: skip
    return Position(
        position_key=1_760_000_000_000 + key, symbol="BTCUSDT", side=Side.BUY, status=PositionState.ACTIVE, terms=terms,
        opened_ms=1_760_000_000_000, config_version=12, model_id=1, confidence=0.4123456789,
        entry_logic="lightgbm_scalper p >= 0.40", exit_logic="target +0.015%, stop -0.9%, after 2000 s",
        activated_ms=1_760_000_000_123, entry_deadline_ms=1_760_000_060_000, exit_deadline_ms=1_760_002_000_123,
        target_price=D("67022.4"), stop_price=D("66409.22"), quantity=D("0.00297702"), entry_price=D("67012.34"),
        cost=D("199.6967732"), fees=D("0.1996967732"), legs=[a_leg(Role.ENTRY) for _ in range(legs)],
    )  # fmt: skip


def test_a_snapshot_of_as_many_positions_as_a_bot_may_have_fits_a_line():
    snapshot = Snapshot(last_event_ms=1, counters=Counters(trades=5), positions=[a_position(n) for n in range(20)])

    line = encoded(snapshot)

    assert len(line) <= MAX_LINE_BYTES
    assert decoded(line) == snapshot


@pytest.mark.parametrize(
    ("status", "executed", "booked", "settled"),
    [
        (OrderState.FILLED, "1", "1", True),
        (OrderState.FILLED, "1", "0.4", False),
        (OrderState.CANCELLED, "0", "0", True),
        (OrderState.PARTIALLY_FILLED, "1", "1", False),
        (OrderState.INTENT, "0", "0", False),
    ],
)
def test_an_order_is_settled_when_it_is_final_and_all_of_it_is_booked(status, executed, booked, settled):
    assert a_leg(Role.EXIT, status, executed, booked).is_settled is settled


def test_a_position_holds_what_it_bought_and_has_not_sold():
    position = replace(a_position(1), quantity=D("0.999"), sold_quantity=D("0.4"))

    assert position.held == D("0.599")
    assert [replace(position, status=s).is_open for s in PositionState] == [True, True, False, False]


# --- the published schema -----------------------------------------------------------------------------------------


def test_every_type_has_a_schema():
    schema = json_schema()

    assert schema["types"].keys() == PAYLOADS.keys()
    assert schema["types"]["exit"]["properties"].keys() == {"code", "reason"}
    assert Heartbeat.type == "heartbeat"


def test_the_schema_can_be_printed():
    printed = subprocess.run(
        [sys.executable, "-m", "shared.events"], capture_output=True, check=True, text=True, timeout=60
    )

    assert json.loads(printed.stdout)["types"].keys() == PAYLOADS.keys()
