"""A real Chromium for tests, and how long they wait for what a page shall show.

Whoever imports this waits ``DEADLINE_MS`` in each ``expect``, far longer than a page takes even on a machine that is
busy with other tests; where one waits for the market or the supervisor, the test names a longer time itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.waiting import DEADLINE_S

DEADLINE_MS = int(1000 * DEADLINE_S)
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

expect.set_options(timeout=DEADLINE_MS)


def need(is_there: bool, what: str, how: str) -> None:
    """Skip the test without ``what``, which ``how`` installs; fail it where browser tests are required."""
    if is_there:
        return
    if os.environ.get("FLOTILLA_REQUIRE_BROWSER") == "1":
        pytest.fail(f"FLOTILLA_REQUIRE_BROWSER is 1 and there is no {what}: {how}")
    pytest.skip(f"there is no {what} on this machine: {how}")


@contextmanager
def a_browser() -> Iterator[Browser]:
    """A Chromium of one's own, without a window."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    need(program is not None, "Chromium", "apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        yield browser
        browser.close()
