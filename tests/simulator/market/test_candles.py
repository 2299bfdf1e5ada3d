"""Which candles a request gets, whatever the interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.core.rules import SYMBOLS
from simulator.market.candles import INTERVALS, History, Trade, Trades, next_open, open_of
from simulator.market.generated import GeneratedTape
from simulator.market.replay import ReplayTape

NOW_MS = 1_790_000_045_678
BTC = SYMBOLS["BTCUSDT"]


@pytest.fixture(scope="module")
def history() -> History:
    return History(GeneratedTape(BTC, 7))


def a_tape(*trades: tuple[int, int, int]) -> ReplayTape:
    """(time_ms, ticks, lots)"""
    rows = [Trade(n, *trade, False) for n, trade in enumerate(trades, 1)]
    columns = [np.array(column, np.int64) for column in zip(*[row[:4] for row in rows], strict=True)]
    return ReplayTape(BTC, Trades(*columns, np.zeros(len(rows), np.bool_)))


def opens(candles) -> list[int]:
    return [second * 1000 for second in candles.open_s.tolist()]


def test_a_history_that_is_stopped_computes_no_further_hour():
    history = History(GeneratedTape(BTC, 7))
    month_ago = NOW_MS // 60_000 * 60_000 - 30 * 86_400_000

    history.stopped = True

    assert len(history.minutes(month_ago, NOW_MS)) < 60
    assert not history.is_ready(month_ago, NOW_MS)


def test_without_times_the_newest_come_and_the_last_is_open(history):
    candles = history.klines("1s", None, None, 3, NOW_MS)

    assert opens(candles) == [NOW_MS // 1000 * 1000 - 2000, NOW_MS // 1000 * 1000 - 1000, NOW_MS // 1000 * 1000]
    part = history.tape.trades(NOW_MS // 1000 * 1000, NOW_MS + 1)
    assert candles.volume[-1] == part.qty.sum()


def test_with_a_start_the_oldest_from_there_come(history):
    start = NOW_MS // 1000 * 1000 - 50_000
    assert opens(history.klines("1s", start, None, 2, NOW_MS)) == [start, start + 1000]
    assert opens(history.klines("1s", start - 999, None, 1, NOW_MS)) == [start]


def test_with_an_end_the_newest_up_to_it_come(history):
    end = NOW_MS // 1000 * 1000 - 50_000
    assert opens(history.klines("1s", None, end, 2, NOW_MS)) == [end - 1000, end]
    assert opens(history.klines("1s", None, end + 999, 1, NOW_MS)) == [end]


def test_with_both_the_end_bounds_what_the_start_begins(history):
    start = NOW_MS // 60_000 * 60_000 - 600_000
    assert opens(history.klines("1m", start, start + 120_000, 10, NOW_MS)) == [start, start + 60_000, start + 120_000]


def test_nothing_comes_from_the_future(history):
    for interval in INTERVALS:
        assert len(history.klines(interval, 10**19, None, 10, NOW_MS)) == 0
    assert opens(history.klines("1m", None, 10**19, 1, NOW_MS)) == [NOW_MS // 60_000 * 60_000]


def test_nothing_comes_from_before_the_market_began(history):
    first = history.tape.first_ms(NOW_MS)
    assert opens(history.klines("1d", 0, None, 1, NOW_MS)) == [first]
    assert len(history.klines("1d", None, None, 1000, NOW_MS)) == 31
    assert len(history.klines("1h", None, first - 1, 10, NOW_MS)) == 0


@settings(max_examples=30)
@given(interval=st.sampled_from(["1m", "3m", "5m", "15m", "1h"]), back=st.integers(0, 40))
def test_a_long_candle_is_the_sum_of_its_seconds(history, interval, back):
    open_ms = open_of(interval, NOW_MS - back * INTERVALS[interval])
    row = history.klines(interval, open_ms, None, 1, NOW_MS).rows()[0]
    end_s = min(next_open(interval, open_ms), NOW_MS // 1000 * 1000) // 1000
    seconds = history.tape.seconds(open_ms // 1000, end_s)
    tail = history.tape.trades(NOW_MS // 1000 * 1000, NOW_MS + 1) if back == 0 else None

    assert row[5] == seconds.volume.sum() + (tail.qty.sum() if tail else 0)
    assert row[1] == seconds.open[0]
    if back:
        assert row[2:5] == (seconds.high.max(), seconds.low.min(), seconds.close[-1])
        assert row[7] == seconds.count.sum()


def test_weeks_begin_on_monday_and_months_on_the_first():
    assert open_of("1w", 1_790_000_045_678) == 1_789_948_800_000  # Monday 21 September 2026
    assert open_of("1M", 1_790_000_045_678) == 1_788_220_800_000  # 1 September 2026
    assert next_open("1M", 1_788_220_800_000) == 1_790_812_800_000  # 1 October 2026


def test_a_second_without_trades_carries_the_last_close_with_no_volume():
    history = History(a_tape((1_000_100, 500, 3), (1_003_500, 510, 2)))

    rows = history.klines("1s", 0, None, 10, 1_003_999).rows()

    assert [row[:6] for row in rows] == [
        (1000, 500, 500, 500, 500, 3),
        (1001, 500, 500, 500, 500, 0),
        (1002, 500, 500, 500, 500, 0),
        (1003, 510, 510, 510, 510, 2),
    ]
    assert rows[1][10:] == (-1, -1)


def test_a_tape_that_ended_has_no_candle_after_its_end():
    history = History(a_tape((1_000_100, 500, 3), (1_003_500, 510, 2)))

    assert opens(history.klines("1s", None, None, 2, 9_999_999)) == [1_002_000, 1_003_000]
    assert history.klines("1m", None, None, 5, 9_999_999).volume.tolist() == [5]


def test_an_open_candle_counts_only_what_has_happened():
    history = History(a_tape((1_000_100, 500, 3), (1_000_500, 510, 2)))

    assert history.klines("1s", None, None, 1, 1_000_499).volume.tolist() == [3]
    assert history.klines("1s", None, None, 1, 1_000_500).volume.tolist() == [5]
    assert len(history.klines("1s", None, None, 1, 1_000_099)) == 0


HOUR_MS = 3_600_000


@settings(max_examples=40)
@given(interval=st.sampled_from(list(INTERVALS)), minutes=st.integers(-720, 840))
def test_candles_open_by_the_clock_of_the_time_zone(history, interval, minutes):
    offset = minutes * 60_000
    candles = history.klines(interval, NOW_MS - HOUR_MS, None, 3, NOW_MS + HOUR_MS, offset)

    for opened in opens(candles):
        assert open_of(interval, opened + offset) == opened + offset
        assert open_of(interval, opened, offset) == opened


def test_a_day_in_another_time_zone_is_made_of_its_hours(history):
    (day,) = history.klines("1d", None, NOW_MS - 48 * HOUR_MS, 1, NOW_MS, 8 * HOUR_MS).rows()
    hours = history.klines("1h", day[0] * 1000, None, 24, NOW_MS)

    assert day[0] % 86_400 == 16 * 3600
    assert day[2:6] == (hours.high.max(), hours.low.min(), hours.close[-1], hours.volume.sum())


def test_a_quiet_beginning_lends_a_long_candle_no_price():
    history = History(a_tape((1_019_000, 900, 1), (1_022_500, 500, 3), (1_030_000, 510, 2)))

    rows = history.klines("1m", 1_020_000, None, 1, 1_100_000).rows()

    assert [row[1:5] for row in rows] == [(500, 510, 500, 510)]


def test_hours_that_were_computed_are_at_hand():
    history = History(GeneratedTape(BTC, 7))
    start = NOW_MS - 10 * HOUR_MS

    assert not history.is_ready(start, NOW_MS)
    history.minutes(start // 60_000 * 60_000, NOW_MS)
    assert history.is_ready(start, NOW_MS)
    assert history.is_ready(start - 2 * HOUR_MS, NOW_MS)
    assert not history.is_ready(start - 3 * HOUR_MS, NOW_MS)
