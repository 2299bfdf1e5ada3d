"""The pages in a real browser: nothing is refused by their own policy, the table refreshes itself, phones need no
scrolling sideways, and all of it works without JavaScript."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from waitress.server import create_server

from server.storage.times import day_of, now_ms

pytestmark = pytest.mark.browser
Make = Callable[..., Any]

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        if os.environ.get("FLOTILLA_REQUIRE_BROWSER") == "1":
            pytest.fail("FLOTILLA_REQUIRE_BROWSER is 1 and there is no Chromium: apt-get install chromium")
        pytest.skip("there is no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def address(app: Any) -> Iterator[str]:
    server = create_server(app, host="127.0.0.1", port=0, threads=4)
    threading.Thread(target=server.run, daemon=True).start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """A page after signing in. What the browser complains about, and every foreign request, fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_(width: int = 1280, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 844}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((address, "data:")) else complaints.append(r.url))
        page.goto(address)
        page.get_by_label("Name").fill("admin")
        page.get_by_label("Password").fill("correct horse battery staple")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Fleet")).to_be_visible()
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def fleet(a_bot: Make, observe: Make, a_day: Make, a_position: Make) -> list[int]:
    """Three bots: one trading, one given up, one stopped."""
    ids = [a_bot(name=name) for name in ("a-trader", "a-broken-one-with-quite-a-long-name", "a-resting-one")]
    now = now_ms()
    seen = {"desired_state": "running", "status_since_ms": now - 90_000, "heartbeat_ms": now}
    observe(ids[0], **seen, status="running")
    observe(ids[1], **seen, status="error", status_reason="crash loop: 5 deaths in 10 minutes, last exit code 70")
    a_day(ids[0], day_of(now), "38.42")
    a_position(ids[0], entry_price=Decimal("3388.1"))
    return ids


def test_the_table_refreshes_itself_and_keeps_the_focus(open_page: Make, fleet: list[int], observe: Make):
    page = open_page()
    button = page.get_by_role("button", name="Start a-resting-one")
    button.focus()

    observe(fleet[0], status="paused", status_reason="10 errors in a row")

    expect(page.get_by_text("10 errors in a row")).to_be_visible(timeout=10_000)
    expect(button).to_be_focused()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


def test_a_button_is_one_click_and_the_wish_shows_at_once(open_page: Make, fleet: list[int], api: Any):
    page = open_page()

    page.get_by_role("button", name="Start a-resting-one").click()

    expect(page.get_by_text("wanted: running")).to_have_count(2)
    assert api.get(f"/api/bots/{fleet[2]}").json["desired_state"] == "running"


@pytest.mark.parametrize("width", [1280, 1024, 768, 390, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_needs_scrolling_sideways_and_buttons_fit_fingers(
    open_page: Make, fleet: list[int], width: int, scheme: str
):
    page = open_page(width, color_scheme=scheme)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.get_by_role("button", name="Stop a-trader").bounding_box()
    assert box["height"] >= (44 if width <= 640 else 24)
    assert box["x"] + box["width"] <= width


def test_everything_works_without_javascript(open_page: Make, fleet: list[int]):
    page = open_page(java_script_enabled=False)

    page.get_by_role("button", name="Pause a-trader").click()

    expect(page.get_by_text("wanted: paused")).to_be_visible()
    page.get_by_role("link", name="account, theme, sign out").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_refused_action_says_why_and_stays_to_be_read(open_page: Make, a_bot: Make):
    a_bot(name="keyless", credential_id=None)
    page = open_page()

    page.get_by_role("button", name="Start keyless").click()

    note = page.get_by_role("alert")
    expect(note).to_contain_text("has no credential")
    expect(page.get_by_text("Live", exact=True)).to_be_visible(timeout=10_000)  # it has refreshed itself
    expect(note).to_contain_text("has no credential")


def test_a_lost_server_is_shown(open_page: Make, fleet: list[int]):
    page = open_page()
    page.route("**/*", lambda route: route.fulfill(status=204))

    expect(page.get_by_text("No connection, figures are old")).to_be_visible(timeout=10_000)


def test_the_docs_show_the_api(open_page: Make, address: str):
    page = open_page()

    page.goto(f"{address}/api/docs")

    expect(page.get_by_text("/api/bots/{bot_id}/start")).to_be_visible(timeout=20_000)
