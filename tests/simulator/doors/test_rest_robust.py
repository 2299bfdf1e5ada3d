"""Requests that no decent client sends: each gets an answer that names what is wrong, and the exchange goes on."""

from __future__ import annotations

import json
import re
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ORDER = b"POST /api/v3/order HTTP/1.1\r\nHost: x\r\n"
KLINES = b"GET /api/v3/klines?"
END = b" HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def raw(simulator):
    """Send bytes; return status and body of the first answer."""

    def raw(sent: bytes, *then: bytes) -> tuple[int, str]:
        with socket.create_connection(("127.0.0.1", simulator.port), 10) as line:
            line.sendall(sent)
            for more in then:
                line.sendall(more)
            return first_answer(line, has_body=not sent.startswith(b"HEAD"))

    return raw


def first_answer(line: socket.socket, has_body: bool) -> tuple[int, str]:
    got = b""
    while b"\r\n\r\n" not in got:
        got += received(line)
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1]) if has_body else 0
    while len(body) < length:
        body += received(line)
    return int(head.split()[1]), body.decode()


def received(line: socket.socket) -> bytes:
    data = line.recv(1 << 16)
    assert data, "hung up without an answer"
    return data


def with_body(body: bytes, *headers: str) -> bytes:
    lines = [f"Content-Length: {len(body)}", *headers]
    return ORDER + "".join(line + "\r\n" for line in lines).encode() + b"\r\n" + body


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"OPTIONS /api/v3/order" + END, 405, -1020),
        (b"TRACE /api/v3/order" + END, 405, -1020),
        (b"PATCH /api/v3/order" + END, 405, -1020),
        (KLINES + b"symbol=%zz&interval=1s" + END, 400, -1100),
        (KLINES + b"symbol=BTCUSDT%&interval=1s%2" + END, 400, -1100),
        (KLINES + b"symbol=%ff&interval=1s" + END, 400, -1100),
        (KLINES + b"symbol=BTCUSDT&symbol=BTCUSDT&interval=1s" + END, 400, -1101),
        (KLINES + b"&".join(b"a%d=1" % n for n in range(500)) + END, 400, -1101),
        (KLINES + b"symbol=" + b"A" * 20_000 + END, 414, -1101),
        (b"GET http://x/api/v3/time?a=1" + END, 400, -1104),
        (with_body(b"\xff=\xfe"), 401, -2014),
        (with_body(b'{"symbol":"BTCUSDT"}', "Content-Type: application/json"), 401, -2014),
        (with_body(b"--x\r\n\r\n--", "Content-Type: multipart/form-data; boundary=x"), 401, -2014),
        (with_body(b"a=b", "Content-Type: text/plain; charset=nope"), 401, -2014),
        (with_body(b"a=b", "Content-Type: ;;;="), 401, -2014),
        (with_body(b"hello", "Content-Encoding: gzip"), 401, -2014),
        (with_body(b"a=b", "X-MBX-APIKEY: \N{EURO SIGN}"), 401, -2014),
        (with_body(b"a=1&a=2"), 400, -1101),
        (with_body(b"a=b&" * 20_000), 413, -1101),
        (ORDER + b"Content-Length: 3000000\r\n\r\n", 413, -1101),
        (ORDER + b"Transfer-Encoding: chunked\r\n\r\n" + (b"4000\r\n" + b"a" * 0x4000 + b"\r\n") * 5, 413, -1101),
        (ORDER + b"Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n", 401, -2014),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_in_the_exchanges_way(raw, sent, status, code):
    answered, body = raw(sent)

    assert (answered, json.loads(body)["code"]) == (status, code)


@pytest.mark.parametrize(
    "sent",
    [
        b"FROB /api/v3/order" + END,
        KLINES + b"symbol=" + b"A" * 200_000 + END,
        KLINES + b"symbol=\xc3\xa4&interval=1s" + END,
        b"GET http://[::1/api/v3/time" + END,
        b"GET /api/v3/ping HTTP/1.1\r\nHost: x\r\nX-A: " + b"A" * 20_000 + b"\r\n\r\n",
        ORDER + b"Content-Length: -3\r\n\r\n",
        ORDER + b"Content-Length: 99999999999999999999\r\n\r\n",
        ORDER + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n",
        ORDER + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_bad_request(raw, sent):
    status, body = raw(sent)

    assert status == 400
    assert "Traceback" not in body


def test_head_is_refused_without_a_body(raw):
    assert raw(b"HEAD /api/v3/ping" + END) == (405, "")


def test_a_body_that_breaks_off_is_not_waited_for(raw):
    status, body = raw(ORDER + b"Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n", b"zz\r\n")

    assert status in (400, 408)  # as the pieces arrive
    assert "Traceback" not in body


def test_a_client_that_leaves_amid_its_body_leaves_no_trace(start, eventually):
    simulator = start()
    with socket.create_connection(("127.0.0.1", simulator.port), 10) as line:
        line.sendall(ORDER + b"Content-Length: 300\r\n\r\na=b")
        assert simulator.get("/api/v3/ping").status == 200
    assert simulator.get("/api/v3/ping").status == 200
    assert simulator.stop() == 0
    assert "Traceback" not in simulator.errors.read_text()


def test_other_apis_are_not_there_but_clients_may_ask_for_delistings(simulator):
    assert simulator.get("/sapi/v1/spot/delist-schedule?timestamp=1").json == []
    for path in ("/sapi/v1/capital/config/getall", "/sapi/v1/spot/delist-schedule/x", "/fapi/v1/ping", "/api"):
        assert simulator.get(path).status == 404
    assert simulator.ask("POST", "/sapi/v1/spot/delist-schedule").status == 404


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT"]),
    path=st.sampled_from(["order", "klines", "account", "myTrades", "ticker/24hr", "openOrders", "exchangeInfo"]),
    query=st.binary(max_size=60).map(lambda b: b"".join(bytes([c]) if 0x21 <= c < 0x7F else b"%%%02x" % c for c in b)),
    body=st.binary(max_size=60),
)
def test_nothing_that_is_sent_is_the_exchanges_fault(raw, method, path, query, body):
    head = f"{method} /api/v3/{path}?".encode() + query.replace(b"#", b"") + b" HTTP/1.1\r\nHost: x\r\n"

    status, text = raw(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    assert status < 500
    assert "Traceback" not in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    kind=st.sampled_from(["lose_ack", "delay", "unknown", "drop", "reorder", "filters", "balance", "halt", "close"]),
    field=st.sampled_from(["count", "seconds", "path", "symbol", "status", "code", "amount", "asset", "stream", "ms"]),
    value=JSON,
)
def test_no_description_of_a_fault_is_the_simulators_fault(simulator, kind, field, value):
    reply = simulator.sim("POST", "faults", {"kind": kind, "api_key": "nobody", field: value})

    assert reply.status in (201, 422)
    if reply.status == 422:
        assert reply.json["error"].endswith(".")
    else:
        simulator.sim("DELETE", f"faults/{reply.json['id']}")
