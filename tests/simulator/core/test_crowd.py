"""The crowd is a pure function, one price at a time or many."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulator.core.crowd import REDRAWN_S, Crowd

prices = st.integers(1, 10**9)
seconds = st.integers(0, 4 * 10**9)


@given(key=st.integers(0, 2**64 - 1), typical=st.integers(1, 10**7), start=prices, second=seconds,
       sign=st.sampled_from([1, -1]))  # fmt: skip
def test_a_ladder_holds_what_each_of_its_prices_holds(key, typical, start, second, sign):
    crowd = Crowd(key, typical)
    ladder = start + np.arange(40, dtype=np.int64)
    assert crowd.ladder(sign, ladder, second).tolist() == [crowd.lots(sign, p, second) for p in ladder.tolist()]


@given(price=prices, second=seconds)
def test_a_price_holds_the_same_until_it_is_drawn_anew(price, second):
    crowd = Crowd(7, 1000)
    following = [second + n for n in range(1, REDRAWN_S + 1)]
    same = [s for s in following if crowd.epoch(price, s) == crowd.epoch(price, second)]
    assert len(same) < REDRAWN_S
    assert {crowd.lots(1, price, s) for s in same} <= {crowd.lots(1, price, second)}


def test_prices_hold_about_a_usual_trade_each_and_round_ones_more():
    crowd = Crowd(7, 1000)
    plain = [crowd.lots(1, price, 0) for price in range(100_001, 100_100)]
    assert min(plain) >= 1
    assert 800 < sum(plain) / len(plain) < 2000
    round_ones = [crowd.lots(1, price, 0) for price in range(100_000, 300_000, 100)]
    assert sum(round_ones) / len(round_ones) > 4000


def test_keys_and_sides_are_worlds_of_their_own():
    lots = {(key, sign): Crowd(key, 1000).lots(sign, 12_345, 99) for key in (1, 2) for sign in (1, -1)}
    assert len(set(lots.values())) == 4
