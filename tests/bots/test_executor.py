from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from bots.core.messages import (
    CancelOrder,
    Execution,
    OrderAbsent,
    OrderRefused,
    OrderReport,
    OrderUnknown,
    PlaceOrder,
    QueryOrder,
    Refusal,
)
from bots.trading import executor
from bots.trading.exchange import Denied, KeysRefused, OutcomeUnknown, Unreachable
from bots.trading.executor import ABSENT_AFTER_S, ABSENT_ANSWERS, Executor
from shared.states import OrderState, OrderType, Side

ORDER = PlaceOrder(
    client_order_id="fabc-1-7-e1",
    symbol="BTCUSDT",
    side=Side.BUY,
    order_type=OrderType.MARKET,
    quantity=Decimal("0.002"),
    price=None,
)
CANCEL = CancelOrder(client_order_id=ORDER.client_order_id, symbol="BTCUSDT")
QUERY = QueryOrder(client_order_id=ORDER.client_order_id, symbol="BTCUSDT")
FILL = Execution(
    trade_id=1,
    price=Decimal(50_000),
    quantity=Decimal("0.002"),
    fee=Decimal("0.1"),
    fee_asset="USDT",
    is_maker=False,
    time_ms=1,
)
FILLED = OrderReport(
    client_order_id=ORDER.client_order_id,
    exchange_order_id=9,
    status=OrderState.FILLED,
    executed_quantity=Decimal("0.002"),
    executed_quote=Decimal(100),
    time_ms=1,
    executions=(FILL,),
)
CANCELLED = replace(FILLED, status=OrderState.CANCELLED, executed_quantity=Decimal(0), executions=())


