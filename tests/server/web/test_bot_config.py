"""The config tab: save, be told of mistakes, meet somebody else's change, compare and put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.storage.times import now_ms

Make = Callable[..., Any]


def csrf_token(html: str) -> str:
    return html.split('name="csrf_token" value="')[1].split('"')[0]


def value_of(html: str, name: str) -> str:
    """What the input with this name holds."""
    return html.split(f'name="{name}"')[1].split('value="')[1].split('"')[0]


@pytest.fixture
def save(page: Make) -> Make:
    """Send some fields of the form as a trader, made from *version*."""
    client = page("trader")

    def send(bot_id: int, version: int = 1, **fields: str) -> Any:
        token = csrf_token(client.get(f"/bots/{bot_id}?tab=config").text)
        form = {"csrf_token": token, "version": str(version), **fields}
        return client.post(f"/bots/{bot_id}/config", data=form)

    return send


@pytest.fixture
def config(api: Any) -> Make:
    """The newest config of a bot."""
    return lambda bot_id: api.get(f"/api/trading/bots/{bot_id}/config").json


def test_the_form_shows_what_is_saved_and_when_a_change_applies(page: Make, a_bot: Make):
    html = page().get(f"/bots/{a_bot(config={'profit_target_pct': 0.0035})}?tab=config").text

    assert value_of(html, "profit_target_pct") == "0.35"
    for text in ("Profit target", "next position", "restart", "No change yet", "Save v2", "v1", "first version"):
        assert text in html, text


def test_saving_makes_a_new_version_with_author_and_leaves_the_rest(save: Make, a_bot: Make, config: Make, api: Any):
    bot_id = a_bot(config={"capital_per_trade": "200.00", "holding_time": 2000})

    answer = save(bot_id, profit_target_pct="0.35", max_daily_loss="")

    assert answer.status_code == 303
    assert answer.headers["Location"].startswith(f"/bots/{bot_id}?tab=config")
    saved = config(bot_id)
    assert (saved["version"], saved["profit_target_pct"]) == (2, 0.0035)
    assert (saved["capital_per_trade"], saved["holding_time"], saved["max_daily_loss"]) == ("200.00", 2000, None)
    newest = api.get(f"/api/trading/bots/{bot_id}/config/versions").json["items"][0]
    assert newest["author"] == "trader"


def test_saving_without_a_change_makes_no_version(save: Make, a_bot: Make, config: Make, page: Make):
    bot_id = a_bot()

    save(bot_id, capital_per_trade="200")

    assert config(bot_id)["version"] == 1


def test_mistakes_stand_beside_their_fields_the_input_is_kept_and_nothing_is_saved(
    save: Make, a_bot: Make, config: Make
):
    bot_id = a_bot()

    answer = save(bot_id, profit_target_pct="0,35", max_positions="99", cooldown="20")

    assert answer.status_code == 422
    assert config(bot_id)["version"] == 1
    html = answer.text
    assert [value_of(html, n) for n in ("profit_target_pct", "max_positions", "cooldown")] == ["0,35", "99", "20"]
    assert "99 is out of range: from 1 to 20." in html
    assert html.count("aria-invalid=true") == 2
    assert html.count("autofocus") == 1
    assert html.index("autofocus") > html.index('name="max_positions"')
    assert "Nothing was saved: 2 fields to correct." in html
    assert "3 changes" in html


def test_what_was_typed_is_never_markup(save: Make, a_bot: Make):
    html = save(a_bot(), capital_per_trade='"><script>alert(1)</script>').text

    assert "<script>alert" not in html


def test_a_model_that_is_gone_is_an_error_beside_the_model(save: Make, a_bot: Make):
    bot_id = a_bot(strategy="lightgbm_scalper", interval=..., config={})

    answer = save(bot_id, model_id="77")

    assert answer.status_code == 422
    assert "there is no model 77" in answer.text


def test_somebody_elses_change_is_not_overwritten_and_both_are_shown(save: Make, a_bot: Make, config: Make, api: Any):
    bot_id = a_bot(config={"cooldown": 10, "holding_time": 2000, "max_positions": 2})
    api.put(f"/api/trading/bots/{bot_id}/config", {"cooldown": 30, "holding_time": 900})  # version 2

    answer = save(bot_id, 1, cooldown="20", holding_time="2000", max_positions="3")

    assert answer.status_code == 412
    assert config(bot_id)["version"] == 2
    html = answer.text
    assert "v2 was saved by" in html
    assert "Both of you changed pause between" in html
    assert value_of(html, "cooldown") == "20"  # mine
    assert "The newer version has 30 s." in html  # theirs beside it
    assert value_of(html, "holding_time") == "900"  # theirs: I did not touch it
    assert value_of(html, "max_positions") == "3"
    assert value_of(html, "version") == "2"

    again = save(bot_id, 2, cooldown="20", holding_time="900", max_positions="3")

    assert again.status_code == 303
    saved = config(bot_id)
    assert (saved["version"], saved["cooldown"], saved["holding_time"], saved["max_positions"]) == (3, 20, 900, 3)


def test_a_double_click_on_save_is_one_version_and_says_that_it_was_saved(
    save: Make, a_bot: Make, config: Make, page: Make
):
    bot_id = a_bot(config={"cooldown": 10})

    answers = [save(bot_id, 1, cooldown="20"), save(bot_id, 1, cooldown="20")]

    assert [answer.status_code for answer in answers] == [303, 303]
    assert (config(bot_id)["version"], config(bot_id)["cooldown"]) == (2, 20)


def test_the_same_form_of_somebody_else_is_told_who_saved(save: Make, a_bot: Make, api: Any):
    bot_id = a_bot(config={"cooldown": 10})
    api.put(f"/api/trading/bots/{bot_id}/config", {"cooldown": 20})

    assert save(bot_id, 1, cooldown="20").status_code == 412


@pytest.mark.parametrize("version", ["", "abc", "-1", "999"])
def test_a_form_that_names_no_known_version_saves_nothing(save: Make, a_bot: Make, config: Make, version: Any):
    bot_id = a_bot()

    assert save(bot_id, version, cooldown="20").status_code == 412
    assert config(bot_id)["version"] == 1


def test_what_is_saved_and_what_runs_are_both_shown(page: Make, a_bot: Make, observe: Make, api: Any):
    bot_id = a_bot()
    now = now_ms()
    observe(bot_id, status="running", desired_state="running", heartbeat_ms=now, applied_config_version=1)
    api.put(f"/api/trading/bots/{bot_id}/config", {"cooldown": 30})

    html = page().get(f"/bots/{bot_id}?tab=config").text

    assert "v2 pending" in html
    assert "v1 acked" in html


def test_any_two_versions_can_be_compared(page: Make, a_bot: Make, api: Any):
    bot_id = a_bot(config={"stop_loss_pct": 0.01})
    for seconds in (10, 20, 30):
        api.put(f"/api/trading/bots/{bot_id}/config", {"cooldown": seconds, "stop_loss_pct": seconds / 10_000})

    html = page("viewer").get(f"/bots/{bot_id}?tab=config&from=1&to=4").text

    compared = html.split('id="compared"')[1].split("</div></div>")[0]
    assert "v1 to v4" in compared
    for text in ("cooldown", "0 s", "30 s", "1 %", "0.3 %"):
        assert text in html.split('id="compared"')[1][:1500], text


def test_putting_a_version_back_shows_the_difference_first(page: Make, a_bot: Make, api: Any, config: Make):
    bot_id, client = a_bot(config={"cooldown": 10}), page("trader")
    api.put(f"/api/trading/bots/{bot_id}/config", {"cooldown": 30})
    path = f"/bots/{bot_id}/config/versions/1/restore"

    asked = client.get(path).text

    assert config(bot_id)["version"] == 2
    for text in ("Restore v1", "It becomes v3", "30 s", "10 s", "Cancel"):
        assert text in asked, text
    assert client.post(path, data={"csrf_token": csrf_token(asked), "version": "2"}).status_code == 303
    assert (config(bot_id)["version"], config(bot_id)["cooldown"]) == (3, 10)


def test_a_version_is_not_put_back_over_a_change_that_nobody_saw(page: Make, a_bot: Make, api: Any, config: Make):
    bot_id, client = a_bot(config={"cooldown": 10}), page("trader")
    api.put(f"/api/trading/bots/{bot_id}/config", {"cooldown": 30})
    path = f"/bots/{bot_id}/config/versions/1/restore"
    asked = client.get(path).text
    api.put(f"/api/trading/bots/{bot_id}/config", {"cooldown": 40})

    answer = client.post(path, data={"csrf_token": csrf_token(asked), "version": "2"}, follow_redirects=True)

    assert "v3 was saved meanwhile" in answer.text
    assert config(bot_id)["cooldown"] == 40


def test_a_double_click_on_restore_is_one_version_and_says_that_it_was_restored(
    page: Make, a_bot: Make, api: Any, config: Make
):
    bot_id, client = a_bot(config={"cooldown": 10}), page("trader")
    api.put(f"/api/trading/bots/{bot_id}/config", {"cooldown": 30})
    path = f"/bots/{bot_id}/config/versions/1/restore"
    form = {"csrf_token": csrf_token(client.get(path).text), "version": "2"}

    client.post(path, data=form)
    client.get(f"/bots/{bot_id}")  # says so, once
    again = client.post(path, data=form, follow_redirects=True)

    assert "v1 is in force again, as v3." in again.text
    assert "nothing was restored" not in again.text
    assert config(bot_id)["version"] == 3


def test_only_who_may_trade_can_save_or_put_back_and_the_token_is_needed(page: Make, a_bot: Make, api: Any):
    bot_id, viewer = a_bot(), page("viewer")
    token = csrf_token(viewer.get(f"/bots/{bot_id}?tab=config").text)

    assert viewer.get(f"/bots/{bot_id}/config/versions/1/restore").status_code == 403
    assert viewer.post(f"/bots/{bot_id}/config/versions/1/restore", data={"csrf_token": token}).status_code == 403
    assert page("trader").post(f"/bots/{bot_id}/config", data={"version": "1", "cooldown": "9"}).status_code == 403


def test_versions_and_bots_that_are_not_there_are_not_found(page: Make, a_bot: Make):
    client = page()

    assert client.get(f"/bots/{a_bot()}/config/versions/9/restore").status_code == 404
    assert client.get("/bots/99/config/versions/1/restore").status_code == 404
