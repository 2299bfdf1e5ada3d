"""The system page: each check with value, limit and remedy; what cannot be known says so."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from server.storage.engine import write
from server.storage.models import BotRun, DeadLetter, SupervisorBeat
from server.storage.times import now_ms
from server.web import system_view as view
from server.web.probe import Answer, Probe, ask_time
from tests.waiting import DEADLINE_S, wait_for

Make = Callable[..., Any]
NOW = 1_795_262_400_000


@pytest.mark.parametrize(
    ("age_ms", "level"), [(800, "ok"), (10_000, "ok"), (12_000, "warn"), (31_000, "bad"), (None, "bad")]
)
def test_a_silent_supervisor_is_watched_then_acted_on(age_ms: int | None, level: str):
    beat = None if age_ms is None else NOW - age_ms

    check = view.supervisor_check(beat, NOW - 5_000, 7, NOW)

    assert check.level == level
    assert "flotilla supervisor" in check.todo


def test_what_cannot_be_known_says_so():
    checks = [view.lag_check(None), view.database_check(None, None), view.clock_check("binance", None),
              view.weight_check("binance", Answer(at_ms=1, offset_ms=3, round_trip_ms=2))]  # fmt: skip

    assert {(check.level, check.value) for check in checks} == {("unknown", "not reported")}


def test_a_clock_offset_has_its_sign_and_the_error_of_its_measure():
    check = view.clock_check("binance", Answer(at_ms=1, offset_ms=-614.2, round_trip_ms=80))

    assert (check.value, check.unit, check.level, check.small) == (
        "−614",
        "ms",
        "warn",
        "asked each minute, good to ±40 ms",
    )


def test_the_worst_stands_first_and_the_unknown_before_the_good():
    checks = [view.queue_check(0, 0), view.lag_check(None), view.disk_check(10**6, "/"), view.queue_check(0, 2)]

    assert [check.level for check in view.worst_first(checks)] == ["bad", "warn", "unknown", "ok"]
    assert view.summary(checks) == "1 of 4 checks fine · 1 not reported"


# The probe


@pytest.fixture
def exchange() -> Iterator[tuple[str, list[int]]]:
    """An exchange's clock that is 250 ms ahead and says what was used; and how often it was asked."""
    asked: list[int] = []

    class Clock(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(1)
            body = json.dumps({"serverTime": int(time.time() * 1000) + 250}).encode()
            self.send_response(200)
            self.send_header("X-MBX-USED-WEIGHT-1M", "310")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Clock)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api/v3/time", asked
    server.shutdown()
    server.server_close()


def test_the_exchanges_clock_is_compared_with_ours(exchange: tuple[str, list[int]]):
    answer = ask_time(exchange[0])

    assert answer.weight == 310
    assert answer.offset_ms is not None
    assert answer.round_trip_ms is not None
    assert abs(answer.offset_ms - 250) <= answer.round_trip_ms / 2 + 2


def test_an_exchange_that_is_away_is_an_answer_too():
    assert ask_time("http://127.0.0.1:9/api/v3/time").error == "ConnectionError"


def test_nobody_waits_for_the_exchange_and_it_is_asked_once_a_minute():
    asked, let_go = [], threading.Event()

    def slow(url: str) -> Answer:
        asked.append(url)
        let_go.wait(DEADLINE_S)
        return Answer(at_ms=1, offset_ms=5)

    probe = Probe("x", slow)

    assert [probe.get_answer() for _ in range(3)] == [None, None, None]
    let_go.set()
    wait_for(probe.get_answer)
    assert asked == ["x"]


# The page


def test_the_page_shows_checks_processes_versions_and_unwanted_ends(
    page: Make, a_bot: Make, observe: Make, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("server.web.system.ask_time", lambda url: Answer(at_ms=1, offset_ms=-14, weight=1284))
    bot_id, now = a_bot(name="eth-<rsi>"), now_ms()
    observe(bot_id, desired_state="running", status="running", heartbeat_ms=now - 46_000, pid=os.getpid(), rss_mib=71.0)
    with write(engine) as connection:
        connection.execute(insert(SupervisorBeat).values(id=1, pid=os.getpid(), started_ms=now - 1000, beat_ms=now))
        row = {"bot_id": bot_id, "generation": 4, "state": "ended", "created_ms": now - 90_000, "wanted": False}
        connection.execute(insert(BotRun).values(**row, ended_ms=now - 30_000, exit_code=70, exit_reason="no <memory>"))
        letter = {
            "bot_id": bot_id,
            "file": "1.jsonl",
            "offset": 3,
            "line": b"x",
            "reason": "no event",
            "created_ms": now,
        }
        connection.execute(insert(DeadLetter).values(**letter))

    html = page().get("/system").text

    for text in ("Supervisor heartbeat", "oldest: eth-&lt;rsi&gt;", "Unreadable lines", "WAL ", "Disk free", "Python",
                 "SQLite", "code 70 · no &lt;memory&gt;", "supervisor", "0005"):  # fmt: skip
        assert text in html
    assert "<memory>" not in html
    assert "is-stale" in html  # the silent bot


def test_with_nothing_there_the_page_still_stands(page: Make):
    html = page().get("/system").text

    assert "never seen" in html
    assert "no bot runs" in html
    assert "Every run of the last 7 days" in html
