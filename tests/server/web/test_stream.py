"""Streams over real HTTP: nothing is missed, nobody is waited for, and who may not look any more is cut off."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from sqlalchemy import Engine, insert, select, update

from server.security.auth import revoke
from server.storage.engine import write
from server.storage.models import Event, SupervisorBeat, User
from server.storage.times import now_ms
from server.web import stream as stream_module
from server.web.hub import MAX_VIEWERS
from tests.waiting import DEADLINE_S, wait_for

Make = Callable[..., Any]


class Stream:
    """An open stream; messages are ``(event, id, data)``."""

    def __init__(self, address: str, path: str, **headers: str) -> None:
        self._connection = HTTPConnection(address.removeprefix("http://"), timeout=DEADLINE_S)
        self._connection.request("GET", path, headers=headers)
        self.answer = self._connection.getresponse()

    def messages(self) -> Iterator[tuple[str, str | None, str]]:
        name, number, data = "message", None, []
        while line := self.answer.readline():
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if not field and not value:
                if data:
                    yield name, number, "\n".join(data)
                name, number, data = "message", None, []
            elif field == "event":
                name = value
            elif field == "id":
                number = value
            elif field == "data":
                data.append(value)

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


@pytest.fixture
def token(api: Any) -> str:
    return f"Bearer {api.token}"


@pytest.fixture
def hub(app: Any) -> Any:
    return app.extensions["flotilla.hub"]


def an_event(engine: Engine, bot_id: int, seq: int, *, type_: str = "fill", padding: str = "", count: int = 1) -> None:
    row = {"bot_id": bot_id, "run_id": f"{bot_id}.1", "ts": now_ms(), "type": type_}
    rows = [{**row, "seq": seq + n, "data": {"n": seq + n, "padding": padding}} for n in range(count)]
    with write(engine) as connection:
        connection.execute(insert(Event), rows)


# What programs get


def test_a_program_gets_every_bot_first_and_then_each_event_with_its_number(
    address: str, engine: Engine, a_bot: Make, token: str
):
    bot_id = a_bot(name="eth-rsi")
    with closing(Stream(address, "/api/stream", Authorization=token)) as stream:
        messages = stream.messages()
        event, number, data = next(messages)
        assert (event, number, json.loads(data)["name"]) == ("bot", None, "eth-rsi")

        an_event(engine, bot_id, 1)
        event, number, data = next(messages)

    assert (event, json.loads(data)["data"]["n"]) == ("fill", 1)
    with engine.connect() as connection:
        assert number == str(connection.execute(select(Event.id)).scalar_one())
    assert stream.answer.headers["Content-Type"].startswith("text/event-stream")
    assert stream.answer.headers["Cache-Control"] == "no-cache"
    assert stream.answer.headers["X-Accel-Buffering"] == "no"


def test_without_a_last_event_id_nothing_old_is_told_and_heartbeats_and_log_lines_never(
    address: str, engine: Engine, a_bot: Make, token: str
):
    bot_id = a_bot()
    an_event(engine, bot_id, 1)
    with closing(Stream(address, "/api/stream", Authorization=token)) as stream:
        for type_, seq in (("heartbeat", 2), ("log", 3), ("alert", 4)):
            an_event(engine, bot_id, seq, type_=type_)
        events = (message for message in stream.messages() if message[0] != "bot")

        assert next(events)[0] == "alert"


def test_one_bots_stream_has_nothing_of_the_others(address: str, engine: Engine, a_bot: Make, token: str):
    one, other = a_bot(name="one"), a_bot(name="other")
    with closing(Stream(address, f"/api/stream?bot_id={one}", Authorization=token)) as stream:
        told = stream.messages()
        assert json.loads(next(told)[2])["name"] == "one"

        an_event(engine, other, 1)
        an_event(engine, one, 2)
        assert json.loads(next(told)[2])["bot_id"] == one


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_is_written_and_however_often_a_client_reconnects_it_sees_each_event_once_and_in_order(
    address: str, engine: Engine, a_bot: Make, token: str, seed: int
):
    chance, bot_id, in_all = random.Random(seed), a_bot(), 1500
    an_event(engine, bot_id, 1, count=1)

    def write_them() -> None:
        seq = 2
        while seq <= in_all:
            count = min(chance.choice([1, 1, 3, 40, 700]), in_all + 1 - seq)
            an_event(engine, bot_id, seq, count=count)
            seq += count

    writer = threading.Thread(target=write_them)
    writer.start()
    seen: list[int] = []
    last, patience, deadline = "0", random.Random(seed + 100), time.monotonic() + 60
    while len(seen) < in_all and time.monotonic() < deadline:
        with closing(Stream(address, "/api/stream", Authorization=token, **{"Last-Event-ID": last})) as stream:
            takes = patience.choice([1, 5, 300, in_all])
            for event, number, data in stream.messages():
                if event == "fill":
                    seen.append(json.loads(data)["data"]["n"])
                    last = number or last
                    takes -= 1
                if takes <= 0 or len(seen) == in_all:
                    break
    writer.join()

    assert seen == list(range(1, in_all + 1))


def test_a_last_event_id_from_a_database_that_was_replaced_misses_nothing_new(
    address: str, engine: Engine, a_bot: Make, token: str
):
    bot_id = a_bot()
    with closing(Stream(address, "/api/stream", Authorization=token, **{"Last-Event-ID": "999999"})) as stream:
        messages = stream.messages()
        next(messages)
        an_event(engine, bot_id, 1)

        assert next(messages)[0] == "fill"


@pytest.mark.parametrize("given", ["abc", "-1", "1e3", "9" * 30])
def test_a_last_event_id_that_is_no_number_is_refused(api: Any, given: str):
    answer = api.get("/api/stream", headers={"Last-Event-ID": given})

    assert answer.status_code == 422
    assert "Last-Event-ID" in answer.json["error"]["fields"]


@pytest.mark.parametrize(("who", "status"), [(None, 401), ("bot:1", 403)])
def test_only_people_and_their_programs_may_listen(api_as: Make, a_bot: Make, who: str | None, status: int):
    a_bot()

    assert api_as(who).get("/api/stream").status_code == status


# What pages get


def signed_in(address: str, username: str = "admin") -> requests.Session:
    session = requests.Session()
    form = session.get(f"{address}/login", timeout=DEADLINE_S).text
    token = form.split('name="csrf_token" value="')[1].split('"')[0]
    body = {"username": username, "password": "correct horse battery staple", "csrf_token": token}
    assert session.post(f"{address}/login", data=body, timeout=DEADLINE_S, allow_redirects=False).status_code == 303
    return session


class PageStream(Stream):
    """A page's stream in the session of somebody who signed in."""

    def __init__(self, session: requests.Session, address: str, path: str = "/live/fleet") -> None:
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in session.cookies)
        super().__init__(address, path, Cookie=cookies)

    def parts(self) -> Iterator[dict[str, Any]]:
        for event, _, data in self.messages():
            if event == "message":
                yield json.loads(data)

    def ends(self) -> bool:
        for _ in self.messages():
            pass
        return True


