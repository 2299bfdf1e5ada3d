"""How good probabilities are, against what happened: no library, so that the figures are ours to explain."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

THRESHOLDS: Final = tuple(round(0.05 * n, 2) for n in range(2, 20))

Floats = np.ndarray[Any, np.dtype[np.float64]]


def scores(labels: Floats, probabilities: Floats) -> dict[str, Any]:
    """Log loss (and that of always stating the base rate), AUC, and per threshold how many decisions hit how often."""
    base_rate = float(labels.mean())
    return {
        "rows": len(labels),
        "base_rate": base_rate,
        "logloss": log_loss(labels, probabilities),
        "logloss_base_rate": log_loss(labels, np.full(len(labels), base_rate)),
        "auc": auc(labels, probabilities),
        "hit_rates": [_at(threshold, labels, probabilities) for threshold in THRESHOLDS],
    }


def log_loss(labels: Floats, probabilities: Floats) -> float:
    """Mean of −ln of the probability given to what happened."""
    p = np.clip(probabilities, 1e-15, 1 - 1e-15)
    return float(-(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean())


def auc(labels: Floats, probabilities: Floats) -> float | None:
    """How often a row that hit got a higher probability than one that did not, ties half; None without both kinds."""
    hits = int(labels.sum())
    misses = len(labels) - hits
    if not hits or not misses:
        return None
    _, inverse, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # of equal ones: their mean rank
    return float((ranks[labels == 1].sum() - hits * (hits + 1) / 2) / (hits * misses))


def _at(threshold: float, labels: Floats, probabilities: Floats) -> dict[str, Any]:
    chosen = probabilities >= threshold
    decisions = int(chosen.sum())
    return {
        "threshold": threshold,
        "decisions": decisions,
        "share": decisions / len(labels),
        "hit_rate": float(labels[chosen].mean()) if decisions else None,
    }
