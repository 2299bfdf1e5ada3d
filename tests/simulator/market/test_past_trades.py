"""Which trades a request gets, on dense and on sparse tapes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.core.rules import SYMBOLS
from simulator.market import past_trades
from simulator.market.candles import Trade, Trades
from simulator.market.generated import GeneratedTape
from simulator.market.replay import ReplayTape

NOW_MS = 1_790_000_045_678
BTC = SYMBOLS["BTCUSDT"]


def a_tape(times: list[int]) -> ReplayTape:
    rows = [Trade(n, time_ms, 500, 1, False) for n, time_ms in enumerate(times, 1)]
    columns = [np.array(column, np.int64) for column in zip(*[row[:4] for row in rows], strict=True)]
    return ReplayTape(BTC, Trades(*columns, np.zeros(len(rows), np.bool_)))


def ids(trades: list[Trade]) -> list[int]:
    return [trade.id for trade in trades]


@settings(max_examples=150)
@given(
    gaps=st.lists(st.sampled_from([0, 1, 900, 70_000, 5_000_000, 400_000_000]), min_size=1, max_size=60),
    now=st.floats(0, 1.1),
    limit=st.integers(1, 70),
    trade_id=st.integers(0, 70),
)
def test_any_tape_gives_the_same_as_looking_at_every_trade(gaps, now, limit, trade_id):
    tape = a_tape([1_000_000 + sum(gaps[: n + 1]) for n in range(len(gaps))])
    now_ms = 1_000_000 + int(sum(gaps) * now)
    happened = [trade for trade in tape.recorded.rows() if trade.time_ms <= now_ms]
    middle = 1_000_000 + sum(gaps) // 2

    assert past_trades.newest(tape, now_ms + 1, limit, now_ms) == happened[-limit:]
    assert past_trades.newest(tape, middle, limit, now_ms) == [t for t in happened if t.time_ms < middle][-limit:]
    later = [trade for trade in happened if trade.time_ms >= middle]
    assert past_trades.oldest(tape, middle, now_ms + 1, limit, now_ms) == later[:limit]
    from_there = [trade for trade in happened if trade.id >= trade_id]
    assert past_trades.from_id(tape, trade_id, limit, now_ms) == from_there[:limit]


@pytest.mark.parametrize("back_s", [0, 1, 59, 600, 5_000, 86_400, 20 * 86_400])
def test_an_id_of_the_generated_market_is_found_however_old(back_s):
    tape = GeneratedTape(BTC, 7)
    second = NOW_MS // 1000 - back_s
    wanted = tape.trades(second * 1000, min(second * 1000 + 3000, NOW_MS + 1)).rows()
    assert past_trades.from_id(tape, second * 16, len(wanted), NOW_MS) == wanted


def test_ids_before_and_after_everything():
    tape = GeneratedTape(BTC, 7)
    (first,) = past_trades.from_id(tape, 0, 1, NOW_MS)
    assert first.time_ms // 1000 == tape.first_ms(NOW_MS) // 1000
    assert past_trades.from_id(tape, 10**18, 5, NOW_MS) == []


def test_a_tape_that_repeats_goes_on_counting():
    tape = replace(a_tape([1_000_000, 1_001_000, 1_002_000]), span_ms=4_000)
    assert ids(past_trades.from_id(tape, 5, 4, 1_050_000)) == [5, 6, 7, 8]
    assert ids(past_trades.newest(tape, 1_009_001, 4, 1_050_000)) == [5, 6, 7, 8]
