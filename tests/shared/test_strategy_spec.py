"""A strategy's parameters as forms and the API show them."""

from __future__ import annotations

from typing import Literal

import pytest

from shared.config import Applies, Money, Number, Ratio, TradingConfig, Whole, setting
from shared.strategy_spec import Parameter, StrategyDefinition


def field(default, **limits):
    return setting(default, group="signal", applies=Applies.NOW, help="Some help.", **limits)


class Sample(TradingConfig):
    """One field of each kind."""

    measure: Number = field(0.5, ge=0, le=1)
    count: Whole = field(14, gt=1, lt=100, unit="bars")
    share: Ratio = field(0.1, ge=0, le=1, unit="fraction")
    sum: Money | None = field(None, gt=0, le=10, unit="quote")
    choice: Literal["a", "b"] = field("a", depends_on={"flag": ["true"]})
    flag: bool = field(True)
    model_id: Whole | None = field(None, ge=1, unit="model")


def defined(config) -> StrategyDefinition:
    return StrategyDefinition(id="s", name="S", description="", risk_note="", config=config, intervals=("1s",))


PARAMETERS = {p.name: p for p in defined(Sample).parameters}


def test_the_strategys_own_fields_come_first():
    names = list(PARAMETERS)

    assert names[:7] == ["measure", "count", "share", "sum", "choice", "flag", "model_id"]
    assert names[7:] == list(TradingConfig.model_fields)


@pytest.mark.parametrize(
    ("name", "type_", "nullable", "minimum", "maximum", "default"),
    [
        ("measure", "number", False, 0, 1, 0.5),
        ("count", "integer", False, 1, 100, 14),
        ("share", "ratio", False, 0, 1, 0.1),
        ("sum", "money", True, 0, 10, None),
        ("choice", "choice", False, None, None, "a"),
        ("flag", "boolean", False, None, None, True),
        ("model_id", "model", True, 1, None, None),
        ("capital_per_trade", "money", False, 0, 1_000_000_000, "100"),
        ("profit_target_pct", "ratio", True, 0, 1, 0.003),
        ("holding_time", "integer", True, 1, 31_536_000, 3600),
    ],
)
def test_a_parameter_shows_type_limits_and_default(name, type_, nullable, minimum, maximum, default):
    parameter = PARAMETERS[name]

    assert (parameter.type, parameter.nullable) == (type_, nullable)
    assert (parameter.minimum, parameter.maximum, parameter.default) == (minimum, maximum, default)


def test_a_choice_lists_its_values_and_what_it_depends_on():
    choice = PARAMETERS["choice"]

    assert isinstance(choice, Parameter)
    assert choice.choices == ("a", "b")
    assert choice.depends_on == {"flag": ["true"]}
    assert (choice.group, choice.applies, choice.help, choice.unit) == ("signal", "now", "Some help.", None)


def test_a_field_that_no_form_can_show_is_an_error():
    class Odd(TradingConfig):
        when: list[str] = field([])

    with pytest.raises(TypeError, match="no form"):
        assert defined(Odd).parameters
