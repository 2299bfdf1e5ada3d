"""REST as a client sees it: answers, refusals, signatures, headers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.simulator.conftest import WIDE_MS

FAR = "40000"  # a price that nobody trades at, inside the price band


@pytest.fixture(scope="module")
def customer(simulator):
    return simulator.account(USDT="100000", BTC="10")


def test_ping_and_time(simulator):
    assert simulator.get("/api/v3/ping").json == {}

    asked = time.time() * 1000
    told = simulator.get("/api/v3/time").json["serverTime"]
    assert asked - 1 <= told <= time.time() * 1000  # in whole milliseconds


def test_exchange_info_lists_the_symbols_asked_for(simulator):
    info = simulator.get("/api/v3/exchangeInfo").json
    assert [s["symbol"] for s in info["symbols"]] == [
        "BTCUSDT", "ETHUSDT", "BTCUSDC", "ETHUSDC", "BNBUSDT", "BNBUSDC",
    ]  # fmt: skip
    assert {s["status"] for s in info["symbols"]} == {"TRADING"}
    assert [(limit["rateLimitType"], limit["interval"], limit["intervalNum"]) for limit in info["rateLimits"]] == [
        ("REQUEST_WEIGHT", "MINUTE", 1), ("ORDERS", "SECOND", 10), ("ORDERS", "DAY", 1), ("RAW_REQUESTS", "MINUTE", 5),
    ]  # fmt: skip
    one = simulator.get("/api/v3/exchangeInfo?symbol=ETHUSDT").json["symbols"]
    assert [s["baseAsset"] for s in one] == ["ETH"]
    two = simulator.get('/api/v3/exchangeInfo?symbols=["BTCUSDT","ETHUSDC"]').json["symbols"]
    assert [s["symbol"] for s in two] == ["BTCUSDT", "ETHUSDC"]


def test_filters_are_those_of_the_pair(simulator):
    symbol = simulator.get("/api/v3/exchangeInfo?symbol=BTCUSDT").json["symbols"][0]
    filters = {f["filterType"]: f for f in symbol["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
    assert filters["NOTIONAL"]["minNotional"] == "5.00000000"


def test_a_kline_row_has_twelve_fields(simulator):
    row = simulator.get("/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=2").json[0]
    assert [type(field) for field in row] == [int, str, str, str, str, str, int, str, int, str, str, str]
    assert row[6] == row[0] + 59_999
    assert all(len(row[n].partition(".")[2]) == 8 for n in (1, 2, 3, 4, 5, 7, 9, 10))


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", -1102),
        ("symbol=BTCUSDT", -1102),
        ("symbol=XRPUSDT&interval=1s", -1121),
        ("symbol=BTCUSDT&interval=2s", -1120),
        ("symbol=BTCUSDT&interval=1M&startTime=99999999999999999999", None),
        ("symbol=BTCUSDT&interval=1s&limit=0", -1102),
        ("symbol=BTCUSDT&interval=1s&limit=-1", -1100),
        ("symbol=BTCUSDT&interval=1s&startTime=now", -1100),
        ("symbol=BTCUSDT&interval=1s&endTime=0", None),
        ("symbol=BTCUSDT&interval=1s&colour=red", -1104),
        ("symbol=BTCUSDT&interval=1s&timeZone=15", -1130),
        ("symbol=BTCUSDT&symbol=ETHUSDT&interval=1s", -1101),
        ("symbol=%FF%00&interval=1s", -1100),
    ],
)
def test_bad_candle_requests_are_refused_by_name(simulator, query, code):
    reply = simulator.get("/api/v3/klines?" + query)
    assert (reply.status, reply.json if code is None else reply.code) == ((200, []) if code is None else (400, code))


def test_prices_come_singly_or_for_all(simulator):
    assert set(simulator.get("/api/v3/ticker/price?symbol=BTCUSDT").json) == {"symbol", "price"}
    assert len(simulator.get("/api/v3/ticker/price").json) == 6
    book = simulator.get("/api/v3/ticker/bookTicker?symbol=ETHUSDT").json
    assert Decimal(book["askPrice"]) - Decimal(book["bidPrice"]) == Decimal("0.01")


def test_unknown_paths_retired_paths_and_wrong_methods(simulator):
    assert simulator.get("/api/v3/nothing").status == 404
    assert simulator.get("/api/v1/ping").status == 404
    assert simulator.ask("POST", "/api/v3/userDataStream").status == 410
    assert simulator.ask("PUT", "/api/v3/order").status == 405
    assert "html" in simulator.ask("GET", "/api/v3/nothing", headers={"Accept": "text/html"}).text


def test_weight_used_is_told_with_every_answer(simulator):
    before = int(simulator.get("/api/v3/ping").headers["X-MBX-USED-WEIGHT-1M"])
    after = int(simulator.get("/api/v3/exchangeInfo").headers["X-MBX-USED-WEIGHT-1M"])
    assert after - before == 20 or after == 20  # or a new minute has begun


def test_who_does_not_sign_is_turned_away(simulator, customer):
    assert simulator.get("/api/v3/account").code == -2014
    reply = simulator.ask("GET", "/api/v3/account", headers={"X-MBX-APIKEY": "x" * 64})
    assert (reply.status, reply.code) == (401, -2015)
    assert simulator.ask("GET", "/api/v3/account", headers={"X-MBX-APIKEY": customer.api_key}).code == -1102


def test_a_changed_request_does_not_pass(simulator, customer):
    query = urlencode({"symbol": "BTCUSDT", "recvWindow": WIDE_MS, "timestamp": int(time.time() * 1000)})
    target = f"/api/v3/openOrders?{query}&signature={customer.sign(query + '0')}"
    assert simulator.ask("GET", target, headers={"X-MBX-APIKEY": customer.api_key}).code == -1022


def test_a_clock_that_is_off_is_told_so(simulator):
    customer = simulator.account()
    customer.skew_ms = -6000
    late = customer.call("GET", "account", recvWindow=5000)
    assert (late.code, late.json["msg"]) == (-1021, "Timestamp for this request is outside of the recvWindow.")
    assert customer.call("GET", "account", recvWindow=None).code == -1021
    assert customer.call("GET", "account", recvWindow=60_000).status == 200

    customer.skew_ms = 60_000
    assert customer.call("GET", "account").code == -1021


@pytest.mark.parametrize("split", range(4))
def test_parameters_may_come_in_query_and_body_in_any_mix(simulator, customer, split):
    pairs = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.001"}
    pairs |= {"price": FAR, "recvWindow": str(WIDE_MS), "timestamp": str(int(time.time() * 1000))}
    items = list(pairs.items())
    query, body = urlencode(items[:split]), urlencode(items[split:])
    body += "&signature=" + customer.sign(query + body)
    headers = {"X-MBX-APIKEY": customer.api_key, "Content-Type": "application/json"}

    reply = simulator.ask("POST", "/api/v3/order?" + query, body.encode(), headers)

    assert reply.status == 200, reply.text


def test_the_answer_has_the_form_that_was_asked_for(customer):
    ack = customer.order(quantity="0.001", price=FAR, newOrderRespType="ACK").json
    assert list(ack) == ["symbol", "orderId", "orderListId", "clientOrderId", "transactTime"]
    result = customer.order(quantity="0.001", price=FAR, newOrderRespType="RESULT").json
    assert (result["status"], result["cummulativeQuoteQty"], "fills" in result) == ("NEW", "0.00000000", False)
    assert customer.order(quantity="0.001", price=FAR).json["fills"] == []
    assert "status" not in customer.order(kind="LIMIT_MAKER", quantity="0.001", price=FAR).json


def test_a_market_order_tells_its_fills(customer):
    order = customer.order(kind="MARKET", quantity="0.01").json
    fills = order["fills"]
    assert (order["price"], order["timeInForce"], order["executedQty"]) == ("0.00000000", "GTC", "0.01000000")
    assert sum(Decimal(f["price"]) * Decimal(f["qty"]) for f in fills) == Decimal(order["cummulativeQuoteQty"])
    assert sum(Decimal(f["qty"]) for f in fills) == Decimal("0.01")
    assert [(f["commission"], f["commissionAsset"]) for f in fills] == [
        (f"{Decimal(f['qty']) / 1000:.8f}", "BTC") for f in fills
    ]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"kind": "LIMIT", "quantity": "0.001"}, -1102),
        ({"kind": "LIMIT", "price": FAR}, -1102),
        ({"kind": "LIMIT", "quantity": "0.001", "price": FAR, "timeInForce": "GTX"}, -1115),
        ({"kind": "LIMIT", "quantity": "1e-05", "price": FAR}, -1100),
        ({"kind": "LIMIT", "quantity": "-1", "price": FAR}, -1100),
        ({"kind": "LIMIT", "quantity": "0.000000001", "price": FAR}, -1111),
        ({"kind": "LIMIT", "quantity": "0.000001", "price": FAR}, -1013),
        ({"kind": "LIMIT", "quantity": "0.001", "price": "40000.001"}, -1013),
        ({"kind": "LIMIT", "quantity": "0.0001", "price": FAR}, -1013),
        ({"kind": "LIMIT", "quantity": "9", "price": FAR}, -2010),
        ({"kind": "LIMIT", "quantity": "0.001", "price": FAR, "newClientOrderId": "a b"}, -1100),
        ({"kind": "LIMIT", "quantity": "0.001", "price": FAR, "newClientOrderId": "x" * 37}, -1100),
        ({"kind": "LIMIT", "quantity": "0.001", "price": FAR, "stopPrice": FAR}, -1106),
        ({"kind": "LIMIT", "quantity": "0.001", "price": FAR, "icebergQty": "0.0001"}, -2010),
        ({"kind": "LIMIT", "quantity": "0.001", "price": FAR, "strategyId": "1"}, -1104),
        ({"kind": "LIMIT", "quantity": "0.001", "price": FAR, "newOrderRespType": "ALL"}, -1130),
        ({"kind": "LIMIT_MAKER", "quantity": "0.001", "price": "200000"}, -2010),
        ({"kind": "LIMIT_MAKER", "quantity": "0.001", "price": FAR, "timeInForce": "GTC"}, -1106),
        ({"kind": "MARKET"}, -1102),
        ({"kind": "MARKET", "quantity": "0.001", "quoteOrderQty": "10"}, -1106),
        ({"kind": "MARKET", "quantity": "0.001", "price": FAR}, -1106),
        ({"kind": "MARKET", "quantity": "0.001", "timeInForce": "GTC"}, -1106),
        ({"kind": "MARKET", "quoteOrderQty": "4"}, -1013),
        ({"kind": "STOP_LOSS", "quantity": "0.001", "stopPrice": FAR}, -2010),
        ({"kind": "HOPE", "quantity": "0.001"}, -1116),
        ({"kind": "MARKET", "quantity": "0.001", "side": "HOLD"}, -1117),
        ({"kind": "MARKET", "quantity": "0.001", "symbol": "XRPUSDT"}, -1121),
    ],
)
def test_a_bad_order_is_refused_by_name_and_leaves_no_trace(simulator, params, code):
    customer = simulator.account(USDT="1000", BTC="1")
    assert customer.order(**params).code == code
    assert customer.balances() == {"BTC": ("1.00000000", "0.00000000"), "USDT": ("1000.00000000", "0.00000000")}


def test_an_order_is_found_by_either_id_and_cancelled_once(simulator):
    customer = simulator.account(USDT="1000")
    placed = customer.order(quantity="0.01", price=FAR, newClientOrderId="mine-1").json
    by_id = customer.call("GET", "order", symbol="BTCUSDT", orderId=placed["orderId"]).json
    by_name = customer.call("GET", "order", symbol="BTCUSDT", origClientOrderId="mine-1").json
    assert by_id == by_name
    assert (by_id["status"], by_id["isWorking"]) == ("NEW", True)
    assert customer.balances()["USDT"] == ("600.00000000", "400.00000000")
    assert customer.order(quantity="0.01", price=FAR, newClientOrderId="mine-1").json["msg"] == "Duplicate order sent."

    gone = customer.call("DELETE", "order", symbol="BTCUSDT", orderId=placed["orderId"], newClientOrderId="bye").json

    assert (gone["status"], gone["clientOrderId"], gone["origClientOrderId"]) == ("CANCELED", "bye", "mine-1")
    assert customer.call("DELETE", "order", symbol="BTCUSDT", orderId=placed["orderId"]).code == -2011
    assert customer.balances()["USDT"] == ("1000.00000000", "0.00000000")
    assert customer.call("GET", "order", symbol="BTCUSDT", orderId=4_000_000_000).code == -2013
    assert customer.call("GET", "order", symbol="BTCUSDT").code == -1102


def test_a_cancel_can_be_restricted(simulator):
    customer = simulator.account(USDT="1000")
    order_id = customer.order(quantity="0.01", price=FAR).json["orderId"]
    reply = customer.call(
        "DELETE", "order", symbol="BTCUSDT", orderId=order_id, cancelRestrictions="ONLY_PARTIALLY_FILLED"
    )
    assert reply.json["msg"] == "Order was not canceled due to cancel restrictions."
    assert customer.call("DELETE", "order", symbol="BTCUSDT", orderId=order_id, cancelRestrictions="NO").code == -1145


def test_open_orders_are_listed_and_cancelled_together(simulator):
    customer = simulator.account(USDT="1000")
    ids = [customer.order(quantity="0.001", price=FAR).json["orderId"] for _ in range(3)]
    assert [o["orderId"] for o in customer.call("GET", "openOrders", symbol="BTCUSDT").json] == ids
    assert customer.call("GET", "openOrders", symbol="ETHUSDT").json == []

    assert [o["orderId"] for o in customer.call("DELETE", "openOrders", symbol="BTCUSDT").json] == ids

    assert customer.call("GET", "openOrders").json == []
    assert customer.call("DELETE", "openOrders", symbol="BTCUSDT").code == -2011
    assert [o["status"] for o in customer.call("GET", "allOrders", symbol="BTCUSDT").json] == ["CANCELED"] * 3
    assert [
        o["orderId"] for o in customer.call("GET", "allOrders", symbol="BTCUSDT", orderId=ids[1], limit=1).json
    ] == [ids[1]]


def test_the_ledger_agrees_with_the_exchange(simulator):
    customer = simulator.account(USDT="1000")
    order = customer.order(kind="MARKET", quantity="0.005", newClientOrderId="mine").json
    trades = customer.call("GET", "myTrades", symbol="BTCUSDT", orderId=order["orderId"]).json

    (account,) = simulator.sim("GET", f"ledger?api_key={customer.api_key}").json["accounts"]

    assert account["deposits"] == {"USDT": "1000.00000000"}
    assert account["fills"] == [
        {
            "trade_id": trade["id"],
            "order_id": order["orderId"],
            "client_order_id": "mine",
            "symbol": "BTCUSDT",
            "side": "BUY",
            "price": trade["price"],
            "qty": trade["qty"],
            "quote_qty": trade["quoteQty"],
            "fee": trade["commission"],
            "fee_asset": "BTC",
            "is_maker": False,
            "against": 0,
            "time": trade["time"],
        }
        for trade in trades
    ]
    assert [o["status"] for o in account["orders"]] == ["FILLED"]
    balances = {a: (b["free"], b["locked"]) for a, b in account["balances"].items()}
    assert balances == customer.balances()
    assert Decimal(balances["USDT"][0]) == 1000 - sum(Decimal(trade["quoteQty"]) for trade in trades)
    assert simulator.sim("GET", "ledger?api_key=nobody").status == 404


@pytest.mark.parametrize(
    "body",
    [{}, [], {"balances": {}}, {"balances": {"usdt": "1"}}, {"balances": {"USDT": "-1"}}, {"balances": {"USDT": None}},
     {"balances": {"USDT": "1e3"}}, {"balances": {"USDT": "1"}, "age": 3}, {"balances": {"USDT": "1"}, "name": 3},
     {"balances": {"USDT": "9" * 16}}, {"balances": {"USDT": "0.123456789"}},
     {"balances": {"USDT": "1"}, "name": "\ud800"}],
)  # fmt: skip
def test_an_account_with_bad_balances_is_refused_with_a_sentence(simulator, body):
    reply = simulator.sim("POST", "accounts", body)
    assert reply.status == 422
    assert reply.json["error"].endswith(".")


@pytest.mark.parametrize("field", ["api_secret", "public_key"])
def test_a_secret_that_cannot_be_used_is_not_shown(simulator, field):
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for secret in ("too-short", pem):
        refused = simulator.sim("POST", "accounts", {"balances": {"USDT": "1"}, field: secret})
        assert refused.status == 422
        assert refused.json["error"].startswith(f"the body: {field} cannot be used: ")
        assert not any(word in refused.text for word in ("too-short", pem.splitlines()[1][:8]))


def test_balances_may_be_numbers(simulator):
    reply = simulator.sim("POST", "accounts", {"balances": {"USDT": 250.5, "BTC": 2}})
    (account,) = simulator.sim("GET", f"ledger?api_key={reply.json['api_key']}").json["accounts"]
    assert account["deposits"] == {"USDT": "250.50000000", "BTC": "2.00000000"}


def test_a_resting_order_at_the_touch_is_filled_by_the_market(start):
    simulator = start("--seed", 7, "--speed", 0, "--start", "2026-01-01T00:00:00Z")
    customer = simulator.account(USDT="100000")
    bid = simulator.get("/api/v3/ticker/bookTicker?symbol=BTCUSDT").json["bidPrice"]
    order = customer.order(kind="LIMIT_MAKER", quantity="0.00100", price=bid, newOrderRespType="FULL").json
    assert (order["status"], order["fills"]) == ("NEW", [])
    seconds = 0
    while order["status"] != "FILLED" and seconds < 60:
        seconds += 1
        simulator.sim("POST", "clock", {"advance_ms": 1000})
        order = customer.call("GET", "order", symbol="BTCUSDT", orderId=order["orderId"]).json
    trades = customer.call("GET", "myTrades", symbol="BTCUSDT", orderId=order["orderId"]).json
    assert order["status"] == "FILLED"
    assert {(trade["isMaker"], trade["price"]) for trade in trades} == {(True, bid)}


def test_limits_are_enforced(start):
    simulator = start()
    customer = simulator.account(USDT="100000")
    with ThreadPoolExecutor(8) as threads:  # more than a window takes, in case one ends meanwhile
        replies = threads.map(lambda _: customer.order(quantity="0.001", price=FAR), range(210))
    refused = first_refused(replies)
    assert (refused.status, refused.code) == (429, -1015)
    assert int(refused.headers["Retry-After"]) <= 11

    refused = first_refused(simulator.get("/api/v3/depth?symbol=BTCUSDT&limit=5000") for _ in range(60))
    assert (refused.status, refused.code) == (429, -1003)
    assert 0 < int(refused.headers["Retry-After"]) <= 61


def first_refused(replies):
    return next(reply for reply in replies if reply.status != 200)
