"""The page of one bot in a real browser, with the simulator as the exchange: chart, log, form, phone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import Engine, insert

from server.settings import Settings
from server.storage.engine import write
from server.storage.models import Event, Fill
from server.storage.times import now_ms
from tests.waiting import DEADLINE_S

pytestmark = pytest.mark.browser
Make = Callable[..., Any]


@pytest.fixture
def settings(settings: Settings, sim_port: int, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As everywhere, with an exchange that answers, however slowly."""
    monkeypatch.setattr("server.market.TIMEOUT_S", DEADLINE_S)
    return dataclasses.replace(settings, sim_port=sim_port)


@pytest.fixture
def an_event(engine: Engine) -> Make:
    """Add a log line of a bot."""

    def add(bot_id: int, seq: int, message: str) -> None:
        data = {"level": "info", "message": message}
        row = {"bot_id": bot_id, "run_id": f"{bot_id}.1", "seq": seq, "ts": now_ms(), "type": "log", "data": data}
        with write(engine) as connection:
            connection.execute(insert(Event).values(**row))

    return add


@pytest.fixture
def bot_id(a_bot: Make, observe: Make, a_position: Make, engine: Engine) -> int:
    """A bot that runs and holds a position which it bought a minute ago."""
    number, now = int(a_bot(name="btc-scalper", symbol="BTCUSDC")), now_ms()
    beat = {"last_price": 67400.0, "decisions": 9, "above_threshold": 1, "last_decision_ms": now, "unrealised_pnl": "1"}
    observe(
        number, status="running", desired_state="running", status_since_ms=now, heartbeat=beat, run_id=f"{number}.1",
        heartbeat_ms=now, market_ms=now, last_decision_ms=now, applied_config_version=1,
    )  # fmt: skip
    key = now - 60_000
    leg = {"client_order_id": "fabc-1-1-e1", "role": "entry", "side": "BUY", "order_type": "LIMIT", "status": "filled",
           "quantity": "0.01", "price": "67300", "executed_quantity": "0.01", "executed_quote": "673"}  # fmt: skip
    document = {"cost": "673", "target_price": "67500", "stop_price": "67000", "legs": [leg]}
    a_position(
        number, position_key=key, symbol="BTCUSDC", quantity=Decimal("0.01"), entry_price=Decimal(67300),
        document=document,
    )  # fmt: skip
    with write(engine) as connection:
        connection.execute(
            insert(Fill).values(
                bot_id=number, trade_id=1, order_id=1, client_order_id="fabc-1-1-e1", position_key=key, is_maker=True,
                symbol="BTCUSDC", side="BUY", price=Decimal(67300), quantity=Decimal("0.01"), fee=Decimal(0),
                fee_asset="BTC", fee_quote=Decimal(0), time_ms=key,
            )
        )  # fmt: skip
    return number


def go(page: Page, path: str) -> None:
    page.goto(page.url.rstrip("/").split("/bots/")[0] + path)


def bars(page: Page) -> int:
    return int(page.locator("#chart").get_attribute("data-ready") or 0)


def wait_for_chart(page: Page) -> None:
    expect(page.locator("#chart")).to_have_attribute("data-ready", re.compile("[1-9]"))


def test_the_chart_draws_and_its_newest_candle_moves(open_page: Make, bot_id: int):
    page = open_page()
    go(page, f"/bots/{bot_id}?i=1s&r=30m")

    wait_for_chart(page)

    assert page.locator("#chart canvas").count() >= 2
    legend = page.locator("#chart-ohlc")
    expect(legend).to_contain_text("O ")
    first = legend.text_content()
    expect(legend).not_to_have_text(str(first))
    expect(page.locator("#chart-note")).to_be_hidden()


