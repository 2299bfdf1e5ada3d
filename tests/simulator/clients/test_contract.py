"""Clients that nobody here wrote trade at the simulator, and what they saw is what its ledger says.

python-binance, ccxt and binance-sdk-spot go through one scenario (scripts/scenario.py), each in a process of its own at
a simulator of its own. The scenario asserts nothing; here each order, fill, balance and event that a client read is
compared with the ledger, and each candle with the tape.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.simulator.clients import tape
from tests.simulator.clients.conftest import BINANCE_SDK, CCXT, CLIENTS, Client, Visit

pytestmark = pytest.mark.timeout(300)  # a client may be waited for longer than other things

ENDED = ("FILLED", "CANCELED", "EXPIRED")
UNIFIED_STATUS = {"NEW": "open", "PARTIALLY_FILLED": "open", "FILLED": "closed", "CANCELED": "canceled",
                  "EXPIRED": "expired"}  # fmt: skip

# Status of each order as its placement, query or cancel answered.
STEPS = {
    "market buy": "FILLED",
    "market buy for quote": "FILLED",
    "market sell": "FILLED",
    "limit taking": "FILLED",
    "ioc taking": "FILLED",
    "ioc missing": "EXPIRED",
    "fok taking": "FILLED",
    "fok missing": "EXPIRED",
    "limit resting": "NEW",
    "limit asked for": "NEW",
    "limit cancelled": "CANCELED",
    "maker resting": "NEW",
    "maker replaced": "NEW",
    "limit kept": "NEW",
    "partly filled": "NEW",
    "partly filled, later": "PARTIALLY_FILLED",
    "partly filled, cancelled": "CANCELED",
    "stop loss": "NEW",
    "stop loss limit": "NEW",
    "take profit": "NEW",
    "take profit limit": "NEW",
    "stop waiting": "NEW",
    "stop cancelled": "CANCELED",
}
# What has become of an order in the end, where that is not what its placement said.
IN_THE_END = {
    "limit resting": "CANCELED",
    "maker resting": "CANCELED",
    "partly filled": "CANCELED",
    "stop loss": "FILLED",
    "stop loss limit": "FILLED",
    "take profit": "FILLED",
    "take profit limit": "FILLED",
    "stop waiting": "CANCELED",
}
# The exchange's code, and what ccxt makes of it.
REFUSALS = {
    "maker crossing": (-2010, "OrderImmediatelyFillable"),
    "too poor": (-2010, "InsufficientFunds"),
    "too small": (-1013, "BadRequest"),
    "not there": (-2013, "OrderNotFound"),
    "cancelled twice": (-2011, "OrderNotFound"),
    "too much weight": (-1003, "DDoSProtection"),
}

# Every answer over the websocket API has an envelope of four fields, of which the library's models of these lack some.
UNKNOWN_TO_ITS_OWN_LIBRARY = {
    "websocket exchange_info(symbol=BTCUSDT)": [f"ExchangeInfoResponse.{f}" for f in ("id", "result", "status")],
    "websocket session_status()": ["SessionStatusResponse.rateLimits"],
    "websocket session_subscriptions()": ["SessionSubscriptionsResponse.rateLimits"],
}


@pytest.fixture(scope="module")
def visits(open_market: Callable, visit: Callable[..., Visit]) -> dict[str, Visit]:
    """All clients at once: most of the time they wait for the market."""
    return {client.name: visit(client, open_market(), "trade") for client in CLIENTS}


@pytest.fixture(params=[client.name for client in CLIENTS])
def trading(request: pytest.FixtureRequest, visits: dict[str, Visit]) -> Visit:
    return visits[request.param]


def test_markets_are_read_with_their_assets_and_filters(trading: Visit) -> None:
    seen = {name: {k: plain(v) for k, v in market.items()} for name, market in trading.seen["markets"].items()}

    filters = {"quote": "USDT", "tick": Decimal("0.01"), "min_notional": Decimal(5)}
    assert seen == {
        "BTCUSDT": {"base": "BTC", "step": Decimal("0.00001"), **filters},
        "ETHUSDT": {"base": "ETH", "step": Decimal("0.0001"), **filters},
    }


def test_candles_are_those_of_the_tape_by_request_and_by_stream(trading: Visit) -> None:
    requested = trading.seen["candles"][:-1]  # the last one is still open
    watched = trading.seen["watched"]

    assert len(requested) == 29
    assert len(watched) == 3
    for rows in (requested, watched):
        assert [row[0] - rows[0][0] for row in rows] == list(range(0, len(rows) * 1000, 1000))
        assert all([Decimal(number) for number in row[1:]] == tape.candle(tape.calm(), 0) for row in rows)


def test_every_step_answers_with_the_state_of_its_order(trading: Visit) -> None:
    assert {name: order["status"] for name, order in trading.seen["steps"].items()} == STEPS


def test_orders_end_as_their_kind_demands(trading: Visit) -> None:
    final = {order["order_id"]: order["status"] for order in trading.account["orders"]}

    ended = {name: final[order["id"]] for name, order in trading.seen["steps"].items() if name in IN_THE_END}

    assert ended == IN_THE_END


def test_of_an_oco_one_leg_is_filled_and_the_other_expires_and_a_cancelled_one_cancels_both(trading: Visit) -> None:
    final = {order["order_id"]: order["status"] for order in trading.account["orders"]}
    lists = trading.seen["lists"]

    assert {name: (final[row["above"]], final[row["below"]]) for name, row in lists.items()} == {
        "oco": ("FILLED", "EXPIRED"),
        "oco cancelled": ("CANCELED", "CANCELED"),
    }
    assert {row["status"] for row in lists.values()} == {"EXECUTING"}
    assert {(row["order_list_id"], row["status"]) for row in trading.account["lists"]} == {
        (row["list_id"], "ALL_DONE") for row in lists.values()
    }


def test_orders_are_read_as_the_ledger_has_them(trading: Visit) -> None:
    assert_orders_agree(trading)


def test_fills_and_fees_are_read_as_the_ledger_has_them(trading: Visit) -> None:
    assert_fills_agree(trading, trading.seen["fills"])


def test_balances_are_read_as_the_ledger_has_them(trading: Visit) -> None:
    assert_balances_agree(trading)


def test_open_orders_are_those_that_have_not_ended(trading: Visit) -> None:
    open_ids = {order["order_id"] for order in trading.account["orders"] if order["status"] not in ENDED}

    assert {order["id"] for order in trading.seen["open_orders"]} == open_ids
    assert len(open_ids) == 2


def test_account_events_tell_each_fill_once_and_how_each_order_ended(trading: Visit) -> None:
    events = trading.seen["events"]

    assert_fills_agree(trading, [event for event in events if event["event"] == "fill"])
    last = {event["id"]: event for event in events if event["event"] == "order"}
    assert {number: (event["status"], plain(event["filled"])) for number, event in last.items()} == {
        order["order_id"]: (order["status"], plain(order["filled_qty"])) for order in trading.account["orders"]
    }


def test_account_events_end_with_the_balances_of_the_ledger(trading: Visit) -> None:
    held: dict[str, Any] = {}
    for event in trading.seen["events"]:
        held.update(event["balances"] if event["event"] == "balances" else {})

    assert numbers(held) == ledger_balances(trading)


def test_refusals_are_understood(trading: Visit) -> None:
    refused = trading.seen["refusals"]

    if trading.client == CCXT:
        assert {name: row["raised"] for name, row in refused.items()} == {
            name: raised for name, (_, raised) in REFUSALS.items()
        }
    else:
        assert {name: row["code"] for name, row in refused.items()} == {
            name: code for name, (code, _) in REFUSALS.items()
        }
    assert 0 < int(refused["too much weight"]["retry_after"]) <= 60


def test_what_is_refused_or_only_tested_leaves_no_order(trading: Visit) -> None:
    known = {order["id"] for order in trading.seen["steps"].values()}
    known |= {row[leg] for row in trading.seen["lists"].values() for leg in ("above", "below")}

    assert {order["order_id"] for order in trading.account["orders"]} == known


def test_no_client_complains(trading: Visit) -> None:
    assert trading.seen["complaints"] == []


@pytest.fixture(scope="module")
def gathering(open_market: Callable, visit: Callable[..., Visit]) -> dict[tuple[str, str], Visit]:
    """Clients at one simulator, each with an account of its own: (name, part of the scenario) -> visit."""
    simulator = open_market()
    visits = {(c.name, "keys"): visit(c, simulator, "keys", private_key=Ed25519PrivateKey.generate()) for c in CLIENTS}
    return visits | {(c.name, "sweep"): visit(c, simulator, "sweep") for c in (CCXT, BINANCE_SDK)}


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_an_ed25519_key_signs_orders_and_subscribes_to_their_events(
    client: Client, gathering: dict[tuple[str, str], Visit]
) -> None:
    signing = gathering[client.name, "keys"]

    assert {name: order["status"] for name, order in signing.seen["steps"].items()} == {
        "limit resting": "NEW",
        "cancelled": "CANCELED",
        "market buy": "FILLED",
    }
    assert_orders_agree(signing)
    assert_balances_agree(signing)
    assert_fills_agree(signing, [event for event in signing.seen["events"] if event["event"] == "fill"])


def test_models_of_the_exchanges_own_library_fit_whatever_is_answered(
    gathering: dict[tuple[str, str], Visit],
) -> None:
    """Strict models: a text in the place of a number, or the other way round, is a complaint."""
    swept = gathering[BINANCE_SDK.name, "sweep"].seen["steps"]

    unfit = {name: outcome for name, outcome in swept.items() if outcome != {"complaints": []}}
    for name, fields in UNKNOWN_TO_ITS_OWN_LIBRARY.items():
        assert unfit.pop(name) == {"complaints": [], "unknown fields": fields}
    assert unfit == {}
    assert len(swept) > 70


def test_whatever_else_ccxt_asks_for_it_understands(gathering: dict[tuple[str, str], Visit]) -> None:
    swept = gathering[CCXT.name, "sweep"].seen["steps"]

    assert {name: outcome for name, outcome in swept.items() if outcome != {"answered": True}} == {}
    assert len(swept) > 20


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_rate_limit_and_a_ban_on_demand_are_understood(
    client: Client, gathering: dict[tuple[str, str], Visit], visit: Callable[..., Visit]
) -> None:
    assert all(earlier.seen for earlier in gathering.values())  # the ban hits all of this machine
    simulator = gathering[client.name, "keys"].simulator
    fault = {"kind": "rate_limit", "path": "/api/v3/account", "seconds": 60}
    assert simulator.sim("POST", "faults", fault).status == 201

    refused = visit(client, simulator, "limits").seen["refusals"]

    assert simulator.sim("DELETE", "faults").status == 200
    if client == CCXT:
        assert [row["raised"] for row in refused.values()] == ["DDoSProtection"] * 2
    else:
        assert [row["code"] for row in refused.values()] == [-1003] * 2
    assert "banned until" not in refused["limited"]["text"]
    assert "banned until" in refused["banned"]["text"]
    assert all(50 < int(row["retry_after"]) <= 60 for row in refused.values())


# Comparing


def assert_orders_agree(visit: Visit) -> None:
    """Every order of the ledger was seen, with the same figures, and no other."""
    seen = {order["id"]: order for order in visit.seen["orders"]}
    written = {order["order_id"]: order for order in visit.account["orders"]}
    assert seen.keys() == written.keys()
    for number, order in written.items():
        expected = {
            "client_id": order["client_order_id"],
            "symbol": order["symbol"],
            "side": order["side"],
            "type": order["type"],
            "tif": order["time_in_force"],
            "status": order["status"],
            "qty": plain(order["qty"]),
            "filled": plain(order["filled_qty"]),
            "quote": plain(order["filled_quote"]),
            "stop_price": plain(order["stop_price"]),
            "price": plain(order["price"]),
        }
        if visit.client == CCXT:
            expected["unified_status"] = UNIFIED_STATUS[order["status"]]
            if not expected["price"] and expected["filled"]:
                expected["price"] = expected["quote"] / expected["filled"]  # ccxt shows the average
        found = {name: plain(seen[number][name] or 0) for name in expected}
        if visit.client == CCXT:
            found["price"] = pytest.approx(found["price"])
        assert found == expected


def assert_fills_agree(visit: Visit, fills: list[dict[str, Any]]) -> None:
    """Every fill of the ledger was seen once, with the same figures, and no other."""
    names = ("trade_id", "order_id", "symbol", "price", "qty", "fee", "fee_asset", "is_maker")
    seen = [tuple(plain(fill[name]) for name in names) for fill in fills]
    written = [tuple(plain(fill[name]) for name in names) for fill in visit.account["fills"]]
    assert sorted(seen) == sorted(written)
    assert written


def assert_balances_agree(visit: Visit) -> None:
    """Free and locked amounts of every asset."""
    assert numbers(visit.seen["balances"]) == ledger_balances(visit)


def ledger_balances(visit: Visit) -> dict[str, list[Decimal]]:
    rows = visit.account["balances"]
    return numbers({asset: [row["free"], row["locked"]] for asset, row in rows.items()})


def numbers(balances: dict[str, list[str]]) -> dict[str, list[Decimal]]:
    return {asset: [Decimal(amount) for amount in amounts] for asset, amounts in balances.items()}


def plain(value: Any) -> Any:
    """A decimal text as the number it is; anything else as it is."""
    try:
        return Decimal(value) if isinstance(value, str) else value
    except ArithmeticError:
        return value
