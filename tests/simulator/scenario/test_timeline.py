"""The steps of a script in their order."""

from __future__ import annotations

import pytest

from simulator.scenario import read_script
from simulator.scenario.timeline import NEVER, Begin, CallStep, End, OpenAccount, Timeline

START = 1_800_000_000_000


@pytest.fixture
def timeline(tmp_path):
    def timeline(text: str) -> Timeline:
        path = tmp_path / "run.yaml"
        path.write_text("accounts: [{name: me, balances: {USDT: 1}}]\n" + text)
        return Timeline(read_script(path, START, 7, ["BTCUSDT"]))

    return timeline


def told(step) -> str:
    """A step in a word: what, which of the list, which time, when."""
    match step:
        case OpenAccount():
            return f"open {step.account.name} {step.at_ms - START}"
        case Begin():
            return f"begin {step.index}.{step.nth} {step.at_ms - START}"
        case End():
            return f"end {step.index}.{step.nth} {step.at_ms - START}"
        case CallStep():
            return f"call {step.index}.{step.nth} {step.at_ms - START}"


def test_steps_come_in_order_of_time_and_then_of_sort(timeline):
    steps = timeline("""
orders:
  - {at: 3, account: me, cancel_all: {symbol: BTCUSDT}}
  - {at: 0, account: me, cancel_all: {symbol: BTCUSDT}}
faults:
  - {at: 1, every: 2, times: 2, fault: {kind: silence, seconds: 2}}
  - {at: 3, fault: {kind: day_cut}}
""").due(START + 10_000)

    assert [told(step) for step in steps] == [
        "open me 0", "call 1.0 0", "begin 0.0 1000", "end 0.0 3000", "begin 0.1 3000", "begin 1.0 3000",
        "call 0.0 3000", "end 0.1 5000",
    ]  # fmt: skip


def test_only_what_is_due_is_taken(timeline):
    line = timeline("faults: [{at: 1, fault: {kind: lose_fill, count: 1}}, {at: 2, fault: {kind: day_cut}}]")

    assert [told(step) for step in line.due(START + 1999)] == ["open me 0", "begin 0.0 1000"]
    assert line.next_ms() == START + 2000
    assert [told(step) for step in line.due(START + 2000)] == ["begin 1.0 2000"]
    assert line.next_ms() == NEVER


def test_what_repeats_for_ever_is_worked_out_as_it_comes(timeline):
    line = timeline("faults: [{at: 0.5, every: 0.25, fault: {kind: lose_ack}}]")

    assert [told(step) for step in line.due(START + 1000)][1:] == ["begin 0.0 500", "begin 0.1 750", "begin 0.2 1000"]
    assert line.next_ms() == START + 1250
