from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update

from server.security.sessions import end_sessions, still_allowed
from server.security.tokens import issue_api_token
from server.storage.engine import read, write
from server.storage.installation import change
from server.storage.models import ApiToken, User
from server.storage.times import now_ms

PageAs = Callable[..., FlaskClient]


def copied(client: FlaskClient, app: Any) -> FlaskClient:
    """Another browser with the same cookies."""
    thief = app.test_client()
    for cookie in list(client._cookies.values()):  # type: ignore[union-attr]
        thief.set_cookie(cookie.key, cookie.decoded_value, domain=cookie.domain)
    return thief


def csrf_token(html: str) -> str:
    return html.split('name="csrf_token" value="')[1].split('"')[0]


def sign_out(client: FlaskClient) -> None:
    assert client.post("/logout", data={"csrf_token": csrf_token(client.get("/").text)}).status_code == 303


def rows(engine: Any, kind: str = "page") -> list[Any]:
    with read(engine) as connection:
        return list(connection.execute(select(ApiToken).where(ApiToken.kind == kind).order_by(ApiToken.id)))


def test_a_cookie_copied_before_signing_out_is_worth_nothing_afterwards(app: Any, page: PageAs):
    client = page()
    thief = copied(client, app)
    assert thief.get("/").status_code == 200

    sign_out(client)

    assert thief.get("/").status_code == 303
    assert thief.get("/api/bots").status_code == 401


def test_signing_out_of_one_browser_leaves_the_other_signed_in(page: PageAs):
    here, there = page(), page()

    sign_out(here)

    assert there.get("/").status_code == 200


def test_signing_in_anew_ends_the_session_that_the_browser_had(app: Any, page: PageAs):
    client = page()
    thief = copied(client, app)

    form = {"username": "trader", "password": "correct horse battery staple"}
    client.post("/login", data={**form, "csrf_token": csrf_token(client.get("/login").text)})

    assert client.get("/").status_code == 200
    assert thief.get("/").status_code == 303


def test_logging_out_through_the_api_ends_a_page_session_too(page: PageAs):
    client = page()
    token = csrf_token(client.get("/").text)

    assert client.post("/api/auth/logout", headers={"X-CSRFToken": token}).status_code == 204

    assert client.get("/").status_code == 303


def test_a_session_ends_on_the_server_when_its_time_is_over(page: PageAs, engine: Any):
    client = page()

    with write(engine) as connection:
        connection.execute(update(ApiToken).where(ApiToken.kind == "page").values(expires_ms=now_ms() - 1))

    assert client.get("/").status_code == 303


def test_sessions_last_as_long_as_the_setting_says(page: PageAs, engine: Any, api_as: Callable[..., Any]):
    with write(engine) as connection:
        change(connection, {"session_hours": 2})

    page()
    login = api_as(None).post("/api/auth/login", {"username": "admin", "password": "correct horse battery staple"})

    (session,) = rows(engine)
    assert session.expires_ms - session.created_ms == 2 * 3_600_000
    assert login.json["expires_in"] == 7200


def test_ending_a_users_sessions_ends_pages_and_logins_and_no_long_lived_token(
    page: PageAs, engine: Any, api_as: Callable[..., Any]
):
    client, other = page("trader"), page("viewer")
    login = api_as(None)
    login.token = login.post(
        "/api/auth/login", {"username": "trader", "password": "correct horse battery staple"}
    ).json["access_token"]
    script = api_as(None)
    script.token = login.post("/api/tokens", {"name": "script", "role": "viewer"}).json["token"]

    with write(engine) as connection:
        trader = connection.execute(select(User.id).where(User.username == "trader")).scalar_one()
        end_sessions(connection, trader)

    assert client.get("/").status_code == 303
    assert login.get("/api/bots").status_code == 401
    assert script.get("/api/bots").status_code == 200
    assert other.get("/").status_code == 200


def test_a_disabled_users_pages_end_at_once(page: PageAs, engine: Any):
    client = page("trader")

    with write(engine) as connection:
        connection.execute(update(User).where(User.username == "trader").values(disabled=True))

    assert client.get("/").status_code == 303


def test_the_last_use_of_a_session_is_noted_to_the_minute(page: PageAs, engine: Any):
    client = page()

    client.get("/")
    (first,) = rows(engine)
    client.get("/")
    (second,) = rows(engine)

    assert now_ms() - first.last_used_ms < 60_000
    assert second.last_used_ms == first.last_used_ms


@pytest.mark.parametrize("cookie", ["1:0123456789abcdef", "garbage", ""])
def test_a_cookie_of_another_make_signs_nobody_in(app: Any, cookie: str):
    client = app.test_client()
    with client.session_transaction() as session:
        session["_user_id"], session["_fresh"] = cookie, True

    assert client.get("/").status_code == 303


def test_reading_goes_on_while_somebody_else_writes(api: Any, settings: Any, engine: Any):
    with_lock, done = threading.Event(), threading.Event()

    @_on_each_connection(engine)
    def wait_long(connection: Any) -> None:
        connection.execute("PRAGMA busy_timeout=60000")

    def hold() -> None:
        other = sqlite3.connect(settings.home / "flotilla.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with_lock.set()
        done.wait()
        other.execute("ROLLBACK")
        other.close()

    writer = threading.Thread(target=hold)
    writer.start()
    assert with_lock.wait(10)
    started = now_ms()
    try:
        answer = api.get("/api/bots")
    finally:
        done.set()
        writer.join()

    assert answer.status_code == 200
    assert now_ms() - started < 30_000  # it did not wait for the writer, as a write would for a minute


def test_reading_goes_on_when_the_database_cannot_be_written(api: Any, page: PageAs, engine: Any):
    client = page()

    @_on_each_connection(engine)
    def refuse(connection: Any) -> None:
        connection.execute("PRAGMA query_only=ON")

    assert api.get("/api/bots").status_code == 200
    assert client.get("/").status_code == 200


def _on_each_connection(engine: Any) -> Callable[[Callable[[Any], None]], None]:
    from sqlalchemy import event

    def register(prepare: Callable[[Any], None]) -> None:
        event.listen(engine, "checkout", lambda raw, *_: prepare(raw))

    return register


def test_an_open_stream_by_token_has_the_lesser_of_the_tokens_and_the_users_present_role(api: Any, engine: Any):
    maria = {"username": "maria", "password": "three blue boats", "role": "admin"}
    user_id = api.post("/api/users", maria).json["id"]
    with write(engine) as connection:
        strong, _ = issue_api_token(connection, name="s", role="admin", user_id=user_id)
        weak, _ = issue_api_token(connection, name="w", role="viewer", user_id=user_id)
        nobodys, _ = issue_api_token(connection, name="n", role="trader")

    api.put(f"/api/users/{user_id}", {"role": "trader"})

    with read(engine) as connection:
        allowed = still_allowed(connection, [strong, weak, nobodys])
    assert allowed == {strong: "trader", weak: "viewer", nobodys: "trader"}
