"""Candles as trades: every column adds up again, whatever the candle was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simulator.core.rules import SYMBOLS
from simulator.market.candles import Candles, Trades, roll_up, second_candles
from simulator.market.replay.consistent import MANY, MAX_TRADES, Recorded, made_consistent
from simulator.market.replay.few import few_trades
from simulator.market.replay.tape import CandlePart, Recording, ReplayTape

OPEN_S = 1_735_689_600
MISSING = ("quote", "count", "taker_volume", "taker_quote")


def a_candle(prices: list[int], lots: list[int], makers: list[bool]) -> dict[str, int]:
    """The candle that an exchange records for these trades."""
    taken = [price * lot for price, lot, maker in zip(prices, lots, makers, strict=True) if not maker]
    return {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "volume": sum(lots),
        "quote": sum(price * lot for price, lot in zip(prices, lots, strict=True)),
        "count": len(prices),
        "taker_volume": sum(lot for lot, maker in zip(lots, makers, strict=True) if not maker),
        "taker_quote": sum(taken),
    }


def a_part(*candles: dict[str, int], length_s: int = 60, open_s: int = OPEN_S) -> CandlePart:
    columns = {name: np.array([candle[name] for candle in candles], np.int64) for name in candles[0]}
    opens = (open_s + length_s * np.arange(len(candles), dtype=np.int64)) * 1000
    length = np.full(len(candles), length_s * 1000, np.int64)
    return CandlePart("BTCUSDT", made_consistent(Recorded(opens, length, **columns)))


def rolled(trades: Trades, length_s: int) -> Candles:
    seconds = second_candles(trades, OPEN_S, int(trades.time_ms[-1]) // 1000 + 1 - OPEN_S, int(trades.price[0]))
    return roll_up(seconds, (seconds.open_s - OPEN_S) // length_s * length_s)


def differing(candle: dict[str, int], part: CandlePart, length_s: int = 60) -> set[str]:
    """The columns that the part's only candle does not meet."""
    trades = part.between(0, 10**15)
    assert (np.diff(trades.time_ms) >= 0).all()
    assert OPEN_S * 1000 <= trades.time_ms[0] < OPEN_S * 1000 + 1000
    assert trades.time_ms[-1] < (OPEN_S + length_s) * 1000
    assert trades.qty.min() > 0
    assert trades.id.tolist() == list(range(1, len(trades.id) + 1))
    row = rolled(trades, length_s)
    return {name for name, value in candle.items() if getattr(row, name).tolist() != [value]}


trades = st.builds(
    lambda base, rows: a_candle(
        [base + price for price, _, _ in rows], [lot for _, lot, _ in rows], [maker for _, _, maker in rows]
    ),
    st.integers(1, 10**7),
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 5000), st.booleans()), min_size=1, max_size=60),
)


@settings(max_examples=300)
@given(candle=trades, length_s=st.sampled_from([1, 60, 3600]))
@example(candle=a_candle([5] * 8, [1] * 8, [True] * 8), length_s=1)
@example(candle=a_candle([5, 9, 1, 7, 7, 7, 7, 7], [1] * 8, [True, False] * 4), length_s=60)
@example(candle=a_candle([1, 9, 9, 9, 9, 9, 9, 9, 1], [1, *[10**6] * 7, 1], [True, *[False] * 7, True]), length_s=60)
def test_a_candle_made_of_trades_is_met_in_every_column(candle, length_s):
    wrong = differing(candle, a_part(candle, length_s=length_s), length_s)
    assert wrong <= ({"quote", "taker_quote"} if candle["count"] < MANY else set())


few = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 300), st.booleans()), min_size=1, max_size=MANY - 1)


