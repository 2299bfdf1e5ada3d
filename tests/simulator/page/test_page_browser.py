"""The page in a real browser: it keeps up by itself, its form shows what belongs to a fault, it fits a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsers import a_browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as browser:
        yield browser


@pytest.fixture
def own(start):
    """A simulator of the test's own."""
    return start("--seed", 7)


@pytest.fixture
def look(browser: Browser, own) -> Iterator[Callable[..., Page]]:
    """Open the page. What the browser complains about, and every request elsewhere, fails the test."""
    complaints: list[str] = []
    pages: list[Page] = []

    def is_bad(kind: str, text: str) -> bool:
        return kind in ("error", "warning") and "status of 503" not in text

    def opened(width: int = 1280, **options: object) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 800}, **options)  # type: ignore[arg-type]
        page.on("console", lambda m: complaints.append(m.text) if is_bad(m.type, m.text) else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((own.url, "data:")) else complaints.append(r.url))
        page.goto(own.url)
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert complaints == []


def test_it_keeps_up_without_being_loaded_again(own, look):
    page = look()
    expect(page.locator("#orders")).to_contain_text("No order is open.")
    page.evaluate("window.loadedOnce = true")

    customer = own.account(USDT="100000")
    customer.order(quantity="0.01", price=f"{own.price() * 0.9:.2f}")
    customer.order(kind="MARKET", quantity="0.01")

    expect(page.locator("#orders tbody tr")).to_have_count(1)
    expect(page.locator("#fills tbody tr").first).to_contain_text("BTCUSDT buy")
    expect(page.locator("#accounts")).to_contain_text(customer.api_key[-4:])
    assert page.evaluate("window.loadedOnce")


def test_it_says_so_when_the_exchange_is_gone(own, look):
    page = look()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    page.route("**/*", lambda route: route.fulfill(status=503))

    expect(page.get_by_text("No answer: trying again")).to_be_visible()
    page.unroute("**/*")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


def test_a_fault_is_set_and_cleared_with_what_belongs_to_it(own, look):
    page = look()
    page.get_by_label("Fault", exact=True).select_option("silence")
    expect(page.locator('[data-kind="silence"]')).to_be_visible()
    expect(page.locator("fieldset:visible")).to_have_count(1)
    page.locator('[name="silence.seconds"]').fill("60")
    page.get_by_role("button", name="Set fault").click()

    expect(page.locator("#active li")).to_contain_text("silence")
    assert [fault["kind"] for fault in own.sim("GET", "faults").json["faults"]] == ["silence"]

    page.get_by_role("button", name="Clear silence").click()
    expect(page.locator("#active")).to_contain_text("Nothing is broken.")
    assert own.sim("GET", "faults").json["faults"] == []


def test_what_is_being_typed_stays_while_figures_move(look):
    page = look()
    page.get_by_label("Fault", exact=True).select_option("refuse")
    page.locator('[name="refuse.status"]').fill("5")
    before = page.locator("#kpis").inner_text()

    page.wait_for_function("before => document.getElementById('kpis').innerText !== before", arg=before)

    page.keyboard.type("02")
    assert page.locator('[name="refuse.status"]').input_value() == "502"


def test_without_javascript_it_is_all_there(own, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(own.url)

    page.get_by_role("link", name="hold still").click()
    expect(page).to_have_url(f"{own.url}/?hold")
    page.get_by_label("Fault", exact=True).select_option("lose_ack")
    page.locator('[name="lose_ack.path"]').fill("/api/v3/nowhere")
    page.get_by_role("button", name="Set fault").click()

    expect(page.locator("#active li")).to_contain_text("/api/v3/nowhere")
    expect(page.locator(".market").first).to_contain_text("BTC/USDT")
    context.close()


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_window(own, look, width):
    customer = own.account(USDT="100000000", BTC="12345.12345678")
    own.sim("POST", "accounts", {"name": "x" * 100, "balances": {"USDT": "999999999999999.12345678"}})
    customer.order(quantity="0.01", price=f"{own.price() * 0.9:.2f}", newClientOrderId="x" * 36)
    customer.order(kind="MARKET", quantity="0.5")

    page = look(width)

    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_fit_too(start, tmp_path, browser, width):
    tape = tmp_path / "SOMEVERYLONGCOINUSDT-trades.csv"
    tape.write_text(
        "time_ms,price,qty,is_buyer_maker\n1767225600000,0.00012345,10,true\n1767225660000,0.00012346,9,true\n"
    )
    simulator = start("--replay", tape, "--rebase", "--loop")
    simulator.sim("POST", "accounts", {"balances": {"SOMEVERYLONGCOIN": "123456789.12345678"}, "name": "W" * 100})
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(simulator.url)

    expect(page.locator(".market h2")).to_have_text("SOMEVERYLONGCOIN/USDT")

    assert page.evaluate("document.documentElement.scrollWidth") == width
    name, pill = (page.locator(f".market {part}").bounding_box() for part in ("h2", ".pill"))
    assert name["x"] + name["width"] <= pill["x"] or name["y"] + name["height"] <= pill["y"]
    assert page.evaluate("[...document.querySelectorAll('.market h2')].every(e => e.scrollWidth <= e.clientWidth)")
    page.close()
