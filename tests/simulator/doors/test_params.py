"""Parameters, what is signed of them, and the time window, in the exchange's own words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.core.rules import ATOMS, ApiError, fixed, parse_atoms
from simulator.doors.params import Params, check_time, merged, signed_text

NOW = 1_790_000_000_000


def code(ask, *args) -> int:
    with pytest.raises(ApiError) as error:
        ask(*args)
    return error.value.code


def test_the_query_wins_over_the_body():
    assert merged("a=1&b=2", "b=3&c=%2B") == {"a": "1", "b": "2", "c": "+"}
    assert code(merged, "a=1&a=2", "") == -1101


def test_query_and_body_are_signed_as_sent_without_the_signature():
    assert signed_text("b=2&a=%7E", "signature=zz&c=3") == b"b=2&a=%7Ec=3"
    assert signed_text("signature=zz&b=2", "") == b"b=2"


@pytest.mark.parametrize("query", ["a=[1]", "a=é", 'a="b"', "a=%zz", "a=%4", "a=\udcff", "a=b c"])
def test_what_is_not_percent_encoded_was_not_signed(query):
    assert signed_text(query, "") is None
    assert signed_text("", query) is None


@pytest.mark.parametrize(
    ("timestamp", "window", "expected"),
    [
        (NOW, None, None),
        (NOW * 1000, None, None),  # microseconds
        (NOW + 999, None, None),
        (NOW + 1000, None, -1021),
        (NOW - 5000, None, None),
        (NOW - 5001, None, -1021),
        (NOW - 59_000, "60000", None),
        (NOW, "60001", -1131),
        (NOW, "ten", -1100),
        ("soon", None, -1100),
        ("", None, -1102),
    ],
)
def test_a_timestamp_must_lie_in_the_window(timestamp, window, expected):
    params = Params({"timestamp": str(timestamp)} | ({"recvWindow": window} if window else {}))
    if expected is None:
        check_time(params, NOW)
    else:
        assert code(check_time, params, NOW) == expected


@given(st.integers(0, 10**18))
def test_a_decimal_survives_the_wire(atoms):
    assert parse_atoms("price", fixed(atoms)) == atoms


@pytest.mark.parametrize("text", ["1e-05", "-1", "", ".5", "5.", "1,5", "NaN", "0x10", "٣", "1\n", "9" * 21])
def test_what_is_not_a_plain_decimal_is_illegal(text):
    assert code(parse_atoms, "price", text) == -1100


def test_a_ninth_decimal_is_too_precise_unless_it_is_a_zero():
    assert parse_atoms("price", "1.100000000") == 110_000_000
    assert code(parse_atoms, "price", "0.000000001") == -1111
    assert fixed(ATOMS) == "1.00000000"


def test_an_unknown_parameter_is_refused():
    assert code(Params({"symbol": "A", "color": "red"}).known_only, {"symbol"}) == -1104


def test_symbols_are_a_json_list_of_listed_ones():
    listed = {"BTCUSDT": 1}
    assert Params({"symbols": '["BTCUSDT"]'}).symbols(listed) == ["BTCUSDT"]
    assert code(Params({"symbols": "BTCUSDT"}).symbols, listed) == -1100
    assert code(Params({"symbols": "[" * 8000}).symbols, listed) == -1100
    assert code(Params({"symbols": '["XRPUSDT"]'}).symbols, listed) == -1121
    assert code(Params({"symbols": '["BTCUSDT"]', "symbol": "BTCUSDT"}).symbols, listed) == -1128
    assert code(Params({"symbol": "btcusdt"}).symbol, listed) == -1100
    assert code(Params({}).symbol, listed) == -1102
