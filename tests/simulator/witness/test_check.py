"""What the witness finds: nothing in a sound ledger, and each identity that is broken alone."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from simulator.witness.check import examine, violations
from simulator.witness.reading import Unreadable

ROOT = Path(__file__).parents[3]
ALICE, BOB = ("accounts", 0), ("accounts", 1)
PROVED = {
    "deposits", "amount", "free", "locked", "filled_qty", "filled_quote", "prevented_qty", "quote_qty", "fee", "fees",
    "market",
}  # fmt: skip


def test_a_sound_ledger_has_no_violation(ledger):
    assert violations(ledger) == []


def test_an_exchange_where_nothing_happened_is_sound():
    assert violations({"accounts": [], "exchange": {"fees": {}, "market": {}}}) == []


def test_the_verdict_counts_what_was_looked_at(ledger):
    verdict = examine(ledger)

    assert (verdict.accounts, verdict.orders, verdict.open_orders, verdict.fills) == (2, 8, 3, 5)
    assert verdict.holds
    assert verdict.assets["BTC"].held == Decimal("1.0799")
    assert verdict.assets["BTC"].missing == 0


def at(ledger: dict, *path: str | int) -> dict:
    """The object or list at *path*."""
    for step in path:
        ledger = ledger[step]
    return ledger


def put(*path: object) -> Callable[[dict], None]:
    """Write the last of *path* at the rest of it."""

    def spoil(ledger: dict) -> None:
        at(ledger, *path[:-2])[path[-2]] = path[-1]  # type: ignore[arg-type]

    return spoil


def drop(*path: str | int) -> Callable[[dict], None]:
    """Take away what is at *path*."""

    def spoil(ledger: dict) -> None:
        del at(ledger, *path[:-1])[path[-1]]

    return spoil


def both(*spoils: Callable[[dict], None]) -> Callable[[dict], None]:
    """One after the other."""

    def spoil(ledger: dict) -> None:
        for one in spoils:
            one(ledger)

    return spoil


def again(*path: str | int) -> Callable[[dict], None]:
    """A second copy behind the last one of a list."""

    def spoil(ledger: dict) -> None:
        rows = at(ledger, *path[:-1])
        rows.append(copy.deepcopy(rows[path[-1]]))  # type: ignore[attr-defined]

    return spoil


BROKEN = {
    "a coin made out of nothing": (
        put(*ALICE, "balances", "USDT", "free", "5987.45000001"),
        "Account Alice (…aaaa), USDT: 10000 deposited + 400 transferred + 2550 received − 6960 paid − 2.55 fees "
        "= 5987.45, but 5987.45000001 free + 0 locked = 5987.45000001.",
    ),
    "the same coin, seen from the whole exchange": (
        put(*ALICE, "balances", "USDT", "free", "5987.45000001"),
        "Exchange, USDT: 10100 deposited + 400 transferred = 10500, but 6576.96000001 in accounts + 3.04 fees "
        "+ 3920 at the market = 10500.00000001: 0.00000001 made out of nothing.",
    ),
    "a coin lost": (
        put(*BOB, "balances", "BTC", "free", "0.78999999"),
        "Exchange, BTC: 1 deposited + 0 transferred = 1, but 1.07989999 in accounts + 0.0001 fees "
        "+ -0.08 at the market = 0.99999999: 0.00000001 lost.",
    ),
    "a transfer that never arrived": (
        drop(*ALICE, "transfers", 0),
        "Account Alice (…aaaa), USDT: 10000 deposited + -100 transferred",
    ),
    "an asset that nobody knows about": (
        put(*BOB, "balances", "ETH", {"free": "2.00000000", "locked": "0.00000000"}),
        "Account …bbbb, ETH: 0 deposited + 0 transferred + 0 received − 0 paid − 0 fees = 0, but 2 free",
    ),
    "less than nothing": (
        both(
            put(*BOB, "balances", "USDT", "free", "-10.49000000"),
            put(*BOB, "balances", "USDT", "locked", "600.00000000"),
        ),
        "Account …bbbb, USDT: -10.49 free and 600 locked, but neither may be below 0.",
    ),
    "a lock without an order": (
        both(
            put(*BOB, "balances", "USDT", "free", "138.51000000"),
            put(*BOB, "balances", "USDT", "locked", "451.00000000"),
        ),
        "Account …bbbb, USDT: 451 locked, but open orders and lists lock 450.",
    ),
    "a list without its lock": (
        put(*BOB, "lists", 0, "locked", "0.10000000"),
        "Account …bbbb, BTC: 0.2 locked, but open orders and lists lock 0.1.",
    ),
    "a fee that the exchange did not get": (
        put("exchange", "fees", "BNB", "0.00400000"),
        "Exchange, BNB: 0.004 fees taken, but the fills were charged 0.005.",
    ),
    "a market that gains on its own": (
        put("exchange", "market", "USDT", "3921.00000000"),
        "Exchange, USDT: the market gained 3921, but by the fills against it 3920.",
    ),
    "the same account twice": (again(*ALICE), "Account Alice (…aaaa): 2 accounts have its key."),
    "one order id for two orders": (
        put(*BOB, "orders", 1, "order_id", 1),
        "Account …bbbb, order 1: 2 orders have this id.",
    ),
    "a quantity that its fills do not make": (
        put(*ALICE, "orders", 1, "filled_qty", "0.05000000"),
        "Account Alice (…aaaa), order 2: filled_qty is 0.05, but its fills add up to 0.04.",
    ),
    "a value that its fills do not make": (
        put(*ALICE, "orders", 1, "filled_quote", "1961.00000000"),
        "order 2: filled_quote is 1961, but price × quantity of its fills is 1960.",
    ),
    "more than was ordered": (
        put(*BOB, "orders", 0, "qty", "0.02000000"),
        "order 5: 0.01 filled + 0.02 prevented is more than its quantity 0.02.",
    ),
    "more than was to be spent": (
        put(*ALICE, "orders", 0, "quote_order_qty", "4999.00000000"),
        "order 1: it traded for 5000, more than its quote_order_qty 4999.",
    ),
    "a buy above its limit": (
        put(*ALICE, "orders", 1, "price", "48999.99000000"),
        "order 2: trade 2 is at 49000, beyond its buy limit 48999.99.",
    ),
    "a sale below its limit": (
        put(*ALICE, "orders", 2, "price", "51000.01000000"),
        "order 3: trade 4 is at 51000, beyond its sell limit 51000.01.",
    ),
    "an order for nothing": (
        put(*BOB, "orders", 1, "qty", "0.00000000"),
        "order 6: quantity 0 must be above 0",
    ),
    "a lock in a third asset": (
        put(*BOB, "orders", 1, "locked_asset", "ETH"),
        "order 6: BTCUSDT of BTC and USDT cannot lock ETH.",
    ),
    "filled in full, but not by its status": (
        put(*ALICE, "orders", 2, "status", "CANCELED"),
        "order 3: status is CANCELED with 0.05 filled and 0 prevented of 0.05.",
    ),
    "filled by its status alone": (
        put(*ALICE, "orders", 1, "status", "FILLED"),
        "order 2: status is FILLED with 0.04 filled and 0 prevented of 0.1.",
    ),
    "cancelled with nothing left": (
        put(*BOB, "orders", 0, "status", "CANCELED"),
        "order 5: status is CANCELED with 0.01 filled and 0.02 prevented of 0.03.",
    ),
    "partly filled with nothing": (
        put(*BOB, "orders", 1, "status", "PARTIALLY_FILLED"),
        "order 6: status is PARTIALLY_FILLED, but 0 is filled.",
    ),
    "a lock that outlives its order": (
        put(*ALICE, "orders", 1, "locked", "2940.00000000"),
        "order 2: it ended as CANCELED, but still locks 2940 USDT.",
    ),
    "a life without a beginning": (
        drop(*ALICE, "orders", 1, "changes", 0),
        "order 2: its changes must begin with NEW, once.",
    ),
    "a life with two beginnings": (
        again(*BOB, "orders", 1, "changes", 0),
        "order 6: its changes must begin with NEW, once.",
    ),
    "a life out of order": (
        put(*ALICE, "orders", 1, "changes", 2, "time", 1150),
        "order 2: change 3 (TRADE) at 1150 lies before the one above it at 1200.",
    ),
    "a change that counts wrong": (
        put(*ALICE, "orders", 1, "changes", 1, "filled_qty", "0.02000000"),
        "order 2: change 2 (TRADE) says 0.02 filled, but the fills so far add up to 0.01.",
    ),
    "filled and cancelled for the same quantity": (
        both(
            again(*ALICE, "orders", 2, "changes", 1),
            put(*ALICE, "orders", 2, "changes", 2, {"what": "CANCELED", "time": 1700, "status": "CANCELED",
                                                    "filled_qty": "0.05000000"}),
        ),
        "order 3: change 3 (CANCELED) comes after its end as FILLED at 1600.",
    ),
    "a fill after the end": (
        both(
            put(*ALICE, "fills", 2, "time", 1500),
            put(*ALICE, "orders", 1, "changes", 2, "time", 1500),
        ),
        "order 2: trade 3 at 1500 comes after its end as CANCELED at 1400.",
    ),
    "a cancel that leaves the order open": (
        put(*ALICE, "orders", 3, "changes", 1, "status", "NEW"),
        "order 4: change 2 is EXPIRED, but leaves the status NEW.",
    ),
    "a trade without its number": (
        drop(*ALICE, "orders", 0, "changes", 1, "trade_id"),
        "order 1: change 2 (TRADE) must name a trade.",
    ),
    "a trade that left no fill": (
        put(*ALICE, "orders", 0, "changes", 1, "trade_id", 77),
        "order 1: change 2 names trade 77, of which it has no fill.",
    ),
    "a fill that nobody told of": (
        drop(*ALICE, "orders", 1, "changes", 1),
        "order 2: its changes tell of trade 2 0 times, not once.",
    ),
    "a fill at another time than its change": (
        put(*ALICE, "fills", 0, "time", 1001),
        "order 1: trade 1 is at 1001, but its change at 1000.",
    ),
    "a status that is not the last change's": (
        put(*ALICE, "orders", 1, "status", "EXPIRED"),
        "order 2: status is EXPIRED, but its last change leaves CANCELED.",
    ),
    "a prevented quantity that nothing prevented": (
        put(*BOB, "orders", 0, "prevented_qty", "0.01000000"),
        "order 5: prevented_qty is 0.01, but its changes add up to 0.02.",
    ),
    "an order of a list that does not know it": (
        put(*BOB, "orders", 1, "order_list_id", 2),
        "Account …bbbb, order 6: list 2 does not hold it.",
    ),
    "a list of somebody else's orders": (
        put(*BOB, "lists", 0, "order_ids", [7, 8, 6]),
        "Account …bbbb, list 2: order 6 does not belong to it.",
    ),
    "a list that is over with an open order": (
        put(*BOB, "lists", 0, "status", "ALL_DONE"),
        "Account …bbbb, list 2: status is ALL_DONE, but an order of it is open.",
    ),
    "a list that goes on without one": (
        put(*ALICE, "lists", 0, "status", "EXECUTING"),
        "Account Alice (…aaaa), list 1: status is EXECUTING, but no order of it is open.",
    ),
    "a list that is over and locks": (
        put(*ALICE, "lists", 0, "locked", "0.05000000"),
        "Account Alice (…aaaa), list 1: it is ALL_DONE, but locks 0.05 BTC.",
    ),
    "one that should have cancelled the other": (
        put(*ALICE, "orders", 3, "filled_qty", "0.01000000"),
        "Account Alice (…aaaa), list 1: orders 3 and 4 are both filled, though one cancels the other.",
    ),
    "a fill of nobody's order": (
        put(*BOB, "fills", 0, "order_id", 2),
        "Account …bbbb, trade 2 of order 2: the account has no such order.",
    ),
    "a fill on the wrong side": (
        put(*ALICE, "fills", 3, "side", "BUY"),
        "trade 4 of order 3: side is BUY, but SELL in the order.",
    ),
    "a fill under another name": (
        put(*ALICE, "fills", 3, "client_order_id", "c1"),
        "trade 4 of order 3: client_order_id is c1, but c3 in the order.",
    ),
    "a fill in another market": (
        put(*ALICE, "fills", 3, "symbol", "ETHUSDT"),
        "trade 4 of order 3: symbol is ETHUSDT, but BTCUSDT in the order.",
    ),
    "a symbol of other assets": (
        put(*BOB, "orders", 1, "base", "ETH"),
        "Account …bbbb, order 6: BTCUSDT is ETH for USDT, but BTC for USDT in order 1.",
    ),
    "a value that is not price × quantity": (
        put(*ALICE, "fills", 3, "quote_qty", "2550.00000001"),
        "trade 4 of order 3: quote_qty is 2550.00000001, but 51000 × 0.05 is 2550.",
    ),
    "a fee that is paid out": (
        put(*ALICE, "fills", 3, "fee", "-2.55000000"),
        "trade 4 of order 3: price 51000 and quantity 0.05 must be above 0, and the fee -2.55 not below.",
    ),
    "a trade with one side": (
        drop(*BOB, "fills", 0),
        "Trade 2: order 2 traded 0.01 against order 5, which has no fill of it.",
    ),
    "a trade with three sides": (
        put(*ALICE, "fills", 0, "trade_id", 2),
        "Trade 2: 3 fills have this id (orders 1 and 2 and 5): it must be one against the market, or two",
    ),
    "two fills of the market with one number": (
        put(*ALICE, "fills", 3, "trade_id", 3),
        "Trade 3: 2 fills have this id (orders 2 and 3): it must be one against the market, or two",
    ),
    "a trade with a third order": (
        put(*BOB, "fills", 0, "against", 1),
        "Trade 2: orders 2 and 5 traded, but name 5 and 1 as the order they traded with.",
    ),
    "two buyers": (put(*BOB, "fills", 0, "side", "BUY"), "Trade 2: orders 2 and 5 are both on the buy side."),
    "two makers": (put(*BOB, "fills", 0, "is_maker", True), "Trade 2: orders 2 and 5 are both maker."),
    "two prices": (
        put(*BOB, "fills", 0, "price", "49000.01000000"),
        "Trade 2: price is 49000 for order 2, but 49000.01 for order 5.",
    ),
    "two quantities": (
        put(*BOB, "fills", 0, "qty", "0.02000000"),
        "Trade 2: qty is 0.01 for order 2, but 0.02 for order 5.",
    ),
    "two times": (put(*BOB, "fills", 0, "time", 1201), "Trade 2: time is 1200 for order 2, but 1201 for order 5."),
    "two markets": (
        put(*BOB, "fills", 0, "symbol", "BTCUSDC"),
        "Trade 2: symbol is BTCUSDT for order 2, but BTCUSDC for order 5.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "sentence"), BROKEN.values(), ids=BROKEN)
def test_each_broken_identity_is_one_sentence_with_its_figures(ledger, spoil, sentence):
    spoil(ledger)

    found = violations(ledger)

    assert [text for text in found if sentence in text], "\n".join(found) or "nothing found"


def amounts(node: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the figures are that must not move by the smallest amount."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from amounts(value, (*path, key))
    elif isinstance(node, str) and PROVED & {path[-1], *path[-2:-1]}:
        yield path


def test_no_figure_can_move_by_the_smallest_amount_unseen(ledger):
    paths = [path for path in amounts(ledger) if "." in str(at(ledger, *path))]
    assert len(paths) > 80

    unseen = []
    for path in paths:
        spoilt = copy.deepcopy(ledger)
        put(*path, f"{Decimal(str(at(ledger, *path))) + Decimal('0.00000001'):f}")(spoilt)
        if not violations(spoilt):
            unseen.append(path)

    assert unseen == []


def test_an_order_is_filled_when_what_was_not_prevented_is(ledger):
    order = ledger["accounts"][1]["orders"][0]
    order["status"] = "FILLED"
    prevented, trade = order["changes"][2], order["changes"][1]
    order["changes"] = [
        order["changes"][0],
        {**prevented, "status": "NEW", "filled_qty": "0.00000000"},
        {**trade, "status": "FILLED"},
    ]
    assert violations(ledger) == []


def test_amounts_too_large_for_floating_point_are_still_exact(ledger):
    ledger["accounts"][1]["deposits"]["USDT"] = "100000000000000000000000000100.00000000"
    ledger["accounts"][1]["balances"]["USDT"]["free"] = "100000000000000000000000000139.51000000"
    assert violations(ledger) == []

    ledger["accounts"][1]["balances"]["USDT"]["free"] = "100000000000000000000000000139.51000001"
    assert len(violations(ledger)) == 2


NO_LEDGERS = {
    "no object": ([], "the ledger is []: it must be an object."),
    "no accounts": ({"exchange": {"fees": {}, "market": {}}}, "accounts is missing"),
    "no exchange": ({"accounts": []}, "exchange is missing"),
    "accounts that are none": ({"accounts": {}, "exchange": {"fees": {}, "market": {}}}, "accounts is {}: it must be"),
    "an account that is none": (
        {"accounts": [3], "exchange": {"fees": {}, "market": {}}}, "accounts[0] is 3: it must be an object.",
    ),
    "fees that are no text": ({"accounts": [], "exchange": {"fees": {"BTC": 1.5}, "market": {}}},
                              'exchange.fees.BTC is 1.5: it must be a decimal text such as "0.00100000".'),
}  # fmt: skip


@pytest.mark.parametrize(("document", "sentence"), NO_LEDGERS.values(), ids=NO_LEDGERS)
def test_what_is_no_ledger_is_said_with_its_place(document, sentence):
    with pytest.raises(Unreadable) as error:
        violations(document)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("fills", 0, "qty"), "1e5", "accounts[0].fills[0].qty is '1e5': it must be a decimal text"),
        (("fills", 0, "qty"), "NaN", "must be a decimal text"),
        (("fills", 0, "qty"), "9" * 40, "must be a decimal text"),
        (("fills", 0, "qty"), "1\n", "must be a decimal text"),
        (("fills", 0, "qty"), "١", "must be a decimal text"),
        (("fills", 0, "trade_id"), True, "accounts[0].fills[0].trade_id is True: it must be a whole number of 64 bits"),
        (("fills", 0, "trade_id"), 1 << 64, "must be a whole number of 64 bits"),
        (("fills", 0, "is_maker"), 1, "accounts[0].fills[0].is_maker is 1: it must be true or false"),
        (("orders", 0, "side"), "HOLD", "accounts[0].orders[0].side is 'HOLD': it must be one of BUY, SELL"),
        (("orders", 0, "status"), ["NEW"], "accounts[0].orders[0].status is ['NEW']: it must be one of"),
        (("orders", 0, "changes", 0, "what"), "PONDERED", "accounts[0].orders[0].changes[0].what is 'PONDERED'"),
        (("lists", 0, "order_ids"), ["3"], "accounts[0].lists[0].order_ids is '3': it must be a whole number"),
        (("name",), None, "accounts[0].name is None: it must be a text"),
    ],
)
def test_a_malformed_field_is_said_with_its_place(ledger, path, value, sentence):
    put(*ALICE, *path, value)(ledger)
    with pytest.raises(Unreadable) as error:
        violations(ledger)
    assert sentence in str(error.value)


def test_the_proof_shares_no_code_with_the_exchange():
    code = "import simulator.witness.check, sys; print(*[m for m in sys.modules if m.startswith('simulator.')])"
    seen = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {module.split(".")[1] for module in seen.split()} == {"witness"}
