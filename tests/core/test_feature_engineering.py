from __future__ import annotations

import csv
import gzip
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bots.core.candles import WINDOW, Candle, Window
from bots.core.feature_engineering import FEATURE_NAMES_IN_MODEL, FEATURES, compute

DATA = Path(__file__).parents[3] / "shared" / "data"


def seconds(closes, volumes=None, buy_shares=None, spread=0.0, start_ms=0):
    volumes = volumes or [1.0] * len(closes)
    buy_shares = buy_shares or [0.5] * len(closes)
    return [
        Candle(
            start_ms + n * 1000, 1000, close, close + spread, close - spread, close, volume, volume * close,
            int(volume * 10), volume * share, volume * share * close,
        )
        for n, (close, volume, share) in enumerate(zip(closes, volumes, buy_shares, strict=True))
    ]  # fmt: skip


def window_of(candles) -> Window:
    window = Window()
    for candle in candles:
        window.push(candle)
    assert window.full
    return window


def features_of(candles) -> dict[str, float]:
    return dict(zip(FEATURES, compute(window_of(candles)), strict=True))


def test_there_are_24_features_and_the_model_names_carry_the_schema():
    assert len(FEATURES) == len(set(FEATURES)) == 24
    assert FEATURE_NAMES_IN_MODEL[0] == "v1.return_1"


def test_a_price_that_stands_still_without_trades_gives_the_neutral_values():
    features = features_of(seconds([100.0] * 60, volumes=[0.0] * 60))

    neutral = {"range_position_60": 0.5, "range_position_20": 0.5, "rsi_14": 50.0, "rsi_30": 50.0}
    neutral |= {"volume_ratio_5": 1.0, "trade_ratio_5": 1.0}
    assert features == {name: neutral.get(name, 0.0) for name in FEATURES}


def test_a_steady_rise_is_seen_by_every_price_feature():
    features = features_of(seconds([100.0 + n for n in range(60)]))  # 100 … 159

    expected = {
        "return_1": 159 / 158 - 1,
        "return_5": 159 / 154 - 1,
        "return_15": 159 / 144 - 1,
        "return_30": 159 / 129 - 1,
        "return_59": 159 / 100 - 1,
        "momentum_change_5": 0.0,  # 5 in the last five seconds, 5 in the five before
        "range_60": 59 / 159,
        "range_position_60": 1.0,
        "range_position_20": 1.0,
        "ma_gap_5": 159 / 157 - 1,  # mean of 155 … 159
        "ma_gap_10": 159 / 154.5 - 1,
        "ma_gap_20": 159 / 149.5 - 1,
        "ma_gap_30": 159 / 144.5 - 1,
        "volatility_14": 1 / 159,  # each change is 1
        "volatility_30": 1 / 159,
        "volatility_59": 1 / 159,
        "rsi_14": 100.0,
        "rsi_30": 100.0,
    }
    assert {name: features[name] for name in expected} == pytest.approx(expected)


def test_rsi_is_the_share_of_rises_among_all_moves():
    falls_then_rises = [100.0] * 46 + [99.0, 98.0, 97.0] + [98.0, 99.0, 100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 106.0]

    features = features_of(seconds([100.0] * 2 + falls_then_rises))

    assert features["rsi_14"] == pytest.approx(100 * 9 / 12)  # 9 rises and 3 falls of 1 each


def test_a_burst_of_volume_shows_in_the_ratios():
    features = features_of(seconds([100.0] * 60, volumes=[1.0] * 55 + [5.0] * 5))

    assert features["volume_ratio_5"] == pytest.approx((25 / 5) / (80 / 60))
    assert features["trade_ratio_5"] == pytest.approx((250 / 5) / (800 / 60))


def test_taker_flow_is_buys_less_sells_over_the_volume():
    features = features_of(seconds([100.0] * 60, buy_shares=[0.0] * 40 + [0.5] * 15 + [1.0] * 5))

    assert features["taker_flow_5"] == pytest.approx(1.0)
    assert features["taker_flow_20"] == pytest.approx(5 / 20)
    assert features["taker_flow_60"] == pytest.approx((5 - 40) / 60)


def test_the_gap_to_the_vwap_weighs_prices_by_volume():
    features = features_of(seconds([100.0] * 30 + [110.0] * 30, volumes=[3.0] * 30 + [1.0] * 30))

    assert features["vwap_gap_60"] == pytest.approx(110 / 102.5 - 1)  # (3·100 + 1·110) / 4


prices = st.integers(1, 10**14).map(lambda n: n / 10**8)
amounts = st.one_of(st.just(0.0), st.integers(1, 10**16).map(lambda n: n / 10**8))
any_second = st.tuples(prices, prices, prices, amounts, amounts, st.integers(0, 10**6), st.floats(0, 1))
any_window = st.lists(any_second, min_size=WINDOW, max_size=WINDOW)


def candles_of(rows, start_ms=0):
    return [
        Candle(start_ms + n * 1000, 1000, a, max(a, b, c), min(a, b, c), c, volume, quote, trades, volume * share, 0.0)
        for n, (a, b, c, volume, quote, trades, share) in enumerate(rows)
    ]


@settings(max_examples=200)
@given(any_window)
def test_every_feature_of_any_window_is_a_finite_number(rows):
    features = features_of(candles_of(rows))

    assert all(type(value) is float and math.isfinite(value) for value in features.values())
    assert 0.0 <= features["range_position_60"] <= 1.0
    assert -1e-9 <= features["rsi_14"] <= 100 + 1e-9


@settings(max_examples=50)
@given(any_window, st.lists(any_second, max_size=90))
def test_features_do_not_depend_on_what_came_before_the_window(rows, earlier):
    alone = compute(window_of(candles_of(rows, start_ms=90_000)))
    after_others = compute(
        window_of([*candles_of(earlier, start_ms=90_000 - 1000 * len(earlier)), *candles_of(rows, start_ms=90_000)])
    )

    assert alone == after_others


def test_a_long_stream_gives_bit_for_bit_what_each_window_gives_on_its_own():
    chance = random.Random(5)
    price, candles = 60_000.0, []
    for n in range(600):
        price = round(price * (1 + chance.gauss(0, 2e-5)), 2)
        volume = chance.choice([0.0, round(chance.random(), 5)])
        share = chance.random()
        candles.append(
            Candle(n * 1000, 1000, price, price + 0.01, price, price, volume, volume * price, 3, volume * share, 0.0)
        )
    window, live = Window(), []
    for candle in candles:
        window.push(candle)
        if window.full:
            live.append(compute(window))

    batch = [compute(window_of(candles[n - WINDOW : n])) for n in range(WINDOW, len(candles) + 1)]

    assert live == batch


@pytest.mark.parametrize("name", ["BTCUSDT-spot-20240808T2354-1s.csv.gz", "ETHUSDT-spot-20240808T2354-1s.csv.gz"])
def test_features_of_a_recorded_market_are_finite_and_small(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"no recorded data at {path}")
    with gzip.open(path, "rt") as lines:
        rows = list(csv.reader(lines))[1:]
    window, seen = Window(), 0
    for t, o, h, low, c, v, q, n, tb, tq in rows:
        window.push(
            Candle(
                int(t), 1000, float(o), float(h), float(low), float(c), float(v), float(q), int(n), float(tb), float(tq)
            )
        )
        if window.full:
            features = dict(zip(FEATURES, compute(window), strict=True))
            assert all(map(math.isfinite, features.values()))
            assert abs(features["return_59"]) < 0.01
            assert -1 <= features["taker_flow_60"] <= 1
            seen += 1
    assert seen > 500