@pytest.mark.parametrize("interval", ["1s", "1m"])
def test_opening_the_chart_asks_for_candles_once(open_page: Make, bot_id: int, interval: str):
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/chart?" in request.url else None)

    go(page, f"/bots/{bot_id}?i={interval}&r=30m")
    wait_for_chart(page)
    legend = page.locator("#chart-ohlc")
    for _ in range(3):  # new candles come in
        expect(legend).not_to_have_text(str(legend.text_content()))

    assert len(asked) == 1, asked


def test_a_chart_without_candles_is_drawn_when_the_first_arrive(open_page: Make, bot_id: int):
    page = open_page()
    page.route("**/chart?*", lambda route: route.fulfill(status=200, json={"bars": []}), times=1)

    go(page, f"/bots/{bot_id}")

    wait_for_chart(page)
    expect(page.locator("#chart-note")).to_be_hidden()


def test_a_chart_that_was_refused_is_drawn_later(open_page: Make, bot_id: int):
    page = open_page()
    # Any refusal would do; of this one the browser's console does not complain, which other tests listen to.
    refusal = {"status": 422, "headers": {"Retry-After": "1"}, "json": {"message": "Not now."}}
    page.route("**/chart?*", lambda route: route.fulfill(**refusal))
    go(page, f"/bots/{bot_id}")
    expect(page.locator("#chart-note")).to_contain_text("Not now")

    page.unroute("**/chart?*")

    wait_for_chart(page)
    expect(page.locator("#chart-note")).to_be_hidden()


def test_going_back_in_time_loads_older_candles(open_page: Make, bot_id: int):
    page = open_page()
    go(page, f"/bots/{bot_id}?i=1m&r=30m")
    wait_for_chart(page)
    before = bars(page)
    page.locator("#chart").scroll_into_view_if_needed()
    box = page.locator("#chart").bounding_box()

    for _ in range(4):
        page.mouse.move(box["x"] + 50, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 120, box["y"] + 100, steps=4)
        page.mouse.up()

    expect(page.locator("#chart")).not_to_have_attribute("data-ready", str(before))
    assert bars(page) > before


def test_while_the_exchange_is_silent_the_chart_says_so(open_page: Make, bot_id: int):
    page = open_page()
    words = "No candles: the exchange does not answer since 14:31:05 UTC."
    page.route("**/chart?*", lambda route: route.fulfill(status=200, json={"bars": [], "message": words}))

    go(page, f"/bots/{bot_id}")

    expect(page.locator("#chart-note")).to_contain_text("no candles of this market")


def test_without_javascript_the_chart_is_a_table_and_buttons_work(open_page: Make, bot_id: int, api: Any):
    page = open_page(java_script_enabled=False)

    go(page, f"/bots/{bot_id}")

    page.get_by_role("link", name="The same numbers as a table").click()
    expect(page.get_by_role("group", name="Candles as a table")).to_be_visible()
    expect(page.get_by_text("buy 0.01 @ 67,300.00")).to_be_visible()
    page.get_by_role("button", name="Pause").first.click()
    expect(page.get_by_text("wanted: paused").first).to_be_visible()
    assert api.get(f"/api/bots/{bot_id}").json["desired_state"] == "paused"


def test_without_javascript_a_config_is_saved_and_compared(open_page: Make, bot_id: int):
    page = open_page(java_script_enabled=False)
    go(page, f"/bots/{bot_id}?tab=config")

    page.locator("#config-form input[name=capital_per_trade]").fill("210")
    page.locator("#config-form button").last.click()
    expect(page.get_by_text("Saved as v2")).to_be_visible()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#compared")).to_be_visible()
    page.get_by_role("link", name="The same numbers as a table").click()

    expect(page.locator("#compared")).to_be_visible()


def test_the_state_changes_under_the_eye(open_page: Make, bot_id: int, observe: Make):
    page = open_page()
    go(page, f"/bots/{bot_id}?tab=runs")
    expect(page.locator("#connection")).to_contain_text("Live")

    observe(bot_id, status="paused", status_reason="10 errors in a row")

    expect(page.get_by_text("10 errors in a row")).to_be_visible()
    expect(page.locator("#bot-state .pill")).to_have_text("Paused")