def test_a_pages_first_message_has_every_part_and_later_ones_what_differs(address: str, a_bot: Make, observe: Make):
    one, other = a_bot(name="one"), a_bot(name="other")
    with closing(PageStream(signed_in(address), address)) as stream:
        told = stream.parts()
        first = next(told)
        observe(one, status="paused")
        second = next(told)

    assert {f"bot-{one}", f"bot-{other}", "kill"} <= set(first["parts"])
    assert first["order"] == list(first["parts"])
    assert f"bot-{one}" in second["parts"]
    assert f"bot-{other}" not in second["parts"]
    assert "order" not in second


def test_a_view_that_nobody_registered_is_not_found(page: Make):
    assert page().get("/live/nothing").status_code == 404


def test_the_programs_view_is_no_page(page: Make):
    assert page().get("/live/api").status_code == 404


def test_a_silent_supervisor_is_told_and_so_is_its_return(address: str, engine: Engine):
    with closing(PageStream(signed_in(address), address)) as stream:
        told = stream.parts()
        assert next(told)["trouble"] is None
        for beat_ms, expected in ((now_ms() - 60_000, "supervisor is silent"), (now_ms() + 3_600_000, None)):
            with write(engine) as connection:
                connection.execute(update(SupervisorBeat).values(beat_ms=beat_ms))
            trouble = next(told)["trouble"]
            assert trouble is None if expected is None else expected in trouble


