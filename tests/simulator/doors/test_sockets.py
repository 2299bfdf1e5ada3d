"""Connections over real sockets: in a server of the test's own where terms must be short, else in a real simulator."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import websockets
from aiohttp import web
from websockets.exceptions import ConnectionClosed

from simulator.core.rules import ApiError
from simulator.doors.limits import Limits
from simulator.doors.sockets import MAX_WAITING_BYTES, Connection, Gate, Terms, refusal, shutdown_event
from tests.simulator.ws_caller import run
from tests.waiting import DEADLINE_S, until


class Server:
    """Serves connections on the given terms, echoes what it hears, and keeps a list of who is there."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.connections: list[Connection] = []
        self.port = 0
        self.attempts = 0
        self.greet: Callable[[Connection], None] = self.connections.append

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.attempts += 1
        try:
            connection = self.gate.open(request)
        except ApiError as error:
            return refusal(error)
        try:
            return await connection.run(lambda: self.greet(connection), connection.send)
        finally:
            with suppress(ValueError):
                self.connections.remove(connection)


@asynccontextmanager
async def served(
    terms: Terms | None = None, enforced: bool = True, wall: Callable[[], int] = lambda: 0
) -> AsyncIterator[Server]:
    server = Server(Gate(Limits(enforced), wall, terms))
    app = web.Application()
    app.router.add_get("/", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


async def end_of(client) -> tuple[int | None, str]:
    """Close code and reason, after everything that was sent before; 1006 when the line was cut."""
    with suppress(ConnectionClosed):
        while True:
            await asyncio.wait_for(client.recv(), DEADLINE_S)
    return client.close_code, client.close_reason


class Raw:
    """A client that does nothing by itself: no pongs, no goodbyes."""

    def __init__(self, port: int, path: str = "/", receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(DEADLINE_S)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def shake_hands(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        return head

    def send(self, first: int, payload: bytes, length: int | None = None) -> None:
        self.socket.sendall(a_frame(first, payload, length))

    def receive(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame; (8, code) for a close; (0, nothing) at the end."""
        try:
            first, size = self._exactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", self._exactly(2))
            return first & 15, self._exactly(size)
        except (ConnectionError, EOFError):
            return 0, b""

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = self.socket.recv(size - len(found))
            if not piece:
                raise EOFError
            found += piece
        return found


def a_frame(first: int, payload: bytes, length: int | None = None) -> bytes:
    """With *first* as its first byte, masked with zeros; it may claim another *length*."""
    size = len(payload) if length is None else length
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + payload


def close_code(frame: tuple[int, bytes]) -> int | None:
    return int.from_bytes(frame[1][:2], "big") if frame[0] == 8 else None


PING, PONG, TEXT, CLOSE = 0x89, 0x8A, 0x81, 0x88


def test_messages_of_every_size_arrive_whole():
    async def scenario() -> None:
        async with served() as server, websockets.connect(server.url, max_size=None) as client:
            for size in (0, 1, 125, 126, 127, 65_535):
                await client.send("é" * (size // 2) + "x" * (size % 2))
                assert len((await client.recv()).encode()) == size
            server.connections[0].send("y" * 200_000)  # longer than a client may send
            assert len(await client.recv()) == 200_000

    run(scenario)


def test_a_ping_is_answered_with_its_payload():
    async def scenario() -> None:
        async with served() as server, websockets.connect(server.url) as client:
            await asyncio.wait_for(await client.ping(b"four score"), DEADLINE_S)

    run(scenario)


def test_a_client_that_echoes_pings_stays():
    terms = Terms(ping_s=0.02, pong_within_s=0.06)

    async def scenario() -> None:
        async with served(terms) as server, websockets.connect(server.url, ping_interval=None) as client:
            started = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() - started < 0.5:
                await client.send("still here")
                assert await client.recv() == "still here"

    run(scenario)


@pytest.mark.parametrize("unasked", [b"", b"12345"])
def test_pongs_that_nobody_asked_for_do_not_help(unasked):
    async def scenario() -> None:
        async with served(Terms(ping_s=0.05, pong_within_s=0.15)) as server:
            raw = await asyncio.to_thread(Raw, server.port)
            await asyncio.to_thread(raw.shake_hands)

            def pongs() -> list[int]:
                kinds: list[int] = []
                while not kinds or kinds[-1]:
                    kinds.append(raw.receive()[0])
                    with suppress(ConnectionError):
                        raw.send(PONG, unasked)
                return kinds

            assert await asyncio.to_thread(pongs) == [9, 9, 9, 0]  # three pings, then the line is cut
            await until(lambda: not server.connections)

    run(scenario)


def test_an_echo_of_the_latest_ping_answers_the_earlier_ones_too():
    async def scenario() -> None:
        async with served(Terms(ping_s=0.05, pong_within_s=2)) as server:
            raw = await asyncio.to_thread(Raw, server.port)
            await asyncio.to_thread(raw.shake_hands)

            def every_tenth_one() -> int:
                for _ in range(6):
                    pings = [raw.receive() for _ in range(10)]
                    raw.send(PONG, pings[-1][1])
                return raw.receive()[0]

            assert await asyncio.to_thread(every_tenth_one) == 9  # more than may be left without an echo
            raw.socket.close()

    run(scenario)


@pytest.mark.parametrize("kind", [TEXT, PING, PONG])
def test_the_sixth_message_in_a_second_ends_the_connection(kind):
    async def scenario() -> None:
        async with served(Terms(messages_per_s=5)) as server:
            raw = await asyncio.to_thread(Raw, server.port)
            await asyncio.to_thread(raw.shake_hands)

            def six() -> list[tuple[int, bytes]]:
                raw.socket.sendall(6 * a_frame(kind, b"x"))
                frames = [raw.receive()]
                while frames[-1][0] not in (0, 8):
                    frames.append(raw.receive())
                return frames

            frames = await asyncio.to_thread(six)
            assert close_code(frames[-1]) == 1008
            assert frames[-1][1][2:] == b"Too many requests"
            assert len(frames) == (1 if kind == PONG else 6)  # five were answered
            await until(lambda: not server.connections)

    run(scenario)


@pytest.mark.parametrize("terms", [Terms(messages_per_s=5), Terms()])
def test_without_limits_any_number_of_messages_is_fine(terms):
    async def scenario() -> None:
        async with served(terms, enforced=False) as server, websockets.connect(server.url) as client:
            for number in range(50):
                await client.send(str(number))
                assert await client.recv() == str(number)

    run(scenario)


def test_a_connection_ends_cleanly_when_its_time_is_up():
    async def scenario() -> None:
        started = time.monotonic()
        async with served(Terms(lifetime_s=0.2)) as server, websockets.connect(server.url) as client:
            assert await end_of(client) == (1001, "")
            assert time.monotonic() - started >= 0.2
            await until(lambda: not server.connections)

    run(scenario)


def test_a_shutdown_is_announced_and_then_happens():
    async def scenario() -> None:
        async with served() as server, websockets.connect(server.url) as client:
            await until(lambda: len(server.connections) == 1)
            started = time.monotonic()
            (connection,) = server.connections
            connection.shut_down(shutdown_event(1_790_000_000_000), 0.3)
            assert json.loads(await client.recv()) == {"e": "serverShutdown", "E": 1_790_000_000_000}
            assert await end_of(client) == (1001, "")
            assert time.monotonic() - started >= 0.3
            connection.shut_down("too late", 0)

    run(scenario)


def test_until_a_shutdown_happens_clients_are_served_and_it_may_come_sooner():
    async def scenario() -> None:
        async with served() as server, websockets.connect(server.url) as client:
            await until(lambda: len(server.connections) == 1)
            server.connections[0].shut_down("in an hour", 3600)
            assert await client.recv() == "in an hour"
            await client.send("one more")
            assert await client.recv() == "one more"
            server.connections[0].shut_down("now", 0)
            assert await client.recv() == "now"
            assert await end_of(client) == (1001, "")

    run(scenario)


def test_a_shutdown_does_not_prolong_a_life():
    async def scenario() -> None:
        async with served(Terms(lifetime_s=0.2)) as server:
            server.greet = lambda connection: connection.shut_down("bye", 3600)
            async with websockets.connect(server.url) as client:
                assert (await end_of(client))[0] == 1001

    run(scenario)


def test_the_301st_connection_in_five_minutes_is_refused():
    now_ms = 299_000

    async def scenario() -> None:
        nonlocal now_ms
        async with served(wall=lambda: now_ms) as server:
            for _ in range(300):  # attempts count, whatever becomes of them
                (await asyncio.to_thread(Raw, server.port, "/?timeUnit=x")).socket.close()
            await until(lambda: server.attempts == 300)
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(server.url)
            response = refused.value.response
            assert (response.status_code, response.headers["Retry-After"]) == (429, "2")
            assert json.loads(response.body)["code"] == -1034
            now_ms = 300_000
            async with websockets.connect(server.url):
                pass

    run(scenario)


@pytest.mark.parametrize(("unit", "code"), [("MICROSECOND", -1130), ("fortnight", -1194)])
@pytest.mark.parametrize("path", ["/ws/btcusdt@trade", "/stream?streams=btcusdt@trade", "/ws-api/v3"])
def test_a_unit_of_time_that_is_not_offered_is_refused(simulator, path, unit, code):
    reply = simulator.get(f"{path}{'&' if '?' in path else '?'}timeUnit={unit}")
    assert (reply.status, reply.code) == (400, code)


@pytest.mark.parametrize("path", ["/ws", "/stream", "/ws-api/v3"])
class TestAnySocket:
    """What holds on all doors alike, in a real simulator."""

    def test_binary_is_refused(self, simulator, path):
        async def scenario() -> None:
            async with websockets.connect(simulator.ws + path) as client:
                await client.send(b"\x00\xff")
                assert (await end_of(client))[0] == 1003

        run(scenario)

    def test_what_is_too_long_is_refused(self, simulator, path):
        async def scenario() -> None:
            async with websockets.connect(simulator.ws + path) as client:
                await client.send("é" * 32_768)  # 64 KiB
                assert "code" in await client.recv()
                await client.send("é" * 32_768 + "x")
                assert (await end_of(client))[0] == 1009

        run(scenario)

    def test_fragments_that_add_up_to_too_much_are_refused(self, simulator, path):
        async def scenario() -> None:
            async with websockets.connect(simulator.ws + path) as client:
                await client.send(["x" * 1000] * 70)
                assert (await end_of(client))[0] == 1009

        run(scenario)

    @pytest.mark.parametrize(
        ("first", "payload", "code"),
        [
            (0x81, b"\xff\xfe", 1007),  # not UTF-8
            (0x83, b"x", 1002),  # an unknown opcode
            (0xF1, b"x", 1002),  # reserved bits
            (0x09, b"x", 1002),  # a control frame in fragments
            (0x89, b"x" * 126, 1002),  # a control frame that is too long
            (0x80, b"x", 1002),  # a continuation of nothing
            (0x88, b"\x00", 1002),  # a close with half a code
            (0x88, b"\x00\x01", 1002),  # a close with a code that there is not
        ],
    )
    def test_a_broken_frame_gets_its_close_code(self, simulator, path, first, payload, code):
        raw = Raw(simulator.port, path)
        assert b" 101 " in raw.shake_hands()
        raw.send(first, payload)
        assert close_code(raw.receive()) == code

    def test_a_message_without_end_is_cut_off_early(self, simulator, path):
        raw = Raw(simulator.port, path)
        raw.shake_hands()
        raw.send(0x81, b"x" * 1000, length=1 << 40)
        assert close_code(raw.receive()) == 1009

    def test_a_get_that_is_no_handshake_is_a_bad_request(self, simulator, path):
        assert simulator.get(path).status == 400

    @pytest.mark.parametrize("bad", [b"Upgrade: \xd2", b"Sec-WebSocket-Key: \x84A==", b"Sec-WebSocket-Version: \xff"])
    def test_a_handshake_that_is_no_text_is_a_bad_request(self, simulator, path, bad):
        sound = [b"Upgrade: websocket", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", b"Sec-WebSocket-Version: 13"]
        name = bad.partition(b":")[0]
        lines = [bad if line.startswith(name) else line for line in sound]
        with socket.create_connection(("127.0.0.1", simulator.port), DEADLINE_S) as line:
            head = [f"GET {path} HTTP/1.1".encode(), b"Host: x", b"Connection: Upgrade", *lines, b"", b""]
            line.sendall(b"\r\n".join(head))
            assert line.recv(1 << 16).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(("path", "taken", "code"), [("/ws", 5, 1008), ("/stream", 5, 1008), ("/ws-api/v3", 6, 1000)])
def test_market_streams_take_five_messages_a_second(start, path, taken, code):
    raw = Raw(start().port, path)
    raw.shake_hands()
    six = [json.dumps({"id": number, "method": "LIST_SUBSCRIPTIONS"}).encode() for number in range(6)]

    raw.socket.sendall(b"".join(a_frame(TEXT, text) for text in six))

    assert [json.loads(raw.receive()[1])["id"] for _ in range(taken)] == list(range(taken))
    if code == 1000:
        raw.send(CLOSE, struct.pack("!H", code))
    assert close_code(raw.receive()) == code


def test_hundreds_of_clients_come_and_go_without_a_trace():
    async def scenario() -> None:
        async with served(Terms(messages_per_s=5, lifetime_s=3600), enforced=False) as server:
            before = len(asyncio.all_tasks())
            for round_ in range(8):
                clients = [await asyncio.to_thread(Raw, server.port) for _ in range(50)]
                for client in clients:
                    await asyncio.to_thread(client.shake_hands)
                await until(lambda: len(server.connections) == 50)
                for number, client in enumerate(clients):
                    match (number + round_) % 5:
                        case 0:
                            client.send(0x88, struct.pack("!H", 1000))
                        case 1:
                            client.send(0x81, b"\xff")
                        case 2:
                            client.send(0x81, b"half a me", length=100)
                        case 3:
                            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.socket.close()
                await until(lambda: not server.connections)
            await until(lambda: len(asyncio.all_tasks()) == before)

    run(scenario)


def test_a_server_that_says_goodbye_leaves_no_tasks():
    async def scenario() -> None:
        before = len(asyncio.all_tasks())
        async with served() as server:
            raws = [await asyncio.to_thread(Raw, server.port) for _ in range(10)]  # they never answer a close
            await until(lambda: len(server.connections) == 10)
            await asyncio.gather(*(connection.close() for connection in list(server.connections)))
            await until(lambda: not server.connections)
            for raw in raws:
                raw.shake_hands()
                assert close_code(raw.receive()) == 1001
        await until(lambda: len(asyncio.all_tasks()) == before)

    run(scenario)


def test_who_does_not_read_is_dropped_and_holds_nobody_up():
    async def scenario() -> None:
        async with served() as server, websockets.connect(server.url) as reader:
            deaf = await asyncio.to_thread(Raw, server.port, "/", 4096)
            await asyncio.to_thread(deaf.shake_hands)
            await until(lambda: len(server.connections) == 2)
            message, sent = "x" * 10_000, 0
            while len(server.connections) == 2:
                for connection in server.connections:
                    connection.send(message)
                sent += 1
                assert await asyncio.wait_for(reader.recv(), DEADLINE_S) == message
                assert sent * len(message) < MAX_WAITING_BYTES + (8 << 20)  # with what the network keeps
            assert sent * len(message) > MAX_WAITING_BYTES

    run(scenario)


def test_two_hundred_listeners_are_served_at_once():
    async def scenario() -> None:
        async with served(Terms(ping_s=3600), enforced=False) as server:
            raws = [await asyncio.to_thread(Raw, server.port) for _ in range(200)]
            for raw in raws:
                await asyncio.to_thread(raw.shake_hands)
            await until(lambda: len(server.connections) == 200)
            for number in range(20):
                text = f"{number} {'x' * 300}"
                for connection in server.connections:
                    connection.send(text)
                for raw in raws:  # nothing had to wait for the event loop
                    assert raw.receive() == (1, text.encode())

    run(scenario)
