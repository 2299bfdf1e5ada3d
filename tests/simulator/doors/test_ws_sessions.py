"""Who is who on the websocket API, over real sockets: signatures, sessions, and the user data stream."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.simulator.conftest import WIDE_MS
from tests.simulator.ws_caller import (
    FAR,
    LISTEN,
    ORDER,
    STOP,
    ask,
    code,
    connect,
    events_until,
    holder,
    now,
    payload,
    receive,
    run,
    signed,
)

HOUR_MS = 3_600_000

# signatures and sessions


def test_orders_are_placed_over_the_websocket_api_too(simulator):
    customer = simulator.account(USDT="1000")

    async def scenario() -> None:
        async with connect(simulator) as socket:
            order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
            placed = await ask(socket, "order.place", signed(customer, **order))
            assert placed["result"]["status"] == "FILLED"
            query = {"symbol": "BTCUSDT", "orderId": placed["result"]["orderId"]}
            found = await ask(socket, "order.status", signed(customer, **query))
            assert found["result"]["executedQty"] == "0.00100000"

    run(scenario)


@pytest.mark.parametrize("key", [None, rsa.generate_private_key(public_exponent=65537, key_size=2048)])
def test_a_key_pair_signs_each_request(simulator, key):
    owner = holder(simulator, key)

    async def scenario() -> None:
        async with connect(simulator) as socket:
            assert (await ask(socket, "account.status", signed(owner)))["status"] == 200
            assert (await ask(socket, LISTEN, signed(owner)))["result"] == {"subscriptionId": 0}
            bad = {**signed(owner), "signature": owner.sign("something else")}
            assert await code(socket, "account.status", bad) == (400, -1022)

    run(scenario)


def test_who_is_not_logged_on_signs_everything(simulator):
    customer = simulator.account()

    async def scenario() -> None:
        async with connect(simulator) as socket:
            assert await code(socket, "account.status") == (400, -1102)
            assert await code(socket, "account.status", {"timestamp": now()}) == (400, -1102)
            unsigned = {"apiKey": customer.api_key, "timestamp": now()}
            assert await code(socket, "account.status", unsigned) == (400, -1102)
            assert await code(socket, "userDataStream.subscribe") == (401, -1002)
            assert await code(socket, LISTEN, {"timestamp": now()}) == (400, -1102)
            assert await code(socket, LISTEN, {**signed(customer), "signature": "0" * 64}) == (400, -1022)
            old = {"apiKey": customer.api_key, "timestamp": now() - 6000}
            assert await code(socket, LISTEN, {**old, "signature": customer.sign(payload(old))}) == (400, -1021)
            status = (await ask(socket, "session.status"))["result"]
            assert (status["apiKey"], status["authorizedSince"], status["userDataStream"]) == (None, None, False)
            assert 0 <= status["serverTime"] - status["connectedSince"] < 60_000

    run(scenario)


def test_after_logon_requests_need_no_signature(simulator):
    owner = holder(simulator)

    async def scenario() -> None:
        async with connect(simulator) as socket:
            session = (await ask(socket, "session.logon", signed(owner)))["result"]
            assert set(session) == {
                "apiKey", "authorizedSince", "connectedSince", "returnRateLimits", "serverTime", "userDataStream",
            }  # fmt: skip
            assert session["apiKey"] == owner.api_key
            assert session["connectedSince"] <= session["authorizedSince"] <= session["serverTime"]

            wide = {"recvWindow": WIDE_MS}
            placed = await ask(socket, "order.place", {**ORDER, "price": FAR, "timestamp": now(), **wide})
            assert placed["result"]["status"] == "NEW"
            assert len(placed["rateLimits"]) == 3
            found = await ask(socket, "openOrders.status", {"timestamp": now(), **wide})
            assert [order["orderId"] for order in found["result"]] == [placed["result"]["orderId"]]
            assert await code(socket, "openOrders.status") == (400, -1102)
            assert await code(socket, "openOrders.status", {"timestamp": now() - 6000}) == (400, -1021)
            assert (await ask(socket, "session.status"))["result"]["apiKey"] == owner.api_key

    run(scenario)


def test_a_skewed_clock_is_that_of_sessions_too(start):
    simulator = start()

    async def scenario() -> None:
        async with connect(simulator) as socket:
            await ask(socket, "session.logon", signed(holder(simulator)))
            simulator.sim("POST", "faults", {"kind": "clock_skew", "ms": -HOUR_MS})
            assert await code(socket, "account.status", {"timestamp": now()}) == (400, -1021)
            good = {"timestamp": now() - HOUR_MS, "recvWindow": WIDE_MS}
            assert (await ask(socket, "account.status", good))["status"] == 200
            status = (await ask(socket, "session.status"))["result"]
            assert abs(status["connectedSince"] - status["authorizedSince"]) < HOUR_MS / 2
            assert status["serverTime"] - now() < -HOUR_MS / 2

    run(scenario)


def test_a_request_may_still_name_another_key(simulator):
    owner, other = holder(simulator), simulator.account(USDT="7")

    async def scenario() -> None:
        async with connect(simulator) as socket:
            await ask(socket, "session.logon", signed(owner))
            balances = (await ask(socket, "account.status", signed(other)))["result"]["balances"]
            assert [row["free"] for row in balances] == ["7.00000000"]
            unsigned = {"apiKey": owner.api_key, "timestamp": now()}
            assert await code(socket, "account.status", unsigned) == (400, -1102)
            assert await code(socket, "account.status", {"timestamp": now(), "signature": "x"}) == (400, -1102)
            bad = {**signed(owner), "signature": owner.sign("x")}
            assert await code(socket, "account.status", bad) == (400, -1022)

    run(scenario)


def test_only_ed25519_keys_log_on(simulator):
    customer = simulator.account()
    owner = holder(simulator, rsa.generate_private_key(public_exponent=65537, key_size=2048))

    async def scenario() -> None:
        async with connect(simulator) as socket:
            for each in (customer, owner):
                assert await code(socket, "session.logon", signed(each)) == (400, -4056)
            assert await code(socket, "session.logon") == (400, -1102)
            assert await code(socket, "session.logon", {**signed(customer), "color": "red"}) == (400, -1104)
            assert (await ask(socket, "session.status"))["result"]["apiKey"] is None

    run(scenario)


def test_a_second_logon_changes_the_key(simulator):
    one, two = holder(simulator), holder(simulator)

    async def scenario() -> None:
        async with connect(simulator) as socket, connect(simulator) as stranger:
            await ask(socket, "session.logon", signed(one))
            await ask(socket, "session.logon", signed(two))
            assert (await ask(socket, "session.status"))["result"]["apiKey"] == two.api_key
            assert await code(socket, "session.logon", {**signed(one), "signature": "x"}) == (400, -1022)
            assert (await ask(socket, "session.status"))["result"]["apiKey"] == two.api_key
            assert (await ask(stranger, "session.status"))["result"]["apiKey"] is None

    run(scenario)


def test_logging_out_ends_the_session_and_the_subscription_it_made(simulator):
    owner, other = holder(simulator), simulator.account(USDT="1000")

    async def scenario() -> None:
        async with connect(simulator) as socket:
            await ask(socket, "session.logon", signed(owner))
            assert (await ask(socket, "userDataStream.subscribe"))["result"] == {"subscriptionId": 0}
            assert (await ask(socket, LISTEN, signed(other)))["result"] == {"subscriptionId": 1}
            assert (await ask(socket, "session.status"))["result"]["userDataStream"] is True

            await socket.send(json.dumps({"id": 9, "method": "session.logout"}))
            *events, answer = await events_until(socket, lambda frame: "id" in frame)

            (ended,) = events
            assert (ended["subscriptionId"], ended["event"]["e"]) == (0, "eventStreamTerminated")
            assert (answer["result"]["apiKey"], answer["result"]["authorizedSince"]) == (None, None)
            assert (await ask(socket, "session.subscriptions"))["result"] == [{"subscriptionId": 1}]
            assert await code(socket, "account.status", {"timestamp": now()}) == (400, -1102)
            other.order(quantity="0.001", price=FAR)
            assert (await receive(socket))["subscriptionId"] == 1

    run(scenario)


# the user data stream


def test_an_account_hears_of_its_own_orders_only(simulator):
    mine, other = simulator.account(USDT="1000"), simulator.account(USDT="1000")

    async def scenario() -> None:
        async with connect(simulator) as socket:
            assert (await ask(socket, LISTEN, signed(mine)))["result"] == {"subscriptionId": 0}

            other.order(quantity="0.001", price=FAR)
            order = mine.order(quantity="0.001", price=FAR, newClientOrderId="mine").json
            mine.call("DELETE", "order", symbol="BTCUSDT", orderId=order["orderId"], newClientOrderId="bye")
            frames = [await receive(socket) for _ in range(4)]

            assert {frame["subscriptionId"] for frame in frames} == {0}
            new, locked, gone, freed = (frame["event"] for frame in frames)
            assert (new["e"], new["x"], new["X"], new["c"], new["i"]) == (
                "executionReport", "NEW", "NEW", "mine", order["orderId"],
            )  # fmt: skip
            assert (gone["x"], gone["X"], gone["c"], gone["C"]) == ("CANCELED", "CANCELED", "bye", "mine")
            assert (new["t"], new["N"], new["l"], new["w"], gone["w"]) == (-1, None, "0.00000000", True, False)
            assert {"a": "USDT", "f": "960.00000000", "l": "40.00000000"} in locked["B"]
            assert {"a": "USDT", "f": "1000.00000000", "l": "0.00000000"} in freed["B"]

    run(scenario)


def test_subscriptions_are_numbered_listed_and_ended(simulator):
    one, two = simulator.account(USDT="1000"), simulator.account(USDT="1000")

    async def scenario() -> None:
        async with connect(simulator) as socket:
            for number, customer in enumerate((one, two)):
                assert (await ask(socket, LISTEN, signed(customer)))["result"] == {"subscriptionId": number}
            assert await code(socket, LISTEN, signed(one)) == (400, -2035)
            listed = (await ask(socket, "session.subscriptions"))["result"]
            assert listed == [{"subscriptionId": 0}, {"subscriptionId": 1}]

            await socket.send(json.dumps({"id": 9, "method": STOP, "params": {"subscriptionId": 0}}))
            ended, answer = await events_until(socket, lambda frame: "id" in frame)
            assert (ended["subscriptionId"], ended["event"]["e"]) == (0, "eventStreamTerminated")
            assert answer["result"] == {}
            assert await code(socket, STOP, {"subscriptionId": 0}) == (400, -2036)
            assert await code(socket, STOP, {"subscriptionId": "x"}) == (400, -1100)

            one.order(quantity="0.001", price=FAR)
            two.order(quantity="0.001", price=FAR)
            assert {(await receive(socket))["subscriptionId"] for _ in range(2)} == {1}
            assert (await ask(socket, LISTEN, signed(one)))["result"] == {"subscriptionId": 2}

            await socket.send(json.dumps({"id": 9, "method": STOP}))
            *ends, _ = await events_until(socket, lambda frame: "id" in frame)
            assert [frame["subscriptionId"] for frame in ends] == [1, 2]
            assert (await ask(socket, STOP))["result"] == {}
            assert (await ask(socket, "session.subscriptions"))["result"] == []
            one.order(quantity="0.001", price=FAR)
            await socket.send(json.dumps({"id": 10, "method": "ping"}))
            assert (await receive(socket))["id"] == 10  # nothing came between

    run(scenario)


def test_every_connection_of_an_account_hears_everything_in_order(simulator):
    customer = simulator.account(USDT="1000")

    async def scenario() -> None:
        sockets = [await connect(simulator) for _ in range(3)]
        for socket in sockets:
            assert (await ask(socket, LISTEN, signed(customer)))["result"] == {"subscriptionId": 0}
        orders = [customer.order(quantity="0.001", price=FAR).json["orderId"] for _ in range(5)]
        for socket in sockets:
            frames = [await receive(socket) for _ in range(10)]
            assert [frame["event"]["e"] for frame in frames[:2]] == ["executionReport", "outboundAccountPosition"]
            assert [frame["event"]["i"] for frame in frames[::2]] == orders
            await socket.close()

    run(scenario)


def test_a_subscription_dies_with_its_connection(simulator):
    customer = simulator.account(USDT="1000")

    async def scenario() -> None:
        for end in ("close", "abort", "close"):
            async with connect(simulator) as socket:
                assert (await ask(socket, LISTEN, signed(customer)))["result"] == {"subscriptionId": 0}
                if end == "abort":
                    socket.transport.abort()
            customer.order(quantity="0.001", price=FAR)
        async with connect(simulator) as socket:
            assert (await ask(socket, "session.subscriptions"))["result"] == []
            await ask(socket, LISTEN, signed(customer))
            last = customer.order(quantity="0.001", price=FAR).json["orderId"]
            assert (await receive(socket))["event"]["i"] == last  # nothing is replayed

    run(scenario)


def test_user_events_meet_the_faults_of_their_channel(start):
    simulator = start()
    customer = simulator.account(USDT="1000")

    async def scenario() -> None:
        async with connect(simulator) as socket:
            await ask(socket, LISTEN, signed(customer))
            simulator.sim("POST", "faults", {"kind": "silence", "stream": "user@executionReport", "seconds": 60})
            customer.order(quantity="0.001", price=FAR)
            assert (await receive(socket))["event"]["e"] == "outboundAccountPosition"
            assert (await ask(socket, "ping"))["status"] == 200
            simulator.sim("DELETE", "faults")
            customer.order(quantity="0.001", price=FAR)
            assert (await receive(socket))["event"]["e"] == "executionReport"

    run(scenario)
