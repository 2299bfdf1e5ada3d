"""The order in which test files are begun."""

from __future__ import annotations

import pytest

LONG = ("tests/e2e/", "tests/simulator/clients/", "tests/simulator/fuzz/", "tests/supervisor/", "tests/server/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left alone with them at the end."""

    def rank(item: pytest.Item) -> int:
        return next((at for at, folder in enumerate(LONG) if item.nodeid.startswith(folder)), len(LONG))

    items.sort(key=rank)
