"""Live pages in a real browser: they follow, they recover by themselves, and nobody's work is disturbed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from server.security.roles import Role
from server.settings import Settings
from server.storage.times import now_ms
from server.web.hub import MAX_VIEWERS
from server.web.live import LiveRequest
from tests.ports import free_port
from tests.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.browser
Make = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def bot(a_bot: Make, observe: Make) -> int:
    """A running bot."""
    bot_id = a_bot(name="eth-rsi")
    seen = {"desired_state": "running", "status": "running", "status_since_ms": now_ms(), "heartbeat_ms": now_ms()}
    observe(bot_id, **seen)
    return int(bot_id)


def sign_in(page: Page, address: str) -> None:
    page.goto(address)
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill("correct horse battery staple")
    page.get_by_role("button", name="Sign in").click()


def is_live(page: Page) -> None:
    expect(page.locator("#connection")).to_contain_text("Live")


def state_of(page: Page, bot_id: int) -> Any:
    return page.locator(f"#bot-{bot_id} .pill")


def colour_of(page: Page, bot_id: int) -> str:
    """What is behind the bot's name: it tells which rows are selected."""
    return str(page.evaluate("id => getComputedStyle(document.querySelector(`#bot-${id} td`)).backgroundColor", bot_id))


# Following


def test_a_change_is_shown_announced_and_counted_in_the_title(open_page: Make, bot: int, observe: Make):
    page = open_page()
    is_live(page)

    observe(bot, status="error", status_reason="crash loop")

    expect(state_of(page, bot)).to_have_text("Error")
    expect(page.locator("#said")).to_have_text("eth-rsi: Error")
    expect(page).to_have_title("(1) Fleet · Flotilla")


def test_ages_count_and_the_clock_goes_without_any_message(open_page: Make, bot: int):
    page = open_page()
    is_live(page)
    age, clock = page.locator(f"#bot-{bot} time[data-age]").first, page.locator("#clock")
    shown, began = age.inner_text(), clock.inner_text()

    expect(age).not_to_have_text(shown)
    expect(clock).not_to_have_text(began)
    expect(clock).to_contain_text("UTC")


def test_a_bot_that_came_and_one_that_went_are_shown_without_reloading(
    open_page: Make, bot: int, a_bot: Make, observe: Make, api: Any
):
    page = open_page()
    is_live(page)
    page.evaluate("window.mark = 1")

    another = a_bot(name="a-newcomer")
    expect(page.locator(f"#bot-{another}")).to_be_visible()
    assert api.delete(f"/api/bots/{another}").status_code == 204
    expect(page.locator(f"#bot-{another}")).to_have_count(0)

    assert page.evaluate("window.mark") == 1


def test_the_last_bot_that_leaves_a_filter_leaves_the_page(open_page: Make, bot: int, observe: Make):
    observe(bot, status="error", status_reason="crash loop")
    page = open_page()
    page.goto(page.url + "?state=attention")
    expect(page.locator(f"#bot-{bot}")).to_be_visible()
    is_live(page)

    observe(bot, status="running", status_reason=None)

    expect(page.get_by_text("No bot matches")).to_be_visible()
    expect(page.locator(f"#bot-{bot}")).to_have_count(0)


def test_a_bot_that_leaves_a_filter_again_and_again_leaves_the_page_each_time(
    open_page: Make, bot: int, a_bot: Make, observe: Make
):
    running = {"desired_state": "running", "status": "running", "heartbeat_ms": now_ms() + 3_600_000}
    observe(a_bot(name="stays"), **running)
    observe(bot, **running)
    page = open_page()
    page.goto(page.url + "?state=running")
    is_live(page)

    for _ in range(2):
        observe(bot, status="error")
        expect(page.locator(f"#bot-{bot}")).to_have_count(0)
        observe(bot, status="running")
        expect(page.locator(f"#bot-{bot}")).to_be_visible()


def test_what_somebody_is_doing_stays_as_it_is(open_page: Make, bot: int, observe: Make):
    page = open_page(760)
    is_live(page)
    plain = colour_of(page, bot)
    page.locator(f"#pick-{bot}").check()
    chosen = colour_of(page, bot)
    page.evaluate(
        """id => { const cell = document.querySelector(`#bot-${id} td.who`);
        const [menu, field] = ['<details data-keep id=d><summary>m</summary>x</details>', '<input data-keep id=q>'];
        cell.insertAdjacentHTML('beforeend', menu + field);
        document.getElementById('d').open = true; document.getElementById('q').focus(); }""",
        bot,
    )
    page.keyboard.type("half a wor")
    page.evaluate("document.querySelector('.scroll') && (document.querySelector('.scroll').scrollLeft = 40)")
    left = page.evaluate("document.querySelector('.scroll')?.scrollLeft")

    observe(bot, status="paused")
    expect(state_of(page, bot)).to_have_text("Paused")
    page.keyboard.type("d")

    expect(page.locator("#q")).to_have_value("half a word")
    expect(page.locator("#q")).to_be_focused()
    expect(page.locator("#d")).to_have_attribute("open", "")
    expect(page.locator(f"#pick-{bot}")).to_be_checked()
    assert colour_of(page, bot) == chosen != plain
    assert page.evaluate("document.querySelector('.scroll')?.scrollLeft") == left


