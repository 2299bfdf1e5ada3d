"""Signals that ask a process to end are heard, whenever and however many of them come."""

from __future__ import annotations

import signal
import subprocess
import sys

from server.settings import CHECKOUT
from tests.waiting import DEADLINE_S

WAITS = """
import signal
from server.end_signals import EndSignals
end = EndSignals(signal.SIGTERM, signal.SIGINT)
print("waits", flush=True)
while not end.wait({timeout_s}):
    pass
print("ends", end.is_set(), flush=True)
end.wait(60)
"""

ON_EVERY_LINE = """
import sys
def raise_one(*_):
    signal.raise_signal(signal.SIGTERM)
    return raise_one
sys.settrace(raise_one)
"""


def waiting(timeout_s: float) -> subprocess.Popen[str]:
    program = WAITS.format(timeout_s=timeout_s)
    process = subprocess.Popen([sys.executable, "-c", program], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    return process


def test_one_signal_ends_a_long_wait_at_once() -> None:
    process = waiting(3600)

    process.send_signal(signal.SIGINT)

    assert process.communicate(timeout=DEADLINE_S)[0] == "ends True\n"


def test_a_burst_of_signals_hangs_nothing() -> None:
    process = waiting(60)

    for number in [signal.SIGTERM, signal.SIGINT] * 500:
        process.send_signal(number)

    assert process.communicate(timeout=DEADLINE_S)[0] == "ends True\n"


def test_a_signal_may_come_at_any_line_of_a_wait() -> None:
    program = WAITS.format(timeout_s=60).replace("while not", ON_EVERY_LINE + "while not")

    run = [sys.executable, "-c", program]
    done = subprocess.run(run, cwd=CHECKOUT, capture_output=True, text=True, timeout=DEADLINE_S)

    assert done.stdout == "waits\nends True\n"
