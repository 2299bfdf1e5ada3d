"""Market streams and faults, over real sockets."""

from __future__ import annotations

import json
import socket
import time

import pytest
import websockets

from tests.simulator.ws_caller import receive, run
from tests.waiting import LONG_S


async def ask(socket, **message: object) -> dict:
    """Send a message and return the answer with its id, letting others pass."""
    await socket.send(json.dumps(message))
    while True:
        answer = await receive(socket)
        if "id" in answer:
            return answer


def pass_time(simulator, ms: int) -> None:
    """Move a market on that stands still."""
    assert simulator.sim("POST", "clock", {"advance_ms": ms}).status == 200


def test_a_second_is_sent_once_closed_and_equals_its_rest_row(simulator):
    async def scenario() -> None:
        async with websockets.connect(simulator.ws + "/ws/btcusdt@kline_1s") as socket:
            events = [await receive(socket) for _ in range(3)]
            heard_ms = time.time() * 1000
        ks = [event["k"] for event in events]
        assert [k["t"] for k in ks] == [ks[0]["t"] + n * 1000 for n in range(3)]
        for event, k in zip(events, ks, strict=True):
            assert (event["e"], event["s"], k["x"], k["i"], k["T"]) == ("kline", "BTCUSDT", True, "1s", k["t"] + 999)
            assert k["t"] + 1000 <= event["E"] <= heard_ms
            assert (k["f"] == -1) == (k["L"] == -1) == (k["n"] == 0)
            path = f"/api/v3/klines?symbol=BTCUSDT&interval=1s&limit=1&startTime={k['t']}"
            (row,) = simulator.get(path).json
            assert row == [k["t"], *(k[f] for f in "ohlcv"), k["T"], k["q"], k["n"], k["V"], k["Q"], "0"]

    run(scenario)


def test_idle_seconds_are_sent_too(start, tmp_path):
    path = tmp_path / "BTCUSDT-x.csv"
    path.write_text("time_ms,price,qty,is_buyer_maker\n1000000,100,1,1\n1003500,101,1,0\n1020000,101,1,0\n")
    simulator = start("--replay", path, "--speed", 0)

    async def scenario() -> None:
        async with websockets.connect(simulator.ws + "/ws/btcusdt@kline_1s") as socket:
            pass_time(simulator, 4000)
            ks = [(await receive(socket))["k"] for _ in range(4)]
        assert [(k["t"], k["c"], k["v"], k["f"], k["n"]) for k in ks] == [
            (1_000_000, "100.00000000", "1.00000000", 1, 1),
            (1_001_000, "100.00000000", "0.00000000", -1, 0),
            (1_002_000, "100.00000000", "0.00000000", -1, 0),
            (1_003_000, "101.00000000", "1.00000000", 2, 1),
        ]

    run(scenario)


def test_longer_candles_are_sent_open_and_then_closed(start):
    simulator = start("--speed", 30)

    async def scenario() -> None:
        async with websockets.connect(simulator.ws + "/ws/ethusdt@kline_1m") as socket:
            ks = [(await receive(socket))["k"] for _ in range(60)]
        closed = [k for k in ks if k["x"]]
        assert len(closed) == 2 or len(closed) == 1
        assert len(ks) - len(closed) > 25
        path = f"/api/v3/klines?symbol=ETHUSDT&interval=1m&limit=1&startTime={closed[0]['t']}"
        (row,) = simulator.get(path).json
        assert (row[1], row[5], row[8]) == (closed[0]["o"], closed[0]["v"], closed[0]["n"])

    run(scenario)


def test_combined_streams_carry_their_name(simulator):
    async def scenario() -> None:
        async with websockets.connect(simulator.ws + "/stream?streams=btcusdt@aggTrade/ethusdt@trade") as socket:
            seen: dict[str, dict] = {}
            while len(seen) < 2:
                message = await receive(socket)
                seen[message["stream"]] = message["data"]
        assert set(seen["btcusdt@aggTrade"]) == set("eEsapqflTmM")
        assert set(seen["ethusdt@trade"]) == set("eEstpqTmM")

    run(scenario)


def test_subscriptions_come_and_go(simulator):
    async def scenario() -> None:
        async with websockets.connect(simulator.ws + "/ws/0") as socket:
            assert await ask(socket, method="LIST_SUBSCRIPTIONS", id="a-1") == {"result": [], "id": "a-1"}
            names = ["btcusdt@bookTicker", "btcusdt@kline_1s"]
            assert await ask(socket, method="SUBSCRIBE", params=names, id=1) == {"result": None, "id": 1}
            assert (await ask(socket, method="LIST_SUBSCRIPTIONS", id=2))["result"] == names
            await ask(socket, method="UNSUBSCRIBE", params=["btcusdt@kline_1s"], id=3)
            await ask(socket, method="SET_PROPERTY", params=["combined", True], id=4)
            event = await receive(socket)
            while "id" in event:
                event = await receive(socket)
            assert set(event["data"]) == set("usbBaA")

    run(scenario)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("not json", 3),
        ("[]", 2),
        ('{"method":"SUBSCRIBE","params":["xrpusdt@trade"],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":["btcusdt@depth15"],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1.5}', 2),
        ('{"method":"DANCE","params":["x"],"id":1}', 2),
        ('{"method":["x"],"params":["x"],"id":1}', 2),
    ],
)
def test_bad_control_messages_are_answered(simulator, text, code):
    async def scenario() -> None:
        async with websockets.connect(simulator.ws + "/ws") as socket:
            await socket.send(text)
            assert (await receive(socket))["code"] == code

    run(scenario)


