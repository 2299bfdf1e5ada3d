from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bots.core.candles import WINDOW, BarBuilder, Candle, Window, candle_from_kline_event, candle_from_kline_row

MINUTE_MS = 60_000
NOON_MS = 1_700_049_600_000


def a_second(n: int, close: float = 100.0, *, backfilled: bool = False, **values: float) -> Candle:
    """The *n*-th second after noon."""
    high, low = values.get("high", close), values.get("low", close)
    volume = values.get("volume", 1.0)
    return Candle(NOON_MS + n * 1000, 1000, close, high, low, close, volume, volume * close, 2, 0.25, 25.0, backfilled)


def test_a_candle_ends_when_its_interval_is_over():
    assert Candle(NOON_MS, MINUTE_MS, 1, 1, 1, 1, 0, 0, 0, 0, 0).end_ms == NOON_MS + MINUTE_MS


def test_a_kline_event_and_a_rest_row_of_the_same_second_are_the_same_candle():
    event = {
        "t": NOON_MS, "T": NOON_MS + 999, "s": "BTCUSDT", "i": "1s", "f": 1, "L": 3, "o": "67000.01", "c": "67000.50",
        "h": "67001.00", "l": "66999.99", "v": "0.12345", "n": 3, "x": True, "q": "8271.20", "V": "0.10000",
        "Q": "6700.05", "B": "0",
    }  # fmt: skip
    row = [
        NOON_MS, "67000.01", "67001.00", "66999.99", "67000.50", "0.12345", NOON_MS + 999, "8271.20", 3, "0.10000",
        "6700.05", "0",
    ]  # fmt: skip

    candle = candle_from_kline_event(event)

    assert candle == Candle(
        NOON_MS, 1000, 67000.01, 67001.0, 66999.99, 67000.5, 0.12345, 8271.2, 3, 0.1, 6700.05, backfilled=False
    )
    assert candle_from_kline_row(row, 1000, backfilled=False) == candle
    assert candle_from_kline_row(row, 1000, backfilled=True).backfilled


def test_a_window_is_full_after_sixty_seconds_and_then_keeps_the_last_sixty():
    window = Window()
    for n in range(59):
        window.push(a_second(n, close=n))
    assert not window.full

    window.push(a_second(59, close=59))
    assert window.full
    window.push(a_second(60, close=60))

    assert window.closes == [float(n) for n in range(1, 61)]
    assert window.end_ms == NOON_MS + 61_000


def test_a_missing_second_empties_the_window():
    window = Window()
    for n in range(60):
        window.push(a_second(n))

    window.push(a_second(61, close=7.0))

    assert not window.full
    assert window.closes == window.highs == window.lows == [7.0]


def test_a_second_that_comes_twice_counts_as_a_gap():
    window = Window()
    window.push(a_second(0))
    window.push(a_second(1))

    window.push(a_second(1))

    assert len(window.closes) == 1


@given(st.lists(st.integers(1, 3), min_size=1, max_size=200))
def test_all_columns_hold_the_last_seconds_since_the_latest_gap(steps):
    window, run = Window(), []
    n = 0
    for step in steps:
        n += step
        candle = a_second(n, close=float(n), volume=n / 8)
        run = [candle] if step > 1 else [*run, candle][-WINDOW:]
        window.push(candle)

    assert window.closes == [c.close for c in run]
    assert window.volumes == [c.volume for c in run]
    assert window.quote_volumes == [c.quote_volume for c in run]
    assert len(window.highs) == len(window.lows) == len(window.taker_bases) == len(window.trades) == len(run)
    assert window.full == (len(run) == WINDOW)


def test_bars_of_a_second_are_the_candles_themselves():
    candle = a_second(3)

    assert BarBuilder(1000).push(candle) is candle


def test_a_minute_is_built_from_its_sixty_seconds():
    builder = BarBuilder(MINUTE_MS)
    closes = [100.0 + n for n in range(60)]

    bars = [builder.push(a_second(n, close, high=close + 1, low=close - 2)) for n, close in enumerate(closes)]

    assert bars[:59] == [None] * 59
    assert bars[59] == Candle(
        open_ms=NOON_MS,
        interval_ms=MINUTE_MS,
        open=100.0,
        high=160.0,  # 159 + 1
        low=98.0,  # 100 − 2
        close=159.0,
        volume=60.0,
        quote_volume=sum(closes),
        trades=120,
        taker_base=15.0,
        taker_quote=1500.0,
    )


def test_a_first_bar_that_began_earlier_is_dropped():
    builder = BarBuilder(MINUTE_MS)

    bars = [bar for n in range(30, 120) if (bar := builder.push(a_second(n)))]

    assert [bar.open_ms for bar in bars] == [NOON_MS + MINUTE_MS]


def test_a_bar_that_misses_a_second_is_dropped_and_the_next_one_is_whole_again():
    builder = BarBuilder(MINUTE_MS)

    bars = [bar for n in range(180) if n != 70 and (bar := builder.push(a_second(n)))]

    assert [bar.open_ms for bar in bars] == [NOON_MS, NOON_MS + 2 * MINUTE_MS]


def test_a_bar_is_backfilled_when_its_last_second_is():
    def last_bar(backfilled: set[int]) -> Candle:
        builder = BarBuilder(MINUTE_MS)
        bars = [builder.push(a_second(n, backfilled=n in backfilled)) for n in range(60)]
        assert bars[-1]
        return bars[-1]

    assert not last_bar(set(range(59))).backfilled
    assert last_bar({59}).backfilled
