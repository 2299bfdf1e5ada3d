"""The newcomer's journey: somebody who never saw Flotilla makes a bot trade, changes it and puts it away.

All in a browser, and everything is real: ``flotilla up`` with simulator, supervisor, web and the bot's own process.
Each page on the way is held against axe's rules for accessibility, in both themes and two widths; nothing may complain
on the console, and no request may leave this machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browsers import a_browser, need

pytestmark = [pytest.mark.browser, pytest.mark.slow]
Make = Callable[..., Any]

AXE = Path(__file__).parents[2] / "server" / "web" / "node_modules" / "axe-core" / "axe.min.js"
LATER = 90_000  # ms, for what the supervisor, a bot or the market do
# Buys at market on almost any bar, sells by the clock: trades whatever the market does.
EAGER = {
    "RSI period": "7",
    "Buy below": "99",
    "Sell above": "100",
    "Hold at most": "3",
    "Profit target": "5",
    "Stop loss": "5",
}


class Visitor:
    """Somebody at the browser; everything the browser complains about is kept."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.complaints: list[str] = []
        self.looked_at: set[str] = set()
        page.on("console", lambda m: self.complaints.append(m.text) if self._is_bad(m.type, m.text) else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((address, "data:")) else self.complaints.append(r.url))

    def open(self, path: str, status: int = 200) -> None:
        answer = self.page.goto(self.address + path)
        assert answer is not None
        assert answer.status == status, path

    def press(self, name: str | re.Pattern[str]) -> None:
        """Press the button of this name that can be seen."""
        self.page.get_by_role("button", name=name).locator("visible=true").first.click()

    def follow(self, name: str | re.Pattern[str]) -> None:
        self.page.get_by_role("link", name=name).locator("visible=true").first.click()

    def look(self, name: str) -> None:
        """Hold what is seen against axe's rules, in both themes, on a wide screen and a phone."""
        self.looked_at.add(name)
        for width, scheme in ((1280, "light"), (1280, "dark"), (390, "dark"), (390, "light")):
            self.page.set_viewport_size({"width": width, "height": 844})
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            assert self.page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} scrolls at {width}"
            if not self.page.evaluate("typeof window.axe === 'object'"):
                self.page.evaluate(AXE.read_text())
            found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            bad = [
                (v["id"], v["nodes"][0]["html"][:200])
                for v in found["violations"]
                if v["impact"] in ("serious", "critical")
            ]
            assert bad == [], f"{name} at {width} {scheme}"
        self.page.set_viewport_size({"width": 1280, "height": 844})
        self.page.emulate_media(color_scheme="light", reduced_motion=None)

    @staticmethod
    def _is_bad(kind: str, text: str) -> bool:
        return kind in {"error", "warning"} and "status of 422" not in text


@pytest.fixture
def visitor(fleet: Any, wait_for: Make, answers: Make) -> Iterator[Visitor]:
    need(AXE.is_file(), "axe", "make setup-dev")
    with a_browser() as browser:
        fleet.start("up", "server", "up")
        wait_for("ready", lambda: answers(f"{fleet.api}/health/ready"), 60)
        found = Visitor(browser.new_page(viewport={"width": 1280, "height": 844}), fleet.api)
        yield found
    assert found.complaints == []


def test_a_newcomer_makes_a_bot_trade_changes_it_and_puts_it_away(visitor: Visitor, fleet: Any, tmp_path: Path):
    page = visitor.page
    sign_in(visitor)
    bot_id = create(visitor)
    watch_it_trade(visitor)
    change_it(visitor)
    upload_a_model(visitor, tmp_path)
    visitor.open(f"/bots/{bot_id}")
    visitor.press("Pause")
    expect(page.locator("#bot-state .pill-paused")).to_be_visible()
    close_its_positions(visitor)
    stop_it(visitor, fleet, bot_id)
    archive_it(visitor)
    for path in ("/strategies", "/models", "/orders", "/fills", "/kill", "/menu", "/account", "/keys"):
        visitor.open(path)
        visitor.look(path)
    visitor.open("/nowhere", status=404)
    visitor.look("a page that is not there")
    assert "404" in visitor.complaints.pop()  # the browser's own line on it


