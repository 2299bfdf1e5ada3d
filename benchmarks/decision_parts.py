"""What one decision costs: the window, its 24 features, the model, and the strategy around them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import lightgbm
import numpy as np

from bots.core.candles import Candle, Window
from bots.core.feature_engineering import FEATURE_NAMES_IN_MODEL, compute
from bots.core.predictor import Predictor
from bots.strategies import DEFINITIONS, build

REPEATS = 30_000


def main() -> None:
    candles = a_market(4_000)
    window = Window()
    rows = []
    for candle in candles:
        window.push(candle)
        if window.full:
            rows.append(compute(window))
    model = Predictor(a_model(rows))
    config = DEFINITIONS["lightgbm_scalper"].config()
    scalper = build("lightgbm_scalper", 1000, config, model)
    rsi_config = DEFINITIONS["rsi"].config()
    rsi = build("rsi", 1000, rsi_config, None)
    due = candles[-1] if candles[-1].end_ms % 2000 == 0 else candles[-2]

    measure("build a candle", lambda n: Candle(0, 1000, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1, 1.0, 1.0))
    measure("push into the window", lambda n: window.push(candles[n % len(candles)]))
    for candle in candles[-60:]:
        window.push(candle)
    measure("24 features", lambda n: compute(window))
    measure("probability, 100 trees x 31 leaves", lambda n: model.probability(rows[n % len(rows)]))
    measure("scalper on_candle, a decision", lambda n: scalper.on_candle(due, window, config))
    measure("rsi on_candle", lambda n: rsi.on_candle(candles[n % len(candles)], window, rsi_config))


def measure(name: str, call: Callable[[int], object]) -> None:
    """Print p50 and p99 in µs, less what the clock itself takes."""
    took, empty = [], []
    clock = time.perf_counter_ns
    for n in range(REPEATS):
        start = clock()
        call(n)
        took.append(clock() - start)
        start = clock()
        empty.append(clock() - start)
    took.sort()
    empty.sort()
    base = empty[REPEATS // 2]
    p50, p99 = ((took[int(REPEATS * share)] - base) / 1000 for share in (0.5, 0.99))
    print(f"{name:<40} p50 {p50:6.2f} µs   p99 {p99:6.2f} µs")


def a_market(seconds: int) -> list[Candle]:
    chance, price = random.Random(1), 60_000.0
    candles = []
    for n in range(seconds):
        price = round(price * (1 + chance.gauss(0, 2e-5)), 2)
        volume = chance.random()
        buys = volume * chance.random()
        candles.append(
            Candle(n * 1000, 1000, price, price + 1, price - 1, price, volume, volume * price, 9, buys, buys * price)
        )
    return candles


def a_model(rows: list[list[float]]) -> bytes:
    features = np.array(rows)
    labels = (features[:, 0] + np.random.default_rng(1).normal(size=len(rows)) * 2e-5 > 0).astype(float)
    data = lightgbm.Dataset(features, labels, feature_name=list(FEATURE_NAMES_IN_MODEL))
    parameters = {"objective": "binary", "num_leaves": 31, "num_threads": 1, "verbosity": -1}
    return str(lightgbm.train(parameters, data, num_boost_round=100).model_to_string()).encode()


if __name__ == "__main__":
    main()
