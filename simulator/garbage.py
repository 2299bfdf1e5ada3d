"""How often Python looks for garbage: seldom, because an exchange keeps nearly all that it makes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = (20_000, 20, 50)


def collect_seldom() -> None:
    """Look for garbage some thirty times less often than by default, for the rest of the process."""
    gc.set_threshold(*THRESHOLDS)


@contextmanager
def restoring() -> Iterator[None]:
    """Do not look at all meanwhile, and never among what was made: all that is restored is kept."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
