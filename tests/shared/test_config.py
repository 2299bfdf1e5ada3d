"""The trading config: what is accepted, what is refused and in which words."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Literal, get_args

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given
from hypothesis import strategies as st

from shared.config import (
    Applies,
    Number,
    TradingConfig,
    Whole,
    applies_of,
    config_diff,
    config_document,
    merge_config,
    parse_config,
    range_text,
    setting,
)
from shared.errors import Refused

D = Decimal


class Sample(TradingConfig):
    """A strategy's own fields beside the common ones."""

    threshold: Number = setting(0.5, ge=0, le=1, group="signal", applies=Applies.NOW, help="How sure.")
    model_id: Whole | None = setting(None, ge=1, group="signal", applies=Applies.RESTART, help="Which.")
    eager: bool = setting(False, group="signal", applies=Applies.NOW, help="Whether.")


def refused(document, kind=Sample) -> dict[str, str]:
    with pytest.raises(Refused) as caught:
        parse_config(kind, document)
    return caught.value.fields


# --- any valid document -------------------------------------------------------------------------------------------

ratios = st.floats(0.0001, 0.99, allow_nan=False)
money = st.decimals("0.01", "1000000", places=8)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "capital_per_trade": money | money.map(str) | st.integers(1, 10**9) | st.floats(0.01, 1e9),
        "max_position_size": st.none() | money.map(str),
        "max_positions": st.integers(1, 20),
        "entry_order_type": st.sampled_from(["limit_maker", "limit", "market"]),
        "entry_offset_ticks": st.integers(0, 10_000),
        "profit_target_pct": st.none() | ratios | st.just(1),
        "stop_loss_pct": st.none() | ratios,
        "holding_time": st.none() | st.integers(1, 31_536_000),
        "max_daily_loss": st.none() | money.map(str),
        "on_stop": st.sampled_from(["close", "hold"]),
        "threshold": st.floats(0, 1) | st.integers(0, 1),
        "model_id": st.none() | st.integers(1, 10**9),
        "eager": st.booleans(),
    },
)


@given(DOCUMENTS)
def test_a_config_survives_its_document(document):
    config = parse_config(Sample, document)
    written = config_document(config)

    assert parse_config(Sample, written) == config
    assert parse_config(Sample, json.loads(json.dumps(written))) == config
    assert config_document(parse_config(Sample, written)) == written


@given(DOCUMENTS, DOCUMENTS)
def test_merging_replaces_what_is_given_and_nothing_else(first, second):
    config, changes = parse_config(Sample, first), parse_config(Sample, second)

    merged = merge_config(config, second)

    for name in Sample.model_fields:
        assert getattr(merged, name) == getattr(changes if name in second else config, name)
    assert merge_config(merged, {}) == merged


@given(DOCUMENTS, DOCUMENTS)
def test_a_diff_tells_what_leads_from_one_config_to_the_other(first, second):
    before, after = (config_document(parse_config(Sample, d)) for d in (first, second))

    diff = config_diff(before, after)

    assert before | {name: change["to"] for name, change in diff.items()} == after
    assert all(change["from"] != change["to"] for change in diff.values())


BAD = {
    "capital_per_trade": [0, -1, "0", "abc", "", None, True, [], {}, "NaN", "Infinity", "1e999999", "1e-999999", 1e308],
    "max_positions": [0, 21, 1.5, "2", True, None, 10**30],
    "entry_order_type": ["MARKET", "", None, 1, []],
    "profit_target_pct": [0, -0.1, 1.01, "0.1", True, float("nan"), float("inf")],
    "stop_loss_pct": [0, 1, 1.5, "0.1"],
    "holding_time": [0, 1.0, "60", -5],
    "threshold": [-0.1, 1.1, "0.5", True, float("nan"), None],
    "model_id": [0, "1", 1.5],
    "eager": [None, 7, "perhaps"],
}


@given(DOCUMENTS, st.sampled_from([(name, value) for name, values in BAD.items() for value in values]))
def test_a_refusal_names_the_one_bad_field(document, bad):
    name, value = bad

    assert list(refused(document | {name: value})) == [name]


@given(st.dictionaries(st.sampled_from([*BAD, "no_such_field"]), st.just(object()), min_size=1))
def test_a_refusal_names_every_bad_field(document):
    assert refused(document).keys() == document.keys()


# --- in words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("capital_per_trade", -5, "-5 is out of range; allowed: above 0, at most 1000000000"),
        ("max_positions", 0, "0 is out of range; allowed: at least 1, at most 20"),
        ("stop_loss_pct", 1, "1 is out of range; allowed: above 0, below 1"),
        ("entry_order_type", "buy", "\"buy\" is not a choice; allowed: 'limit_maker', 'limit' or 'market'"),
        ("capital_per_trade", "many", 'must be an amount such as "200.00" (got "many")'),
        ("capital_per_trade", True, 'must be an amount such as "200.00" (got true)'),
        ("capital_per_trade", "1e-400", 'must have at most 28 digits (got "1e-400")'),
        ("profit_target_pct", "0.1", 'must be a number (got "0.1")'),
        ("max_positions", 1.5, "input should be a valid integer (got 1.5)"),
        ("profit_target", 0.1, "unknown field; did you mean profit_target_pct?"),
        ("zzz", 1, "unknown field; see the strategy's parameters"),
    ],
)
def test_a_reason_says_what_was_given_and_what_is_allowed(name, value, reason):
    assert refused({name: value}) == {name: reason}


def test_a_long_value_is_not_echoed_in_full():
    assert len(refused({"capital_per_trade": "9" * 100_000})["capital_per_trade"]) < 200


@pytest.mark.parametrize("document", [None, [], "text", 7])
def test_a_config_is_an_object(document):
    with pytest.raises(Refused, match="JSON object"):
        parse_config(Sample, document)
    with pytest.raises(Refused, match="JSON object"):
        merge_config(Sample(), document)


def test_merging_checks_the_whole():
    with pytest.raises(Refused) as caught:
        merge_config(Sample(), {"max_positions": 0})

    assert list(caught.value.fields) == ["max_positions"]


def test_money_is_exact_and_a_string_ratios_and_counts_are_numbers():
    document = config_document(parse_config(Sample, {"capital_per_trade": 0.1, "stop_loss_pct": 0.009}))

    assert (document["capital_per_trade"], document["stop_loss_pct"], document["max_positions"]) == ("0.1", 0.009, 1)
    assert parse_config(Sample, {"stop_loss_pct": 0.009}).stop_loss_pct == D("0.009")


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        Sample().max_positions = 3


# --- every field of every config ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TradingConfig.model_fields)
def test_every_field_can_be_shown_as_a_form(name):
    info = TradingConfig.model_fields[name]
    extra: Any = info.json_schema_extra

    assert info.description.endswith(".")
    assert extra["group"] in {"size", "entry", "exit", "limits", "safety", "notifications"}
    assert applies_of(TradingConfig, name) in Applies
    for other, values in (extra["depends_on"] or {}).items():
        assert set(values) <= set(get_args(TradingConfig.model_fields[other].annotation))
    numeric = info.annotation is not bool and getattr(info.annotation, "__origin__", None) is not Literal
    bounded = (
        any(isinstance(rule, Ge | Gt) for rule in info.metadata),
        any(isinstance(r, Le | Lt) for r in info.metadata),
    )
    assert bounded == (True, True) or not numeric


def test_defaults_are_within_their_own_limits():
    assert parse_config(TradingConfig, config_document(TradingConfig())) == TradingConfig()


def test_a_field_without_limits_allows_any_value():
    assert range_text(Sample.model_fields["eager"]) == "any"
