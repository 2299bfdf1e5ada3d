from __future__ import annotations

import subprocess
import sys

import pytest

from bots.strategies import DEFINITIONS, build
from shared.config import Refused, config_document, parse_config
from shared.errors import NotFound

MINUTE_MS = 60_000


def test_both_strategies_are_there_under_their_ids():
    assert {"lightgbm_scalper", "rsi"} <= DEFINITIONS.keys()
    assert all(definition.id == key for key, definition in DEFINITIONS.items())


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=lambda d: d.id)
def test_a_definition_tells_people_what_it_is_and_what_it_risks(definition):
    assert len(definition.description) > 80
    assert len(definition.risk_note) > 80
    assert all(parameter.help.endswith((".", ").")) for parameter in definition.parameters)


@pytest.mark.parametrize("definition", DEFINITIONS.values(), ids=lambda d: d.id)
def test_the_defaults_of_a_config_are_accepted_again_when_they_come_back(definition):
    config = definition.config()

    assert parse_config(definition.config, config_document(config)) == config


def test_a_strategy_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(NotFound, match=r"'astrology'; there are .*lightgbm_scalper"):
        build("astrology", 1000, DEFINITIONS["rsi"].config(), None)


def test_an_interval_that_a_strategy_does_not_know_is_refused():
    with pytest.raises(Refused) as caught:
        build("lightgbm_scalper", MINUTE_MS, DEFINITIONS["lightgbm_scalper"].config(), None)

    assert caught.value.fields == {"interval": "allowed: 1s"}


def test_a_strategy_that_needs_a_model_is_not_built_without_one():
    with pytest.raises(Refused, match="cannot run without a model") as caught:
        build("lightgbm_scalper", 1000, DEFINITIONS["lightgbm_scalper"].config(), None)

    assert list(caught.value.fields) == ["model_id"]


def test_a_strategy_is_not_built_from_the_config_of_another():
    with pytest.raises(Refused, match="needs a RSIConfig, not a LightGBMConfig"):
        build("rsi", MINUTE_MS, DEFINITIONS["lightgbm_scalper"].config(), None)


def test_reading_the_definitions_loads_no_numeric_library():
    code = "import sys, bots.strategies; print([m for m in ('numpy', 'talib', 'lightgbm') if m in sys.modules])"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert answer.stdout.strip() == "[]"
