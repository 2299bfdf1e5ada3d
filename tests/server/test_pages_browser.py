"""The pages in a real browser: nothing is refused by their own policy, the table refreshes itself, phones need no
scrolling sideways, and all of it works without JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from playwright.sync_api import expect

from server.storage.times import day_of, now_ms

pytestmark = pytest.mark.browser
Make = Callable[..., Any]


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

    expect(page.get_by_text("10 errors in a row")).to_be_visible()
    expect(button).to_be_focused()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.locator("#status-line")).to_contain_text("a-trader: Paused")


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
    box = page.get_by_role("button", name="Pause a-trader").bounding_box()
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
    expect(page.get_by_text("Live", exact=True)).to_be_visible()  # it has refreshed itself
    expect(note).to_contain_text("has no credential")


def test_the_docs_show_the_api(open_page: Make, address: str):
    page = open_page()

    page.goto(f"{address}/api/docs")

    expect(page.get_by_text("/api/bots/{bot_id}/start")).to_be_visible()
