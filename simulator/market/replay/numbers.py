"""Text columns as integers, a million rows at a time.

A `Texts` is one column as it stands in a file: the bytes, and where each field begins and ends. The readers here turn
it into numbers digit by digit, without floating point, and say which rows they could not read; what is done about
those is for the caller to say. Leaves out files, column names and what the numbers mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.market.candles import Ints

Bools = NDArray[np.bool_]

PLACES = 8  # decimals that are kept; nothing on an exchange is finer
_DIGITS, _DECIMALS = 15, 20  # as many are read; floating-point sums leave up to 17
_MAX_WIDTH = _DIGITS + 1 + _DECIMALS
_TRUE, _FALSE = (b"1", b"true", b"True"), (b"0", b"false", b"False")
_POINT, _ZERO = ord("."), ord("0")


@dataclass(frozen=True, slots=True)
class Texts:
    """One column's fields: bytes [start, end) of *bytes* each."""

    bytes: NDArray[np.uint8]
    start: Ints
    end: Ints

    def __len__(self) -> int:
        return len(self.start)

    def text(self, row: int) -> str:
        """One field as text, for a message."""
        return self.bytes[self.start[row] : self.end[row]].tobytes().decode(errors="replace")

    def empty(self) -> Bools:
        """Which fields hold nothing."""
        return self.start == self.end


@dataclass(frozen=True, slots=True)
class Decimals:
    """Non-negative decimals: *whole* and *part* in 1e-8. *finer*: further digits that are not zero; *up*: they would
    round up."""

    whole: Ints
    part: Ints
    finer: Bools
    up: Bools

    def __len__(self) -> int:
        return len(self.whole)

    def pick(self, rows: Bools) -> Decimals:
        """The chosen rows."""
        return Decimals(self.whole[rows], self.part[rows], self.finer[rows], self.up[rows])

    def places(self) -> int:
        """How many decimals the longest needs, 0–8."""
        return next((n for n in range(PLACES) if not (self.part % 10 ** (PLACES - n)).any()), PLACES)

    def fits(self, places: int) -> Bools:
        """Which ones have no more than *places* decimals."""
        return ~self.finer & (self.part % 10 ** (PLACES - places) == 0)

    def small(self, places: int, below: float) -> Bools:
        """Which ones are below *below*, in units of 10^-*places*."""
        return self.whole.astype(np.float64) * 10.0**places < below

    def rounded(self) -> Decimals:
        """Without what is finer than eight decimals: the traces of floating-point sums."""
        carried = self.part + self.up
        nothing = np.zeros(len(self), np.bool_)
        return Decimals(self.whole + carried // 10**PLACES, carried % 10**PLACES, nothing, nothing)

    def floor(self, places: int) -> Ints:
        """In units of 10^-*places*; further decimals are dropped."""
        return self.whole * 10**places + self.part // 10 ** (PLACES - places)

    def round(self, places: int) -> Ints:
        """In units of 10^-*places*, to the nearest, half up."""
        unit = 10 ** (PLACES - places)
        return self.whole * 10**places + (self.part + unit // 2) // unit


def stacked(parts: list[Decimals]) -> Decimals:
    """One column out of its pieces."""
    if len(parts) == 1:
        return parts[0]
    return Decimals(
        np.concatenate([part.whole for part in parts]),
        np.concatenate([part.part for part in parts]),
        np.concatenate([part.finer for part in parts]),
        np.concatenate([part.up for part in parts]),
    )


def read_decimals(texts: Texts) -> tuple[Decimals, Bools]:
    """The column as decimals, and which rows are not of the form 123.45 with at most 15 digits before the point
    and 20 behind it."""
    length = texts.end - texts.start
    whole, part = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    finer, up, after = (np.zeros(len(texts), np.bool_) for _ in range(3))
    places = np.zeros(len(texts), np.int64)
    bad = (length == 0) | (length > _MAX_WIDTH)
    for at in range(min(int(length.max(initial=0)), _MAX_WIDTH)):
        inside = length > at
        char = texts.bytes[np.where(inside, texts.start + at, 0)]
        digit = char - np.uint8(_ZERO)
        point = inside & (char == _POINT)
        bad |= inside & (digit > 9) & ~(point & ~after & (at > 0))
        number = inside & (digit <= 9)
        before = number & ~after
        np.copyto(whole, whole * 10 + digit, where=before)
        behind = number & after
        places += behind
        np.copyto(part, part * 10 + digit, where=behind & (places <= PLACES))
        if at > PLACES:
            beyond = behind & (places > PLACES)
            finer |= beyond & (digit > 0)
            up |= beyond & (places == PLACES + 1) & (digit >= 5)
        bad |= before & (at >= _DIGITS)
        after |= point
    bad |= (after & (places == 0)) | (places > _DECIMALS)
    part *= 10 ** (PLACES - np.minimum(places, PLACES))
    return Decimals(whole, part, finer, up), bad


def read_integers(texts: Texts) -> tuple[Ints, Bools]:
    """The column as integers of at most 18 digits, and which rows are none."""
    length = texts.end - texts.start
    value = np.zeros(len(texts), np.int64)
    bad = (length == 0) | (length > 18)
    for at in range(min(int(length.max(initial=0)), 18)):
        inside = length > at
        digit = texts.bytes[np.where(inside, texts.start + at, 0)] - np.uint8(_ZERO)
        bad |= inside & (digit > 9)
        np.copyto(value, value * 10 + digit, where=inside & (digit <= 9))
    return value, bad


def read_flags(texts: Texts) -> tuple[Bools, Bools]:
    """The column as truth values (1, true, True; 0, false, False), and which rows are none."""
    is_true, is_false = (_any_of(texts, words) for words in (_TRUE, _FALSE))
    return is_true, ~(is_true | is_false)


def _any_of(texts: Texts, words: tuple[bytes, ...]) -> Bools:
    found = np.zeros(len(texts), np.bool_)
    length = texts.end - texts.start
    for word in words:
        same = length == len(word)
        if not same.any():
            continue
        for at, char in enumerate(word):
            same &= texts.bytes[np.where(same, texts.start + at, 0)] == char
        found |= same
    return found
