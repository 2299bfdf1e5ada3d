"""Whatever customers send, in whatever order: an answer or a refusal, and an account that adds up after each step.

More than 20 000 steps, in as many examples of as many steps as `EXAMPLES` and `STEPS` say, the same each time.
`FUZZ_TIMES=20` in the environment takes twenty times as many, others each time. A failure prints the steps, simplified,
and a blob that repeats them.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from simulator.api.call import Endpoint
from simulator.core.rules import ApiError
from simulator.doors.params import SIGNING
from simulator.witness.check import violations
from simulator.witness.ledger import ledger
from tests.simulator.fuzz.house import (
    BY_CALL,
    KEYS,
    PAIRS,
    READER,
    RICH,
    SAVER,
    House,
    decimal_text,
    encoded,
    refused,
    signed,
)
from tests.simulator.fuzz.model import Model
from tests.simulator.fuzz.steps import (
    CALLS,
    IDLE,
    RUBBISH,
    TAILS,
    Ago,
    Everything,
    Fault,
    Meets,
    Mine,
    MyList,
    Near,
    Open,
    Spoil,
    Step,
    Theirs,
    Value,
    Worth,
    step_of,
)

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))
EXAMPLES, STEPS, AT_LEAST = 140, 150, 20_000
NUMBERS = st.integers(0, (1 << 62) - 1)
PROVE_EVERY = 50  # and so after the last step too
PARTLY_DONE = -2021
LIMITED = -1003  # may come in the place of any other refusal
NEVER_ANSWERED = {
    ("GET", "referencePrice"), ("POST", "orderList/oto"), ("POST", "orderList/otoco"), ("POST", "orderList/opo"),
    ("POST", "orderList/opoco"), ("PUT", "order/amend/keepPriority"), ("POST", "sor/order"), ("POST", "sor/order/test"),
}  # fmt: skip
# What a signed request is refused with when this is wrong with it, whatever else is.
REFUSED_WITH = {
    "doubled": {-1101}, "unsigned": {-1102}, "signature": {-1022}, "key": {-2015}, "no key": {-2014},
    "short key": {-2014}, "another's key": {-1022}, "stale": {-1021}, "future": {-1021},
    "unknown": {-1104, -1020, -2015},
}  # fmt: skip
FORGED = ("doubled", "unsigned", "signature", "key", "no key", "short key", "another's key", "stale", "future")
# What a run comes to do often; less would mean that it asks for nothing sensible any more.
TO_BE_SEEN = (
    "NEW", "FILLED", "CANCELED", "EXPIRED", "triggered", "prevented", "maker", "customer", "in BNB",
    ("fault", "halt", True), ("fault", "filters", True), ("fault", "balance", True),
    -1013, -1100, -1101, -1102, -1104, -2010, -2011, -2013, -2021, -2022, *FORGED,
)  # fmt: skip


class Run:
    """Steps taken one after another in a house of their own; `seen` counts what happened."""

    def __init__(self, runner: asyncio.Runner, enforced: bool, seen: Counter[object]) -> None:
        self.house = House(runner, enforced)
        self.seen = seen
        self.taken = 0

    def take(self, step: Step | Fault) -> None:
        """One step, and all that must hold after it."""
        house = self.house
        house.touched.clear()
        house.wait(step.wait_ms)
        if isinstance(step, Fault):
            self._break(step)
        else:
            house.touched.add(step.who)
            self.request(step)
        assert house.missing() == {}
        self.taken += 1
        self.seen["steps"] += 1
        whole = self.taken % PROVE_EVERY == 0
        for who in house.models if whole else sorted(house.touched):
            house.audit(who)
        if whole:
            self.prove()

    def prove(self) -> None:
        """The whole ledger is sound, by the witness."""
        assert violations(ledger(self.house.exchange)) == []

    def _break(self, step: Fault) -> None:
        if step.body is None:
            self.house.faults.clear()
        else:
            done = self.house.break_something(step.body)
            self.seen["fault", step.body["kind"], done] += 1

    def request(self, step: Step) -> None:
        """One request, and what its answer must be like."""
        house, name = self.house, (step.method, step.path)
        endpoint = BY_CALL[name]
        query, body, key = written(house, endpoint, step)
        before, known, refusal = house.digest(), len(house.models[step.who].orders), None
        try:
            answer = house.ask(endpoint, query, body, key)
        except ApiError as error:
            refusal = error
        if refusal is not None:
            refused(refusal)
            self._check_refusal(step, endpoint, refusal)
            if refusal.code != PARTLY_DONE:
                assert house.digest() == before, f"{refusal.code} {refusal.msg} left something behind"
            self.seen[refusal.code] += 1
            return
        self.seen["answered", name] += 1
        assert name not in NEVER_ANSWERED
        assert not (endpoint.signed and step.spoil and step.spoil.how in FORGED), f"{step.spoil} passed"
        assert not (step.spoil and step.spoil.how in ("emptied", "unknown") and step.params), f"{step.spoil} passed"
        assert not (endpoint.trades and step.who == READER)
        if not endpoint.trades:
            assert house.digest() == before, f"{step.path} changed something"
        check_answer(house.models[step.who], step, answer)
        if step.path == "order" and step.method == "POST":
            assert len(house.models[step.who].orders) == known + 1
            self.seen[house.models[step.who].orders[answer["orderId"]].kind] += 1

    def _check_refusal(self, step: Step, endpoint: Endpoint, error: ApiError) -> None:
        how = step.spoil.how if step.spoil else ""
        if error.code == LIMITED:
            return
        if endpoint.signed and how in FORGED:
            assert error.code in REFUSED_WITH[how], (how, error.code, error.msg)
            self.seen[how] += 1
        elif how in REFUSED_WITH and endpoint.signed:
            assert error.code in REFUSED_WITH[how], (how, error.code, error.msg)
        elif not how and endpoint.trades and step.who == READER:
            assert (error.code, error.status) == (-2015, 401)
        elif not how:
            assert error.code not in {-1021, -1022, -1100, -1101, -1102, -1104, -1105, -2014, -2015}, error.msg


def written(house: House, endpoint: Endpoint, step: Step) -> tuple[str, str, str | None]:
    """Query, body and key of a request as sent, with its signature where it needs one, and spoilt as asked."""
    pairs = [(name, text_of(house, step, value)) for name, value in step.params]
    spoil = step.spoil or Spoil("")
    now, key, tail = house.venue.api_ms(), KEYS[step.who], ""
    if endpoint.signed:
        pairs.append(("timestamp", str(now)))
    at = spoil.at % len(pairs) if pairs else 0
    match spoil.how:
        case "left out" if pairs:
            del pairs[at]
        case "emptied" if pairs:
            pairs[at] = (pairs[at][0], "")
        case "replaced" if pairs:
            pairs[at] = (pairs[at][0], spoil.text)
        case "doubled" if pairs:
            pairs.insert(at, (pairs[at][0], spoil.text))
        case "unknown":
            pairs.append((("signatures", "SYMBOL", "qty", "pegPriceType", "strategyId")[spoil.at % 5], spoil.text))
        case "recvWindow" if endpoint.signed:
            pairs.append(("recvWindow", spoil.text))
        case "timestamp" if endpoint.signed:
            pairs = [pair for pair in pairs if pair[0] not in SIGNING] + [("timestamp", spoil.text)]
        case "stale" | "future" if endpoint.signed:
            pairs[-1] = ("timestamp", str(now - 5001 if spoil.how == "stale" else now + 1000))
        case "tail":
            tail = TAILS[spoil.at % len(TAILS)]
    cut = 0 if spoil.how == "doubled" else step.in_body  # the same name in query and body is not twice
    body, query = encoded(pairs[:cut]), encoded(pairs[cut:]) + tail
    if not endpoint.signed:
        return query, body, None
    other = SAVER if step.who == RICH else RICH
    signature = signed(step.who, query + body) if query.isascii() else "0" * 64
    match spoil.how:
        case "unsigned":
            return query, body, key
        case "signature":
            signature = spoil.text or signature[::-1] + "0"
        case "key":
            key = key[::-1]
        case "another's key":
            key = KEYS[other]
        case "short key":
            key = (key[:-1], key + "a", "", "é" * 64, "-" * 64, spoil.text)[spoil.at % 6]
    query += "&" * bool(query) + encoded([("signature", signature)])
    return query, body, None if spoil.how == "no key" else key


def text_of(house: House, step: Step, value: Value) -> str:
    """What stands for *value* now."""
    model = house.models[step.who]
    symbol = dict(step.params).get("symbol")
    name = symbol if isinstance(symbol, str) and symbol in PAIRS else "BTCUSDT"
    rules, last = house.exchange.symbols[name], house.last(name)
    match value:
        case Near(e5):
            ticks = last * (100_000 + e5) // 100_000
            return decimal_text(ticks // rules.tick_step * rules.tick_step, rules.tick_atoms)
        case Worth(quote):
            lots = quote * 10**8 // rules.cost(last, 1)
            return decimal_text(lots // rules.lot_step * rules.lot_step, rules.lot_atoms)
        case Everything():
            free = {asset: int(pair[0].scaleb(8)) for asset, pair in model.balances().items()}
            base, quote = PAIRS[name]
            is_sale = dict(step.params).get("side") == "SELL"
            lots = free.get(base, 0) // rules.lot_atoms if is_sale else free.get(quote, 0) // rules.cost(last, 1)
            return decimal_text(lots // rules.lot_step * rules.lot_step, rules.lot_atoms)
        case Meets(back):
            prices = [order.price for each in house.models.values() for order in each.of(name) if order.price]
            price = prices[-1 - back % len(prices)] if prices else last
            return f"{price:f}"
        case Open(back):
            return str(_back([number for number, order in model.open.items() if order.symbol == name], back))
        case Mine(back):
            return str(_back([number for number, order in model.orders.items() if order.symbol == name], back))
        case MyList(back):
            known = [number for number, legs in model.lists.items() if model.orders[legs[0]].symbol == name]
            return str(_back(sorted(known, key=lambda n: (model.list_status[n] == "EXECUTING", n)), back))
        case Theirs(back):
            others = [number for who, other in house.models.items() if who != step.who for number in other.orders]
            return str(_back(sorted(others), back))
        case Ago(ms):
            return str(house.venue.now_ms() - ms)
    assert isinstance(value, str)
    return value


def _back(numbers: list[int], back: int) -> int:
    return numbers[-1 - back % len(numbers)] if numbers else 999_999


def check_answer(model: Model, step: Step, answer: Any) -> None:
    """Whatever an answer shows of orders, lists and trades is what the account's events told."""
    match step.method, step.path:
        case ("POST" | "GET" | "DELETE", "order"):
            model.check_order(answer)
        case "POST", "order/cancelReplace":
            model.check_order(answer["cancelResponse"])
            model.check_order(answer["newOrderResponse"])
        case ("GET", "openOrders" | "allOrders") | ("DELETE", "openOrders"):
            for row in answer:
                for order in row.get("orderReports", [row]):
                    model.check_order(order)
        case ("POST", "orderList/oco" | "order/oco") | ("DELETE" | "GET", "orderList"):
            check_list(model, answer)
        case "GET", "allOrderList":
            for row in answer:
                check_list(model, row)
        case "GET", "openOrderList":
            model.check_open_lists(answer)
        case "GET", "myTrades":
            for row in answer:
                model.check_trade(row)
        case "GET", "account":
            assert step.spoil or any(name == "omitZeroBalances" for name, _ in step.params) or answer["balances"]


