"""What is on, what is left of it, and when it ends."""

from __future__ import annotations

import pytest

from simulator.faults import BadFault, Faults
from simulator.faults.kinds import Halt, Silence
from simulator.faults.switchboard import MARKET


def test_each_fault_has_an_id_and_tells_what_is_left(faults):
    faults.add({"kind": "lose_ack", "path": "/api/v3/order", "count": 2}, 0)
    faults.add({"kind": "silence", "stream": "kline", "seconds": 10}, 1000)

    assert faults.listed(4000) == [
        {"id": 1, "kind": "lose_ack", "path": "/api/v3/order", "every": 1, "count": 2},
        {"id": 2, "kind": "silence", "stream": "kline", "seconds": 10.0, "left_s": 7.0, "clock": "wall"},
    ]
    assert [row["id"] for row in faults.listed(11_000)] == [1]


def test_one_is_switched_off_by_its_id(faults):
    first, second = (faults.add({"kind": "lose_ack"}, 0) for _ in range(2))

    assert faults.remove(first.id)
    assert not faults.remove(first.id)
    assert [row["id"] for row in faults.listed(0)] == [second.id]


@pytest.mark.parametrize(
    ("body", "done"),
    [
        ({"kind": "filters", "symbol": "BTCUSDT", "tick_size": "0.1"}, ("filters", "BTCUSDT", {"tick_size": "0.1"})),
        ({"kind": "balance", "api_key": "k", "asset": "btc", "amount": "-0.5"}, ("transfer", "k", "BTC", -50_000_000)),
        ({"kind": "deafen", "api_key": "k"}, ("deafen", "k")),
        ({"kind": "disconnect"}, ("abort", "all")),
        ({"kind": "close", "select": "user", "code": 1000}, ("close", "user", 1000)),
        ({"kind": "day_cut"}, ("close", "all", 1001)),
        ({"kind": "server_shutdown", "grace": 2}, ("shut_down", 2.0)),
    ],
)
def test_what_is_done_at_once_is_not_listed(faults, plant, body, done):
    faults.add(body, 0)

    assert plant.done == [done]
    assert faults.listed(0) == []


def test_a_halt_ends_by_its_timer(faults, plant, timers):
    faults.add({"kind": "halt", "symbol": "BTCUSDT", "seconds": 5, "status": "BREAK"}, 1000)
    timers.run()

    assert plant.done == [("status", "BTCUSDT", "BREAK"), ("status", "BTCUSDT", "TRADING")]
    assert faults.listed(1000) == []


def test_clearing_undoes_what_was_held(faults, plant):
    faults.add({"kind": "halt", "symbol": "BTCUSDT"}, 0)
    faults.add({"kind": "clock_skew", "ms": -3000}, 0)
    faults.add({"kind": "maintenance", "seconds": 60}, 0)
    assert (faults.skew_ms, faults.is_away(0)) == (-3000, True)
    plant.done.clear()

    faults.clear()

    assert plant.done == [("status", "BTCUSDT", "TRADING"), ("skew", 0)]
    assert (faults.skew_ms, faults.is_away(0), faults.listed(0)) == (0, False, [])


def test_a_new_state_takes_the_place_of_the_old(faults, plant, timers):
    faults.add({"kind": "halt", "symbol": "BTCUSDT", "seconds": 5}, 0)
    faults.add({"kind": "halt", "symbol": "BTCUSDT", "seconds": 50, "status": "BREAK"}, 0)
    seconds, first_end = timers.set[0]
    assert seconds == 5
    first_end()

    assert plant.done == [("status", "BTCUSDT", "HALT"), ("status", "BTCUSDT", "BREAK")]
    assert [row["status"] for row in faults.listed(0)] == ["BREAK"]


def test_what_the_exchange_refuses_is_not_on(faults):
    with pytest.raises(BadFault, match="ETHUSDT is not listed"):
        faults.add({"kind": "halt", "symbol": "ETHUSDT"}, 0)
    with pytest.raises(BadFault, match="filters names no limit"):
        faults.add({"kind": "filters", "symbol": "BTCUSDT"}, 0)

    assert faults.listed(0) == []


def test_maintenance_ends_on_the_moment(faults):
    faults.add({"kind": "maintenance", "seconds": 2}, 1000)

    assert [faults.is_away(now) for now in (1000, 2999, 3000)] == [True, True, False]


def test_a_fault_of_a_scenario_counts_market_time_and_is_ended_by_it(plant, timers):
    faults = Faults(speed=60, later=timers)
    faults.install(plant, lambda: 16_000, {})
    halt = faults.begin(Halt(symbol="BTCUSDT", seconds=30), MARKET, 10_000)
    faults.begin(Silence(seconds=20), MARKET, 10_000)

    assert timers.set == []
    assert [(row["left_s"], row["clock"]) for row in faults.listed(99_999)] == [(24.0, "market"), (14.0, "market")]

    faults.remove(halt.id)
    assert plant.done[-1] == ("status", "BTCUSDT", "TRADING")


def test_a_fault_goes_on_with_what_is_left(faults):
    assert faults.begin(Halt(symbol="BTCUSDT", seconds=30), MARKET, 10_000, lasting_s=12.5).until_ms == 22_500


def test_a_symbol_that_was_halted_before_a_restart_can_be_cleared(plant, timers):
    faults = Faults(later=timers)
    faults.install(plant, lambda: 0, {"BTCUSDT": "BREAK"})
    assert [(row["kind"], row["symbol"], row["status"]) for row in faults.listed(0)] == [("halt", "BTCUSDT", "BREAK")]

    faults.clear()

    assert plant.done[-1] == ("status", "BTCUSDT", "TRADING")
