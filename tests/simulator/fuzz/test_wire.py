"""Bytes that no client would send, at a real simulator: whatever they are, it answers the next one who asks.

Requests and frames are sound ones that chance has mangled; each is written in one number, which hypothesis draws.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random

import pytest
import websockets
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.simulator.ws_caller import LISTEN, signed
from tests.waiting import DEADLINE_S

NUMBERS = st.integers(0, (1 << 62) - 1)
BRIEFLY = settings(
    phases=(Phase.generate,),  # what happens over sockets does not happen twice
    suppress_health_check=list(HealthCheck),
)
PATHS = ("/ws", "/ws/btcusdt@trade", "/stream", "/stream?streams=btcusdt@aggTrade/bnbusdt@depth5", "/ws-api/v3")
KEY = "k" * 64
FORM = f"Host: x\r\nX-MBX-APIKEY: {KEY}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
REQUESTS = tuple(
    text.encode()
    for text in (
        "GET /api/v3/time HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /api/v3/klines?symbol=BTCUSDT&interval=1m&limit=5 HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
        'GET /api/v3/ticker/price?symbols=["BTCUSDT","BNBUSDT"] HTTP/1.1\r\nHost: x\r\n\r\n',
        "GET /api/v3/account?timestamp=1&signature=00 HTTP/1.1\r\n" + FORM + "\r\n",
        "POST /api/v3/order HTTP/1.1\r\n" + FORM + "Content-Length: 27\r\n\r\nsymbol=BTCUSDT&side=BUY&a=1",
        "DELETE /api/v3/order HTTP/1.1\r\n" + FORM + "Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n",
        "POST /sim/accounts HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\n{\"balances\":{\"USDT\":\"10\"}}",
        "POST /sim/faults HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"kind\":\"delay\"",
        "GET /sim/ledger?api_key=" + KEY + " HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /ws/btcusdt@trade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
)  # fmt: skip
PIECES = (
    b"\r\n", b"\n", b"\r\n\r\n", b"\x00", b" ", b":", b"%", b"%00", b"?", b"&", b"=", b"\xff\xfe", b"\xed\xa0\x80",
    b"HTTP/1.1", b"HTTP/9.9", b"HTTP/1.0", b"Content-Length: -1\r\n", b"Content-Length: 5\r\n",
    b"Expect: 100-continue\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n", b"Content-Encoding: deflate\r\n", b"Upgrade: h2c\r\n", b"X: " + b"y" * 9000 + b"\r\n",
    b"ffffffffffffffff\r\n", b"A" * 70_000, b"0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01",
    "é".encode(), b"9" * 30,
)  # fmt: skip
TEXTS = tuple(
    text.encode()
    for text in (
        '{"method":"SUBSCRIBE","params":["btcusdt@trade","bnbusdt@kline_1s"],"id":1}',
        '{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":"a"}',
        '{"method":"SET_PROPERTY","params":["combined",true],"id":null}',
        '{"id":1,"method":"ticker.price","params":{"symbols":["BTCUSDT"]}}',
        '{"id":"x","method":"order.place","params":{"symbol":"BTCUSDT","apiKey":"' + KEY + '","timestamp":1}}',
        '{"id":3,"method":"userDataStream.unsubscribe"}',
        '{"id":3,"method":"session.logon","params":{"apiKey":1,"signature":[],"timestamp":1e400}}',
        "[" * 3000, '{"id":' * 2000, "null", "", "1e99999", '"\\ud800"', '{"method":"\\u0000","id":-0}',
    )
)  # fmt: skip


@contextmanager
def unharmed(simulator, eventually) -> Iterator[None]:
    """Afterwards it is alive, answers, has let go of everybody, ends in order, and never had to complain."""
    yield
    assert simulator.process.poll() is None
    assert simulator.get("/api/v3/time").json["serverTime"] > 0
    eventually(lambda: simulator.get("/sim").json["connections"] == 0)
    assert simulator.stop() == 0
    complaints = simulator.errors.read_text().splitlines()[1:]  # the first line says where it is
    assert complaints == []


def mangled(chance: Random, sound: tuple[bytes, ...]) -> bytes:
    """One of *sound*, with up to four things wrong with it; now and then nothing."""
    text = bytearray(chance.choice(sound))
    for _ in range(chance.randrange(5)):
        at, to = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
        match chance.randrange(6):
            case 0:
                text[at:at] = chance.choice(PIECES)
            case 1:
                del text[at : min(to, at + 8)]
            case 2:
                text[at:at] = text[at:to]
            case 3:
                text[at : at + 1] = chance.randbytes(1)
            case 4:
                del text[at:]
            case 5:
                text[at:to] = chance.choice(sound)[at:to]
    return bytes(text)


def everything_from(line: socket.socket) -> bytes:
    """What comes until the other side hangs up, or for as long as the line is patient."""
    got = b""
    with suppress(ConnectionError, TimeoutError):
        while piece := line.recv(1 << 16):
            got += piece
    return got


def test_no_request_is_too_broken_to_go_on_after_it(start, eventually):
    simulator, seen = start("--unlimited"), Counter()

    @settings(BRIEFLY, max_examples=300)
    @given(NUMBERS)
    def send(number: int) -> None:
        chance = Random(number)
        sent = b"".join(mangled(chance, REQUESTS) for _ in range(chance.choice((1, 1, 1, 2, 5))))
        with socket.create_connection(("127.0.0.1", simulator.port), DEADLINE_S) as line:
            at = chance.randrange(len(sent) + 1)
            with suppress(OSError):  # it need not listen to the end
                line.sendall(sent[:at])
                line.sendall(sent[at:])
                if chance.random() < 0.5:
                    line.shutdown(socket.SHUT_WR)
                else:  # whatever comes soon, for it may wait for more
                    line.settimeout(0.05)
            got = everything_from(line)
        statuses = re.findall(rb"^HTTP/1\.[01] (\d{3}) ", got, re.MULTILINE)
        seen.update(statuses)
        assert all(status < b"500" for status in statuses), (sent[:2000], got[:2000])
        assert b"Traceback" not in got

    with unharmed(simulator, eventually):
        send()
        assert {b"200", b"400", b"401"} <= seen.keys(), seen


def frame(chance: Random) -> bytes:
    """One websocket frame, of which anything may be wrong."""
    kind = chance.choice((1, 1, 1, 1, 0, 2, 8, 9, 10, 3, 15))
    payload = mangled(chance, TEXTS) if kind < 8 or chance.random() < 0.1 else chance.randbytes(chance.randrange(9))
    if kind == 8 and chance.random() < 0.7:
        payload = struct.pack("!H", chance.choice((1000, 1001, 999, 1005, 4000, 65_535))) + payload[:4]
    first = kind | 0x80 * (chance.random() < 0.85) | chance.choice((0x40, 0x20, 0x10)) * (chance.random() < 0.03)
    size = len(payload) if chance.random() < 0.95 else chance.choice((0, 125, 126, 1 << 16, 1 << 40, (1 << 64) - 1))
    is_masked = chance.random() < 0.95
    mask = chance.randbytes(4) if is_masked else b""
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if is_masked else payload
    bit = 0x80 * is_masked
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    return head + mask + masked


def test_no_frame_is_too_broken_for_the_next_client(start, eventually):
    simulator, seen = start("--unlimited"), Counter()

    @settings(BRIEFLY, max_examples=300)
    @given(NUMBERS)
    def send(number: int) -> None:
        chance = Random(number)
        path, key = chance.choice(PATHS), base64.b64encode(chance.randbytes(16)).decode()
        with socket.create_connection(("127.0.0.1", simulator.port), DEADLINE_S) as line:
            line.sendall(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            got = b""
            while b"\r\n\r\n" not in got:
                got += line.recv(1)
            assert got.startswith(b"HTTP/1.1 101 "), got
            with suppress(OSError):
                for _ in range(chance.randrange(1, 8)):
                    line.sendall(frame(chance))
                if chance.random() < 0.2:  # gone without a word, even to the network
                    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                line.shutdown(socket.SHUT_WR)
            got = everything_from(line)
        seen["answered"] += b'"id"' in got
        assert b"Traceback" not in got

    with unharmed(simulator, eventually):
        send()
        assert seen["answered"] > 10


KINDS = (
    "trade", "aggTrade", "bookTicker", "miniTicker", "ticker", "ticker_1h", "ticker_4h", "ticker_1d", "avgPrice",
    "depth", "depth@100ms", "depth@1000ms", *(f"depth{n}{speed}" for n in (5, 10, 20) for speed in ("", "@100ms")),
    *(f"kline_{interval}{zone}" for zone in ("", "@+08:00") for interval in (
        "1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")),
)  # fmt: skip


@pytest.mark.timeout(300)  # longer candles are generated from the beginning of a month
def test_thousands_of_subscriptions_come_and_go(start, eventually):
    simulator = start("--unlimited")
    symbols = [symbol.lower() for symbol in simulator.get("/sim").json["symbols"]]
    streams = [f"{symbol}@{kind}" for symbol in symbols for kind in KINDS]
    customer = simulator.account()

    async def answer_to(client, number: int, method: str, params: object) -> dict:
        await client.send(json.dumps({"method": method, "params": params, "id": number}))
        while True:
            message = json.loads(await asyncio.wait_for(client.recv(), DEADLINE_S))
            if message.get("id") == number and "result" in message | {"result": message.get("error")}:
                return message

    async def listener(number: int) -> int:
        async with websockets.connect(simulator.ws + "/stream", max_size=None, max_queue=None) as client:
            for at in range(0, len(streams), 100):
                assert (await answer_to(client, at, "SUBSCRIBE", streams[at : at + 100]))["result"] is None
            listed = (await answer_to(client, 7777, "LIST_SUBSCRIPTIONS", []))["result"]
            too_many = [f"btcusdt@kline_1s@{n}" for n in range(1100)]
            refused = await answer_to(client, 7778, "SUBSCRIBE", too_many)
            assert refused["code"] == 2, refused
            if number % 2:
                assert (await answer_to(client, 7779, "UNSUBSCRIBE", streams))["result"] is None
            return len(listed)

    async def user() -> None:
        async with websockets.connect(simulator.ws + "/ws-api/v3") as client:
            for number in range(500):
                got = await answer_to(client, number, LISTEN, signed(customer))
                assert got["result"] == {"subscriptionId": number}
                again = await answer_to(client, -number - 1, LISTEN, signed(customer))
                assert again["error"]["code"] == -2035
                assert (await answer_to(client, 9999, "userDataStream.unsubscribe", {}))["result"] == {}

    async def scenario() -> None:
        found = await asyncio.gather(*(listener(number) for number in range(10)), user())
        assert sum(count or 0 for count in found) == 10 * len(streams) > 2500

    with unharmed(simulator, eventually):
        asyncio.run(scenario())
        assert simulator.get("/api/v3/ping").status == 200
