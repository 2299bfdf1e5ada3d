"""The websocket API over real sockets: requests, limits, sessions, and the user data stream."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest
import websockets
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

LISTEN, STOP = "userDataStream.subscribe.signature", "userDataStream.unsubscribe"
ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.001"}
FAR = "40000"  # a price that nobody trades at, inside the price band


def run(scenario: Callable[[], Awaitable[None]], within_s: float = 25) -> None:
    asyncio.run(asyncio.wait_for(scenario(), within_s))


def connect(simulator, query: str = ""):
    return websockets.connect(f"{simulator.ws}/ws-api/v3{query}")


async def receive(socket) -> dict:
    return json.loads(await asyncio.wait_for(socket.recv(), 10))


async def ask(socket, method: str, params: dict | None = None, **more: object) -> dict:
    """Send a request and return its answer, letting events pass."""
    message = {"id": 1, "method": method, **more} | ({} if params is None else {"params": params})
    await socket.send(json.dumps(message))
    while True:
        answer = await receive(socket)
        if "id" in answer:
            return answer


async def code(socket, method: str, params: dict | None = None) -> tuple[int, int]:
    """Status and error code of the answer."""
    answer = await ask(socket, method, params)
    assert "result" not in answer
    assert answer["error"]["msg"]
    return answer["status"], answer["error"]["code"]


async def events_until(socket, wanted: Callable[[dict], bool]) -> list[dict]:
    """Frames up to and including the first that is wanted."""
    frames = [await receive(socket)]
    while not wanted(frames[-1]):
        frames.append(await receive(socket))
    return frames


def now() -> int:
    return int(time.time() * 1000)


def payload(params: dict) -> str:
    return "&".join(f"{name}={value}" for name, value in sorted(params.items()))


def signed(customer, **params: object) -> dict:
    params |= {"apiKey": customer.api_key, "timestamp": now()}
    return {**params, "signature": customer.sign(payload(params))}


@dataclass
class KeyHolder:
    """An account with a key pair."""

    api_key: str
    key: Ed25519PrivateKey | rsa.RSAPrivateKey

    def sign(self, text: str) -> str:
        if isinstance(self.key, Ed25519PrivateKey):
            raw = self.key.sign(text.encode())
        else:
            raw = self.key.sign(text.encode(), padding.PKCS1v15(), SHA256())
        return base64.b64encode(raw).decode()


def holder(simulator, key=None) -> KeyHolder:
    key = key or Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    reply = simulator.sim("POST", "accounts", {"balances": {"USDT": "100000"}, "public_key": pem})
    return KeyHolder(reply.json["api_key"], key)


# requests


@pytest.mark.parametrize("request_id", ["5494febb-d167-46a2-996d-70533eb4d976", 7, -3, 2**63 - 1, None, "é"])
def test_an_answer_carries_the_callers_id(simulator, request_id):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            answer = await ask(socket, "ping", id=request_id)
            assert (answer["id"], answer["status"], answer["result"]) == (request_id, 200, {})
            assert (await ask(socket, "v3/time", id=request_id))["result"]["serverTime"] > 0

    run(scenario)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("not json", -1135),
        ("[1,2]", -1135),
        ("[" * 50_000, -1135),
        ('{"id":1.5,"method":"ping"}', -1100),
        ('{"id":"' + "x" * 37 + '","method":"ping"}', -1100),
        ('{"id":null}', -1102),
        ('{"id":null,"method":"order.dance"}', -1020),
        ('{"id":null,"method":"ping","params":[]}', -1135),
        ('{"id":null,"method":"ping","params":{"x":1}}', -1104),
        ('{"id":null,"method":"klines","params":{"symbol":{"a":[1]},"interval":"1s"}}', -1100),
        ('{"id":null,"method":"klines","params":{"symbol":"BTCUSDT","interval":"\\ud800"}}', -1120),
        ('{"id":null,"method":"account.status","params":{"apiKey":"\\ud800","timestamp":1}}', -2014),
        ('{"id":null,"method":"ping","params":{"returnRateLimits":"perhaps"}}', -1100),
    ],
)
def test_a_bad_request_is_answered_in_the_exchanges_words(simulator, text, error):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            await socket.send(text)
            answer = await receive(socket)
            assert (answer["id"], answer["error"]["code"]) == (None, error)
            assert 400 <= answer["status"] < 500
            assert (await ask(socket, "ping"))["status"] == 200

    run(scenario)


@pytest.mark.parametrize("method", ["userDataStream.start", "userDataStream.ping", "userDataStream.stop"])
def test_listen_keys_are_gone(simulator, method):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            assert (await ask(socket, method, {"apiKey": "x"}))["status"] == 410

    run(scenario)


@pytest.mark.parametrize("query", ["?responseFormat=sbe", "?returnRateLimits=perhaps", "?timeUnit=microsecond"])
def test_a_url_that_asks_for_too_much_is_refused(simulator, query):
    reply = simulator.get("/ws-api/v3" + query)
    assert reply.status == 400
    assert reply.code < -1000


METHODS = (
    "ping", "v3/time", "exchangeInfo", "klines", "ticker.price", "ticker.book", "account.status", "order.place",
    "order.cancel", "order.cancelReplace", "orderList.place.oco", "myTrades", "session.logon", "session.status", LISTEN,
    STOP,
)  # fmt: skip
NAMES = ("symbol", "symbols", "apiKey", "timestamp", "signature", "recvWindow", "limit", "subscriptionId", "interval")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just("BTCUSDT"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
REQUESTS = st.fixed_dictionaries(
    {"method": st.sampled_from(METHODS) | VALUES},
    optional={"id": VALUES, "params": st.dictionaries(st.sampled_from(NAMES) | st.text(), VALUES) | VALUES},
)


@settings(max_examples=25, deadline=None)
@given(st.lists(REQUESTS.map(json.dumps) | st.text(), max_size=20))
def test_whatever_is_sent_is_answered_and_nothing_breaks(simulator, texts):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            for text in texts:
                await socket.send(text)
            answers = [await receive(socket) for _ in texts]
            assert all(answer["status"] == 200 or 400 <= answer["status"] < 500 for answer in answers)
            assert all(("result" in answer) != ("error" in answer) for answer in answers)
            assert (await ask(socket, "ping"))["status"] == 200

    run(scenario)


def test_requests_are_answered_however_many_are_sent_at_once(simulator):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            for number in range(3000):
                await socket.send(json.dumps({"id": number, "method": "time"}))
            answers = [await receive(socket) for _ in range(3000)]
            assert sorted(answer["id"] for answer in answers) == list(range(3000))
            assert {answer["status"] for answer in answers} <= {200, 429}
            assert (await ask(socket, "ping"))["status"] == 200

    run(scenario)


def test_a_question_that_takes_long_holds_up_nobody(simulator):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            slow = {"symbol": "ETHUSDC", "interval": "1d", "limit": 3}
            await socket.send(json.dumps({"id": "slow", "method": "klines", "params": slow}))
            await socket.send(json.dumps({"id": "quick", "method": "ping"}))
            assert [(await receive(socket))["id"] for _ in range(2)] == ["quick", "slow"]

    run(scenario)


def test_a_client_that_leaves_before_its_answer_does_no_harm(start, eventually):
    simulator = start()

    async def scenario() -> None:
        slow = {"symbol": "ETHUSDC", "interval": "1d", "limit": 60}
        socket = await connect(simulator)
        await socket.send(json.dumps({"id": "slow", "method": "klines", "params": slow}))
        await socket.send(json.dumps({"id": "quick", "method": "ping"}))
        await receive(socket)
        socket.transport.abort()

    run(scenario)
    eventually(lambda: simulator.get("/").json["connections"] == 0)
    assert simulator.get("/api/v3/ping").status == 200
    assert simulator.stop() == 0
    assert "Traceback" not in simulator.errors.read_text()


# limits


def test_an_answer_says_how_much_weight_is_used(start):
    simulator = start()

    async def scenario() -> None:
        async with connect(simulator) as socket:
            (first,) = (await ask(socket, "ping"))["rateLimits"]
            assert first == {
                "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000,
                "count": first["count"],
            }  # fmt: skip
            (second,) = (await ask(socket, "exchangeInfo"))["rateLimits"]
            assert second["count"] in (first["count"] + 20, 20)  # a minute may have passed

    run(scenario)


def test_orders_are_counted_where_orders_are_made(start):
    simulator = start()
    customer = simulator.account(USDT="1000")

    async def scenario() -> None:
        async with connect(simulator) as socket:
            limits = (await ask(socket, "order.place", signed(customer, **ORDER, price=FAR)))["rateLimits"]
            assert [(row["rateLimitType"], row["interval"], row["count"]) for row in limits[:2]] == [
                ("ORDERS", "SECOND", 1), ("ORDERS", "DAY", 1),
            ]  # fmt: skip
            assert limits[2]["rateLimitType"] == "REQUEST_WEIGHT"
            refused = await ask(socket, "order.place", signed(customer, **ORDER, price="1"))
            assert refused["status"] == 400
            assert len(refused["rateLimits"]) == 3
            stranger = {**signed(customer, **ORDER), "apiKey": "x" * 64}
            assert len((await ask(socket, "order.place", stranger))["rateLimits"]) == 1

    run(scenario)


def test_limits_are_left_out_on_demand(simulator):
    async def scenario() -> None:
        async with connect(simulator) as socket:
            assert "rateLimits" not in await ask(socket, "ping", {"returnRateLimits": False})
            assert "rateLimits" in await ask(socket, "ping")
            assert (await ask(socket, "session.status"))["result"]["returnRateLimits"] is True
        async with connect(simulator, "?returnRateLimits=false") as socket:
            assert "rateLimits" not in await ask(socket, "ping")
            assert "rateLimits" not in await ask(socket, "order.dance")
            assert "rateLimits" in await ask(socket, "ping", {"returnRateLimits": True})
            assert (await ask(socket, "session.status"))["result"]["returnRateLimits"] is False

    run(scenario)


def test_hiding_the_limits_may_be_signed(simulator):
    customer = simulator.account()

    async def scenario() -> None:
        async with connect(simulator) as socket:
            params = {"returnRateLimits": "false", "apiKey": customer.api_key, "timestamp": now()}
            params["signature"] = customer.sign(payload(params))
            answer = await ask(socket, "account.status", params)
            assert (answer["status"], "rateLimits" in answer) == (200, False)

    run(scenario)


def test_too_much_weight_is_refused_with_the_time_to_come_back(start):
    simulator = start()

    async def scenario() -> None:
        async with connect(simulator) as socket:
            for _ in range(610):  # more than a window takes, in case one ends meanwhile
                answer = await ask(socket, "exchangeInfo", {"symbol": "BTCUSDT"})
                if answer["status"] != 200:
                    break
            error = answer["error"]
            assert (answer["status"], error["code"]) == (429, -1003)
            assert abs(error["data"]["serverTime"] - now()) < 2000
            assert 0 < error["data"]["retryAfter"] - error["data"]["serverTime"] <= 61_000
            assert answer["rateLimits"][0]["count"] > 6000
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(simulator)
        assert refused.value.response.status_code == 429
        assert int(refused.value.response.headers["Retry-After"]) > 0

    run(scenario)


def test_too_many_orders_are_refused_with_the_time_to_come_back(start):
    simulator = start()
    customer = simulator.account()

    async def scenario() -> None:
        async with connect(simulator) as socket:
            for _ in range(210):
                answer = await ask(socket, "order.place", signed(customer, **ORDER, price=FAR))
                if answer["status"] != 200:
                    break
            assert (answer["status"], answer["error"]["code"]) == (429, -1015)
            data = answer["error"]["data"]
            assert 0 < data["retryAfter"] - data["serverTime"] <= 11_000

    run(scenario)


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

            placed = await ask(socket, "order.place", {**ORDER, "price": FAR, "timestamp": now()})
            assert placed["result"]["status"] == "NEW"
            assert len(placed["rateLimits"]) == 3
            found = await ask(socket, "openOrders.status", {"timestamp": now()})
            assert [order["orderId"] for order in found["result"]] == [placed["result"]["orderId"]]
            assert await code(socket, "openOrders.status") == (400, -1102)
            assert await code(socket, "openOrders.status", {"timestamp": now() - 6000}) == (400, -1021)
            assert (await ask(socket, "session.status"))["result"]["apiKey"] == owner.api_key

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


def test_a_stop_closes_every_connection_cleanly_and_soon(start):
    simulator = start()

    async def scenario() -> None:
        sockets = [await connect(simulator) for _ in range(50)]
        started = time.monotonic()
        assert await asyncio.to_thread(simulator.stop) == 0
        assert time.monotonic() - started < 5
        for socket in sockets:
            with suppress(websockets.ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1001

    run(scenario)
