from __future__ import annotations

import pytest

from bots.core.candles import Candle, Window
from bots.core.feature_engineering import FEATURES, compute
from bots.core.strategy import Action, Decision
from bots.strategies import DEFINITIONS, build
from shared.config import Refused, parse_config

CONFIG = DEFINITIONS["lightgbm_scalper"].config


class Model:
    """Always equally sure."""

    def __init__(self, probability: float) -> None:
        self.answer = probability
        self.asked: list[list[float]] = []

    def probability(self, features: list[float]) -> float:
        self.asked.append(features)
        return self.answer


def run(seconds: int, model, config, *, first: int = 0, gap_at: int | None = None):
    """Decisions by the second at which they fell, from candles *first* to *seconds*."""
    strategy, window, decisions = build("lightgbm_scalper", 1000, config, model), Window(), {}
    for n in range(first, seconds):
        if n == gap_at:
            continue
        close = 100.0 + n % 7
        bar = Candle(n * 1000, 1000, close, close, close, close, 1.0, close, 1, 0.5, close / 2)
        window.push(bar)
        if decision := strategy.on_candle(bar, window, config):
            decisions[bar.end_ms // 1000] = decision
    return strategy, window, decisions


def test_it_decides_every_second_candle_once_the_window_is_full():
    _, _, decisions = run(66, Model(0.1), CONFIG())

    assert list(decisions) == [60, 62, 64, 66]


def test_where_decisions_fall_does_not_depend_on_when_it_started():
    _, _, decisions = run(100, Model(0.1), CONFIG(signal_interval=5), first=33)

    assert list(decisions) == [95, 100]  # 93 seconds fill the window


def test_it_decides_nothing_until_a_window_with_a_gap_is_full_again():
    _, _, decisions = run(130, Model(0.1), CONFIG(), gap_at=63)

    assert list(decisions) == [60, 62, 124, 126, 128, 130]


@pytest.mark.parametrize(("probability", "action"), [(0.39, Action.NONE), (0.40, Action.ENTER), (0.41, Action.ENTER)])
def test_it_enters_when_the_probability_reaches_the_threshold(probability, action):
    _, _, decisions = run(60, Model(probability), CONFIG(confidence_threshold=0.40))

    assert decisions == {60: Decision(action, probability, 0.40)}


def test_the_model_sees_the_features_of_the_window():
    model = Model(0.5)
    _, window, _ = run(60, model, CONFIG())

    assert model.asked == [compute(window)]


def test_it_explains_the_last_decision_by_its_features_and_their_digest():
    strategy, window, _ = run(60, Model(0.5), CONFIG())
    other, _, _ = run(62, Model(0.5), CONFIG())

    values, digest = strategy.explain()

    assert values == dict(zip(FEATURES, compute(window), strict=True))
    assert len(digest) == 16
    assert digest == run(60, Model(0.9), CONFIG())[0].explain()[1]
    assert digest != other.explain()[1]


def test_before_the_first_decision_there_is_nothing_to_explain():
    assert run(10, Model(0.5), CONFIG())[0].explain() == ({}, None)


def test_it_names_when_it_enters():
    strategy, _, _ = run(0, Model(0.5), CONFIG())

    assert strategy.entry_logic(CONFIG(confidence_threshold=0.4)) == "lightgbm_scalper p >= 0.40"
    assert strategy.bars_needed == 60


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("confidence_threshold", 1.5, "1.5 is out of range; allowed: at least 0, at most 1"),
        ("signal_interval", 0, "0 is out of range; allowed: at least 1, at most 3600"),
        ("model_id", 0, "0 is out of range; allowed: at least 1"),
    ],
)
def test_values_out_of_range_are_refused(field, value, reason):
    with pytest.raises(Refused) as caught:
        parse_config(CONFIG, {field: value})

    assert caught.value.fields == {field: reason}


def test_forms_know_that_the_model_is_chosen_from_the_models():
    parameters = {p.name: p for p in DEFINITIONS["lightgbm_scalper"].parameters}

    assert parameters["model_id"].type == "model"
    assert parameters["confidence_threshold"].applies == "now"
    assert parameters["model_id"].applies == "restart"
