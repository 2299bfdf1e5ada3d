from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from bots.core.candles import Candle
from bots.core.indicators import Anchored, rsi

MINUTE_MS = 60_000
FIRST = 28_333_333  # minutes since 1970


def bars(closes, first=FIRST, interval_ms=MINUTE_MS):
    return [
        Candle((first + n) * interval_ms, interval_ms, close, close, close, close, 0.0, 0.0, 0, 0.0, 0.0)
        for n, close in enumerate(closes)
    ]


def values(indicator, series):
    return [indicator.update(bar) for bar in series]


def a_walk(count, seed=1):
    steps = np.random.default_rng(seed).normal(size=count)
    return np.round(100 + np.cumsum(steps) * 0.5, 2).tolist()


@settings(max_examples=60)
@given(st.integers(0, 999), st.integers(0, 400), st.sampled_from([2, 3, 9, 14]))
def test_any_start_with_enough_history_gives_the_same_values_bit_for_bit(seed, start, period):
    series = bars(a_walk(1000, seed))
    long = values(rsi(period, MINUTE_MS), series)
    indicator = rsi(period, MINUTE_MS)

    late = values(indicator, series[start:])

    needed = indicator.bars_needed
    assert None not in late[needed - 1 :]
    for n, value in enumerate(late):
        if value is not None and long[start + n] is not None:
            assert value == long[start + n]
    assert late[needed - 1 :] == long[start + needed - 1 :]


def test_the_value_is_talibs_from_the_anchor_before_the_last_one():
    period = 14
    span = 10 * period
    closes = a_walk(700)
    series = bars(closes)

    ours = values(rsi(period, MINUTE_MS), series)

    ends = [bar.end_ms // MINUTE_MS for bar in series]
    for n in range(2 * span, len(series)):
        begun = (ends[n] // span - 1) * span  # the bar that ended at this minute is the first one of the history
        assert ours[n] == talib.RSI(np.array(closes[ends.index(begun) : n + 1]), period)[-1]


def test_the_anchored_value_is_close_to_that_of_an_endless_history():
    closes = a_walk(3000)

    ours = values(rsi(14, MINUTE_MS), bars(closes))

    endless = talib.RSI(np.array(closes), 14)
    assert max(abs(a - b) for a, b in zip(ours[300:], endless[300:], strict=True)) < 0.01


def test_a_missing_bar_begins_the_history_anew():
    series = bars(a_walk(900))
    indicator = rsi(14, MINUTE_MS)
    assert values(indicator, series[:400])[-1] is not None

    after = values(indicator, series[401:])

    assert after[0] is None
    assert after == values(rsi(14, MINUTE_MS), series[401:])


def test_rsi_is_neutral_while_the_price_stands_still_and_moves_with_the_first_change():
    indicator = rsi(2, MINUTE_MS)

    seen = values(indicator, bars([100.0] * 60 + [101.0] + [101.0, 99.0]))

    assert seen[50:60] == [50.0] * 10
    assert seen[60:62] == [100.0, 100.0]
    assert seen[62] < 50


def test_a_fall_without_a_rise_is_zero():
    assert values(rsi(5, MINUTE_MS), bars([1000.0 - n for n in range(200)]))[-1] == 0.0


def test_an_indicator_works_on_one_second_bars():
    series = bars(a_walk(300), first=1_700_000_000, interval_ms=1000)

    assert values(rsi(5, 1000), series)[-1] is not None


class Count:
    """Says how many bars it has seen since its anchor."""

    def __init__(self, closes):
        self.seen = len(closes)

    def update(self, close):
        self.seen += 1
        return float(self.seen)


def test_a_stream_is_read_from_one_span_to_two_spans_after_its_anchor():
    seen = values(Anchored(Count, span=4, interval_ms=MINUTE_MS), bars([1.0] * 14, first=3))
    #  minutes at the end of the bars: 4 (an anchor) 5 6 7 8 (the next one) …

    assert seen == [None] * 4 + [5, 6, 7, 8, 5, 6, 7, 8, 5, 6]


def test_importing_the_module_loads_no_numeric_library():
    code = "import sys, bots.core.indicators; print('numpy' in sys.modules or 'talib' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize("period", [2, 14, 100])
def test_the_history_asked_for_is_twice_the_span(period):
    assert rsi(period, MINUTE_MS).bars_needed == 20 * period
