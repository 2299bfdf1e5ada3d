"""A switchboard with a plant that only writes down, and timers that are run by hand."""

from __future__ import annotations

import pytest

from simulator.faults import Faults


class FakePlant:
    """Writes down what faults do to the exchange; BTCUSDT is its only symbol."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []

    def set_status(self, symbol, status):
        if symbol != "BTCUSDT":
            raise ValueError(f"{symbol} is not listed: give one of BTCUSDT.")
        self.done.append(("status", symbol, status))

    def change_filters(self, symbol, changes):
        self.done.append(("filters", symbol, changes))

    def transfer(self, api_key, asset, atoms):
        self.done.append(("transfer", api_key, asset, atoms))

    def set_skew(self, ms):
        self.done.append(("skew", ms))

    def deafen(self, api_key):
        self.done.append(("deafen", api_key))

    def abort(self, which):
        self.done.append(("abort", which.select))

    def close(self, which, code):
        self.done.append(("close", which.select, code))

    def shut_down(self, grace_s):
        self.done.append(("shut_down", grace_s))


class Timers:
    """Callbacks to come, run by hand."""

    def __init__(self) -> None:
        self.set: list[tuple[float, object]] = []

    def __call__(self, seconds, call):
        self.set.append((seconds, call))

    def run(self) -> None:
        due, self.set = self.set, []
        for _, call in sorted(due, key=lambda timer: timer[0]):
            call()


@pytest.fixture
def plant():
    return FakePlant()


@pytest.fixture
def timers():
    return Timers()


@pytest.fixture
def faults(plant, timers):
    faults = Faults(later=timers)
    faults.install(plant, lambda: 0, {})
    return faults