def test_new_log_lines_come_on_top_and_wait_while_paused(open_page: Make, bot_id: int, an_event: Make):
    an_event(bot_id, 1, "the first line")
    page = open_page()
    go(page, f"/bots/{bot_id}?tab=log")
    expect(page.locator("#connection")).to_contain_text("Live")
    log = page.get_by_role("log")

    an_event(bot_id, 2, "the second <b>line</b>")
    expect(log.locator("> div").first).to_contain_text("the second <b>line</b>")
    page.locator("#log-pause").click()
    an_event(bot_id, 3, "the third line")

    expect(page.locator("#log-pause")).to_have_text("Go on (1)")
    expect(log).not_to_contain_text("the third line")
    page.locator("#log-pause").click()
    expect(log.locator("> div")).to_have_count(3)
    expect(log.locator("> div").first).to_contain_text("the third line")
    assert log.get_attribute("aria-live") == "off"
    page.get_by_label("Follow").check()
    assert log.get_attribute("aria-live") == "polite"


def test_the_form_counts_changes_and_a_mistake_gets_the_focus(open_page: Make, bot_id: int, api: Any):
    page = open_page()
    go(page, f"/bots/{bot_id}?tab=config")
    page.get_by_label("Profit target").fill("0.35")
    expect(page.locator("#config-changes")).to_have_text("1 change")
    page.get_by_label("Open positions at most").fill("99")
    page.get_by_label("Open positions at most").press("Enter")  # saves nothing
    assert api.get(f"/api/trading/bots/{bot_id}/config").json["version"] == 1

    page.get_by_role("button", name="Save v2").click()

    expect(page.get_by_label("Open positions at most")).to_be_focused()
    expect(page.get_by_label("Profit target")).to_have_value("0.35")
    page.get_by_label("Open positions at most").fill("3")
    page.get_by_role("button", name="Save v2").click()
    expect(page.get_by_text("Saved as v2.")).to_be_visible()
    saved = api.get(f"/api/trading/bots/{bot_id}/config").json
    assert (saved["profit_target_pct"], saved["max_positions"]) == (0.0035, 3)


def test_putting_a_version_back_is_asked_in_a_dialog_that_returns_the_focus(open_page: Make, bot_id: int, api: Any):
    api.put(f"/api/trading/bots/{bot_id}/config", {"cooldown": 30})
    page = open_page()
    go(page, f"/bots/{bot_id}?tab=config")
    link = page.get_by_role("link", name="Restore version 1")

    link.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("It becomes v3")
    expect(dialog.get_by_role("link", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(link).to_be_focused()
    link.click()
    dialog.get_by_role("button", name="Restore v1").click()

    expect(page.get_by_text("v1 is in force again, as v3.")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_tab_needs_scrolling_sideways(open_page: Make, bot_id: int, an_event: Make, width: int, scheme: str):
    an_event(bot_id, 1, "a line " + "without-any-space" * 30)
    page = open_page(width, color_scheme=scheme)

    for tab in ("position", "closed", "log", "decisions", "config", "runs", "health"):
        go(page, f"/bots/{bot_id}?tab={tab}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


def test_a_phone_scrolls_the_page_over_the_chart_and_has_its_buttons_below(open_page: Make, bot_id: int):
    page = open_page(390, has_touch=True)
    go(page, f"/bots/{bot_id}")
    wait_for_chart(page)

    assert page.locator("#chart").evaluate("box => getComputedStyle(box).touchAction") == "pan-y"
    bar = page.get_by_role("region", name="Actions")
    for part in (bar.get_by_role("button", name="Pause"), bar.locator("summary")):
        assert part.bounding_box()["height"] >= 44
    bar.locator("summary").click()
    expect(bar.get_by_role("link", name="Export")).to_be_visible()
    menu = bar.locator(".menu").bounding_box()
    assert menu["x"] >= 0
    assert menu["x"] + menu["width"] <= 390
