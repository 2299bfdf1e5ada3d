"""How the page writes figures."""

from __future__ import annotations

import pytest

from simulator.core.rules import SYMBOLS
from simulator.page import figures
from simulator.page.sparkline import sparkline

BTC = SYMBOLS["BTCUSDT"]


def test_prices_and_quantities_have_the_symbols_own_decimals():
    assert figures.price(BTC, 6_701_240) == "67,012.40"
    assert figures.quantity(BTC, 1_000) == "0.01000"


@pytest.mark.parametrize(
    ("text", "digits", "zeros"),
    [
        ("1234567.50000000", "1,234,567.50", "000000"),
        ("0.00010000", "0.0001", "0000"),
        ("5.00000000", "5.00", "000000"),
        ("-0.10000001", "−0.10000001", ""),
    ],
)
def test_zeros_that_do_not_count_are_set_apart(text, digits, zeros):
    assert figures.amount(text) == (digits, zeros)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (725, "12 min 5 s"),
        (3600, "1 h"),
        (7260, "2 h 1 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_a_duration_is_its_two_largest_units(seconds, text):
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("now", "before", "text"),
    [(101, 100, "+1.00 %"), (99, 100, "−1.00 %"), (100, 100, "0.00 %"), (99_999_999, 100_000_000, "0.00 %")],
)
def test_a_change_has_its_sign_unless_it_rounds_to_nothing(now, before, text):
    assert figures.percent(now, before) == text


def test_times_are_utc():
    assert figures.clock(1_767_225_599_999) == "23:59:59"
    assert figures.day(1_767_225_599_999) == "2025-12-31"
    assert figures.moment(1_767_225_599_007) == "2025-12-31 23:59:59.007 UTC"


def test_a_line_runs_from_left_to_right_and_higher_prices_lie_higher():
    spark = sparkline([10, 30, 20], "10", "30")

    assert spark.points == "0.0,33.0 80.0,3.0 160.0,18.0"
    assert spark.end == ("160.0", "18.0")


def test_a_price_that_stands_still_is_a_level_line():
    assert sparkline([7, 7], "7", "7").points == "0.0,18.0 160.0,18.0"
