from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from server.storage.times import day_of, now_ms
from server.web.formats import duration, pnl, split_symbol
from server.web.sign_in import local_path

Make = Callable[..., Any]


def csrf_token(html: str) -> str:
    return html.split('name="csrf_token" value="')[1].split('"')[0]


def test_somebody_unknown_is_sent_to_sign_in(app: Any):
    answer = app.test_client().get("/")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")


def test_after_signing_in_the_fleet_is_there(page: Make):
    answer = page().get("/")

    assert answer.status_code == 200
    assert "No bots yet" in answer.text


def test_a_wrong_password_keeps_the_name_and_says_so_beside_the_field(app: Any):
    client = app.test_client()
    form = {"username": "<maria>", "password": "x", "csrf_token": csrf_token(client.get("/login").text)}

    answer = client.post("/login", data=form)

    assert answer.status_code == 401
    assert 'value="&lt;maria&gt;"' in answer.text
    assert "do not match" in answer.text


def test_signing_in_without_the_forms_token_is_refused(app: Any):
    answer = app.test_client().post("/login", data={"username": "admin", "password": "x"})

    assert answer.status_code == 403
    assert "session" not in answer.headers.get("Set-Cookie", "") or "_user_id" not in answer.text


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/a\nb", ""]
)
def test_nobody_is_sent_to_another_site(target: str):
    assert local_path(target) is None


def test_signing_in_leads_back_to_the_page_that_was_asked_for(app: Any):
    client = app.test_client()
    login = client.get("/login?next=/?state=running")
    form = {"username": "admin", "password": "correct horse battery staple", "csrf_token": csrf_token(login.text)}

    answer = client.post("/login", data={**form, "next": "/?state=running"})

    assert answer.headers["Location"] == "/?state=running"


def test_signing_out_ends_the_session(page: Make):
    client = page()

    client.post("/logout", data={"csrf_token": csrf_token(client.get("/").text)})

    assert client.get("/").status_code == 303


def test_the_table_shows_state_reason_wish_money_and_position(
    page: Make, a_bot: Make, observe: Make, a_day: Make, a_position: Make
):
    bot_id = a_bot(name="btc-scalper", symbol="BTCUSDT")
    observe(
        bot_id,
        desired_state="running",
        status="error",
        status_reason="crash loop",
        status_since_ms=now_ms() - 60_000,
        heartbeat_ms=now_ms() - 5_000,
    )
    a_day(bot_id, day_of(now_ms()), "-61.2")
    a_position(bot_id, quantity=Decimal("0.5"), entry_price=Decimal(1000))

    html = page().get("/").text

    for text in (
        "btc-scalper",
        "Error",
        "crash loop",
        "wanted: running",
        "−61.20",
        "+0.5 BTC",
        "@ 1,000.00",
        "SIMULATOR",
    ):
        assert text in html


def test_a_silent_bots_figures_are_shown_as_old(page: Make, a_bot: Make, observe: Make):
    client = page()
    silent_since = now_ms() - 46_000
    running = {"desired_state": "running", "status": "running", "status_since_ms": silent_since - 60_000}
    observe(a_bot(), **running, heartbeat_ms=silent_since)

    html = client.get("/").text

    assert "Running?" in html
    told = int(re.search(r"(\d+) s old", html)[1])
    assert 46 <= told <= (now_ms() - silent_since) // 1000


def test_what_people_type_is_never_markup(page: Make, a_bot: Make, observe: Make):
    observe(a_bot(name="<script>alert(1)</script>", tags=["<u>"]), status_reason='"><img src=x>')

    html = page().get("/").text

    assert "<script>alert" not in html
    assert "<img" not in html
    assert "<u>" not in html
    assert "&lt;u&gt;" in html


def test_a_button_changes_what_is_wanted_and_shows_the_fleet_again(page: Make, a_bot: Make, api: Any):
    bot_id, client = a_bot(), page("trader")
    form = {"csrf_token": csrf_token(client.get("/").text)}

    answer = client.post(f"/bots/{bot_id}/start", data=form)

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert api.get(f"/api/bots/{bot_id}").json["desired_state"] == "running"
    assert client.post(f"/bots/{bot_id}/explode", data=form).status_code == 404


def test_what_cannot_be_done_is_said_on_the_page(page: Make, a_bot: Make):
    bot_id, client = a_bot(credential_id=None), page()

    answer = client.post(
        f"/bots/{bot_id}/start", data={"csrf_token": csrf_token(client.get("/").text)}, follow_redirects=True
    )

    assert "has no credential" in answer.text


def test_a_viewer_sees_buttons_but_cannot_use_them(page: Make, a_bot: Make):
    bot_id, client = a_bot(), page("viewer")
    html = client.get("/").text

    assert f"/bots/{bot_id}/start" not in html
    assert client.post(f"/bots/{bot_id}/start", data={"csrf_token": csrf_token(html)}).status_code == 403


def test_a_change_by_cookie_needs_the_csrf_token(page: Make, a_bot: Make, api: Any):
    bot_id, client = a_bot(), page()
    token = csrf_token(client.get("/").text)

    assert client.post(f"/bots/{bot_id}/start").status_code == 403
    assert client.post(f"/api/bots/{bot_id}/start").json["error"]["code"] == "csrf"
    assert api.get(f"/api/bots/{bot_id}").json["desired_state"] == "stopped"
    assert client.post(f"/api/bots/{bot_id}/start", headers={"X-CSRFToken": token}).status_code == 202


def test_with_an_authorization_header_the_cookie_counts_for_nothing(page: Make):
    assert page().get("/api/bots").status_code == 200
    assert page().get("/api/bots", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_two_instances_on_one_host_use_cookies_of_their_own(app: Any, settings: Any):
    cookie = app.test_client().get("/login").headers["Set-Cookie"]

    assert cookie.startswith(f"flotilla_session_{settings.port}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_pages_forbid_everything_that_is_not_theirs(page: Make, a_bot: Make):
    a_bot()
    answer = page().get("/")

    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "style=" not in answer.text


@pytest.mark.parametrize(
    ("amount", "text", "css"),
    [
        ("0", "0.00", "muted"),
        ("38.416", "+38.42", "up"),
        ("-1234.5", "−1,234.50", "down"),
        ("0.000015", "+0.000015", "up"),
    ],
)
def test_a_result_always_has_its_sign(amount: str, text: str, css: str):
    shown = pnl(Decimal(amount))

    assert (shown.text, shown.css) == (text, css)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0 s"), (119_000, "119 s"), (840_000, "14 min"), (12_000_000, "3 h 20 min"), (187_200_000, "2 d 4 h")],
)
def test_an_age_reads_as_people_say_it(ms: int, text: str):
    assert duration(ms) == text


def test_a_symbol_is_read_as_base_and_quote():
    assert [split_symbol(s) for s in ("ETHUSDT", "ETHBTC", "USDT", "ABCXYZ")] == [
        ("ETH", "USDT"),
        ("ETH", "BTC"),
        ("USDT", ""),
        ("ABCXYZ", ""),
    ]
