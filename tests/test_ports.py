"""The ports that tests are given are given once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.ports import FIRST, LAST, free_port

ROOT = Path(__file__).parents[1]


def test_test_processes_side_by_side_are_never_given_the_same_port():
    ask = "from tests.ports import free_port; print(*(free_port() for _ in range(50)), flush=True); input()"
    others = [
        subprocess.Popen(
            [sys.executable, "-c", ask], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    given = [free_port() for _ in range(50)]
    for other in others:
        assert other.stdout is not None
        given += map(int, other.stdout.readline().split())
    for other in others:
        other.communicate("\n")

    assert len(set(given)) == len(given) == 150
    assert min(given) >= FIRST
    assert max(given) <= LAST
