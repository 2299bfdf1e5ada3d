"""Whatever is sent to the API: never a 5xx of our making, always what the description says, always our error shape.

Every operation of the OpenAPI document is driven by schemathesis, with data that fits and data that does not, and by
hand-picked bodies, queries and paths that have broken servers before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import insert

from server.storage.engine import write
from server.storage.models import SupervisorBeat
from server.storage.times import now_ms

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

schemathesis.serializer.alias("application/x-ndjson", "text/plain")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = int(os.environ.get("FLOTILLA_FUZZ_EXAMPLES", "12"))
"""Cases per operation; the default takes 20 s of processor time and is always the same ones."""
PARTS = 6
OPEN = {"/health", "/health/ready", "/metrics", "/api/auth/login"}
NEEDS_AN_EXCHANGE = "/api/market"  # none runs here: those say so with a 503, as they declare
ENDLESS = {"/api/stream"}
ENDS_THE_CALLERS_LOGIN = {"/api/auth/logout"}
Make = Callable[..., Any]


@pytest.fixture
def world(
    api: Any, engine: Any, a_bot: Make, a_position: Make, a_day: Make, a_model: Make
) -> Callable[[], dict[str, int]]:
    """Something of each kind, made anew: the ids that paths name."""

    with write(engine) as connection:
        connection.execute(insert(SupervisorBeat).values(pid=1, started_ms=now_ms(), beat_ms=now_ms() + 3_600_000))

    def make() -> dict[str, int]:
        bot_id = a_bot()
        a_position(bot_id)
        a_day(bot_id, 20_000, "1.5")
        return {"bot_id": bot_id, "model_id": a_model(), "version": 1}

    return make


def operations(app: Any) -> Iterator[Any]:
    """Every operation of the document whose answer comes to an end."""
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app)
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path not in ENDLESS:
            yield operation


@pytest.mark.parametrize("part", range(PARTS))
def test_every_operation_keeps_to_its_description_whatever_it_is_sent(
    app: Any, api: Any, world: Callable[[], dict[str, int]], part: int
):
    headers = {"Authorization": f"Bearer {api.token}"}
    mine = [t["id"] for t in api.get("/api/tokens").json["items"] if t["name"] == "a admin"]
    seen, wrong = set(), {}
    for operation in list(operations(app))[part::PARTS]:
        if operation.path in ENDS_THE_CALLERS_LOGIN:
            continue
        ids = world()

        try:
            _drive(operation, ids, headers, spared=mine)
        except FailureGroup as failures:
            wrong[operation.label] = [str(failure) for failure in failures.exceptions]
        seen.add(operation.label)
        assert api.get("/api/users/me").status_code == 200, f"{operation.label} ended the caller's own token"

    assert wrong == {}
    assert len(seen) >= 60 // PARTS


def _drive(operation: Any, ids: dict[str, int], headers: dict[str, str], spared: list[int]) -> None:
    """Send *operation* cases that fit its description and cases that do not; tokens *spared* are left alone."""
    checks = [c for c in CHECKS if c is not not_a_server_error or not operation.path.startswith(NEEDS_AN_EXCHANGE)]
    either_way = strategies.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))

    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize="FLOTILLA_FUZZ_EXAMPLES" not in os.environ,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=either_way)
    def check(case: Any) -> None:
        given_path = case.path_parameters or {}
        given_path.update({name: value for name, value in ids.items() if name in given_path})
        if operation.path == "/api/tokens/{row_id}" and given_path.get("row_id") in spared:
            return
        if case.media_type == "multipart/form-data" and isinstance(case.body, bool | int | float | list):
            return  # the test client sends only forms as multipart
        case.call_and_validate(headers=headers, checks=checks)

    check()


def test_nobody_gets_anything_but_401_from_what_needs_a_login(app: Any, world: Callable[[], dict[str, int]]):
    ids, client = world(), app.test_client(use_cookies=False)
    answers = {
        operation.label: client.open(_path(operation.path, ids), method=operation.method, json={})
        for operation in operations(app)
        if operation.path not in OPEN
    }

    assert {label: a.status_code for label, a in answers.items() if a.status_code != 401} == {}
    assert {a.json["error"]["code"] for a in answers.values()} == {"unauthorized"}


DEEP = "[" * 100_000
BODIES: dict[str, tuple[str, bytes]] = {
    "nothing": ("application/json", b""),
    "half an object": ("application/json", b'{"name": '),
    "not UTF-8": ("application/json", b'{"name": "\xff\xfe"}'),
    "UTF-16": ("application/json", '{"name": "x"}'.encode("utf-16")),
    "NaN": ("application/json", b'{"holding_time": NaN, "expires_in": Infinity}'),
    "a list": ("application/json", b"[]"),
    "null": ("application/json", b"null"),
    "deep": ("application/json", DEEP.encode()),
    "deep in a field": ("application/json", b'{"config": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}"),
    "NUL": ("application/json", b'{"name": "a\\u0000b", "username": "\\u0000"}'),
    "half a surrogate": ("application/json", b'{"name": "\\ud800", "username": "\\ud800"}'),
    "a huge number": ("application/json", b'{"limit": 1e999, "expires_in": ' + b"9" * 400 + b"}"),
    "more digits than Python reads": ("application/json", b'{"expires_in": ' + b"9" * 5000 + b"}"),
    "a huge exponent": ("application/json", b'{"capital_per_trade": "1e999999999", "config": {"holding_time": 1e400}}'),
    "the same key twice": ("application/json", b'{"name": "a", "name": 5}'),
    "names of the inside": ("application/json", b'{"__class__": 1, "self": 2, "body": 3, "connection": 4}'),
    "text": ("text/plain", b'{"name": "x"}'),
    "a form": ("application/x-www-form-urlencoded", b"name=x&role=admin"),
    "a broken multipart": ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nabc"),
    "a multipart without boundary": ("multipart/form-data", b"abc"),
    "an unknown charset": ("application/json; charset=klingon", b'{"name": "x"}'),
    "an unknown type": ("application/octet-stream\x7f", b"\x00\x01"),
}


@pytest.mark.parametrize("what", BODIES)
def test_no_body_breaks_an_operation_that_takes_one(app: Any, api: Any, world: Callable[[], dict[str, int]], what: str):
    ids = world()
    kind, body = BODIES[what]
    for operation in operations(app):
        if operation.method.upper() not in ("POST", "PUT") or operation.path in ENDS_THE_CALLERS_LOGIN:
            continue
        path = _path(operation.path, ids)
        answer = api(operation.method.upper(), path, data=body, headers={"Content-Type": kind})
        assert_ours(answer, f"{operation.label} with {what}")


QUERIES = [
    "limit=-1", "limit=0", "limit=1e3", f"limit={'9' * 5000}", "limit=%00", "limit=5&limit=6", "limit=", "limit=ab",
    "cursor=%FF%FE", "cursor=%00",
    "cursor=" + "A" * 64, "cursor=" + "A" * 5000, "cursor=LTE", "cursor=OTk5OTk5OTk5OTk5OTk5",
    "cursor=%ED%A0%80", "%00=%00", "%", "%zz=%zz", "a" * 4000, "&&&===&", "type=%00", "type=%ED%A0%80", "search=%00",
    "search=%F0%9F%92%A9", "after=-1", f"after={2**63}", f"after={2**64}", "level=%00",
    "status=%ED%A0%80", "bot_id=%00",
    "actor=%00", "actor=%ED%A0%80", "action=%ED%A0%80", "exchange=%00", "symbol=%00&exchange=simulator",
    "before_ms=" + "9" * 40,
    "interval=%00", f"bot_id={2**70}", "limit=٣",
]  # fmt: skip


def test_no_query_breaks_an_operation_that_reads(app: Any, api: Any, world: Callable[[], dict[str, int]]):
    ids = world()
    for operation in operations(app):
        if operation.method.upper() == "GET":
            for query in QUERIES:
                answer = api.get(f"{_path(operation.path, ids)}?{query}")
                assert_ours(answer, f"{operation.label}?{query[:80]}")


IDS = [
    "%00", "%FF", "%2e%2e%2f", "..%2f..%2fetc%2fpasswd", "-1", "0", "1.0", "1e3", "٣", str(2**31),
    str(2**63), "9" * 500,
    "%ED%A0%80", "%", "%zz", "a" * 3000, "%0d%0aSet-Cookie:%20a=b", "null",
    "me%00", "1%2f", "{bot_id}", "%25%30%30",
]  # fmt: skip


def test_no_path_breaks_an_operation(app: Any, api: Any, world: Callable[[], dict[str, int]]):
    world()
    for operation in operations(app):
        if "{" not in operation.path:
            continue
        for wrong in IDS:
            path = _path(operation.path, {"*": wrong, "strategy_id": wrong})
            answer = api(operation.method.upper(), path, json={})
            assert_ours(answer, f"{operation.method} {path[:100]}")
            assert "Set-Cookie" not in answer.headers


def test_a_nul_in_a_query_is_refused_before_any_database_sees_it(api: Any, a_bot: Make):
    answer = api.get(f"/api/bots/{a_bot()}/events?type=%00")

    assert (answer.status_code, answer.json["error"]["fields"]) == (422, {"type": "holds NUL"})


HEADERS = [
    {"Authorization": "Bearer \xff"},
    {"Authorization": "Bearer " + "fla_" + "x" * 60_000},
    {"Authorization": "Bearer " + ".".join(["a" * 2000] * 3)},
    {"If-None-Match": '"'},
    {"If-Match": "W/" * 1000},
    {"Idempotency-Key": "\xff" * 200},
    {"Idempotency-Key": ""},
    {"Idempotency-Key": "x" * 201},
    {"X-Flotilla-Via": "\xff"},
    {"Cookie": "flotilla_session_5000=" + "x" * 4000},
    {"Host": "evil.example:99999"},
    {"Range": "bytes=0-99999999999999999999"},
    {"Accept": "\xff"},
]


@pytest.mark.parametrize("number", range(len(HEADERS)))
def test_no_header_breaks_an_operation(app: Any, api: Any, world: Callable[[], dict[str, int]], number: int):
    ids = world()
    for operation in operations(app):
        if operation.path in ENDS_THE_CALLERS_LOGIN or operation.method.upper() == "DELETE":
            continue
        client = app.test_client(use_cookies=False)
        headers = {"Authorization": f"Bearer {api.token}"} | HEADERS[number]
        answer = client.open(_path(operation.path, ids), method=operation.method, headers=headers, json={})
        assert_ours(answer, f"{operation.label} with {HEADERS[number]}"[:200])


def assert_ours(answer: Any, what: str) -> None:
    """No fault of the server's, and a refusal in our shape that shows nothing of the inside."""
    if answer.status_code == 503 and answer.json and answer.json.get("error", {}).get("code") == "exchange_silent":
        return  # no simulator runs in this test
    if answer.status_code == 503 and answer.json and answer.json.get("status") == "not_ready":
        return  # nor a supervisor
    assert answer.status_code < 500, f"{what}: {answer.status_code} {answer.text[:300]}"
    if answer.status_code >= 400:
        assert set(answer.json) == {"error"}, f"{what}: {answer.text[:300]}"
        assert set(answer.json["error"]) == {"code", "message", "fields"}, what
        for inside in ("Traceback", "sqlalchemy", "pydantic", "werkzeug", "Error:"):
            assert inside not in answer.text, f"{what}: {answer.text[:300]}"


def _path(template: str, ids: Mapping[str, Any]) -> str:
    """*template* with *ids* in place of its names; of what nothing is known, row 99."""
    known = {"strategy_id": "rsi", **ids}
    return re.sub(r"{(\w+)}", lambda name: str(known.get(name[1], ids.get("*", 99))), template)
