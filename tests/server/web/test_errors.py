"""Refusals in a browser: a page that says what happened and what to do; the API's answers stay JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from server.web import account

Make = Callable[..., Any]
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def test_an_unknown_page_names_those_that_are_near(page: Make, a_bot: Make):
    bot_id = a_bot(name="eth-scalper")

    modells = page().get("/modells", headers=BROWSER)
    by_name = page().get("/bots/eth-scalpr", headers=BROWSER)

    assert (modells.status_code, by_name.status_code) == (404, 404)
    assert modells.mimetype == "text/html"
    assert "There is no page /modells." in modells.text
    assert 'href="/models">models</a>' in modells.text
    assert f'href="/bots/{bot_id}">eth-scalper</a>' in by_name.text


def test_an_error_page_has_the_frame_with_the_kill_switch(page: Make):
    answer = page().get("/nowhere", headers=BROWSER)

    assert 'href="/kill"' in answer.text


def test_somebody_unknown_sees_no_names_of_bots(app: Any, a_bot: Make):
    a_bot(name="eth-scalper")

    answer = app.test_client().get("/bots/eth-scalper", headers=BROWSER)

    assert answer.status_code == 404
    assert "Perhaps you meant" not in answer.text
    assert 'href="/kill"' not in answer.text


def test_what_is_echoed_is_escaped(page: Make):
    answer = page().get("/<script>alert(1)</script>", headers=BROWSER)

    assert answer.status_code == 404
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize("headers", [BROWSER, {}])
def test_the_api_answers_json_whoever_asks(page: Make, headers: dict[str, str]):
    answer = page().get("/api/bots/99", headers=headers)

    assert (answer.status_code, answer.json["error"]["code"]) == (404, "not_found")


def test_a_program_that_wants_no_html_gets_json_everywhere(app: Any):
    assert app.test_client().get("/nowhere").json["error"]["code"] == "not_found"


def test_a_form_without_its_token_changes_nothing_and_says_what_to_do(page: Make):
    client = page()

    answer = client.post("/account", data={"theme": "dark"}, headers=BROWSER)

    assert answer.status_code == 403
    assert "Nothing was changed. Open the page again and repeat." in answer.text
    assert 'data-theme="dark"' not in client.get("/account").text


def test_a_page_that_takes_no_such_method_says_so(page: Make):
    answer = page().post("/menu", headers=BROWSER)

    assert (answer.status_code, answer.mimetype) == (405, "text/html")
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["/", "/models", "/orders", "/bots/new"])
def test_a_query_with_nul_is_refused_on_a_page(page: Make, path: str):
    answer = page().get(f"{path}?symbol=%00", headers=BROWSER)

    assert (answer.status_code, answer.mimetype) == (422, "text/html")
    assert "text that cannot be looked for" in answer.text
    assert "holds NUL" in answer.text


def test_a_form_above_the_limit_is_told_the_limit(page: Make):
    answer = page().post("/account", data={"theme": "x" * 2_000_000}, headers=BROWSER)

    assert (answer.status_code, answer.mimetype) == (413, "text/html")
    assert "everything else 1 MB" in answer.text


def test_a_bug_shows_an_id_that_finds_the_line_in_the_log(
    app: Any, page: Make, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    client = page()
    app.config["PROPAGATE_EXCEPTIONS"] = False
    monkeypatch.setattr(account, "THEMES", None)
    monkeypatch.setitem(app.view_functions, "web.menu_page", broken)

    answer = client.get("/menu", headers=BROWSER)

    assert (answer.status_code, answer.mimetype) == (500, "text/html")
    assert "a secret of the inside" not in answer.text
    assert "open positions stay guarded" in answer.text
    correlation_id = answer.text.split("has it as ")[1].split(".")[0]
    assert correlation_id in "".join(capfd.readouterr())


def test_a_busy_database_is_told_without_needing_it(app: Any, page: Make, monkeypatch: pytest.MonkeyPatch):
    client = page()
    monkeypatch.setattr("server.web.shell.frame_of", busy)
    monkeypatch.setitem(app.view_functions, "web.menu_page", busy)

    answer = client.get("/menu", headers=BROWSER)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "The database is busy" in answer.text


def broken(*_: Any) -> None:
    raise RuntimeError("a secret of the inside")


def busy(*_: Any) -> None:
    raise OperationalError("SELECT", {}, Exception("database is locked"))


broken._need = busy._need = account.menu_page._need  # type: ignore[attr-defined]
