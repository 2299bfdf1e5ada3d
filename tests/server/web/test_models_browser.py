"""Uploading a model with a browser: what is wrong is said before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., Any]
pytestmark = pytest.mark.browser


def test_a_file_that_is_too_large_is_said_in_place_and_nothing_typed_is_lost(open_page: Make, address: str):
    page = open_page()
    page.goto(f"{address}/models")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.get_by_label("Name").fill("eth 2026-11")
    page.get_by_label("Market").fill("ETHUSDC")
    page.locator("#file").evaluate("file => { file.dataset.most = '10'; }")

    page.locator("#file").set_input_files({"name": "model.txt", "mimeType": "text/plain", "buffer": b"x" * 11})
    page.get_by_role("button", name="Upload", exact=True).click()

    assert "at most 0.0 MB" in page.locator("#file").evaluate("file => file.validationMessage")
    assert page.get_by_label("Name").input_value() == "eth 2026-11"
    assert sent == []