# Recovering


@pytest.fixture
def web(settings: Settings) -> Iterator[Callable[[], tuple[subprocess.Popen[bytes], str]]]:
    """Start a real web process on this home; always on the same port."""
    port = free_port()
    started: list[subprocess.Popen[bytes]] = []
    given = {"FLOTILLA_HOME": str(settings.home), "FLOTILLA_PORT": str(port)}
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("FLOTILLA_")}, **given}

    def start() -> tuple[subprocess.Popen[bytes], str]:
        started.append(subprocess.Popen([sys.executable, "-m", "server", "web"], cwd=ROOT, env=environment))
        return started[-1], f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.kill()
        process.wait()


def come_up(address: str) -> None:
    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(address.rsplit(":", 1)[1]))) == 0

    wait_for(listens, what=f"{address} listens")


def test_a_killed_server_is_shown_and_the_page_goes_on_by_itself_when_it_is_back(
    browser: Browser, bot: int, observe: Make, web: Make
):
    process, address = web()
    come_up(address)
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, address)
    expect(page.locator(f"#bot-{bot}")).to_be_visible()
    expect(page.locator("#connection")).to_contain_text("Stale")  # its script is there: no supervisor
    page.evaluate("window.mark = 1")

    process.send_signal(signal.SIGKILL)
    process.wait()
    expect(page.locator("#connection")).to_contain_text("No connection, figures are old")
    expect(page.locator("#connection")).to_contain_text("since")
    observe(bot, status="paused", status_reason="while nobody served")
    web()

    expect(page.get_by_text("while nobody served")).to_be_visible(timeout=40_000)
    expect(page.locator("#connection")).not_to_contain_text("No connection")
    assert page.evaluate("window.mark") == 1
    context.close()


@pytest.mark.parametrize(("script", "motion"), [("app.js", "reduce"), ("idiomorph.js", "no-preference")])
@pytest.mark.parametrize("width", [1280, 320])
def test_a_page_cut_off_before_its_script_came_says_that_it_is_not_live(
    browser: Browser, address: str, bot: int, script: str, motion: Any, width: int
):
    context = browser.new_context(viewport={"width": width, "height": 844}, reduced_motion=motion)
    context.route(f"**/{script}*", lambda route: route.abort())
    page = context.new_page()
    sign_in(page, address)

    expect(page.locator(f"#bot-{bot}")).to_be_visible()
    connection = page.locator("#connection")
    assert connection.evaluate("shown => getComputedStyle(shown).animationDelay") == "5s"
    expect(connection).to_have_text("Not live Reload")
    expect(connection.get_by_role("link", name="Reload")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_a_page_without_scripts_or_without_a_stream_speaks_of_no_connection(open_page: Make):
    unscripted = open_page(java_script_enabled=False)
    expect(unscripted.locator("#connection")).to_be_hidden()

    page = open_page()
    page.goto(page.url + "account")
    expect(page.get_by_text("Role: ")).to_be_visible()
    expect(page.locator("#connection")).to_have_count(0)


def test_a_server_that_ends_in_order_does_not_wait_for_open_pages(bot: int, browser: Browser, web: Make):
    process, address = web()
    come_up(address)
    context = browser.new_context()
    pages = [context.new_page() for _ in range(3)]
    sign_in(pages[0], address)
    for page in pages:
        page.goto(address)
        expect(page.locator("#connection")).to_contain_text("Stale")  # heard, from no supervisor

    process.terminate()

    assert process.wait(DEADLINE_S) == 0  # the pages would listen on for ever
    context.close()


def test_without_a_free_stream_the_page_asks_every_ten_seconds(
    open_page: Make, app: Any, bot: int, observe: Make, browser: Browser, address: str
):
    hub = app.extensions["flotilla.hub"]
    wanted = LiveRequest(view="fleet", role=Role.ADMIN)
    taken = [hub.join(wanted, None, 0) for _ in range(MAX_VIEWERS)]
    context = browser.new_context()  # not open_page: the browser complains about the 503, as it should
    page = context.new_page()
    sign_in(page, address)
    expect(page.locator("#connection")).to_contain_text("Every 10 s", timeout=30_000)

    observe(bot, status="paused")
    expect(state_of(page, bot)).to_have_text("Paused")

    for viewer in taken:
        hub.leave(viewer)
    expect(page.locator("#connection")).to_contain_text("Live")
    context.close()


def test_signing_out_elsewhere_leads_this_page_to_the_sign_in(open_page: Make, bot: int):
    page = open_page()
    is_live(page)
    other = page.context.new_page()
    other.goto(page.url + "account")
    other.get_by_role("button", name="Sign out").first.click()

    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_page_on_its_way_to_the_sign_in_asks_for_no_stream(open_page: Make, bot: int):
    page = open_page()
    is_live(page)
    held: list[Route] = []
    asked: list[str] = []
    page.route("**/login*", lambda route: held.append(route))
    other = page.context.new_page()
    other.goto(page.url + "account")
    other.get_by_role("button", name="Sign out").first.click()
    wait_for(lambda: page.wait_for_timeout(20) or held, what="the page leaves")

    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2_000)  # it would have connected again

    assert asked == []
    held[0].continue_()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_hidden_tab_has_no_stream_and_catches_up_when_it_is_seen(open_page: Make, app: Any, bot: int, observe: Make):
    hub = app.extensions["flotilla.hub"]
    observe(bot, heartbeat_ms=now_ms() + 3_600_000)
    page = open_page()
    is_live(page)
    hide = (
        "value => { Object.defineProperty(document, 'hidden', { value, configurable: true }); "
        "document.dispatchEvent(new Event('visibilitychange')); }"
    )

    page.evaluate(hide, True)
    wait_for(lambda: hub.count == 0)
    observe(bot, status="paused")
    page.wait_for_timeout(500)
    expect(state_of(page, bot)).to_have_text("Running")
    page.evaluate(hide, False)

    expect(state_of(page, bot)).to_have_text("Paused")


