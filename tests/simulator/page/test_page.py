"""The page from outside: who gets it, what its forms do, and whom they obey."""

from __future__ import annotations

import re

import pytest
import requests

ASK, CLEAR = "/sim/page/faults", "/sim/page/faults/clear"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def own(start):
    """A simulator that a test may break."""
    return start("--seed", 7)


def send(simulator, path: str, fields: object, **headers: str) -> requests.Response:
    """Submit a form and stay there."""
    url = simulator.url + path
    return requests.post(url, data=fields, headers={**HTML, **headers}, allow_redirects=False, timeout=10)


def active(simulator) -> list[dict]:
    """The faults that are on."""
    return simulator.sim("GET", "faults").json["faults"]


def test_a_browser_gets_the_page_and_a_program_the_json_of_sim(simulator):
    page = simulator.ask("GET", "/", headers=HTML)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<h1>" in page.text
    assert "generated market, seed 7" in page.text

    for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        assert simulator.ask("GET", "/", headers=accept).json["name"] == "Flotilla simulator"
    assert simulator.get("/sim").json["routes"] == simulator.get("/").json["routes"]


def test_the_page_may_load_nothing_and_be_framed_by_nobody(simulator):
    headers = simulator.ask("GET", "/", headers=HTML).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_it_is_complete_without_javascript_and_can_be_held_still(simulator):
    refresh = '<noscript><meta http-equiv="refresh" content="5"></noscript>'
    assert refresh in simulator.ask("GET", "/", headers=HTML).text
    assert refresh not in simulator.ask("GET", "/?hold", headers=HTML).text


def test_every_kind_of_fault_has_its_fields_in_the_form(simulator):
    text = simulator.ask("GET", "/", headers=HTML).text
    kinds = re.findall(r'<option value="(\w+)"[^>]*>', text.partition('name="kind"')[2].partition("</select>")[0])
    assert {"lose_ack", "refuse", "silence", "disconnect"} <= set(kinds)
    assert re.findall(r'<fieldset data-kind="(\w+)"', text) == kinds


def test_a_form_sets_a_fault_and_goes_back_to_the_page(own):
    fields = {
        "kind": "refuse", "refuse.path": " /api/v3/order ", "refuse.method": "", "refuse.count": "2",
        "refuse.status": "502", "silence.stream": "btcusdt", "lose_ack.count": "9",
    }  # fmt: skip

    answer = send(own, ASK, fields, Origin=own.url)

    assert (answer.status_code, answer.headers["Location"]) == (303, "/?done=refuse#faults")
    (fault,) = active(own)
    assert {name: fault[name] for name in ("kind", "path", "count", "status")} == {
        "kind": "refuse", "path": "/api/v3/order", "count": 2, "status": 502,
    }  # fmt: skip
    page = own.ask("GET", "/?done=refuse", headers=HTML).text
    assert "Refuse: done." in page
    assert "2× left" in page
    assert own.get("/api/v3/order").status == 502


def test_a_bad_form_keeps_what_was_typed_and_says_what_is_wrong(own):
    answer = send(own, ASK, {"kind": "silence", "silence.stream": "btc<usdt", "silence.seconds": "soon"})

    assert answer.status_code == 422
    assert answer.headers["Content-Type"].startswith("text/html")
    alert = re.search(r'role="alert">(.*?)</p>', answer.text)
    assert alert is not None
    assert "seconds is &#39;soon&#39;" in alert[1]
    assert 'value="btc&lt;usdt"' in answer.text
    assert '<option value="silence" selected>' in answer.text
    assert 'http-equiv="refresh"' not in answer.text
    assert active(own) == []


def test_a_fault_is_cleared_by_its_number_and_all_without_one(own):
    for count in ("1", "2", "3"):
        send(own, ASK, {"kind": "lose_ack", "lose_ack.path": "/api/v3/nowhere", "lose_ack.count": count})
    second = active(own)[1]["id"]
    assert f'name="id" value="{second}"' in own.ask("GET", "/", headers=HTML).text

    answer = send(own, CLEAR, {"id": str(second)}, Origin=own.url)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/#faults")
    assert [fault["count"] for fault in active(own)] == [1, 3]

    assert send(own, CLEAR, {"id": str(second)}).status_code == 303
    assert len(active(own)) == 2
    assert send(own, CLEAR, {}, **FORM).status_code == 303
    assert active(own) == []


def test_the_end_of_an_api_key_is_enough(own):
    key = own.account().api_key
    fields = {"kind": "lose_fill", "lose_fill.api_key": key[-4:]}

    assert send(own, ASK, fields).status_code == 303

    assert active(own)[0]["api_key"] == key


@pytest.mark.parametrize("path", [ASK, CLEAR])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example:9700", "Origin": "http://evil.example:9700"},
        {"Host": "evil.example"},
        {"Host": "["},
    ],
)
def test_a_form_from_another_site_or_under_another_name_is_refused(simulator, path, headers):
    answer = send(simulator, path, {"kind": "lose_ack", "lose_ack.path": "/api/v3/nowhere"}, **headers)

    assert answer.status_code in (400, 403)
    assert active(simulator) == []


def test_under_localhost_too_it_is_the_same_page(own):
    host = f"localhost:{own.port}"
    fields = {"kind": "lose_ack", "lose_ack.path": "/api/v3/nowhere"}
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert send(own, ASK, fields, **headers).status_code == 303


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", FORM, 422),
        (b"kind=riddle", FORM, 422),
        (b"kind=%ff%fe", FORM, 422),
        (b"\xff\xfe", FORM, 400),
        (b"&".join(b"a%d=1" % n for n in range(2000)), FORM, 400),
        (b'{"kind": "lose_ack"}', {"Content-Type": "application/json"}, 400),
        (b"kind=lose_ack", {"Content-Type": "text/plain"}, 400),
        (b"kind=refuse&refuse.status=99999999999999999999", FORM, 422),
        (b"kind=refuse&refuse.riddle=1", FORM, 422),
        (b"kind=silence&silence.seconds=nan", FORM, 422),
        (b"kind=silence&silence.seconds=" + b"9" * 5000, FORM, 422),
        (b"x" * (1 << 21), FORM, 413),
    ],
    ids=["empty", "kind", "percent", "bytes", "fields", "json", "text", "large", "unknown", "nan", "long", "huge"],
)
def test_no_body_breaks_it(simulator, body, kind, status):
    answer = send(simulator, ASK, body, **kind)

    assert answer.status_code == status
    assert "Traceback" not in answer.text
    assert active(simulator) == []


@pytest.mark.parametrize("number", ["x", "-1", "99999999999999999999", "²", "1.5"])
def test_clearing_what_is_not_there_changes_nothing(simulator, number):
    assert send(simulator, CLEAR, {"id": number}).status_code == 303


def test_a_hundred_accounts_are_shown_by_their_newest(own):
    customers = [own.account(USDT="100000", BTC="2") for _ in range(100)]
    for customer in customers[:50]:
        assert customer.order(kind="MARKET", quantity="0.01").status == 200

    page = own.ask("GET", "/", headers=HTML)

    assert len(page.text) < 200_000
    assert "the 12 active last" in page.text