def test_a_database_that_cannot_be_read_is_told_and_the_stream_survives(
    address: str, a_bot: Make, observe: Make, hub: Any, monkeypatch: pytest.MonkeyPatch
):
    from sqlalchemy.exc import OperationalError

    bot_id = a_bot(name="one")

    def fail(*_: Any) -> Any:
        raise OperationalError("SELECT", {}, Exception("database is locked"))

    with closing(PageStream(signed_in(address), address)) as stream:
        told = stream.parts()
        next(told)
        draw = hub._draw
        monkeypatch.setattr(hub, "_draw", fail)
        observe(bot_id, status="paused")
        assert "cannot be read" in next(told)["trouble"]
        monkeypatch.setattr(hub, "_draw", draw)
        after = next(told)

    assert after["trouble"] is None
    assert "Paused" in after["parts"][f"bot-{bot_id}"]


def test_a_page_that_cannot_be_drawn_does_not_take_the_others_along(
    address: str, a_bot: Make, observe: Make, token: str, hub: Any, monkeypatch: pytest.MonkeyPatch
):
    a_bot()
    draw = hub._draw
    monkeypatch.setattr(hub, "_draw", lambda c, r, a: 1 / 0 if r.view == "fleet" else draw(c, r, a))  # type: ignore[func-returns-value]

    with (
        closing(PageStream(signed_in(address), address)) as broken,
        closing(Stream(address, "/api/stream", Authorization=token)) as whole,
    ):
        assert "cannot be drawn" in next(broken.parts())["trouble"]
        assert next(whole.messages())[0] == "bot"


# Who may no longer look


def test_signing_out_ends_the_streams_of_that_session_and_of_no_other(address: str, engine: Engine, hub: Any):
    leaving, staying = signed_in(address), signed_in(address)
    with closing(PageStream(leaving, address)) as ending, closing(PageStream(staying, address)) as lasting:
        next(ending.parts()), next(lasting.parts())
        form = leaving.get(address, timeout=DEADLINE_S).text
        token = form.split('name="csrf_token" value="')[1].split('"')[0]
        leaving.post(f"{address}/logout", data={"csrf_token": token}, timeout=DEADLINE_S)

        assert ending.ends()
        assert hub.count == 1
        assert leaving.get(f"{address}/live/fleet", allow_redirects=False, timeout=DEADLINE_S).status_code == 303


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": "viewer"}])
def test_a_disabled_user_or_another_role_ends_the_stream(address: str, engine: Engine, change: dict[str, Any]):
    with closing(PageStream(signed_in(address, "trader"), address)) as stream:
        next(stream.parts())
        with write(engine) as connection:
            connection.execute(update(User).where(User.username == "trader").values(**change))

        assert stream.ends()


def test_a_revoked_token_ends_the_programs_stream(address: str, engine: Engine, a_bot: Make, token: str):
    from server.storage.models import ApiToken

    a_bot()
    with closing(Stream(address, "/api/stream", Authorization=token)) as stream:
        messages = stream.messages()
        next(messages)
        with write(engine) as connection:
            for (token_id,) in connection.execute(select(ApiToken.id).where(ApiToken.name == "a admin")).all():
                revoke(connection, token_id)

        assert list(messages) == []


# How many, and how slow


def test_above_the_cap_streams_are_refused_until_one_is_closed(app: Any, api: Any, hub: Any, a_bot: Make):
    from server.security.roles import Role
    from server.web.live import LiveRequest

    wanted = LiveRequest(view="fleet", role=Role.ADMIN)
    viewers = [hub.join(wanted, None, 0) for _ in range(MAX_VIEWERS)]

    refused = api.get("/api/stream")
    hub.leave(viewers[0])
    another = hub.join(wanted, None, 0)

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
    for viewer in [*viewers, another]:
        hub.leave(viewer)


