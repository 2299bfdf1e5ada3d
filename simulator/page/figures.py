"""How the page writes figures: exact, aligned, and with what does not count dimmed.

Pure. Amounts come in as decimal text with 8 places, times as UTC milliseconds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from simulator.core.rules import SymbolRules

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400


class Amount(NamedTuple):
    """A figure in two parts: *digits* count, *zeros* only keep the columns aligned."""

    digits: str
    zeros: str

    def __str__(self) -> str:
        return self.digits + self.zeros


def price(rules: SymbolRules, ticks: int) -> str:
    """A price with the symbol's own decimals: ``67,012.40``."""
    return _grouped(rules.price_text(ticks), rules.price_digits)


def quantity(rules: SymbolRules, lots: int) -> str:
    """A quantity with the symbol's own decimals: ``0.01000``."""
    return _grouped(rules.qty_text(lots), rules.qty_digits)


def amount(text: str) -> Amount:
    """All 8 places of an amount; zeros after the second place that nothing follows are set apart."""
    shown = _grouped(text, 8)
    whole, _, part = shown.partition(".")
    counts = max(2, len(part.rstrip("0")))
    return Amount(f"{whole}.{part[:counts]}", part[counts:])


def clock(time_ms: int) -> str:
    """``12:03:09``."""
    return f"{_utc(time_ms):%H:%M:%S}"


def day(time_ms: int) -> str:
    """``2026-11-29``."""
    return f"{_utc(time_ms):%Y-%m-%d}"


def moment(time_ms: int) -> str:
    """Day, clock and milliseconds, for whoever points at a time."""
    return f"{_utc(time_ms):%Y-%m-%d %H:%M:%S}.{time_ms % 1000:03d} UTC"


def duration(seconds: float) -> str:
    """The two largest units: ``3 d 4 h``, ``12 min 5 s``, ``8 s``."""
    whole = int(seconds)
    for size, unit, next_size, next_unit in ((DAY_S, "d", HOUR_S, "h"), (HOUR_S, "h", MINUTE_S, "min"),
                                             (MINUTE_S, "min", 1, "s")):  # fmt: skip
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {unit} {rest} {next_unit}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def percent(now: float, before: float) -> str:
    """The change with its sign: ``+0.12 %``."""
    change = (now / before - 1) * 100 if before else 0.0
    text = f"{abs(change):.2f}"
    return f"{'−' if change < 0 else '+'}{text} %" if float(text) else "0.00 %"


def _grouped(text: str, digits: int) -> str:
    whole, _, part = text.partition(".")
    sign, whole = ("−", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(whole):,}" + (f".{part[:digits]}" if digits else "")


def _utc(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms // 1000, UTC)
