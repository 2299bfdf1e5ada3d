"""The features that a model sees: `compute` turns a full window of one-second candles into `FEATURES`, in that order.

Live bots, the backtester and training call the same function, and each window is computed from its own rows only, so
that a decision can be repeated bit for bit. Every sum runs over the rows one by one, newest first
(`itertools.accumulate`): neither the built-in ``sum`` (compensated since Python 3.12) nor numpy's (its order depends on
the processor) promises the same last bit everywhere. A change of any formula or name needs a new `SCHEMA`.

Returns, gaps, ranges and volatilities are fractions of the price. The number in a name is a length in seconds.
"""

from __future__ import annotations

from itertools import accumulate
from math import sqrt
from operator import mul, sub
from typing import Final

from bots.core.candles import Window

SCHEMA: Final = "v1"

FEATURES: Final = (
    "return_1",
    "return_5",
    "return_15",
    "return_30",
    "return_59",
    "momentum_change_5",  # the last 5 seconds' return less that of the 5 before
    "range_60",  # highest high less lowest low
    "range_position_60",  # where the close lies between them: 0 low, 1 high, 0.5 if they are equal
    "range_position_20",
    "ma_gap_5",  # close over its moving average, less 1
    "ma_gap_10",
    "ma_gap_20",
    "ma_gap_30",
    "volatility_14",  # root of the mean squared change from second to second
    "volatility_30",
    "volatility_59",
    "rsi_14",  # rises in percent of rises and falls, all seconds weighing the same; 50 if the price stood still
    "rsi_30",
    "volume_ratio_5",  # mean volume of 5 seconds over that of the window; 1 if nothing was traded
    "trade_ratio_5",  # the same with the number of trades
    "vwap_gap_60",  # close over the volume-weighted average price, less 1; 0 if nothing was traded
    "taker_flow_5",  # takers' buys less their sells, over the volume: -1 to 1; 0 if nothing was traded
    "taker_flow_20",
    "taker_flow_60",
)

FEATURE_NAMES_IN_MODEL: Final = tuple(f"{SCHEMA}.{name}" for name in FEATURES)
"""As written into a model file, so that a model of another schema is recognised."""


def compute(window: Window) -> list[float]:
    """The features of *window*, which must be full; prices in it are above 0. All are finite."""
    closes = window.closes[::-1]
    close = closes[0]
    changes = list(map(sub, closes, closes[1:]))
    moves = list(accumulate(map(abs, changes)))
    squares = list(accumulate(map(mul, changes, changes)))
    averages = list(accumulate(closes[:30]))

    lows, highs = window.lows, window.highs
    low, high = min(lows), max(highs)
    low_20, high_20 = min(lows[-20:]), max(highs[-20:])

    volumes = list(accumulate(window.volumes[::-1]))
    buys = list(accumulate(window.taker_bases[::-1]))
    volume_5, volume_20, volume = volumes[4], volumes[19], volumes[59]
    quote = list(accumulate(window.quote_volumes[::-1]))[59]
    trades = window.trades
    trade_count = sum(trades)

    move_14, move_30 = moves[13], moves[29]
    close_5, close_30 = closes[5], closes[30]
    return [
        close / closes[1] - 1.0,
        close / close_5 - 1.0,
        close / closes[15] - 1.0,
        close / close_30 - 1.0,
        close / closes[59] - 1.0,
        (close - close_5 - (close_5 - closes[10])) / close,
        (high - low) / close,
        (close - low) / (high - low) if high > low else 0.5,
        (close - low_20) / (high_20 - low_20) if high_20 > low_20 else 0.5,
        close / (averages[4] / 5.0) - 1.0,
        close / (averages[9] / 10.0) - 1.0,
        close / (averages[19] / 20.0) - 1.0,
        close / (averages[29] / 30.0) - 1.0,
        sqrt(squares[13] / 14.0) / close,
        sqrt(squares[29] / 30.0) / close,
        sqrt(squares[58] / 59.0) / close,
        50.0 + 50.0 * ((close - closes[14]) / move_14) if move_14 > 0.0 else 50.0,
        50.0 + 50.0 * ((close - close_30) / move_30) if move_30 > 0.0 else 50.0,
        12.0 * (volume_5 / volume) if volume > 0.0 else 1.0,
        12.0 * (sum(trades[-5:]) / trade_count) if trade_count > 0 else 1.0,
        close / (quote / volume) - 1.0 if volume > 0.0 and quote > 0.0 else 0.0,
        2.0 * (buys[4] / volume_5) - 1.0 if volume_5 > 0.0 else 0.0,
        2.0 * (buys[19] / volume_20) - 1.0 if volume_20 > 0.0 else 0.0,
        2.0 * (buys[59] / volume) - 1.0 if volume > 0.0 else 0.0,
    ]
