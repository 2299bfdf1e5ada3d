"""Self-trade prevention as a client sees it: reports of its account, the states of its orders, and the record of what
was prevented."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tests.simulator.ws_caller import LISTEN, ask, connect, events_until, run, signed

STOPPED_AT = "2026-01-01T00:00:00Z"
MODES = {  # what arrives with it -> (quantity prevented of the taker, 0.03; of the maker, 0.05), "" for nothing
    "EXPIRE_TAKER": ("0.03000000", ""),
    "EXPIRE_MAKER": ("", "0.05000000"),
    "EXPIRE_BOTH": ("0.03000000", "0.05000000"),
    "DECREMENT": ("0.03000000", "0.03000000"),
}


@pytest.fixture
def meet(start):
    """Let an order to sell 0.03 meet one of the same account that is first in the book with 0.05."""
    simulator = start("--unlimited", "--speed", 0, "--start", STOPPED_AT)
    customer, other = simulator.account(USDT="100000", BTC="2"), simulator.account(USDT="100000", BTC="2")
    best = simulator.get("/api/v3/ticker/bookTicker?symbol=BTCUSDT").json

    def meet(mode: str) -> tuple[list[dict], dict, dict]:
        """Reports since the taker was placed, and how taker and maker stand then."""
        maker = customer.order(quantity="0.05", price=best["bidPrice"]).json
        before = other.order("SELL", quantity=best["bidQty"], price=best["bidPrice"]).json
        assert before["status"] == "FILLED"
        reports: list[dict] = []

        async def scenario() -> None:
            async with connect(simulator) as socket:
                await ask(socket, LISTEN, signed(customer))
                params = {"symbol": "BTCUSDT", "side": "SELL", "type": "LIMIT", "timeInForce": "GTC",
                          "quantity": "0.03", "price": best["bidPrice"], "selfTradePreventionMode": mode}  # fmt: skip
                await socket.send(json.dumps({"id": 1, "method": "order.place", "params": signed(customer, **params)}))
                frames = await events_until(socket, lambda frame: "id" in frame)
                reports.extend(f["event"] for f in frames if f.get("event", {}).get("e") == "executionReport")

        run(scenario)
        taker, maker = (
            customer.call("GET", "order", symbol="BTCUSDT", orderId=number).json
            for number in (reports[0]["i"], maker["orderId"])
        )
        return reports, taker, maker

    meet.customer = customer
    return meet


@pytest.mark.parametrize(("mode", "prevented"), MODES.items())
def test_each_order_that_loses_quantity_is_told_of_once(meet, mode, prevented):
    reports, taker, maker = meet(mode)

    assert [report["x"] for report in reports] == ["NEW"] + ["TRADE_PREVENTION"] * sum(map(bool, prevented))
    for order, lost, other in ((taker, prevented[0], maker), (maker, prevented[1], taker)):
        assert order.get("preventedQuantity", "") == lost
        left = Decimal(order["origQty"]) - Decimal(lost or 0)
        assert order["status"] == ("NEW" if left else "EXPIRED_IN_MATCH")
        for report in reports[1:]:
            if report["i"] == order["orderId"]:
                assert (report["X"], report["w"], report["A"], report["B"]) == (order["status"], bool(left), lost, lost)
                assert (report["U"], report["u"], report["pl"]) == (other["orderId"], -1, "0.03000000")
                assert report["v"] == order["preventedMatchId"]
                assert Decimal(report["pY"]) == Decimal(report["pL"]) * Decimal(report["pl"])


@pytest.mark.parametrize(("mode", "prevented"), MODES.items())
def test_a_prevented_match_says_who_lost_what_by_the_takers_mode(meet, mode, prevented):
    _, taker, maker = meet(mode)
    loser = taker if prevented[0] else maker

    (match,) = meet.customer.call("GET", "myPreventedMatches", symbol="BTCUSDT", orderId=loser["orderId"]).json

    assert (match["takerOrderId"], match["makerOrderId"]) == (taker["orderId"], maker["orderId"])
    assert match["selfTradePreventionMode"] == mode
    names = ("takerPreventedQuantity", "makerPreventedQuantity")
    assert tuple(match.get(name, "") for name in names) == prevented