def test_the_thread_ends_with_the_last_stream_and_another_begins_with_the_next(app: Any, hub: Any):
    from server.security.roles import Role
    from server.web.live import LiveRequest

    wanted = LiveRequest(view="fleet", role=Role.ADMIN)
    for _ in range(2):
        viewer = hub.join(wanted, None, 0)
        assert viewer.take(DEADLINE_S) is not None
        hub.leave(viewer)
        wait_for(lambda: hub._thread is None, what="the hub's thread to end")


def test_however_many_others_come_a_page_is_drawn_at_most_four_times_a_second(
    app: Any, hub: Any, a_bot: Make, observe: Make, monkeypatch: pytest.MonkeyPatch
):
    from server.security.roles import Role
    from server.web.live import LiveRequest

    bot_id, mine = a_bot(), LiveRequest(view="fleet", role=Role.ADMIN)
    others = LiveRequest(view="kill", role=Role.ADMIN)
    drawn, now = [0], [0.0]
    draw = hub._draw

    def counting(connection: Any, wanted: LiveRequest, after: int) -> Any:
        drawn[0] += wanted == mine
        return draw(connection, wanted, after)

    monkeypatch.setattr(hub, "_draw", counting)
    monkeypatch.setattr("server.web.hub.time", SimpleNamespace(monotonic=lambda: now[0]))
    viewer = hub.join(mine, None, 0)
    assert viewer.take(DEADLINE_S) is not None
    drawn_by: list[int] = []
    for quarter in range(8):
        now[0] = quarter / 4
        for visit in range(3):
            observe(bot_id, status_reason=f"change {quarter}.{visit}")
            other = hub.join(others, None, 0)
            assert other.take(DEADLINE_S) is not None  # at once, whatever the first one waits for
            hub.leave(other)
        drawn_by.append(drawn[0])
    now[0] = 2.0
    last = None
    while last is None or "change 7.2" not in last.parts.get(f"bot-{bot_id}", ""):
        last = viewer.take(DEADLINE_S)
    hub.leave(viewer)

    assert drawn_by == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_log_that_was_out_of_sight_gets_every_line_since_in_order(app: Any, hub: Any, engine: Engine, a_bot: Make):
    from server.security.roles import Role
    from server.web.live import LiveRequest

    bot_id = a_bot()
    an_event(engine, bot_id, 1, type_="log", count=490)
    params = (("bot", str(bot_id)), ("level", "debug"), ("tab", "log"))

    viewer = hub.join(LiveRequest(view="bot", role=Role.VIEWER, params=params), None, 10)
    seen: list[int] = []
    while not seen or seen[-1] < 490:
        news = viewer.take(DEADLINE_S)
        assert news is not None
        seen += [event_id for event_id, _ in news.added.get("log-new", ())]
    hub.leave(viewer)

    assert seen == list(range(11, 491))


def test_a_client_that_goes_away_frees_its_place_at_once(address: str, hub: Any):
    stream = PageStream(signed_in(address), address)
    next(stream.parts())
    assert hub.count == 1

    stream.close()

    wait_for(lambda: hub.count == 0, what="the place to be free")


def test_a_client_that_takes_nothing_is_dropped_and_holds_up_nobody(
    address: str, engine: Engine, a_bot: Make, token: str, hub: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stream_module, "_PATIENCE_S", 5.0)
    bot_id = a_bot()
    host, port = address.removeprefix("http://").split(":")
    with closing(socket.socket()) as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.connect((host, int(port)))
        idle.sendall(f"GET /api/stream?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
        wait_for(lambda: hub.count == 1, what="the stream")
        with closing(Stream(address, "/api/stream", Authorization=token)) as keen:
            events = (message for message in keen.messages() if message[0] == "fill")
            for n in range(12):
                an_event(engine, bot_id, 1 + 100 * n, padding="x" * 10_000, count=100)
                for _ in range(100):
                    next(events)
            wait_for(lambda: hub.count == 1, what="the idle client to be dropped")
