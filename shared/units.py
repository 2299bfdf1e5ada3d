"""Exact arithmetic for prices, quantities and money.

Everything here is ``Decimal`` in, ``Decimal`` out; ``float`` appears only where a market price that arrived as a
float is made exact again.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

ZERO = Decimal(0)
_WIDE = Context(prec=60)


def plain(value: Decimal) -> str:
    """*value* without an exponent and without trailing zeros: ``Decimal("1E-7")`` → ``"0.0000001"``."""
    if not value.is_finite():
        raise ValueError(f"{value} is not a finite amount")
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def exact(value: float) -> Decimal:
    """The decimal a float was read from: exact for up to 15 significant digits, which every price here has."""
    return Decimal(repr(value))


def round_down(value: Decimal, step: Decimal) -> Decimal:
    """Largest multiple of *step* not above *value*; *step* > 0. Raises ValueError for other steps."""
    return _multiple(value, step, ROUND_FLOOR)


def round_up(value: Decimal, step: Decimal) -> Decimal:
    """Smallest multiple of *step* not below *value*; *step* > 0. Raises ValueError for other steps."""
    return _multiple(value, step, ROUND_CEILING)


def _multiple(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    if not step > 0:
        raise ValueError(f"step must be above 0, not {step}")
    return _WIDE.multiply(_WIDE.divide(value, step).to_integral_value(rounding), step)
