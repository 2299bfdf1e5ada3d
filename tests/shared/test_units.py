"""Exact arithmetic: rounding never adds risk, and amounts are written plainly."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.units import exact, plain, round_down, round_up

D = Decimal
values = st.decimals("-1e9", "1e9", places=8)
steps = st.sampled_from([D("0.01"), D("0.00001"), D("1E-8"), D(1), D("1E+1"), D("0.5"), D("0.003")])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (D("1E-7"), "0.0000001"), (D("1E+3"), "1000"), (D("10"), "10"), (D("10.500"), "10.5"), (D("0E-8"), "0"),
        (D("-0.00"), "0"), (D("-1.50"), "-1.5"), (D("100.00"), "100"),
    ],
)  # fmt: skip
def test_an_amount_is_written_without_exponent_and_trailing_zeros(value, text):
    assert plain(value) == text


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_what_is_no_amount_is_refused(value):
    with pytest.raises(ValueError, match="not a finite amount"):
        plain(D(value))


@given(values)
def test_a_plain_amount_reads_back_as_itself(value):
    assert D(plain(value)) == value


@pytest.mark.parametrize(("value", "decimal"), [(0.1, "0.1"), (1e-7, "0.0000001"), (67000.01, "67000.01"), (5.0, "5")])
def test_a_float_is_read_as_the_decimal_it_came_from(value, decimal):
    assert exact(value) == D(decimal)


@given(st.decimals("0.00000001", "1000000", places=8).filter(lambda d: len(d.normalize().as_tuple().digits) <= 15))
def test_prices_of_up_to_fifteen_digits_survive_being_floats(price):
    assert exact(float(price)) == price


@pytest.mark.parametrize(
    ("value", "step", "down", "up"),
    [
        ("1.2345", "0.01", "1.23", "1.24"),
        ("1.23", "0.01", "1.23", "1.23"),
        ("17", "5", "15", "20"),
        ("-1.2345", "0.01", "-1.24", "-1.23"),
        ("0.0000001", "1", "0", "1"),
    ],
)
def test_rounding_to_steps(value, step, down, up):
    assert round_down(D(value), D(step)) == D(down)
    assert round_up(D(value), D(step)) == D(up)


@given(values, steps)
def test_rounding_stays_on_its_side_and_within_a_step(value, step):
    down, up = round_down(value, step), round_up(value, step)

    assert down <= value <= up
    assert value - down < step
    assert up - value < step
    assert down % step == up % step == 0


@given(values, steps)
def test_rounding_what_is_rounded_changes_nothing(value, step):
    once = round_down(value, step)

    assert round_down(once, step) == round_up(once, step) == once


@pytest.mark.parametrize("step", ["0", "-1", "NaN"])
def test_a_step_must_be_above_nothing(step):
    with pytest.raises((ValueError, ArithmeticError)):
        round_down(D(1), D(step))
