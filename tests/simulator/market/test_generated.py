"""The generated market: any second computed directly, the same from wherever one looks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.core.rules import SYMBOLS
from simulator.market.candles import Candles
from simulator.market.generated import BLOCK_S, GeneratedTape, compute

NOW_S = 1_790_000_040
BTC = SYMBOLS["BTCUSDT"]
minutes = st.integers(20_000_000, 40_000_000)


def equal(one: Candles, other: Candles) -> bool:
    return one.rows() == other.rows()


@settings(max_examples=25)
@given(minute=minutes, before=st.integers(0, 90), seed=st.integers(0, 2**40), symbol=st.sampled_from(sorted(SYMBOLS)))
def test_a_second_does_not_depend_on_where_the_computation_starts(minute, before, seed, symbol):
    rules, start = SYMBOLS[symbol], minute * 60
    _, here = compute(rules, seed, start, start + 30)

    _, from_before = compute(rules, seed, start - before * 60, start + 77)

    assert equal(here, from_before.pick(slice(before * 60, before * 60 + 30)))


@settings(max_examples=25)
@given(minute=minutes, offset=st.integers(0, 3 * BLOCK_S), length=st.integers(1, 2 * BLOCK_S))
def test_the_cached_tape_equals_the_bare_computation(minute, offset, length):
    start = minute * 60
    tape = GeneratedTape(BTC, 7)

    part = tape.seconds(start + offset, start + offset + length)

    _, whole = compute(BTC, 7, start, start + offset + length)
    assert equal(part, whole.pick(slice(offset, None)))


@settings(max_examples=25)
@given(minute=minutes, length=st.integers(1, 120))
def test_candles_are_what_the_trades_add_up_to(minute, length):
    trades, candles = compute(BTC, 7, minute * 60, minute * 60 + length)
    close = None
    for number, row in enumerate(candles.rows()):
        second = minute * 60 + number
        mine = [trade for trade in trades.rows() if trade.time_ms // 1000 == second]
        prices = [trade.price for trade in mine] or [close]
        close = prices[-1]
        assert row == (
            second,
            prices[0],
            max(prices),
            min(prices),
            close,
            sum(t.qty for t in mine),
            sum(t.qty * t.price for t in mine),
            len(mine),
            sum(t.qty for t in mine if not t.buyer_maker),
            sum(t.qty * t.price for t in mine if not t.buyer_maker),
            mine[0].id if mine else -1,
            mine[-1].id if mine else -1,
        )


def test_trade_ids_and_times_ascend_and_quantities_are_positive():
    trades, _ = compute(BTC, 7, NOW_S, NOW_S + 3600)

    assert (np.diff(trades.id) > 0).all()
    assert (np.diff(trades.time_ms) >= 0).all()
    assert (trades.qty > 0).all()


def test_another_seed_is_another_market():
    assert not equal(compute(BTC, 7, NOW_S, NOW_S + 60)[1], compute(BTC, 8, NOW_S, NOW_S + 60)[1])


def test_both_quotes_of_a_coin_move_together():
    usdt = compute(SYMBOLS["BTCUSDT"], 7, NOW_S, NOW_S + 600)[1].close
    usdc = compute(SYMBOLS["BTCUSDC"], 7, NOW_S, NOW_S + 600)[1].close

    assert np.abs(usdt / usdc - 1).max() < 0.0005


def test_thirty_seconds_usually_move_two_to_six_basis_points_and_rarely_twenty():
    _, candles = compute(BTC, 7, NOW_S, NOW_S + 86_400)
    moves = np.abs(np.log(candles.close[30:] / candles.close[:-30])) * 1e4

    assert 2 < np.median(moves) < 6
    assert (moves > 20).mean() < 0.02


def test_a_few_seconds_are_idle():
    _, candles = compute(BTC, 7, NOW_S, NOW_S + 86_400)

    assert 0.01 < (candles.count == 0).mean() < 0.06


def test_flow_and_drift_of_the_last_seconds_tell_something_about_the_next():
    _, candles = compute(BTC, 7, NOW_S, NOW_S + 2 * 86_400)
    price = np.log(candles.close.astype(float))
    imbalance = (2 * candles.taker_volume - candles.volume) / np.maximum(candles.volume, 1)
    flow = np.convolve(imbalance, np.ones(10), "valid")  # of the ten seconds up to 9, 10, 11 …
    at = np.arange(9, len(price) - 30)

    ahead = price[at + 30] - price[at]
    behind = price[at] - price[at - 9]

    assert np.corrcoef(flow[: len(at)], ahead)[0, 1] > 0.15
    assert np.corrcoef(behind, ahead)[0, 1] > 0.1


def test_a_start_off_the_minute_is_a_mistake():
    with pytest.raises(ValueError, match="not on a minute"):
        compute(BTC, 7, NOW_S + 1, NOW_S + 2)
