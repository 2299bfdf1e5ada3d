"""Rolling windows say what adding up every single trade would say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.core.rules import SYMBOLS
from simulator.market.candles import DAY_MS, History, Trade, Trades
from simulator.market.generated import GeneratedTape
from simulator.market.replay import ReplayTape
from simulator.market.tickers import Stats, average_price, rolling_open, stats, window_ms

NOW_MS = 1_790_000_045_678
BTC = SYMBOLS["BTCUSDT"]


def a_tape(*trades: tuple[int, int, int]) -> ReplayTape:
    """(time_ms, ticks, lots)"""
    rows = [Trade(n, *trade, False) for n, trade in enumerate(trades, 1)]
    columns = [np.array(column, np.int64) for column in zip(*[row[:4] for row in rows], strict=True)]
    return ReplayTape(BTC, Trades(*columns, np.zeros(len(rows), np.bool_)))


def added_up(tape, open_ms: int, close_ms: int) -> Stats:
    trades = tape.trades(open_ms, close_ms + 1).rows()
    if not trades:
        return Stats(open_ms=open_ms, close_ms=close_ms)
    prices = [trade.price for trade in trades]
    return Stats(
        open_ms=open_ms,
        close_ms=close_ms,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        volume=sum(trade.qty for trade in trades),
        quote=sum(trade.price * trade.qty for trade in trades),
        count=len(trades),
        first_id=trades[0].id,
        last_id=trades[-1].id,
    )


@pytest.fixture(scope="module")
def history() -> History:
    return History(GeneratedTape(BTC, 7))


@settings(max_examples=40)
@given(now=st.integers(NOW_MS, NOW_MS + 7_200_000), length=st.integers(0, 3 * 3_600_000))
def test_a_window_of_the_generated_market_is_the_sum_of_its_trades(history, now, length):
    assert stats(history, now - length, now) == added_up(history.tape, now - length, now)


@settings(max_examples=200)
@given(
    trades=st.lists(
        st.tuples(st.integers(0, 200_000), st.integers(1, 900), st.integers(1, 50)), min_size=1, max_size=40
    ),
    now=st.integers(0, 300_000),
    length=st.integers(0, 300_000),
)
def test_a_window_of_a_sparse_market_is_the_sum_of_its_trades(trades, now, length):
    tape = a_tape(*[(1_000_000 + at, price, qty) for at, price, qty in sorted(trades, key=lambda trade: trade[0])])
    close_ms = 1_000_000 + now
    assert stats(History(tape), close_ms - length, close_ms) == added_up(tape, close_ms - length, close_ms)


def test_a_window_grows_and_forgets_as_the_clock_moves_on(history):
    seen = [stats(history, now - DAY_MS, now) for now in range(NOW_MS, NOW_MS + 180_000, 7_001)]
    fresh = [stats(History(history.tape), row.open_ms, row.close_ms) for row in seen[::8]]
    assert seen[::8] == fresh
    assert [row.first_id for row in seen] == sorted(row.first_id for row in seen)


def test_nothing_traded_is_all_zeros_with_ids_of_minus_one():
    history = History(a_tape((1_000_000, 500, 3)))
    assert stats(history, 1_000_001, 1_100_000) == Stats(open_ms=1_000_001, close_ms=1_100_000)
    assert stats(history, 0, 999_999).first_id == -1


def test_a_window_counts_nothing_from_the_future():
    history = History(a_tape((1_000_100, 500, 3), (1_000_500, 510, 2)))
    assert stats(history, 0, 1_000_499).volume == 3
    assert stats(history, 0, 1_000_500).volume == 5


def test_a_rolling_window_opens_on_a_minute():
    assert rolling_open(DAY_MS, 1_641_287_867_099) == 1_641_201_420_000


@pytest.mark.parametrize(
    ("size", "length"),
    [("1m", 60_000), ("59m", 59 * 60_000), ("23h", 23 * 3_600_000), ("7d", 7 * DAY_MS), ("60m", None), ("24h", None),
     ("8d", None), ("0m", None), ("1s", None), ("1M", None), ("1d2h", None), ("", None), ("5m\n", None)],
)  # fmt: skip
def test_windows_are_minutes_hours_or_days(size, length):
    assert window_ms(size) == length


def test_the_average_is_weighted_by_volume_over_five_minutes():
    history = History(a_tape((1_000_000, 500, 30), (1_100_000, 600, 1), (1_200_000, 700, 3)))
    assert average_price(history, 1_310_000) == (600 * 1 + 700 * 3, 4)  # 10 minutes' first trade is too old
    assert average_price(history, 9_000_000) == (700, 1)
    assert average_price(history, 999_999) is None
