"""Stops, pairs, replacing, trying, self-trades and fees, as a client sees them over REST."""

from __future__ import annotations

from decimal import Decimal

import pytest

from simulator.core.rules import SYMBOLS

FAR, NEAR_ZERO = "40000", "0.00000000"


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A market that stands still: prices stay where they are."""
    from tests.simulator.conftest import simulators

    with simulators(tmp_path_factory) as run:
        yield run("--unlimited", "--speed", 0, "--start", "2026-01-01T00:00:00Z")


@pytest.fixture
def customer(still):
    return still.account(USDT="100000", BTC="2")


@pytest.fixture
def last(still) -> Decimal:
    return Decimal(still.get("/api/v3/ticker/price?symbol=BTCUSDT").json["price"])


def around(last: Decimal, percent: int) -> str:
    return f"{last * (100 + percent) / 100:.2f}"


def oco(customer, last: Decimal, **params: object):
    given = {
        "symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01", "aboveType": "LIMIT_MAKER",
        "abovePrice": around(last, 5), "belowType": "STOP_LOSS_LIMIT", "belowStopPrice": around(last, -5),
        "belowPrice": around(last, -6), "belowTimeInForce": "GTC",
    }  # fmt: skip
    return customer.call("POST", "orderList/oco", **{**given, **params})


# stops


@pytest.mark.parametrize(
    ("kind", "side", "percent", "price"),
    [
        ("STOP_LOSS", "SELL", -5, None), ("TAKE_PROFIT", "SELL", 5, None),
        ("STOP_LOSS_LIMIT", "BUY", 5, 6), ("TAKE_PROFIT_LIMIT", "BUY", -5, -6),
    ],
)  # fmt: skip
def test_a_stop_waits_and_says_so(customer, last, kind, side, percent, price):
    params = {} if price is None else {"price": around(last, price), "timeInForce": "GTC"}
    placed = customer.order(side, kind, quantity="0.01", stopPrice=around(last, percent), **params).json
    assert set(placed) == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}

    asked = customer.call("GET", "order", symbol="BTCUSDT", orderId=placed["orderId"]).json

    assert (asked["status"], asked["isWorking"], asked["workingTime"]) == ("NEW", False, -1)
    assert Decimal(asked["stopPrice"]) == Decimal(around(last, percent))
    cancelled = customer.call("DELETE", "order", symbol="BTCUSDT", orderId=placed["orderId"]).json
    assert (cancelled["status"], Decimal(cancelled["stopPrice"])) == ("CANCELED", Decimal(around(last, percent)))
    assert {pair[1] for pair in customer.balances().values()} == {NEAR_ZERO}


@pytest.mark.parametrize(
    ("params", "code", "msg"),
    [
        ({"stopPrice": "1000000"}, -2010, "Order would trigger immediately."),
        ({}, -1102, "Mandatory parameter 'stopPrice' was not sent, was empty/null, or malformed."),
        ({"stopPrice": FAR, "price": FAR}, -1106, "Parameter 'price' sent when not required."),
        ({"trailingDelta": "100"}, -2010, "Trailing stop orders are not supported for this symbol."),
        ({"stopPrice": "40000.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"stopPrice": FAR, "selfTradePreventionMode": "NONE"}, -1013,
         "This symbol does not allow the specified self-trade prevention mode."),
        ({"stopPrice": FAR, "selfTradePreventionMode": "HOPE"}, -1130,
         "Data sent for parameter 'selfTradePreventionMode' is not valid."),
    ],
)  # fmt: skip
def test_a_bad_stop_is_refused_in_the_exchanges_words(customer, params, code, msg):
    assert customer.order("SELL", "STOP_LOSS", quantity="0.001", **params).json == {"code": code, "msg": msg}


def test_a_triggered_stop_is_filled_at_market(start):
    simulator = start("--speed", 0, "--start", "2026-01-01T00:00:00Z")
    customer = simulator.account(BTC="1")
    last = Decimal(simulator.get("/api/v3/ticker/price?symbol=BTCUSDT").json["price"])
    order = customer.order("SELL", "STOP_LOSS", quantity="0.01", stopPrice=around(last, -1)).json

    for _ in range(200):
        assert simulator.sim("POST", "clock", {"advance_ms": 600_000}).status == 200
        asked = customer.call("GET", "order", symbol="BTCUSDT", orderId=order["orderId"]).json
        if asked["status"] != "NEW":
            break

    assert (asked["status"], asked["isWorking"]) == ("FILLED", True)
    fills = customer.call("GET", "myTrades", symbol="BTCUSDT", orderId=order["orderId"]).json
    assert all(Decimal(fill["price"]) <= Decimal(around(last, -1)) for fill in fills)
    assert asked["workingTime"] == fills[0]["time"] > order["transactTime"]


# pairs


def test_a_pair_is_placed_listed_and_cancelled_as_one(customer, last):
    placed = oco(customer, last, listClientOrderId="pair", aboveClientOrderId="up", belowClientOrderId="down").json
    assert (placed["contingencyType"], placed["listStatusType"], placed["listOrderStatus"]) == (
        "OCO", "EXEC_STARTED", "EXECUTING",
    )  # fmt: skip
    assert [order["clientOrderId"] for order in placed["orders"]] == ["up", "down"]
    assert len(placed["orderReports"]) == 2
    assert customer.balances()["BTC"] == ("1.99000000", "0.01000000")
    found = customer.call("GET", "orderList", origClientOrderId="pair").json
    assert found == {k: v for k, v in placed.items() if k != "orderReports"}
    assert [one["listClientOrderId"] for one in customer.call("GET", "openOrderList").json] == ["pair"]
    legs = customer.call("GET", "openOrders", symbol="BTCUSDT").json
    assert {(leg["orderListId"], leg["isWorking"]) for leg in legs} == {
        (placed["orderListId"], True), (placed["orderListId"], False),
    }  # fmt: skip

    gone = customer.call("DELETE", "orderList", symbol="BTCUSDT", listClientOrderId="pair").json

    assert gone["listOrderStatus"] == "ALL_DONE"
    assert [report["status"] for report in gone["orderReports"]] == ["CANCELED", "CANCELED"]
    assert customer.balances()["BTC"] == ("2.00000000", "0.00000000")
    assert customer.call("GET", "openOrderList").json == []
    assert [one["listStatusType"] for one in customer.call("GET", "allOrderList").json] == ["ALL_DONE"]
    assert customer.call("DELETE", "orderList", symbol="BTCUSDT", listClientOrderId="pair").code == -2011
    assert customer.call("GET", "orderList", orderListId=99_999).code == -2018
    assert customer.call("GET", "orderList").code == -1102


def test_cancelling_all_open_orders_shows_pairs_as_lists(customer, last):
    oco(customer, last)
    alone = customer.order("BUY", quantity="0.001", price=FAR).json
    gone = customer.call("DELETE", "openOrders", symbol="BTCUSDT").json
    assert [len(one.get("orderReports", [])) for one in gone] == [2, 0]
    assert gone[1]["orderId"] == alone["orderId"]


def test_the_older_form_of_a_pair_is_still_taken(customer, last):
    placed = customer.call(
        "POST", "order/oco", symbol="BTCUSDT", side="SELL", quantity="0.01", price=around(last, 5),
        stopPrice=around(last, -5), stopLimitPrice=around(last, -6), stopLimitTimeInForce="GTC",
    ).json  # fmt: skip
    reports = [customer.call("GET", "order", symbol="BTCUSDT", orderId=o["orderId"]).json for o in placed["orders"]]
    assert [report["type"] for report in reports] == ["LIMIT_MAKER", "STOP_LOSS_LIMIT"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"aboveType": "STOP_LOSS", "abovePrice": None, "aboveStopPrice": "99999"}, -2010),
        ({"abovePrice": FAR}, -2010),
        ({"belowStopPrice": "199999"}, -2010),
        ({"quantity": None}, -1102),
        ({"belowTimeInForce": None}, -1102),
        ({"aboveStopPrice": FAR}, -1106),
        ({"aboveType": "LIMIT"}, -1158),
        ({"aboveType": "WISH"}, -1116),
        ({"belowType": "LIMIT_MAKER", "belowStopPrice": None, "belowTimeInForce": None}, -1168),
        ({"aboveType": "STOP_LOSS", "abovePrice": None, "aboveStopPrice": "99999", "belowType": "LIMIT_MAKER",
          "belowPrice": FAR, "belowStopPrice": None, "belowTimeInForce": None}, -1166),
        ({"side": "BUY"}, -1165),
        ({"quantity": "3"}, -2010),
        ({"aboveTrailingDelta": "100"}, -2010),
    ],
)
def test_a_bad_pair_is_refused_whole(customer, last, params, code):
    assert oco(customer, last, **params).code == code
    assert customer.call("GET", "openOrders").json == []
    assert customer.balances()["BTC"] == ("2.00000000", "0.00000000")


@pytest.mark.parametrize("path", ["orderList/oto", "orderList/otoco", "orderList/opo", "sor/order"])
def test_what_is_not_offered_is_refused_by_name(customer, path):
    refused = customer.call("POST", path, symbol="BTCUSDT", anything="1")
    assert refused.json == {"code": -1020, "msg": "This operation is not supported."}


def test_amending_is_refused_by_name(customer):
    assert customer.call("PUT", "order/amend/keepPriority", symbol="BTCUSDT", orderId=1, newQty="1").code == -1020


# replacing


def replace(customer, old: int, **params: object):
    given = {
        "symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.001", "price": FAR,
        "cancelReplaceMode": "STOP_ON_FAILURE", "cancelOrderId": old,
    }  # fmt: skip
    return customer.call("POST", "order/cancelReplace", **{**given, **params})


def test_an_order_is_replaced_by_another(customer):
    old = customer.order(quantity="0.001", price=FAR).json["orderId"]
    done = replace(customer, old, price="41000").json
    assert (done["cancelResult"], done["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    assert (done["cancelResponse"]["orderId"], done["newOrderResponse"]["status"]) == (old, "NEW")
    assert [o["price"] for o in customer.call("GET", "openOrders").json] == ["41000.00000000"]


def test_a_replacement_that_fails_says_which_half(customer):
    old = customer.order(quantity="0.001", price=FAR).json["orderId"]

    half = replace(customer, old, quantity="9")
    assert (half.status, half.code) == (409, -2021)
    assert half.json["data"]["cancelResult"] == "SUCCESS"
    assert half.json["data"]["newOrderResponse"]["code"] == -2010

    nothing = replace(customer, old)
    assert (nothing.status, nothing.code) == (400, -2022)
    assert nothing.json["data"] == {
        "cancelResult": "FAILURE", "newOrderResult": "NOT_ATTEMPTED",
        "cancelResponse": {"code": -2011, "msg": "Unknown order sent."}, "newOrderResponse": None,
    }  # fmt: skip

    other = replace(customer, old, cancelReplaceMode="ALLOW_FAILURE")
    assert (other.status, other.code) == (409, -2021)
    assert other.json["data"]["newOrderResult"] == "SUCCESS"


def test_filters_are_looked_at_before_anything_is_cancelled(customer):
    old = customer.order(quantity="0.001", price=FAR).json["orderId"]
    assert replace(customer, old, quantity="0.00001").code == -1013
    assert customer.call("GET", "order", symbol="BTCUSDT", orderId=old).json["status"] == "NEW"
    assert replace(customer, old, cancelReplaceMode="MAYBE").code == -1130
    assert replace(customer, old, cancelOrderId=None).code == -1102


# trying


def test_an_order_can_be_tried_without_being_placed(customer):
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
    assert customer.call("POST", "order/test", **order).json == {}
    rates = customer.call("POST", "order/test", computeCommissionRates="true", **order).json
    assert rates["standardCommissionForOrder"] == {"maker": "0.00100000", "taker": "0.00100000"}
    assert customer.call("POST", "order/test", **{**order, "quantity": "0.00001"}).code == -1013
    assert customer.call("GET", "allOrders", symbol="BTCUSDT").json == []


# self-trades


def test_who_meets_himself_loses_the_resting_order_by_default(still, customer):
    book = still.get("/api/v3/ticker/bookTicker?symbol=ETHUSDT").json
    still.sim("POST", "accounts", {"balances": {"USDT": "1"}})
    rich = still.account(ETH="10", USDT="100000")
    resting = rich.order("SELL", "LIMIT_MAKER", "ETHUSDT", quantity="0.1", price=book["askPrice"]).json
    # More than the crowd offers before it.
    rich.order("BUY", symbol="ETHUSDT", quantity=f"{Decimal(book['askQty']) + 1:.4f}", price=book["askPrice"])

    asked = rich.call("GET", "order", symbol="ETHUSDT", orderId=resting["orderId"]).json
    assert (asked["status"], asked["preventedQuantity"]) == ("EXPIRED_IN_MATCH", "0.10000000")
    (match,) = rich.call("GET", "myPreventedMatches", symbol="ETHUSDT", orderId=resting["orderId"]).json
    assert (match["preventedMatchId"], match["makerOrderId"]) == (asked["preventedMatchId"], resting["orderId"])


# fees, keys, limits


def test_an_account_may_have_fees_of_its_own_and_pay_them_in_bnb(still):
    reply = still.sim(
        "POST", "accounts", {"balances": {"USDT": "1000", "BNB": "1"}, "pays_in_bnb": True, "fees": {"taker": "0.0005"}}
    ).json
    from tests.simulator.conftest import Customer

    saver = Customer(still, reply["api_key"], reply["api_secret"])
    order = saver.order(kind="MARKET", quantity="0.01").json
    rates = saver.call("GET", "account/commission", symbol="BTCUSDT").json
    assert rates["standardCommission"]["taker"] == "0.00050000"
    assert rates["discount"]["enabledForAccount"] is True
    assert {fill["commissionAsset"] for fill in order["fills"]} == {"BNB"}
    bnb = Decimal(still.get("/api/v3/ticker/price?symbol=BNBUSDT").json["price"])
    paid = sum(Decimal(fill["commission"]) for fill in order["fills"])
    assert paid == pytest.approx(Decimal(order["cummulativeQuoteQty"]) * Decimal("0.000375") / bnb, abs=Decimal("1e-7"))


def test_a_key_that_may_only_read_places_nothing(still):
    from tests.simulator.conftest import Customer

    reply = still.sim("POST", "accounts", {"balances": {"USDT": "1000"}, "can_trade": False}).json
    reader = Customer(still, reply["api_key"], reply["api_secret"])
    assert reader.call("GET", "account").json["canTrade"] is False
    refused = reader.order(quantity="0.001", price=FAR)
    assert (refused.status, refused.code) == (401, -2015)


def test_used_order_limits_are_told(customer):
    customer.order(quantity="0.001", price=FAR)
    limits = customer.call("GET", "rateLimit/order").json
    assert [(one["interval"], one["intervalNum"], one["limit"]) for one in limits] == [
        ("SECOND", 10, 100), ("DAY", 1, 200_000),
    ]  # fmt: skip
    assert limits[1]["count"] >= 1


def test_every_listed_order_type_is_one_that_is_taken(still):
    for symbol in SYMBOLS:
        info = still.get(f"/api/v3/exchangeInfo?symbol={symbol}").json["symbols"][0]
        assert set(info["orderTypes"]) == {
            "LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT",
        }  # fmt: skip
