"""What becomes of a request: executed once or not at all, and answered, refused or cut."""

from __future__ import annotations

import asyncio

import pytest

from simulator.core.rules import ApiError
from simulator.faults import Asked, Cut, HtmlError, perform

ORDER = {"path": "/api/v3/order", "method": "POST"}


def a_call(**more: str) -> Asked:
    given = {"door": "rest", "ws_method": "order.place", "address": "1.2.3.4", "api_key": "key", "symbol": "BTCUSDT"}
    return Asked(**{**given, **ORDER, **more})


class Desk:
    """Executes calls and counts them."""

    def __init__(self, faults, error: Exception | None = None) -> None:
        self.faults, self.error, self.executed = faults, error, 0

    async def execute(self) -> str:
        self.executed += 1
        if self.error is not None:
            raise self.error
        return "answer"

    def ask(self, call: Asked | None = None, now_ms: int = 0) -> object:
        """The answer, or what was raised."""
        try:
            return asyncio.run(perform(self.faults, call or a_call(), self.execute, now_ms))
        except (ApiError, Cut) as error:
            return error


@pytest.fixture
def desk(faults):
    return Desk(faults)


def test_without_faults_a_call_is_executed_and_answered(desk):
    assert desk.ask() == "answer"
    assert desk.executed == 1


@pytest.mark.parametrize(
    ("fault", "status", "code", "executed"),
    [
        ({"kind": "refuse", "status": 503, "code": -1008, "msg": "Busy."}, 503, -1008, 0),
        ({"kind": "refuse", "status": 502}, 502, -1001, 0),
        ({"kind": "refuse", "status": 403}, 403, -1000, 0),
        ({"kind": "unknown"}, 504, -1007, 1),
        ({"kind": "unknown", "executed": False, "code": -1006, "status": 500}, 500, -1006, 0),
        ({"kind": "html", "executed": True}, 502, -1001, 1),
        ({"kind": "html", "status": 504}, 504, -1001, 0),
        ({"kind": "order_limit"}, 429, -1015, 0),
        ({"kind": "rate_limit"}, 429, -1003, 0),
    ],
)
def test_a_refusal_has_its_code_and_was_executed_or_not(faults, desk, fault, status, code, executed):
    faults.add(fault, 0)

    error = desk.ask()

    assert isinstance(error, ApiError)
    assert (error.status, error.code, desk.executed) == (status, code, executed)
    assert isinstance(error, HtmlError) == (fault["kind"] in ("html", "refuse") and "code" not in fault)


@pytest.mark.parametrize("fault", ["lose_ack", "unknown", "html"])
def test_the_fate_of_an_executed_call_hides_even_its_refusal(faults, fault):
    desk = Desk(faults, ApiError(-2010, "Account has insufficient balance for requested action."))
    faults.add({"kind": fault} | ({"executed": True} if fault != "lose_ack" else {}), 0)

    error = desk.ask()

    assert isinstance(error, Cut) if fault == "lose_ack" else error.status >= 500
    assert desk.executed == 1


def test_a_fault_is_used_up(faults, desk):
    faults.add({"kind": "lose_ack", "count": 2}, 0)

    assert [type(desk.ask()).__name__ for _ in range(3)] == ["Cut", "Cut", "str"]
    assert desk.executed == 3
    assert faults.listed(0) == []


def test_each_nth_call_is_struck(faults, desk):
    faults.add({"kind": "refuse", "every": 3, "count": 2}, 0)

    assert [desk.ask() == "answer" for _ in range(9)] == [True, True, False, True, True, False, True, True, True]


@pytest.mark.parametrize(
    ("selection", "is_met"),
    [
        ({}, True),
        (ORDER, True),
        ({"path": "order.place"}, True),
        ({"method": "post"}, True),
        ({"method": "GET"}, False),
        ({"path": "/api/v3/account"}, False),
        ({"api_key": "key", "symbol": "btcusdt", "over": "rest"}, True),
        ({"api_key": "other"}, False),
        ({"symbol": "ETHUSDT"}, False),
        ({"over": "ws"}, False),
    ],
)
def test_a_fault_meets_the_calls_it_names(faults, desk, selection, is_met):
    faults.add({"kind": "refuse", **selection}, 0)

    assert (desk.ask() != "answer") == is_met


def test_a_call_is_struck_by_one_fault_and_the_next_by_the_next(faults, desk):
    faults.add({"kind": "lose_ack"}, 0)
    faults.add({"kind": "refuse"}, 0)

    assert [type(desk.ask()) for _ in range(3)] == [Cut, HtmlError, str]


def test_too_many_orders_are_orders_only(faults, desk):
    faults.add({"kind": "order_limit", "seconds": 3.5}, 0)

    assert desk.ask(a_call(method="GET")) == "answer"
    assert desk.ask(a_call(path="/api/v3/order/test")) == "answer"
    assert desk.ask().headers == {"Retry-After": "4"}


def test_who_calls_again_while_limited_is_banned_until_the_end(faults, desk):
    faults.add({"kind": "rate_limit", "seconds": 10}, 0)
    first, second, elsewhere = desk.ask(now_ms=1000), desk.ask(now_ms=3500), desk.ask(a_call(address="::1"), 3500)

    assert (first.status, first.headers) == (429, {"Retry-After": "10"})
    assert (second.status, second.code, second.headers) == (418, -1003, {"Retry-After": "8"})
    assert "IP banned until 11000." in second.msg
    assert elsewhere == "answer"
    assert [(row["count"], row["left_s"]) for row in faults.listed(3500)] == [(0, 7.5)]
    assert desk.ask(now_ms=11_000) == "answer"
    assert faults.listed(11_000) == []


def test_clearing_lifts_a_ban(faults, desk):
    faults.add({"kind": "rate_limit", "seconds": 3600}, 0)
    desk.ask()
    faults.clear()

    assert desk.ask() == "answer"


def test_a_delay_comes_before_or_after_and_adds_to_others(faults, monkeypatch):
    story: list[object] = []

    async def sleep(seconds: float) -> None:
        story.append(seconds)

    async def execute() -> str:
        story.append("executed")
        return "answer"

    monkeypatch.setattr("simulator.faults.calls.asyncio.sleep", sleep)
    faults.add({"kind": "delay", "seconds": 1, "when": "before"}, 0)
    faults.add({"kind": "delay", "seconds": 2}, 0)
    faults.add({"kind": "lose_ack"}, 0)

    with pytest.raises(Cut):
        asyncio.run(perform(faults, a_call(), execute, 0))

    assert story == [1.0, "executed", 2.0]
