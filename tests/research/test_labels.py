from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.labels import UNKNOWN, label


def labels_of(closes, highs=None, lows=None, times=None, *, horizon, target, stop):
    closes = np.array(closes, dtype=float)
    highs = closes if highs is None else np.array(highs, dtype=float)
    lows = closes if lows is None else np.array(lows, dtype=float)
    times = np.arange(len(closes)) * 1000 if times is None else np.array(times) * 1000
    return label(times, highs, lows, closes, horizon=horizon, target=target, stop=stop).tolist()


@pytest.mark.parametrize(
    ("highs", "lows", "expected", "why"),
    [
        ([100, 100, 101, 100], [100, 100, 100, 100], 1, "101 is 100 · (1 + 0.01): reached in the second candle"),
        ([100, 100, 100.9, 100], [100, 100, 100, 100], 0, "100.9 < 101: the time runs out"),
        ([100, 100, 101, 100], [100, 98, 100, 100], 0, "98 is 100 · (1 − 0.02): stopped one candle before the target"),
        ([100, 101, 100, 100], [100, 100, 98, 100], 1, "the target came one candle before the stop"),
        (
            [100, 101, 100, 100],
            [100, 98, 100, 100],
            0,
            "both in one candle: the stop counts, as it may have come first",
        ),
        (
            [101, 100, 100, 100],
            [100, 100, 100, 100],
            0,
            "the candle that is bought at its close has its high behind it",
        ),
    ],
)
def test_the_first_barrier_that_is_reached_decides(highs, lows, expected, why):
    labels = labels_of([100, 100, 100, 100], highs, lows, horizon=3, target=0.01, stop=0.02)

    assert labels[0] == expected, why


def test_without_a_whole_horizon_ahead_nothing_is_known_even_if_the_target_comes_at_once():
    labels = labels_of([100, 105, 110, 115], horizon=2, target=0.01, stop=0.5)

    assert labels == [1, 1, UNKNOWN, UNKNOWN]


def test_a_missing_second_within_the_horizon_leaves_the_label_unknown():
    labels = labels_of([100, 105, 110, 115, 120], times=[0, 1, 2, 4, 5], horizon=2, target=0.01, stop=0.5)

    assert labels == [1, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]  # only 0 has the seconds 1 and 2 ahead of it


def test_a_series_shorter_than_the_horizon_has_no_labels():
    assert labels_of([100, 101], horizon=5, target=0.01, stop=0.01) == [UNKNOWN, UNKNOWN]


def one_by_one(times, highs, lows, closes, horizon, target, stop):
    labels = []
    for n, close in enumerate(closes):
        ahead = range(n + 1, n + 1 + horizon)
        if ahead[-1] >= len(closes) or times[ahead[-1]] - times[n] != horizon:
            labels.append(UNKNOWN)
            continue
        outcome = 0
        for k in ahead:
            if lows[k] <= close * (1 - stop):
                break
            if highs[k] >= close * (1 + target):
                outcome = 1
                break
        labels.append(outcome)
    return labels


a_candle = st.tuples(st.integers(990, 1010), st.integers(0, 8), st.integers(0, 8), st.sampled_from([1, 1, 1, 1, 2]))


@given(
    st.lists(a_candle, max_size=60), st.integers(1, 12), st.sampled_from([0.002, 0.005]), st.sampled_from([0.003, 0.01])
)
def test_labels_equal_those_found_candle_by_candle(candles, horizon, target, stop):
    closes = [float(close) for close, *_ in candles]
    highs = [close + up for close, (_, up, _, _) in zip(closes, candles, strict=True)]
    lows = [close - down for close, (_, _, down, _) in zip(closes, candles, strict=True)]
    times = np.cumsum([step for *_, step in candles]).tolist()

    ours = labels_of(closes, highs, lows, times, horizon=horizon, target=target, stop=stop)

    assert ours == one_by_one(times, highs, lows, closes, horizon, target, stop)
