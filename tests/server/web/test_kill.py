"""The kill switch's page: a plain form in two clicks, a checklist that never claims more than is known, and a release
that says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from server.security.roles import Role
from server.storage.engine import read
from server.web.kill import checklist
from server.web.live import LiveRequest
from server.web.stream import draw
from shared.halt import HaltOrder, halt_order

Make = Callable[..., Any]


def send(client: Any, path: str, **form: Any) -> Any:
    token = client.get("/account").text.split('name="csrf_token" value="')[1].split('"')[0]
    return client.post(path, data={"csrf_token": token, **form})


def a_state(*bots: dict[str, Any], **changes: Any) -> dict[str, Any]:
    lines = [
        {"cancelled": 0, "waiting": 0, "unknown": 0, "positions": 0, "confirmed": True, "note": "halted", **bot}
        for bot in bots
    ]
    counted = ("cancelled", "waiting", "unknown", "positions")
    totals = {name: sum(bot[name] for bot in lines) for name in counted}
    totals |= {"bots": len(lines), "confirmed": sum(bot["confirmed"] for bot in lines)}
    return {"totals": totals, "bots": lines, "close_positions": False, "in_database": True, "in_file": True, **changes}


# The checklist


def test_a_step_is_done_only_when_those_before_it_are():
    silent = {"note": "runs, and has not said yet that it is halted", "confirmed": False}

    steps = checklist(a_state(silent, {"cancelled": 2}))

    assert [(s.state, s.count) for s in steps] == [
        ("doing", "1 of 2 bots"), ("todo", "2 of 2"), ("todo", "1 of 2"), ("done", "row and file"),
    ]  # fmt: skip


def test_orders_without_an_answer_are_counted_as_left():
    steps = checklist(a_state({"cancelled": 7, "waiting": 1, "unknown": 1, "confirmed": False}))

    assert (steps[1].state, steps[1].text, steps[1].count) == ("doing", "Entry orders cancelled, 1 unknown", "7 of 9")


def test_selling_is_a_step_only_where_it_was_asked_for():
    assert len(checklist(a_state({"positions": 1}))) == 4
    assert checklist(a_state({"positions": 1}, close_positions=True))[3].count == "1 bot left"


# The page


def test_before_it_is_set_the_page_says_what_it_would_do(page: Make, a_bot: Make, a_position: Make):
    a_position(a_bot())

    html = page("trader").get("/kill").text

    assert "Halt all trading now" in html
    assert "Positions that stay guarded</dt><dd>1<" in html
    assert "checked" not in html  # selling is never the default


def test_one_post_sets_it_with_file_row_and_audit_and_every_page_says_so(
    page: Make, a_bot: Make, api: Any, settings: Any
):
    a_bot()
    client = page("trader")

    answer = send(client, "/kill", reason="odd <fills>")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/kill")
    assert settings.halt_file.exists()
    assert api.get("/api/system/halt").json["in_database"] is True
    entry = api.get("/api/audit").json["items"][0]
    assert (entry["action"], entry["actor"], entry["via"], entry["reason"]) == (
        "system.halt", "trader", "web", "odd <fills>",
    )  # fmt: skip
    fleet = client.get("/").text
    assert ">by trader since" in fleet
    assert "odd &lt;fills&gt;" in fleet
    assert "Halted · release…" in fleet


def test_a_reason_is_not_needed_to_set_it_but_to_release_it(page: Make, api: Any, settings: Any):
    client = page("trader")
    send(client, "/kill")
    assert "no reason given" in client.get("/kill").text

    without = send(client, "/kill/release", reason="  ")
    assert without.status_code == 422
    assert "Say why" in without.text
    assert settings.halt_file.exists()

    send(client, "/kill/release", reason="found the cause")
    assert api.get("/api/system/halt").json["release_reason"] == "found the cause"
    assert not settings.halt_file.exists()
    assert "found the cause" in client.get("/kill").text
    assert "HALTED" not in client.get("/").text


def test_selling_is_a_second_step_with_its_own_page(page: Make, a_bot: Make, a_position: Make, api: Any):
    bot_id, client = a_bot(name="eth-rsi"), page("trader")
    a_position(bot_id, document={"activated_ms": 5, "legs": []})
    send(client, "/kill", reason="x")

    html = client.get("/kill").text
    assert "Sell 1 position at market…" in html
    assert "1 position stays open, 1 of them without a stop" in html
    assert "eth-rsi" in client.get("/kill/sell").text
    assert api.get("/api/system/halt").json["close_positions"] is False

    send(client, "/kill", close_positions="on", reason="x")
    assert api.get("/api/system/halt").json["close_positions"] is True


def test_a_busy_database_does_not_keep_it_from_working(
    page: Make, settings: Any, monkeypatch: pytest.MonkeyPatch, engine: Engine
):
    client = page("trader")

    def busy(*_: Any, **__: Any) -> None:
        raise OperationalError("BEGIN IMMEDIATE", {}, Exception("database is locked"))

    monkeypatch.setattr("server.web.kill.keyed", busy)
    answer = send(client, "/kill", reason="now")

    assert answer.status_code == 303
    assert b"now" in settings.halt_file.read_bytes()

    send(client, "/kill", reason="sell", close_positions="on")
    send(client, "/kill", reason="again")
    order = halt_order(settings.halt_file.read_bytes)
    assert order is not None
    assert (order.reason, order.close_positions) == ("now", True)


def test_the_file_alone_is_shown_on_every_page(page: Make, settings: Any):
    settings.halt_file.touch()
    client = page("viewer")

    system = client.get("/system").text

    assert "Ready, not set" not in system
    assert "HALTED" in system
    assert "by the halt file since" in client.get("/").text


def test_a_stream_tells_the_file_alone_too(app: Any, settings: Any, engine: Engine):
    settings.halt_file.write_bytes(HaltOrder(by="ana", reason="odd", at_ms=86_400_000).to_json())
    with app.test_request_context("/"), read(engine) as connection:
        parts = draw(connection, LiveRequest(view="kill", role=Role.VIEWER), 0).parts

    assert "by ana since 1970-01-02 00:00:00 UTC: odd" in parts["halted"]
    assert "Halted · release…" in parts["kill"]


def test_a_viewer_sees_the_state_and_changes_nothing(page: Make, settings: Any):
    client = page("viewer")

    assert "Needs the role trader" in client.get("/kill").text
    assert send(client, "/kill").status_code == 403
    assert send(client, "/kill/release", reason="x").status_code == 403
    assert not settings.halt_file.exists()


def test_nothing_is_set_without_the_token(page: Make, settings: Any):
    assert page("trader").post("/kill", data={"reason": "x"}).status_code == 403
    assert not settings.halt_file.exists()


@pytest.mark.parametrize(("path", "refreshes"), [("/kill", False), ("/", False), ("/system", True)])
def test_without_a_script_no_page_with_fields_is_fetched_again_by_itself(page: Make, path: str, refreshes: bool):
    html = page("trader").get(path).text

    assert ('http-equiv="refresh"' in html) is refreshes
    assert '<a href="">Refresh</a>' in html


@pytest.mark.browser
def test_enter_in_a_reason_neither_sells_nor_releases(open_page: Make, settings: Any):
    tab = open_page()
    tab.goto(tab.url + "kill")
    tab.get_by_label("Also close positions at market").check()
    tab.get_by_label("Reason").fill("half a thought")
    tab.keyboard.press("Enter")
    tab.goto(tab.url)
    assert not settings.halt_file.exists()

    tab.get_by_role("button", name="Halt all trading now").click()
    tab.get_by_label("Reason").fill("half a thought")
    tab.keyboard.press("Enter")
    tab.goto(tab.url)

    assert settings.halt_file.exists()
    tab.get_by_label("Reason").fill("found it")
    tab.get_by_role("button", name="Release the kill switch").click()
    tab.get_by_text("The kill switch is released").wait_for()
