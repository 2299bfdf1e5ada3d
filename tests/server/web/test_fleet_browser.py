"""The fleet in a real browser: selecting, the row's menu, a dialog over the page, the kill switch in two clicks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from server.storage.times import now_ms

pytestmark = pytest.mark.browser
Make = Callable[..., Any]


@pytest.fixture
def two(a_bot: Make, observe: Make, a_position: Make) -> tuple[int, int]:
    """A bot that runs and holds a position, and one that is paused."""
    one, other = a_bot(name="runs"), a_bot(name="rests")
    seen = {"status_since_ms": now_ms(), "heartbeat_ms": now_ms()}
    observe(one, desired_state="running", status="running", **seen)
    observe(other, desired_state="paused", status="paused", **seen)
    a_position(one)
    return one, other


def test_selecting_shows_what_each_verb_would_change_and_does_it(
    open_page: Make, two: tuple[int, int], api: Any, observe: Make
):
    page = open_page()
    group = page.get_by_role("form", name="Selected bots")
    expect(group).to_be_hidden()

    page.get_by_label("Select all 2 bots").check()
    expect(group).to_contain_text("2 selected")
    expect(group.get_by_role("button", name="Pause 1")).to_be_enabled()
    expect(group.get_by_role("button", name="Start 0")).to_be_disabled()
    observe(two[0], status_reason="something new")
    expect(page.get_by_text("something new")).to_be_visible()
    expect(page.get_by_label("Select runs")).to_be_checked()  # also after the row was drawn again
    group.get_by_role("button", name="Pause 1").click()

    expect(page.get_by_role("status").filter(has_text="1 bot paused.")).to_be_visible()
    assert api.get(f"/api/bots/{two[0]}").json["desired_state"] == "paused"


def test_stopping_a_bot_with_a_position_asks_over_the_page_and_cancel_has_the_focus(
    open_page: Make, two: tuple[int, int], api: Any
):
    page = open_page()
    opener = page.get_by_role("link", name="Stop… runs")

    opener.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("long 0.0589 ETH")
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    dialog.get_by_label("Reason").press("Enter")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")

    expect(dialog).to_have_count(0)
    expect(opener).to_be_focused()
    assert api.get(f"/api/bots/{two[0]}").json["desired_state"] == "running"


def test_a_rows_menu_opens_without_javascript_and_its_dialog_is_a_page(open_page: Make, two: tuple[int, int], api: Any):
    page = open_page(java_script_enabled=False)

    page.get_by_role("button", name="More for runs").click()
    page.get_by_role("link", name="Halt… runs").click()
    page.get_by_label("Reason").fill("odd prices")
    page.get_by_role("button", name="Halt bot").click()

    expect(page.get_by_text("halted", exact=True)).to_be_visible()
    assert api.get(f"/api/bots/{two[0]}").json["halted"] is True


@pytest.mark.parametrize("script", [True, False])
def test_the_kill_switch_is_two_clicks(open_page: Make, two: tuple[int, int], settings: Any, script: bool):
    page = open_page(java_script_enabled=script)

    page.get_by_role("link", name="Kill switch").click()
    page.get_by_role("button", name="Halt all trading now").click()

    expect(page.get_by_role("heading", name="Kill switch is set")).to_be_visible()
    assert settings.halt_file.exists()


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("path", ["/orders", "/fills", "/system", "/kill", "/orders/1"])
def test_no_page_needs_scrolling_sideways(open_page: Make, address: str, two: tuple[int, int], path: str, width: int):
    page = open_page(width)

    page.goto(address + path)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
