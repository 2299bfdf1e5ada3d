"""Triple-barrier labels: is a long entry's target reached before its stop, within the horizon?"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from bots.core.candles import SECOND_MS

UNKNOWN: Final = -1

Floats = np.ndarray[Any, np.dtype[np.float64]]


def label(
    open_ms: np.ndarray[Any, np.dtype[np.int64]],
    highs: Floats,
    lows: Floats,
    closes: Floats,
    *,
    horizon: int,
    target: float,
    stop: float,
) -> np.ndarray[Any, np.dtype[np.int8]]:
    """A label for each one-second candle, as if bought at its close; *horizon* in s, *target* and *stop* as fractions.

    1: within the next *horizon* candles a high reaches ``close * (1 + target)`` while no low up to then, that candle's
    own included, reaches ``close * (1 - stop)``. 0: the stop came first or the time ran out. `UNKNOWN`: a candle of the
    horizon is missing. The whole horizon must be there even when a barrier is hit early: else quick hits alone would
    count before every gap and at the end, and the share of hits would be too high.
    """
    n = len(closes)
    labels = np.full(n, UNKNOWN, dtype=np.int8)
    if n <= horizon:
        return labels
    entries = closes[: n - horizon]
    above, below = entries * (1.0 + target), entries * (1.0 - stop)
    won = np.zeros(n - horizon, dtype=bool)
    undecided = np.ones(n - horizon, dtype=bool)
    for step in range(1, horizon + 1):
        ahead = slice(step, step + n - horizon)
        stopped = lows[ahead] <= below
        won |= undecided & ~stopped & (highs[ahead] >= above)
        undecided &= ~stopped & ~won
    whole = open_ms[horizon:] - open_ms[: n - horizon] == horizon * SECOND_MS
    labels[: n - horizon][whole] = won[whole]
    return labels
