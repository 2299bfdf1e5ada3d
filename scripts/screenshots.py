"""Takes the pictures of README and docs from a demo fleet of its own: ``make screenshots`` (needs Chromium).

Flotilla runs in a temporary home on free ports until its bots have traded, so that charts and tables are not empty.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
PASSWORD = "correct horse battery staple"
PATIENCE_S = 240.0
MOST_BYTES = 300_000
CLOSED_POSITIONS = 3
SIZE = {"width": 1280, "height": 800}


def main() -> int:
    """Start a demo, wait until it has traded, take the pictures."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        print("There is no Chromium on this machine: apt-get install chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="flotilla-screenshots-") as home:
        port, sim_port = free_port(), free_port()
        environment = {
            "PATH": os.environ["PATH"],
            "FLOTILLA_HOME": home,
            "FLOTILLA_PORT": str(port),
            "FLOTILLA_SIM_PORT": str(sim_port),
            "FLOTILLA_ADMIN_PASSWORD": PASSWORD,
        }
        command = [sys.executable, "-m", "server", "up", "--demo"]
        flotilla = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)
        try:
            bot_id = wait_for_trades(f"http://127.0.0.1:{port}", Path(home) / "cli.token")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
                take(browser, f"http://127.0.0.1:{port}", bot_id)
                take_simulator(browser, f"http://127.0.0.1:{sim_port}")
                browser.close()
        finally:
            flotilla.send_signal(signal.SIGINT)
            flotilla.wait(60)
    return 0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_trades(address: str, token_file: Path) -> int:
    """Wait until each bot runs and one of them has closed some positions; that one's id."""

    def look() -> int | None:
        headers = {"Authorization": f"Bearer {token_file.read_text().strip()}"}

        def get(path: str) -> Any:
            with urllib.request.urlopen(urllib.request.Request(address + path, headers=headers), timeout=10) as answer:
                return json.load(answer)["items"]

        bots = get("/api/bots")
        if len(bots) < 3 or any(bot["status"] != "running" for bot in bots):
            return None
        closed = {b["id"]: len(get(f"/api/trading/bots/{b['id']}/orders?status=closed")) for b in bots}
        best = max(closed, key=lambda bot_id: closed[bot_id])
        return int(best) if closed[best] >= CLOSED_POSITIONS else None

    return wait_for("the demo fleet has traded", look)


def wait_for(what: str, look: Callable[[], int | None]) -> int:
    """The first answer of *look*; SystemExit once patience is over."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            seen = look()
        except OSError:  # not up yet
            seen = None
        if seen is not None:
            return seen
        time.sleep(1)
    raise SystemExit(f"Not within {PATIENCE_S:g} s: {what}.")


def take(browser: Browser, address: str, bot_id: int) -> None:
    """The three pictures."""
    page = browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
    page.goto(address)
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.locator("tr[data-bot], .fleet tbody tr").first.wait_for()
    page.wait_for_timeout(3000)  # the stream has drawn the figures once more
    save(page, "fleet")
    page.emulate_media(color_scheme="dark")
    page.goto(f"{address}/bots/{bot_id}")
    page.locator("#chart[data-ready]").wait_for(timeout=30_000)
    page.wait_for_timeout(1500)  # the chart has drawn its marks
    save(page, "bot")
    page.emulate_media(color_scheme="light")
    draft(page, address)
    save(page, "create")


def take_simulator(browser: Browser, address: str) -> None:
    """The exchange simulator's own page, with a fault on."""
    fault = json.dumps({"kind": "silence", "stream": "btcusdt@aggTrade", "seconds": 30}).encode()
    urllib.request.urlopen(f"{address}/sim/faults", fault, timeout=10).close()
    page = browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
    page.goto(address)
    page.get_by_role("heading", name="Faults", exact=True).wait_for()
    page.wait_for_timeout(1500)  # it has fetched itself anew
    save(page, "simulator")


def draft(page: Page, address: str) -> None:
    """A draft of a bot, at its parameters."""
    page.goto(f"{address}/bots/new")
    page.get_by_role("radio", name=re.compile("^RSI")).check()
    page.get_by_role("button", name=re.compile("^Market and budget")).click()
    page.get_by_label("Name", exact=True).fill("btc-dips")
    page.get_by_role("combobox", name="Market", exact=True).fill("BTCUSDC")
    page.get_by_label("Capital per trade").fill("500")
    page.get_by_label("Open positions at most").fill("3")
    page.locator("footer.formbar").get_by_role("button", name=re.compile("^Parameters")).click()
    page.get_by_label("Stop loss", exact=True).wait_for()


def save(page: Page, name: str) -> None:
    """The picture as a PNG. SystemExit if it is too large for a repository."""
    path = PICTURES / f"{name}.png"
    page.screenshot(path=path)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size // 1000} kB")
    if size > MOST_BYTES:
        raise SystemExit(f"{path} has {size} bytes, more than {MOST_BYTES}.")


if __name__ == "__main__":
    sys.exit(main())
