"""The page of one bot, as somebody without JavaScript gets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.web.bot import TABS

Make = Callable[..., Any]


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_of_a_bot_that_never_ran_says_why_it_is_empty(page: Make, a_bot: Make, tab: str):
    answer = page().get(f"/bots/{a_bot(name='btc-scalper')}?tab={tab}")

    assert answer.status_code == 200
    assert "btc-scalper" in answer.text
    assert "style=" not in answer.text
    assert "<script>" not in answer.text
