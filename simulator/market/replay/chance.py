"""Chance that is none: numbers hashed from a name and a time, the same on every machine and in any order."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Chance:
    """Streams of numbers in [0, 1), one per *purpose*, that belong to (name, time)."""

    def __init__(self, name: str, time_ms: int) -> None:
        self._seed = f"{name}/{time_ms}"

    def draw(self, purpose: str, count: int) -> NDArray[np.float64]:
        """The first *count* numbers of a stream."""
        digest = blake2b(f"{self._seed}/{purpose}".encode(), digest_size=8).digest()
        mixed = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN + np.uint64(int.from_bytes(digest, "big"))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
        mixed ^= mixed >> np.uint64(31)
        return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
