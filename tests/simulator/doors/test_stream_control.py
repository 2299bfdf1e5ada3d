"""Control messages of market streams: the exchange's own words for each way to get them wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.doors.stream_control import BadControl, Control, parse

VARIANTS = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"


def refused(text: str) -> BadControl:
    with pytest.raises(BadControl) as refusal:
        parse(text)
    return refusal.value


@pytest.mark.parametrize(
    ("text", "control"),
    [
        (
            '{"method":"SUBSCRIBE","params":["a@b","c@d"],"id":1}',
            Control(method="SUBSCRIBE", request_id=1, streams=("a@b", "c@d")),
        ),
        ('{"method":"LIST_SUBSCRIPTIONS","id":"x-1"}', Control(method="LIST_SUBSCRIPTIONS", request_id="x-1")),
        ('{"method":"LIST_SUBSCRIPTIONS","params":[]}', Control(method="LIST_SUBSCRIPTIONS", request_id=None)),
        (
            '{"method":"SET_PROPERTY","params":["combined",true],"id":-9223372036854775808}',
            Control(method="SET_PROPERTY", request_id=-(2**63), value=True),
        ),
        (
            '{"method":"GET_PROPERTY","params":["combined"],"id":null}',
            Control(method="GET_PROPERTY", request_id=None),
        ),
    ],
)
def test_well_formed_messages(text, control):
    assert parse(text) == control


@pytest.mark.parametrize(
    ("text", "code", "msg"),
    [
        ("nothing", 3, "Invalid JSON: expected value at line 1 column 1"),
        ('{"method":\n  oops}', 3, "Invalid JSON: expected value at line 2 column 3"),
        ("[" * 5000, 3, "Invalid JSON: expected value at line 1 column 1"),
        ("[]", 2, "Invalid request: the message must be an object"),
        ('{"id":1}', 2, "Invalid request: missing field `method` at line 1 column 8"),
        ('{"method":"SUBSCRIB","params":["a"],"id":1}', 2,
         f"Invalid request: unknown variant `SUBSCRIB`, expected one of {VARIANTS} at line 1 column 20"),
        ('{"method":"SUBSCRIBE","params":["a"],"id":1.5}', 2,
         "Invalid request: request ID must be an unsigned integer"),
        ('{"method":"SUBSCRIBE","params":["a"],"id":true}', 2,
         "Invalid request: request ID must be an unsigned integer"),
        ('{"method":"SUBSCRIBE","params":["a"],"id":9223372036854775808}', 2,
         "Invalid request: request ID must be an unsigned integer"),
        ('{"method":"SUBSCRIBE","params":["a"],"id":"' + "x" * 37 + '"}', 2,
         "Invalid request: request ID must be an unsigned integer"),
        ('{"method":"SUBSCRIBE","params":[1]}', 2, "Invalid request: params must be an array of stream names"),
        ('{"method":"UNSUBSCRIBE"}', 2, "Invalid request: params must be an array of stream names"),
        ('{"method":"SUBSCRIBE","params":"a@b"}', 2, "Invalid request: params must be an array"),
        ('{"method":"LIST_SUBSCRIPTIONS","params":["a"]}', 2, "Invalid request: too many parameters"),
        ('{"method":"GET_PROPERTY","params":["combined",true]}', 2, "Invalid request: too many parameters"),
        ('{"method":"GET_PROPERTY"}', 2, "Invalid request: property name must be a string"),
        ('{"method":"SET_PROPERTY","params":[1,true]}', 2, "Invalid request: property name must be a string"),
        ('{"method":"SET_PROPERTY","params":["colour",true]}', 0, "Unknown property"),
        ('{"method":"GET_PROPERTY","params":["colour"]}', 0, "Unknown property"),
        ('{"method":"SET_PROPERTY","params":["combined"]}', 1, "Invalid value type: expected Boolean"),
        ('{"method":"SET_PROPERTY","params":["combined","yes"]}', 1, "Invalid value type: expected Boolean"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_own_words(text, code, msg):
    error = refused(text)
    assert (error.code, error.msg) == (code, msg)


def test_an_error_carries_the_id_it_belongs_to():
    assert refused('{"method":"DANCE","id":"me"}').request_id == "me"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["SUBSCRIBE", "combined"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["method", "params", "id"]), inner),
    max_leaves=8,
)


def outcome(text: str) -> int | None:
    try:
        parse(text)
    except BadControl as error:
        return error.code
    return None


@given(message=JSON)
def test_whatever_is_sent_is_understood_or_refused(message):
    assert outcome(json.dumps(message)) in (None, 0, 1, 2, 3)
