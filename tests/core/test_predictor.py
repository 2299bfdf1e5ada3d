from __future__ import annotations

import gc
import json
import re
import subprocess
import sys

import lightgbm
import numpy as np
import pytest

from bots.core.feature_engineering import FEATURE_NAMES_IN_MODEL, FEATURES
from bots.core.predictor import ModelRefused, Predictor

ROWS = np.random.default_rng(3).normal(size=(4000, len(FEATURES)))


def a_booster(names=FEATURE_NAMES_IN_MODEL, objective="binary", trees=100) -> lightgbm.Booster:
    labels = (ROWS[:, 0] + ROWS[:, 3] * ROWS[:, 7] > 0).astype(float)
    data = lightgbm.Dataset(ROWS[:, : len(names)], labels, feature_name=list(names))
    parameters = {"objective": objective, "num_leaves": 31, "verbosity": -1, "num_threads": 1}
    return lightgbm.train(parameters, data, num_boost_round=trees)


@pytest.fixture(scope="module")
def booster() -> lightgbm.Booster:
    return a_booster()


@pytest.fixture(scope="module")
def text(booster) -> bytes:
    return booster.model_to_string().encode()


def refusal(text: bytes) -> str:
    with pytest.raises(ModelRefused) as caught:
        Predictor(text)
    return caught.value.message


def test_a_probability_is_lightgbms_own_bit_for_bit(booster, text):
    predictor = Predictor(text)

    ours = [predictor.probability(row) for row in ROWS.tolist()]

    assert ours == booster.predict(ROWS).tolist()


def test_the_names_in_the_file_survive_the_round_trip(text):
    assert Predictor(text).feature_names == FEATURE_NAMES_IN_MODEL


def test_the_number_of_trees_is_known(text):
    assert Predictor(text).trees == 100


def test_two_models_do_not_disturb_each_other(text):
    small = Predictor(a_booster(trees=3).model_to_string().encode())
    large = Predictor(text)
    row = ROWS[0].tolist()
    expected = large.probability(row)

    small.probability(row)
    del small
    gc.collect()

    assert large.probability(row) == expected


def test_a_wrong_number_of_features_is_not_predicted(text):
    with pytest.raises(Exception, match="24 items"):
        Predictor(text).probability([0.0] * 23)


def test_missing_and_unknown_features_are_named():
    names = ["v1.moon_phase", *FEATURE_NAMES_IN_MODEL[1:]]

    message = refusal(a_booster(names, trees=2).model_to_string().encode())

    assert "missing: v1.return_1; unknown: v1.moon_phase" in message


def test_another_feature_schema_is_named():
    names = [name.replace("v1.", "v2.") for name in FEATURE_NAMES_IN_MODEL]

    message = refusal(a_booster(names, trees=2).model_to_string().encode())

    assert message.startswith("The model was trained on feature schema v2, this version computes v1.")


def test_the_right_features_in_another_order_are_refused():
    message = refusal(a_booster(FEATURE_NAMES_IN_MODEL[::-1], trees=2).model_to_string().encode())

    assert "another order" in message


def test_a_model_with_fewer_features_is_refused():
    message = refusal(a_booster(FEATURE_NAMES_IN_MODEL[:20], trees=2).model_to_string().encode())

    assert "missing: v1.trade_ratio_5, v1.vwap_gap_60" not in message
    assert "v1.taker_flow_60" in message


def test_a_model_that_gives_no_probability_is_refused():
    message = refusal(a_booster(objective="regression", trees=2).model_to_string().encode())

    assert 'objective is "regression"' in message


def test_a_file_that_is_no_model_is_refused():
    assert "does not start with" in refusal(b"PK\x03\x04 not a model")
    assert "does not start with" in refusal(b"")


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_a_model_that_was_cut_off_never_reaches_the_library(text, share):
    end = text.index(b"end of trees")

    message = refusal(text[: int(end * share)])

    assert "cut off" in message


@pytest.mark.parametrize("lost", [1, 10, 40, 100, 400])
def test_a_model_that_lost_its_last_bytes_is_refused(text, lost):
    assert "cut off" in refusal(text[:-lost])


def test_a_model_with_bytes_missing_inside_never_reaches_the_library(text):
    middle = text.index(b"Tree=50")

    message = refusal(text[:middle] + text[middle + 40 :])

    assert re.search(r"states 100 trees in \d+ bytes but holds 99 in \d+: it is damaged", message)


def test_a_bot_that_predicts_loads_neither_numpy_nor_lightgbms_package(tmp_path, text):
    model = tmp_path / "model.txt"
    model.write_bytes(text)
    code = (
        "import sys; from pathlib import Path; from bots.core.predictor import Predictor; import bots.strategies\n"
        f"Predictor(Path({str(model)!r}).read_bytes()).probability([0.0] * 24)\n"
        "print([name for name in ('numpy', 'scipy', 'lightgbm', 'talib', 'pandas') if name in sys.modules])"
    )

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert answer.stdout.splitlines()[-1] == "[]"


def check_file(path) -> tuple[int, dict]:
    """What `python -m bots.utils.check_model` answers."""
    run = [sys.executable, "-m", "bots.utils.check_model", str(path)]
    answer = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert answer.stdout.count("\n") == 1
    return answer.returncode, json.loads(answer.stdout)


def test_checking_a_good_file_answers_what_it_holds(tmp_path, text):
    model = tmp_path / "model.txt"
    model.write_bytes(text)

    assert check_file(model) == (
        0,
        {"ok": True, "trees": 100, "features": list(FEATURES), "schema_version": "v1"},
    )


def test_checking_a_bad_or_missing_file_answers_why_not(tmp_path, text):
    model = tmp_path / "model.txt"
    model.write_bytes(text[: len(text) // 2])

    code, answer = check_file(model)
    assert (code, answer["ok"]) == (0, False)
    assert answer["reason"] == "The model is cut off or holds no tree. Upload the complete file again."

    code, answer = check_file(tmp_path / "none.txt")
    assert (code, answer["ok"]) == (0, False)
    assert answer["reason"].endswith("cannot be read: No such file or directory.")