# Keys and dialogs


def test_a_question_mark_lists_the_keys_and_escape_gives_the_focus_back(open_page: Make, bot: int):
    page = open_page()
    link = page.get_by_role("link", name="eth-rsi").first
    link.focus()

    page.keyboard.press("?")
    expect(page.locator("dialog:modal")).to_contain_text("Keyboard shortcuts")
    expect(page.locator("dialog:modal").get_by_role("link", name="Close")).to_be_focused()
    page.keyboard.press("Escape")

    expect(page.locator("dialog")).to_have_count(0)
    expect(link).to_be_focused()


def test_a_dialogs_cancel_closes_it_where_one_was(open_page: Make, bot: int):
    page = open_page()
    address = page.url
    opener = page.get_by_role("link", name="Shortcuts")
    opener.click()

    page.locator("dialog:modal").get_by_role("link", name="Close").click()

    expect(page.locator("dialog")).to_have_count(0)
    expect(opener).to_be_focused()
    assert page.url == address


def there(route: Route) -> None:
    route.fulfill(status=200, content_type="text/html", body="<h1>there</h1>")


def test_keys_walk_the_rows_and_open_one(open_page: Make, bot: int, a_bot: Make):
    a_bot(name="another")
    page = open_page()
    page.route("**/bots/*", there)

    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    focused = page.evaluate("document.activeElement.closest('tr').id")
    first = page.evaluate("document.querySelector('main tbody tr').id")
    page.keyboard.press("Enter")

    assert focused == first
    page.wait_for_url("**/bots/*")


@pytest.mark.parametrize(("keys", "path"), [("go", "/orders"), ("gm", "/models"), ("gs", "/system")])
def test_two_keys_lead_to_the_pages(open_page: Make, keys: str, path: str):
    page = open_page()
    page.route(f"**{path}", there)

    page.evaluate(  # both at once: the second counts only soon after the first
        """keys => { for (const key of keys)
        document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true })); }""",
        keys,
    )

    page.wait_for_url(f"**{path}")


def test_shift_and_k_lead_to_the_kill_switch(open_page: Make):
    page = open_page()
    page.route("**/kill", there)

    page.keyboard.press("Shift+K")

    page.wait_for_url("**/kill")


def test_keys_do_nothing_while_somebody_types(open_page: Make, bot: int):
    page = open_page()
    page.evaluate("document.getElementById('main').insertAdjacentHTML('beforeend', '<input id=q>')")
    page.locator("#q").focus()

    page.keyboard.type("gs?/K")

    expect(page.locator("#q")).to_have_value("gs?/K")
    expect(page.locator("dialog")).to_have_count(0)


def test_keys_can_be_switched_off(open_page: Make, bot: int):
    page = open_page()
    page.goto(page.url + "account")
    page.get_by_label("Keyboard shortcuts").uncheck()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()

    page.keyboard.press("?")
    page.wait_for_timeout(300)

    expect(page.locator("dialog")).to_have_count(0)


def test_times_are_local_for_those_who_want_it(open_page: Make, bot: int, a_position: Make):
    page = open_page(timezone_id="Asia/Tokyo")
    page.goto(page.url + "account")
    page.get_by_label("time zone").check()
    page.get_by_role("button", name="Save").click()

    expect(page.locator("#clock")).not_to_contain_text("UTC")
    a_position(bot, opened_ms=1_795_000_000_000)  # 11:06:40 in Greenwich
    page.goto(page.url.replace("account", "orders"))
    expect(page.locator("main tbody tr").first).to_contain_text("11-18 20:06:40")
