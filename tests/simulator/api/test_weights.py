"""What a call costs, by its parameters."""

from __future__ import annotations

import json

import pytest

from simulator.api.endpoints import ENDPOINTS
from simulator.doors.params import Params

COST = {endpoint.ws_method: endpoint.cost for endpoint in ENDPOINTS}


def some(count: int) -> dict[str, str]:
    return {"symbols": json.dumps(["BTCUSDT"] * count)}


@pytest.mark.parametrize(
    ("method", "params", "weight"),
    [
        ("ping", {}, 1),
        ("order.amend.keepPriority", {}, 4),
        ("order.test", {}, 1),
        ("order.test", {"computeCommissionRates": "true"}, 20),
        ("order.test", {"computeCommissionRates": "false"}, 1),
        ("order.test", {"computeCommissionRates": "perhaps"}, 1),
        ("myTrades", {}, 20),
        ("myTrades", {"orderId": "1"}, 5),
        ("exchangeInfo", {}, 20),
        ("depth", {}, 5),
        ("depth", {"limit": "100"}, 5),
        ("depth", {"limit": "101"}, 25),
        ("depth", {"limit": "500"}, 25),
        ("depth", {"limit": "1000"}, 50),
        ("depth", {"limit": "1001"}, 250),
        ("depth", {"limit": "999999"}, 250),
        ("depth", {"limit": "ten"}, 5),
        ("trades.recent", {}, 25),
        ("trades.historical", {}, 25),
        ("trades.aggregate", {}, 4),
        ("klines", {}, 2),
        ("avgPrice", {}, 2),
        ("ticker.24hr", {"symbol": "BTCUSDT"}, 2),
        ("ticker.24hr", {}, 80),
        ("ticker.24hr", some(20), 2),
        ("ticker.24hr", some(21), 40),
        ("ticker.24hr", some(100), 40),
        ("ticker.24hr", some(101), 80),
        ("ticker.24hr", {"symbols": "nonsense"}, 2),
        ("ticker.24hr", {"symbols": ""}, 2),
        ("ticker", {"symbol": "BTCUSDT"}, 4),
        ("ticker", some(3), 12),
        ("ticker", some(51), 200),
        ("ticker.tradingDay", some(2), 8),
        ("ticker.price", {"symbol": "BTCUSDT"}, 2),
        ("ticker.price", {}, 4),
        ("ticker.book", some(1), 4),
        ("openOrders.status", {"symbol": "BTCUSDT"}, 6),
        ("openOrders.status", {}, 80),
        ("order.test", {"computeCommissionRates": "yes"}, 1),
        ("order.test", {"computeCommissionRates": ""}, 1),
    ],
)
def test_the_weight_of_a_call(method, params, weight):
    assert COST[method](Params(params)) == weight
