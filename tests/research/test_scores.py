from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.scores import auc, log_loss, scores


def test_log_loss_is_the_mean_surprise():
    labels, probabilities = np.array([1.0, 0.0]), np.array([0.8, 0.4])

    assert log_loss(labels, probabilities) == pytest.approx(-(log(0.8) + log(0.6)) / 2)


def test_auc_without_both_outcomes_is_unknown():
    assert auc(np.array([1.0, 1.0]), np.array([0.1, 0.9])) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_the_right_order_with_ties_half(rows):
    hits = [p for hit, p in rows if hit]
    misses = [p for hit, p in rows if not hit]
    pairs = [(h > m) + (h == m) / 2 for h in hits for m in misses]

    ours = auc(np.array([float(hit) for hit, _ in rows]), np.array([p / 5 for _, p in rows]))

    assert ours == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


def test_hit_rates_count_what_a_threshold_would_have_chosen():
    seen = scores(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.62, 0.61, 0.2]))

    rows = {row["threshold"]: row for row in seen["hit_rates"]}
    assert rows[0.6] == {"threshold": 0.6, "decisions": 3, "share": 0.75, "hit_rate": pytest.approx(2 / 3)}
    assert rows[0.95]["hit_rate"] is None
    assert seen["base_rate"] == 0.5
    assert seen["logloss_base_rate"] == pytest.approx(log(2))
