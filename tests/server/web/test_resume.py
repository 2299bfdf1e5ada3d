"""A session that ends in the middle of a form: to the sign-in page and back, nothing typed lost and nothing done."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest

from server.market import Market

Make = Callable[..., Any]
PASSWORD = "correct horse battery staple"
OWN = {"Origin": "http://localhost"}


@pytest.fixture(autouse=True)
def exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Market, "symbols", lambda self, exchange: ())


def token(client: Any) -> str:
    return str(client.get("/account").text.split('name="csrf_token" value="')[1].split('"')[0])


def inputs(text: str) -> dict[str, str]:
    """The hidden fields of the form in the middle of a page."""
    form = text.split("<main", 1)[1].split("</main>", 1)[0]
    return {n: html.unescape(v) for n, v in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form)}


def sign_in(client: Any, text: str, password: str = PASSWORD) -> Any:
    return client.post("/login", data={**inputs(text), "username": "admin", "password": password})


def begin(client: Any) -> str:
    answer = client.post("/bots/new", data={"csrf_token": token(client), "strategy": "rsi"})
    return str(answer.headers["Location"])


def lose_session(client: Any) -> None:
    client.post("/logout", data={"csrf_token": token(client)})


def test_what_was_typed_comes_back_after_signing_in_and_is_saved_by_one_button(page: Make):
    client = page()
    path, old = begin(client), token(client)
    lose_session(client)
    typed = {"name": 'half "a" name <b>', "capital_per_trade": "12,5", "go": "save", "csrf_token": old}

    login = client.post(path, data=typed, headers={**OWN, "Referer": f"http://localhost{path}"})
    again = sign_in(client, login.text)

    assert (login.status_code, again.status_code) == (401, 200)
    assert "what you typed is kept" in login.text
    assert html.escape('half "a" name <b>', quote=False).replace('"', "&#34;") in again.text
    assert f'href="{path}">Do not send' in again.text
    client.post(path, data=inputs(again.text))
    assert "half &#34;a&#34; name &lt;b&gt;" in client.get(path).text
    assert 'value="12,5"' in client.get(path).text


def test_a_wrong_password_on_the_way_loses_nothing(page: Make):
    client = page()
    path = begin(client)
    lose_session(client)
    login = client.post(path, data={"name": "half a name"}, headers=OWN)

    again = sign_in(client, sign_in(client, login.text, "wrong").text)

    assert "half a name" in again.text


def test_nothing_is_done_before_the_button(page: Make, a_bot: Make, api: Any):
    bot_id, client = a_bot(), page()
    lose_session(client)

    login = client.post(f"/bots/{bot_id}/start", data={}, headers=OWN)
    again = sign_in(client, login.text)

    assert f"/bots/{bot_id}/start" in again.text
    assert api.get(f"/api/bots/{bot_id}").json["desired_state"] == "stopped"
    client.post(f"/bots/{bot_id}/start", data=inputs(again.text))
    assert api.get(f"/api/bots/{bot_id}").json["desired_state"] == "running"


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
def test_what_another_site_sent_is_not_carried(page: Make, headers: dict[str, str]):
    client = page()
    path = begin(client)
    lose_session(client)

    answer = client.post(path, data={"name": "evil"}, headers=headers)

    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")


def test_a_forged_or_foreign_carried_form_is_ignored(page: Make, app: Any):
    client = app.test_client()
    text = client.get("/login").text

    answer = client.post(
        "/login", data={**inputs(text), "username": "admin", "password": PASSWORD, "carried": "forged.x.y"}
    )

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")


def test_secrets_are_not_carried_and_that_is_said(page: Make):
    client = page()
    lose_session(client)

    login = client.post("/account", data={"theme": "dark", "password": "hunter2hunter2"}, headers=OWN)
    again = sign_in(client, login.text)

    assert "Files and secrets were not kept." in again.text
    assert "hunter2" not in again.text
