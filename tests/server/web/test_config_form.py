"""The form of a config: every value goes to the page and back without a change, and errors stand beside their field."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from bots.strategies import DEFINITIONS
from server.web.config_form import ConfigForm, FormField, ModelChoice, config_form, read_form, value_text
from shared.config import config_document, parse_config

RSI = DEFINITIONS["rsi"]
SCALPER = DEFINITIONS["lightgbm_scalper"]
PARAMETERS = {p.name: p for p in RSI.parameters}


def document(**changes: Any) -> dict[str, Any]:
    return config_document(parse_config(RSI.config, changes))


def shown(form: ConfigForm, name: str) -> FormField:
    return next(f for f in form.fields if f.name == name)


def typed_as_shown(form: ConfigForm) -> dict[str, str]:
    return {f.name: f.value for f in form.fields}


@pytest.mark.parametrize("strategy", DEFINITIONS.values(), ids=lambda s: s.id)
def test_what_is_shown_and_sent_back_untouched_is_the_same_config(strategy: Any):
    before = config_document(strategy.config())

    read = read_form(strategy, typed_as_shown(config_form(strategy, before, quote="USDC")))

    assert (read.errors, read.document) == ({}, before)


@pytest.mark.parametrize(
    ("fraction", "percent"),
    [("0.0035", "0.35"), ("0.00015", "0.015"), ("0.009", "0.9"), ("0.29", "29"), ("0.00000001", "0.000001")],
)  # fmt: skip
def test_ratios_are_percent_on_the_page_and_exact_fractions_in_the_document(fraction: str, percent: str):
    form = config_form(RSI, document(profit_target_pct=Decimal(fraction)), quote="USDC")

    assert (shown(form, "profit_target_pct").value, shown(form, "profit_target_pct").unit) == (percent, "%")
    read = read_form(RSI, {"profit_target_pct": percent})
    assert Decimal(repr(read.document["profit_target_pct"])) == Decimal(fraction)


def test_a_percent_sign_and_a_typographic_minus_are_understood():
    assert read_form(RSI, {"stop_loss_pct": " 0.9 % "}).document["stop_loss_pct"] == 0.009
    assert "out of range" in read_form(RSI, {"stop_loss_pct": "−1"}).errors["stop_loss_pct"]


def test_empty_means_off_where_off_is_allowed():
    read = read_form(RSI, {"stop_loss_pct": "", "max_daily_loss": " ", "holding_time": ""})

    assert [read.document[n] for n in ("stop_loss_pct", "max_daily_loss", "holding_time")] == [None, None, None]
    assert read_form(RSI, {"capital_per_trade": ""}).errors == {"capital_per_trade": "Fill this in."}


@pytest.mark.parametrize(
    ("name", "typed", "words"),
    [
        ("profit_target_pct", "101", "101 % is out of range: above 0, to 100 %."),
        ("profit_target_pct", "0,35", "comma"),
        ("capital_per_trade", "1,270.00", "comma"),
        ("capital_per_trade", "two hundred", "not a number"),
        ("capital_per_trade", "1e3", "not a number"),
        ("capital_per_trade", "0", "0 is out of range: above 0."),
        ("capital_per_trade", "9" * 40, "Too many digits"),
        ("capital_per_trade", "9" * 400, "Too long"),
        ("max_positions", "1.5", "not a whole number"),
        ("max_positions", "21", "21 is out of range: from 1 to 20."),
        ("max_positions", "٣٣", "out of range"),
        ("entry_order_type", "stop", "not a choice"),
        ("rsi_period", "NaN", "not a whole number"),
        ("buy_below", "inf", "not a number"),
    ],
)
def test_what_cannot_be_is_said_beside_its_field_in_the_forms_unit(name: str, typed: str, words: str):
    read = read_form(RSI, {name: typed})

    assert list(read.errors) == [name]
    assert words in read.errors[name]
    assert read.document == {}


def test_rules_between_fields_are_held_too():
    assert "raise sell_above" in read_form(RSI, {"buy_below": "70", "sell_above": "30"}).errors["sell_above"]


def test_all_errors_are_told_at_once_and_the_input_is_kept():
    typed = {"max_positions": "none", "capital_per_trade": "-5", "cooldown": "20"}
    read = read_form(RSI, typed)

    form = config_form(RSI, document(), quote="USDC", typed=typed, saved=document(), errors=read.errors)

    assert {f.name for f in form.wrong} == {"max_positions", "capital_per_trade"}
    assert [shown(form, n).value for n in typed] == ["none", "-5", "20"]


def test_fields_that_a_form_leaves_out_keep_what_is_saved():
    read = read_form(RSI, {"cooldown": "20"}, document(capital_per_trade="250", max_positions=3))

    assert (read.document["capital_per_trade"], read.document["max_positions"]) == ("250", 3)


def test_changed_fields_say_what_they_were_and_equal_numbers_are_no_change():
    saved = document(capital_per_trade="200.00", profit_target_pct=Decimal("0.003"))
    typed = {"capital_per_trade": "200", "profit_target_pct": "0.35", "stop_loss_pct": ""}

    form = config_form(RSI, saved, quote="USDC", typed=typed, saved=saved)

    assert {f.name: f.was for f in form.changed} == {"profit_target_pct": "0.3 %", "stop_loss_pct": "1 %"}


def test_what_somebody_else_saved_meanwhile_is_shown_beside_what_was_typed():
    form = config_form(
        RSI, document(), quote="USDC", typed={"cooldown": "20"}, saved=document(cooldown=30), newer={"cooldown": 30}
    )

    assert (shown(form, "cooldown").value, shown(form, "cooldown").newer) == ("20", "30 s")


def test_each_field_says_its_unit_range_and_when_a_change_applies():
    field = shown(config_form(RSI, document(), quote="USDC"), "capital_per_trade")
    assert (field.unit, field.applies_text) == ("USDC", "next position")
    assert "Above 0." in field.help

    field = shown(config_form(RSI, document(), quote="USDC"), "holding_time")
    assert "3600 s is 60 min." in field.help


def test_fields_that_are_off_are_folded_until_somebody_touches_them():
    assert shown(config_form(RSI, document(), quote="USDC"), "max_daily_loss").is_folded
    touched = config_form(RSI, document(max_daily_loss="20"), quote="USDC")
    assert not shown(touched, "max_daily_loss").is_folded
    wrong = config_form(RSI, document(), quote="", typed={"max_daily_loss": "x"}, errors={"max_daily_loss": "no"})
    assert not shown(wrong, "max_daily_loss").is_folded


def test_models_are_chosen_from_a_list_that_also_holds_one_that_is_gone():
    held = config_document(SCALPER.config()) | {"model_id": 9}

    field = shown(config_form(SCALPER, held, quote="USDC", models=[ModelChoice(id=7, label="btc")]), "model_id")

    assert field.options == (("", "choose a model"), ("7", "#7 btc"), ("9", "#9, no longer there"))
    assert not field.is_folded


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("profit_target_pct", 0.0035, "0.35 %"),
        ("capital_per_trade", "1270.00", "1,270.00 USDC"),
        ("holding_time", 2000, "2,000 s"),
        ("max_daily_loss", None, "off"),
        ("entry_order_type", "limit_maker", "limit maker"),
        ("buy_below", 30.0, "30 RSI"),
    ],
)
def test_values_are_written_for_people(name: str, value: Any, text: str):
    assert value_text(PARAMETERS[name], value, "USDC") == text