class FakeExchange:
    """Answers in the order told; an exception is raised. The last answer to a query is repeated."""

    def __init__(self) -> None:
        self.placed: list[str] = []
        self.cancelled: list[str] = []
        self.queries = 0
        self.place_answer: OrderReport | Exception = FILLED
        self.cancel_answer: Exception | None = None
        self.query_answers: deque[OrderReport | Exception | None] = deque([None])
        self.gate: asyncio.Event | None = None

    async def place(self, order: PlaceOrder) -> OrderReport:
        self.placed.append(order.client_order_id)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.place_answer, Exception):
            raise self.place_answer
        return self.place_answer

    async def cancel(self, client_order_id: str, symbol: str) -> None:
        self.cancelled.append(client_order_id)
        if self.cancel_answer is not None:
            raise self.cancel_answer

    async def query(self, client_order_id: str, symbol: str) -> OrderReport | None:
        self.queries += 1
        answer = self.query_answers.popleft() if len(self.query_answers) > 1 else self.query_answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Stage:
    """An executor, what it fed, and a clock that only sleeping moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.exchange = FakeExchange()
        self.fed: list[Any] = []
        self.errors: list[str] = []
        self.may_exist = False
        self.now = 0.0
        self._sleep = asyncio.sleep
        monkeypatch.setattr(executor.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(executor.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await self._sleep(0)

    def play(self, *commands: Any, then: Callable[[Executor], Any] | None = None, turns: int = 400) -> list[Any]:
        """Run *commands* at once, let everything happen, and return what was fed."""

        async def scene() -> None:
            exchange: Any = self.exchange
            runner = Executor(
                exchange, self.fed.append, lambda kind, _: self.errors.append(kind), lambda _: self.may_exist
            )
            for command in commands:
                runner.run(command)
            for _ in range(turns):
                await self._sleep(0)
            if then is not None:
                then(runner)
                for _ in range(turns):
                    await self._sleep(0)
            await runner.close()

        asyncio.run(scene())
        return self.fed


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def test_an_answer_is_fed_as_it_is(stage):
    assert stage.play(ORDER) == [FILLED]
    assert stage.exchange.queries == 0


def test_a_refusal_is_firm(stage):
    stage.exchange.place_answer = Denied(Refusal.POST_ONLY, "Order would immediately match and take.")

    assert stage.play(ORDER) == [
        OrderRefused(
            client_order_id=ORDER.client_order_id,
            kind=Refusal.POST_ONLY,
            message="Order would immediately match and take.",
        )
    ]
    assert stage.errors == []


def test_a_lost_answer_is_asked_about_until_it_is_found_and_the_order_is_never_sent_again(stage):
    stage.exchange.place_answer = OutcomeUnknown("TimeoutError")
    stage.exchange.query_answers = deque([Unreachable("503"), None, Unreachable("503"), FILLED])

    fed = stage.play(ORDER)

    assert fed == [OrderUnknown(client_order_id=ORDER.client_order_id, reason="TimeoutError"), FILLED]
    assert stage.exchange.placed == [ORDER.client_order_id]


def test_absence_is_believed_after_enough_answers_and_enough_time(stage):
    stage.exchange.place_answer = OutcomeUnknown("TimeoutError")

    fed = stage.play(ORDER)

    assert fed[1:] == [OrderAbsent(ORDER.client_order_id)]
    assert stage.exchange.queries >= ABSENT_ANSWERS
    assert stage.now >= ABSENT_AFTER_S


def test_absence_late_but_not_often_enough_is_not_believed(stage):
    stage.exchange.place_answer = OutcomeUnknown("TimeoutError")
    stage.exchange.query_answers = deque([*[Unreachable("503")] * 10, None, None, FILLED])

    assert stage.play(ORDER)[-1] == FILLED


def test_network_errors_are_no_answer_however_many(stage):
    stage.exchange.place_answer = OutcomeUnknown("TimeoutError")
    stage.exchange.query_answers = deque([Unreachable("no route")])

    fed = stage.play(ORDER)

    assert fed == [OrderUnknown(client_order_id=ORDER.client_order_id, reason="TimeoutError")]
    assert stage.now > 60
    assert stage.errors.count("query_failed") == stage.exchange.queries


def test_refused_keys_say_nothing_about_an_order(stage):
    stage.exchange.place_answer = OutcomeUnknown("TimeoutError")
    stage.exchange.query_answers = deque([KeysRefused("Invalid API-key, IP, or permissions for action."), FILLED])

    assert stage.play(ORDER)[-1] == FILLED


def test_a_report_whose_executions_lag_behind_is_asked_for_again(stage):
    stage.exchange.query_answers = deque([replace(FILLED, executions=()), FILLED])

    assert stage.play(QUERY) == [FILLED]


def test_a_question_that_is_being_asked_is_not_asked_twice(stage):
    stage.exchange.query_answers = deque([Unreachable("503"), Unreachable("503"), FILLED])

    fed = stage.play(QUERY, QUERY, QUERY)

    assert fed == [FILLED]
    assert stage.exchange.queries == 3


def test_a_question_can_be_asked_again_once_it_was_answered(stage):
    stage.exchange.query_answers = deque([FILLED])

    assert stage.play(QUERY, then=lambda runner: runner.run(QUERY)) == [FILLED, FILLED]


def test_an_order_under_way_is_not_asked_about(stage):
    async def scene() -> None:
        stage.exchange.gate = asyncio.Event()
        runner = Executor(stage.exchange, stage.fed.append, lambda *_: None)
        runner.run(ORDER)
        await stage._sleep(0)
        runner.run(QUERY)
        for _ in range(50):
            await stage._sleep(0)
        assert stage.exchange.queries == 0
        stage.exchange.gate.set()
        for _ in range(50):
            await stage._sleep(0)

    asyncio.run(scene())

    assert stage.fed == [FILLED]


@pytest.mark.parametrize(("known", "placed"), [(FILLED, 0), (None, 1)])
def test_an_order_that_an_earlier_run_may_have_sent_is_asked_about_first(stage, known, placed):
    stage.exchange.query_answers = deque([known])

    async def scene() -> None:
        runner = Executor(stage.exchange, stage.fed.append, lambda *_: None, lambda name: name.startswith("fabc-1-7-"))
        runner.run(ORDER)
        for _ in range(50):
            await stage._sleep(0)

    asyncio.run(scene())

    assert stage.fed == [FILLED]
    assert len(stage.exchange.placed) == placed


def test_a_cancel_ends_with_the_truth_about_the_order(stage):
    stage.exchange.query_answers = deque([CANCELLED])

    assert stage.play(CANCEL) == [CANCELLED]
    assert stage.exchange.cancelled == [ORDER.client_order_id]


def test_a_cancel_that_lost_its_race_finds_the_fill(stage):
    stage.exchange.query_answers = deque([FILLED])

    assert stage.play(CANCEL) == [FILLED]


def test_a_cancel_that_failed_is_asked_about_all_the_same(stage):
    stage.exchange.cancel_answer = Unreachable("503")
    stage.exchange.query_answers = deque([CANCELLED])

    assert stage.play(CANCEL) == [CANCELLED]
    assert stage.errors == ["cancel_failed"]


def test_cancels_repeated_through_an_outage_do_not_multiply_the_questions(stage):
    stage.exchange.query_answers = deque([Unreachable("503")] * 20 + [CANCELLED])

    fed = stage.play(CANCEL, CANCEL, CANCEL)

    assert fed == [CANCELLED]
    assert len(stage.exchange.cancelled) == 3
    assert stage.exchange.queries == 21


def test_what_breaks_in_the_core_is_reported(stage):
    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    async def scene() -> None:
        runner = Executor(stage.exchange, broken, lambda kind, _: stage.errors.append(kind))
        runner.run(ORDER)
        for _ in range(20):
            await stage._sleep(0)

    asyncio.run(scene())

    assert stage.errors == ["bug"]


def test_closing_drops_what_is_under_way(stage):
    async def scene() -> None:
        stage.exchange.gate = asyncio.Event()
        runner = Executor(stage.exchange, stage.fed.append, lambda *_: None)
        runner.run(ORDER)
        await stage._sleep(0)
        await runner.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scene())

    assert stage.fed == []


# --- orders that an earlier run may have sent -----------------------------------------------------------------------

EXIT = replace(ORDER, client_order_id="fabc-1-7-x1", side=Side.SELL)
NEXT_EXIT = replace(EXIT, client_order_id="fabc-1-7-x2")


def test_an_order_that_an_earlier_run_sent_is_found_and_not_sent_again(stage):
    stage.may_exist = True
    stage.exchange.query_answers = deque([FILLED])

    assert stage.play(EXIT) == [FILLED]
    assert stage.exchange.placed == []


def test_once_the_exchange_knows_no_such_order_the_next_ones_are_sent_unasked(stage):
    stage.may_exist = True
    stage.exchange.query_answers = deque([None, Unreachable("503")])

    stage.play(EXIT, then=lambda runner: runner.run(NEXT_EXIT))

    assert stage.exchange.placed == ["fabc-1-7-x1", "fabc-1-7-x2"]


def test_that_no_target_was_sent_says_nothing_about_exits(stage):
    stage.may_exist = True
    stage.exchange.query_answers = deque([None, FILLED])

    stage.play(replace(EXIT, client_order_id="fabc-1-7-t1"), then=lambda runner: runner.run(EXIT))

    assert stage.exchange.placed == ["fabc-1-7-t1"]


def test_an_order_found_absent_after_an_outage_rules_out_the_next_ones(stage):
    stage.may_exist = True
    stage.exchange.query_answers = deque([Unreachable("503"), None])

    stage.play(EXIT, then=lambda runner: runner.run(NEXT_EXIT))

    assert OrderAbsent(EXIT.client_order_id) in stage.fed
    assert stage.exchange.placed == ["fabc-1-7-x2"]


def test_an_order_ruled_out_ahead_is_sent_while_queries_fail(stage):
    stage.may_exist = True
    stage.exchange.query_answers = deque([None, Unreachable("503")])

    def then(runner: Executor) -> None:
        async def look_ahead_and_place() -> None:
            await runner.rule_out(QueryOrder(client_order_id=EXIT.client_order_id, symbol="BTCUSDT"))
            runner.run(EXIT)

        stage.task = asyncio.get_running_loop().create_task(look_ahead_and_place())

    stage.play(then=then)

    assert stage.exchange.placed == ["fabc-1-7-x1"]