@settings(max_examples=300)
@given(rows=few)
def test_a_few_trades_miss_a_value_by_a_hair_if_at_all(rows):
    candle = a_candle([10**6 + row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    part = a_part(candle, length_s=1)
    trades = part.between(0, 10**15)
    missed = abs(int((trades.price * trades.qty).sum()) - candle["quote"])
    assert missed <= 2 * candle["volume"]  # two ticks: 2 millionths of the value
    assert not differing(candle, part, 1) - {"quote", "taker_quote"}


@pytest.mark.parametrize("count", range(1, MANY))
def test_most_candles_of_a_few_trades_are_met_in_every_column(count):
    chance = np.random.default_rng(count)
    exact = 0
    for _ in range(100):
        prices = (9_000_000 + np.cumsum(chance.integers(-3, 4, count))).tolist()
        lots = (1 + chance.exponential(800, count)).astype(int).tolist()
        candle = a_candle(prices, lots, (chance.random(count) < 0.5).tolist())
        exact += not differing(candle, a_part(candle, length_s=1), 1)
    assert exact >= 95


recorded = st.fixed_dictionaries({
    "prices": st.tuples(*[st.integers(1, 2000)] * 4),
    "volume": st.integers(4, 10**6),
    "quote": st.integers(-1, 10**10),
    "count": st.integers(-1, 2000),
    "taken": st.floats(-0.2, 1),
    "taker_quote": st.integers(-1, 10**10),
})  # fmt: skip


@settings(max_examples=300)
@given(what=recorded)
def test_whatever_was_recorded_prices_and_volumes_are_met(what):
    low, opened, close, high = sorted(what["prices"])
    candle = {
        "open": opened, "high": high, "low": low, "close": close, "volume": what["volume"], "quote": what["quote"],
        "count": what["count"], "taker_volume": max(-1, int(what["taken"] * what["volume"])),
        "taker_quote": what["taker_quote"],
    }  # fmt: skip
    wrong = differing(candle, a_part(candle))
    assert wrong <= {"quote", "count", "taker_quote"} | ({"taker_volume"} if candle["taker_volume"] < 0 else set())


@settings(max_examples=150)
@given(candle=trades, missing=st.sets(st.sampled_from(MISSING)))
def test_what_was_not_recorded_is_made_up_and_the_rest_is_met(candle, missing):
    given_up = {"quote", "taker_quote"} if candle["count"] < MANY or "taker_volume" in missing else set()
    without = {name: -1 if name in missing else value for name, value in candle.items()}
    wrong = differing(candle, a_part(without))
    if missing <= {"taker_quote"}:
        assert wrong <= given_up | missing
    assert not wrong & {"open", "high", "low", "close", "volume"} | (wrong & {"count"}) - missing


def test_a_walk_goes_everywhere_and_comes_back_the_same():
    prices = (6_000_000 + np.cumsum(np.random.default_rng(1).integers(-99, 100, 1000))).tolist()
    candle = a_candle(prices, [100, 200, 300, 400] * 250, [True, False] * 500)
    first, again = (a_part(candle).between(0, 10**15) for _ in range(2))

    assert first.price.tolist() == again.price.tolist()
    assert first.time_ms.tolist() == again.time_ms.tolist()
    assert len(np.unique(first.price)) > 300
    assert len(np.unique(first.time_ms // 1000)) == 60
    assert np.abs(np.diff(first.price)).mean() < (max(prices) - min(prices)) / 50


def test_a_crowded_candle_is_thinned_out():
    prices, lots = [100, 103, 99, 101], [10**6] * 4
    candle = a_candle(prices, lots, [True, False] * 2) | {"count": MAX_TRADES + 1}
    assert differing(candle, a_part(candle)) == {"count"}
    assert a_part(candle).count() == MAX_TRADES


def test_an_impossible_value_moves_to_the_nearest_possible_one():
    candle = a_candle([100, 110, 90, 100], [10, 10, 10, 10], [True, False] * 2) | {"count": 12}
    part = a_part(candle | {"quote": 10**9, "taker_quote": -1})
    trades = part.between(0, 10**15)
    assert int((trades.price * trades.qty).sum()) == 40 * 110 - 10 - 20 - 10  # all at the high but for one lot each


def test_seconds_that_are_told_are_those_that_are_traded():
    chance = np.random.default_rng(1)
    candles = []
    for count in (3, 40, 1, 12, 7, 9):
        prices = (10_000 + chance.integers(-2, 3, count)).tolist()
        candles.append(a_candle(prices, chance.integers(1, 90, count).tolist(), (chance.random(count) < 0.5).tolist()))
    part = a_part(*candles, length_s=1)
    tape = ReplayTape(SYMBOLS["BTCUSDT"], Recording([part]))

    told = tape.seconds(OPEN_S, OPEN_S + len(candles))

    made = second_candles(part.between(0, 10**15), OPEN_S, len(candles), 0)
    assert told.rows() == made.rows()
    assert told.count.tolist() == [3, 40, 1, 12, 7, 9]


@pytest.mark.parametrize("shift_s", [0, 120, 7])
@pytest.mark.parametrize("span_s", [None, 300, 303])
def test_minutes_are_what_their_seconds_add_up_to(shift_s, span_s):
    chance = np.random.default_rng(2)
    parts, at = [], OPEN_S // 60 * 60
    for length_s, counts in ((60, (30, 3, 1)), (1, (9, 20)), (60, (8,)), (300, (40,))):
        candles = []
        for count in counts:
            prices = (10_000 + chance.integers(-50, 60, count)).tolist()
            lots, makers = chance.integers(1, 90, count).tolist(), (chance.random(count) < 0.5).tolist()
            candles.append(a_candle(prices, lots, makers))
        parts.append(a_part(*candles, length_s=length_s, open_s=at))
        at += 60 * len(counts)
    tape = ReplayTape(SYMBOLS["BTCUSDT"], Recording(parts), span_s and (span_s + 600) * 1000, shift_s * 1000)
    start = tape.first_ms(0) // 60_000 * 60

    for begin, end in ((start - 120, start + 180), (start + 60, start + 1800), (start + 600, start + 660)):
        seconds = tape.seconds(begin, end)
        assert tape.minutes(begin, end).rows() == roll_up(seconds, seconds.open_s // 60 * 60).rows()


def test_impossible_demands_on_a_few_trades_are_refused():
    with pytest.raises(ValueError, match="1 trades cannot visit"):
        few_trades([100], 100, 100, 10, 1000, 1, 5, 500)