def check_list(model: Model, row: Any) -> None:
    """An order list with its orders, and their reports where it has them."""
    assert [leg["orderId"] for leg in row["orders"]] == model.lists[row["orderListId"]]
    assert row["listOrderStatus"] == model.list_status[row["orderListId"]]
    for report in row.get("orderReports", ()):
        model.check_order(report)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """An event loop for the few calls that wait."""
    with asyncio.Runner() as runner:
        yield runner


def test_no_parameter_can_hold_what_breaks_its_endpoint(runner):
    run = Run(runner, False, Counter())
    for number, (_, method, path, params_of) in enumerate(CALLS):
        endpoint = BY_CALL[method, path]
        for name in sorted(endpoint.params or ()) or ["symbol"]:
            for text in RUBBISH:
                params = tuple(params_of(Random(number)).items())
                said = tuple(pair for pair in params if pair[1] != "" and pair[0] != name)
                run.request(Step(0, RICH, method, path, (*said, (name, text)), 0, Spoil("replaced by rubbish")))
        run.house.audit(RICH)
    run.prove()
    assert run.seen[-1100] > 1000


@pytest.mark.slow
@pytest.mark.timeout(600 + 300 * TIMES)  # to simplify a failure takes up to five minutes
def test_whatever_is_sent_is_answered_or_refused_and_every_account_adds_up(runner):
    seen: Counter[object] = Counter()

    @settings(
        max_examples=EXAMPLES * TIMES,
        derandomize=TIMES == 1,  # what has to be seen below is seen every time; longer runs look elsewhere
        print_blob=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(NUMBERS, min_size=STEPS, max_size=STEPS), st.booleans())
    def take_them(numbers: list[int], enforced: bool) -> None:
        sequence = [step_of(number) for number in numbers]
        note("".join(f"\n{at}: {step}" for at, step in enumerate(sequence) if step != IDLE))
        run = Run(runner, enforced, seen)
        for step in sequence:
            run.take(step)
        run.prove()
        for order in run.house.exchange.orders.values():
            seen[order.status] += 1
            seen["triggered"] += bool(order.triggered_ms)
            seen["prevented"] += bool(order.preventions)
            seen["maker"] += any(fill.is_maker for fill in order.fills)
            seen["customer"] += any(fill.against for fill in order.fills)
            seen["in BNB"] += any(fill.fee_asset == "BNB" for fill in order.fills)

    take_them()

    assert seen["steps"] >= AT_LEAST, seen["steps"]
    missed = [what for what in TO_BE_SEEN if seen[what] < 3]
    missed += [name for name in BY_CALL if name not in NEVER_ANSWERED and not seen["answered", name]]
    assert not missed, (missed, seen)