@pytest.mark.parametrize(
    "path",
    ["/ws/btcusdt@depth15", "/ws/!ticker@arr", "/ws/!bookTicker", "/ws/BTCUSDT@trade", "/ws/btcusdt@aggtrade",
     "/ws/btcusdt@kline_1S", "/stream?streams=btcusdt@depth@200ms", "/stream?streams=btcusdt",
     "/stream?streams=btcusdt@trade/xrpusdt@trade", "/stream?streams=btcusdt@ticker_2h"],
)  # fmt: skip
def test_a_stream_that_is_not_served_is_refused_at_the_door(simulator, path):
    async def scenario() -> None:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(simulator.ws + path)
        assert refused.value.response.status_code == 400

    run(scenario)


async def forever(socket) -> None:
    while True:
        await receive(socket)


def test_a_lost_acknowledgement_hides_an_order_that_exists(start):
    simulator = start()
    customer = simulator.account(USDT="1000")
    fault = {"kind": "lose_ack", "path": "/api/v3/order", "method": "POST", "count": 1}
    assert simulator.sim("POST", "faults", fault).status == 201

    with pytest.raises(OSError):
        customer.order(quantity="0.001", price="40000", newClientOrderId="lost")

    assert customer.call("GET", "order", symbol="BTCUSDT", origClientOrderId="lost").json["status"] == "NEW"
    assert simulator.sim("GET", "faults").json == {"faults": []}


def test_a_refused_order_does_not_exist(start):
    simulator = start()
    customer = simulator.account(USDT="1000")
    simulator.sim("POST", "faults", {"kind": "refuse", "status": 503, "count": 2, "path": "/api/v3/order"})

    replies = [customer.order(quantity="0.001", price="40000") for _ in range(3)]

    assert [reply.status for reply in replies] == [503, 503, 200]
    assert "<html>" in replies[0].text
    assert len(customer.call("GET", "openOrders").json) == 1


def test_a_silent_stream_stays_connected(start):
    simulator = start("--speed", 0)

    async def scenario() -> None:
        async with websockets.connect(simulator.ws + "/ws/btcusdt@kline_1s") as socket:
            pass_time(simulator, 1000)
            assert (await receive(socket))["e"] == "kline"

            simulator.sim("POST", "faults", {"kind": "silence", "stream": "kline_1s", "seconds": 3600})
            pass_time(simulator, 5000)
            await socket.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
            assert await receive(socket) == {"result": ["btcusdt@kline_1s"], "id": 1}  # nothing came between

            simulator.sim("DELETE", "faults")
            pass_time(simulator, 1000)
            assert (await receive(socket))["e"] == "kline"

    run(scenario)


def test_a_disconnect_cuts_every_socket(start):
    simulator = start()

    async def scenario() -> None:
        async with (
            websockets.connect(simulator.ws + "/ws/btcusdt@kline_1s") as market,
            websockets.connect(simulator.ws + "/ws-api/v3") as api,
        ):
            simulator.sim("POST", "faults", {"kind": "disconnect"})
            for socket in (market, api):
                with pytest.raises(websockets.ConnectionClosedError):
                    await forever(socket)

    run(scenario)


@pytest.mark.parametrize(
    "body",
    [{}, {"kind": "earthquake"}, {"kind": "refuse", "status": 200}, {"kind": "silence"}, {"kind": "refuse", "when": 1},
     {"kind": "lose_ack", "count": 0}, {"kind": "lose_ack", "path": 1}, {"kind": ["refuse"]}],
)  # fmt: skip
def test_a_fault_that_cannot_be_is_refused_with_a_sentence(simulator, body):
    reply = simulator.sim("POST", "faults", body)
    assert reply.status == 422
    assert reply.json["error"].endswith(".")


def test_a_client_that_does_not_read_is_dropped(start, eventually):
    simulator = start("--speed", 0)
    streams = "/".join(f"{s}@{k}" for s in ("btcusdt", "ethusdt", "btcusdc") for k in ("trade", "aggTrade"))

    def connections() -> int:
        return simulator.get("/").json["connections"]

    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", simulator.port))
        deaf.sendall(
            f"GET /stream?streams={streams} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        eventually(lambda: connections() == 1)

        def is_dropped() -> bool:
            pass_time(simulator, 60_000)  # what is older is not told any more
            return connections() == 0

        eventually(is_dropped, LONG_S)