def sign_in(visitor: Visitor) -> None:
    page = visitor.page
    visitor.open("/")
    visitor.look("sign in")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill("correct horse battery")
    visitor.press("Sign in")
    expect(page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()
    visitor.look("empty fleet")


def create(visitor: Visitor) -> int:
    page = visitor.page
    visitor.open("/bots/new")
    page.get_by_role("radio", name=re.compile("^RSI")).check()
    visitor.look("create: strategy")
    visitor.press(re.compile("^Market and budget"))
    page.get_by_label("Name", exact=True).fill("my first bot")
    page.get_by_role("combobox", name="Market", exact=True).fill("ETHUSDC")
    page.get_by_label("Candles").select_option("1s")
    visitor.press("Make a simulator account")
    expect(page.get_by_text("of play money is chosen")).to_be_visible()
    visitor.look("create: market")
    visitor.press(re.compile("^Parameters"))
    page.get_by_label("Entry order").select_option("market")
    page.locator("details.more > summary").first.click()
    for label, text in EAGER.items():
        page.get_by_label(label, exact=True).fill(text)
    visitor.look("create: parameters")
    page.locator("footer.formbar").get_by_role("button", name="Review").click()
    expect(page.get_by_role("heading", name="my first bot")).to_be_visible()
    visitor.look("create: review")
    visitor.press("Create and start")
    page.wait_for_url(re.compile(r"/bots/\d+$"))
    return int(page.url.rsplit("/", 1)[1])


def watch_it_trade(visitor: Visitor) -> None:
    """A fill and a closed position appear by themselves."""
    page = visitor.page
    page.evaluate("window.notReloaded = true")
    expect(page.locator("#bot-state .pill-running")).to_be_visible(timeout=LATER)
    expect(page.locator("#positions")).to_contain_text("Entry", timeout=LATER)
    assert page.evaluate("window.notReloaded === true")
    visitor.look("bot: position")
    visitor.follow("Closed positions")
    rows = page.locator("#tab-closed tbody tr")
    expect(rows.first).to_be_visible(timeout=LATER)
    page.evaluate("window.notReloaded = true")
    before = rows.count()
    expect(rows.nth(before)).to_be_visible(timeout=LATER)
    assert page.evaluate("window.notReloaded === true")
    for tab in ("closed", "log", "decisions", "runs", "health"):
        visitor.open(f"{page.url.split('?')[0].removeprefix(visitor.address)}?tab={tab}")
        visitor.look(f"bot: {tab}")
    visitor.open("/")
    visitor.look("fleet")
    visitor.follow("my first bot")


def change_it(visitor: Visitor) -> None:
    """A hot field is saved as v2, and the running bot says that it has it."""
    page = visitor.page
    visitor.open(f"{page.url.split('?')[0].removeprefix(visitor.address)}?tab=config")
    page.get_by_label(re.compile("^Buy below")).fill("98")
    visitor.press("Save v2")
    expect(page.locator("#config-ack")).to_contain_text("v2 acked", timeout=LATER)
    visitor.look("bot: config")


def upload_a_model(visitor: Visitor, folder: Path) -> None:
    page = visitor.page
    model, card = a_model(folder)
    visitor.open("/models")
    page.get_by_label("Model", exact=True).set_input_files(model)
    page.get_by_label(re.compile("^Card")).set_input_files(card)
    page.get_by_label("Name", exact=True).fill("my first model")
    page.get_by_role("combobox", name="Market", exact=True).fill("ETHUSDC")
    visitor.press("Upload")
    expect(page.get_by_text("It loads, in a process of its own")).to_be_visible(timeout=LATER)
    visitor.look("model")


def a_model(folder: Path) -> tuple[Path, Path]:
    """A small LightGBM model and its card."""
    import lightgbm
    import numpy

    from bots.core.feature_engineering import FEATURE_NAMES_IN_MODEL as NAMES

    rows = numpy.random.default_rng(1).normal(size=(200, len(NAMES)))
    data = lightgbm.Dataset(rows, label=(rows[:, 0] > 0).astype(int), feature_name=list(NAMES))
    options = {"objective": "binary", "num_leaves": 4, "verbose": -1, "num_threads": 1}
    text = str(lightgbm.train(options, data, num_boost_round=3).model_to_string()).encode()
    model, card = folder / "model.txt", folder / "model.json"
    model.write_bytes(text)
    card.write_text(json.dumps({"symbol": "ETHUSDC", "model_sha256": hashlib.sha256(text).hexdigest()}))
    return model, card


def confirm(visitor: Visitor) -> None:
    """Press the button that does what the page asks about, and wait for the page that follows."""
    page = visitor.page
    asking = page.url
    page.locator("#dialog .btn-solid").click()
    page.wait_for_url(lambda url: url != asking)


def close_its_positions(visitor: Visitor) -> None:
    page = visitor.page
    visitor.open(f"{page.url.split('?')[0].removeprefix(visitor.address)}/close-positions")
    visitor.look("close positions?")
    confirm(visitor)


def stop_it(visitor: Visitor, fleet: Any, bot_id: int) -> None:
    page = visitor.page
    visitor.open(f"/bots/{bot_id}/stop")
    visitor.look("stop?")
    confirm(visitor)
    visitor.open(f"/bots/{bot_id}")
    expect(page.locator("#bot-state .pill-stopped")).to_be_visible(timeout=LATER)
    assert fleet.positions(bot_id, "active") == []


def archive_it(visitor: Visitor) -> None:
    page = visitor.page
    visitor.open(f"{page.url.split('?')[0].removeprefix(visitor.address)}/archive")
    visitor.look("archive?")
    name = page.locator("#d-n")
    if name.count():
        name.fill("my first bot")
    confirm(visitor)
    expect(page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()
    expect(page.get_by_text("No bots yet", exact=True)).to_be_visible()
