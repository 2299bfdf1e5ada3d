"""Carry out the core's commands and bring back firm outcomes.

A placed order ends in exactly one report, refusal or proof of absence, however long that takes; nothing is ever sent
twice. Absence is believed after `ABSENT_ANSWERS` answers "no such order", the last of them later than a copy of the
request could still be accepted (recvWindow and a margin).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from bots.core.messages import (
    CancelOrder,
    Command,
    OrderAbsent,
    OrderRefused,
    OrderReport,
    OrderUnknown,
    PlaceOrder,
    QueryOrder,
)
from bots.trading.exchange import Denied, Exchange, KeysRefused, OutcomeUnknown, Unreachable

ABSENT_ANSWERS: Final = 3
ABSENT_AFTER_S: Final = 10.0
QUERY_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0

Outcome = OrderReport | OrderRefused | OrderAbsent | OrderUnknown
log = logging.getLogger(__name__)


class Executor:
    """Runs commands as tasks on the event loop and hands each outcome to *feed*.

    *on_error* hears of what failed and was handled: a kind and a message. *may_exist* says of which orders an earlier
    run may have sent a copy that its journal could not tell of: these are asked about before they are sent, until the
    exchange knows no such order; those after it in the same row do not exist either.
    """

    def __init__(
        self,
        exchange: Exchange,
        feed: Callable[[Outcome], None],
        on_error: Callable[[str, str], None],
        may_exist: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._may_exist = may_exist
        self._exchange = exchange
        self._feed = feed
        self._on_error = on_error
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: set[str] = set()
        self._cancelling: set[str] = set()
        self._ruled_out: set[str] = set()

    def run(self, command: Command) -> None:
        """Start carrying out *command*. A question whose answer is on its way is not asked again."""
        if isinstance(command, CancelOrder):
            self._start(self._cancel(command))
            return
        is_asked = command.client_order_id in self._asking
        self._asking.add(command.client_order_id)
        if isinstance(command, PlaceOrder):
            self._start(self._place(command))
        elif not is_asked:
            self._start(self._ask(command.client_order_id, command.symbol))

    async def settle(self, query: QueryOrder) -> None:
        """Find out the truth about one order and feed it; returns when it is known."""
        await self._ask(query.client_order_id, query.symbol)

    async def rule_out(self, query: QueryOrder) -> None:
        """Ask ahead about an order that may have to be sent later. Raises `KeysRefused`, `Unreachable`."""
        if self._is_in_doubt(query.client_order_id):
            await self._earlier_copy(query.client_order_id, query.symbol)

    async def close(self) -> None:
        """Drop what is under way; the next run asks again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a request broke", exc_info=task.exception())
            self._on_error("bug", f"a request to the exchange broke: {task.exception()}")

    async def _place(self, order: PlaceOrder) -> None:
        client_order_id = order.client_order_id
        outcome: Outcome
        try:
            outcome = await self._find_or_place(order)
        except Denied as denied:
            outcome = OrderRefused(client_order_id=client_order_id, kind=denied.kind, message=denied.message)
        except (OutcomeUnknown, Unreachable, KeysRefused) as unknown:
            self._on_error("outcome_unknown", f"order {client_order_id}: {unknown}")
            outcome = OrderUnknown(client_order_id=client_order_id, reason=str(unknown))
        finally:
            self._asking.discard(client_order_id)
        self._feed(outcome)
        if isinstance(outcome, OrderUnknown):
            await self._ask(client_order_id, order.symbol)

    async def _find_or_place(self, order: PlaceOrder) -> OrderReport:
        if self._is_in_doubt(order.client_order_id):
            report = await self._earlier_copy(order.client_order_id, order.symbol)
            if report is not None:
                return report
        return await self._exchange.place(order)

    def _is_in_doubt(self, client_order_id: str) -> bool:
        return self._may_exist(client_order_id) and _row(client_order_id) not in self._ruled_out

    async def _earlier_copy(self, client_order_id: str, symbol: str) -> OrderReport | None:
        report = await self._exchange.query(client_order_id, symbol)
        if report is None:
            self._ruled_out.add(_row(client_order_id))
        return report

    async def _cancel(self, command: CancelOrder) -> None:
        """Ask to cancel, then how the order ended; a repeated command only asks to cancel again."""
        client_order_id = command.client_order_id
        is_first = client_order_id not in self._cancelling
        self._cancelling.add(client_order_id)
        try:
            try:
                await self._exchange.cancel(client_order_id, command.symbol)
            except (Unreachable, KeysRefused) as error:
                self._on_error("cancel_failed", f"order {client_order_id}: {error}")
            if is_first:
                await self._ask(client_order_id, command.symbol)
        finally:
            if is_first:
                self._cancelling.discard(client_order_id)

    async def _ask(self, client_order_id: str, symbol: str) -> None:
        """Ask until there is a firm answer. Network errors are no answer."""
        self._asking.add(client_order_id)
        try:
            began, absent, pause = time.monotonic(), 0, QUERY_PAUSE_S
            while True:
                try:
                    report = await self._exchange.query(client_order_id, symbol)
                except (Unreachable, KeysRefused) as error:
                    self._on_error("query_failed", f"order {client_order_id}: {error}")
                else:
                    if report is not None and _is_complete(report):
                        self._asking.discard(client_order_id)
                        self._feed(report)
                        return
                    absent += report is None
                    if absent >= ABSENT_ANSWERS and time.monotonic() - began >= ABSENT_AFTER_S:
                        self._asking.discard(client_order_id)
                        self._ruled_out.add(_row(client_order_id))
                        self._feed(OrderAbsent(client_order_id))
                        return
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)
        finally:
            self._asking.discard(client_order_id)


def _row(client_order_id: str) -> str:
    """What the orders of one position and role have in common: all but their number."""
    return client_order_id.rstrip("0123456789")


def _is_complete(report: OrderReport) -> bool:
    """Whether the executions listed add up to what the order says was executed; the trade list may lag behind."""
    return sum(e.quantity for e in report.executions) == report.executed_quantity
