"""Requests to the websocket API as texts: what is read from them, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.core.rules import ApiError
from simulator.doors.ws_message import Message, answer_text, id_text, json_object, read_message


def read(**params: object) -> Message:
    return read_message(json_object(json.dumps({"method": "time", "params": params})))


def code(ask, *args) -> int:
    with pytest.raises(ApiError) as error:
        ask(*args)
    return error.value.code


@pytest.mark.parametrize("written", ["7", "-1", "0", "9223372036854775807", '"a-1"', '"é/ü"', "null", f'"{"x" * 36}"'])
def test_an_id_is_echoed_as_it_came(written):
    assert json.loads(id_text(json_object(f'{{"id":{written}}}'))) == json.loads(written)


def test_an_absent_id_is_null():
    assert id_text({}) == "null"


@pytest.mark.parametrize(
    "written", ["1.5", "1e3", "9223372036854775808", '""', f'"{"x" * 37}"', "true", "[]", "{}", "9" * 5000]
)
def test_another_id_is_illegal(written):
    assert code(id_text, json_object(f'{{"id":{written}}}')) == -1100


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "7", "null", '{"id":NaN}', '{"id":Infinity}', "{" * 30_000, "[" * 60_000, '{"a":1,}']
)
def test_what_is_no_json_object_is_refused(text):
    assert code(json_object, text) == -1135


def test_a_name_that_comes_twice_is_refused():
    assert code(json_object, '{"method":"time","params":{"a":1,"a":2}}') == -1101


@pytest.mark.parametrize("fields", ["{}", '{"method":7}', '{"method":""}', '{"method":["x"]}', '{"method":null}'])
def test_a_method_must_be_named(fields):
    assert code(read_message, json_object(fields)) == -1102


def test_a_method_may_name_its_version():
    assert read_message({"method": "v3/order.place"}).method == "order.place"


@pytest.mark.parametrize("params", ["[]", "7", '"x"', "false"])
def test_parameters_are_an_object(params):
    assert code(read_message, json_object(f'{{"method":"time","params":{params}}}')) == -1135


def test_numbers_keep_their_digits_because_they_are_signed():
    text = '{"method":"x","params":{"b":0.10,"a":1e-05,"c":true,"e":["B","A"],"d":"x y&z","signature":"s","n":null}}'
    message = read_message(json_object(text))
    assert message.signed_text == b'a=1e-05&b=0.10&c=true&d=x y&z&e=["B","A"]'
    assert message.values == {
        "a": "1e-05", "b": "0.10", "c": "true", "d": "x y&z", "e": '["B","A"]', "signature": "s",
    }  # fmt: skip


@pytest.mark.parametrize(("sent", "wanted"), [(True, True), (False, False), ("false", False), (None, None)])
def test_whether_to_show_limits_is_signed_but_no_parameter_of_the_method(sent, wanted):
    message = read(returnRateLimits=sent, symbol="A")
    assert (message.returns_limits, message.values) == (wanted, {"symbol": "A"})
    assert (b"returnRateLimits" in message.signed_text) == (sent is not None)


def test_whether_to_show_limits_is_yes_or_no():
    assert code(lambda: read(returnRateLimits="perhaps")) == -1100


def test_a_request_is_signed_as_soon_as_it_names_a_key():
    assert read(apiKey="k").is_signed()
    assert read(signature="s").is_signed()
    assert not read(timestamp=1).is_signed()


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.lists(st.text())))
def test_no_parameters_confuse_the_reader(params):
    params.pop("returnRateLimits", None)
    message = read(**params)
    assert set(message.values) == set(params)
    assert isinstance(message.signed_text, bytes)


def test_half_a_character_can_be_signed_too():
    assert read_message(json_object('{"method":"x","params":{"a":"\\ud800"}}')).signed_text == b"a=\xed\xa0\x80"


def test_an_answer_is_one_json_object():
    text = answer_text('"a"', 200, {"result": {}, "rateLimits": []})
    assert text == '{"id":"a","status":200,"result":{},"rateLimits":[]}'
