"""Every change that people make is in the audit log: who, from where, what it was and what it became."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., Any]


def log(api: Any, **query: Any) -> list[Any]:
    answer = api.get("/api/audit", query_string=query)
    assert answer.status_code == 200, answer.json
    items: list[Any] = answer.json["items"]
    return items


def test_a_bots_life_is_in_the_log_with_what_it_was_before(api: Any, a_bot: Make, credential_id: int):
    bot_id = a_bot()
    api.put(f"/api/bots/{bot_id}", {"name": "renamed"})
    api.put(f"/api/trading/bots/{bot_id}/config", {"holding_time": 77})
    api.post(f"/api/bots/{bot_id}/start", {"reason": "the market opens"})
    api.post(f"/api/bots/{bot_id}/pause")
    api.post(f"/api/bots/{bot_id}/stop")
    api.delete(f"/api/bots/{bot_id}")

    entries = log(api, bot_id=bot_id)

    assert [e["action"] for e in entries] == [
        "bot.archive", "bot.stop", "bot.pause", "bot.start", "config.change", "bot.change", "bot.create",
    ]  # fmt: skip
    assert {e["actor"] for e in entries} == {"a admin"}
    started, config, changed = entries[3:6]
    assert (started["reason"], started["via"]) == ("the market opens", "api")
    assert started["before"]["desired_state"] == "stopped"
    assert started["after"]["desired_state"] == "running"
    assert (config["before"], config["after"]) == ({"holding_time": 2000}, {"holding_time": 77})
    assert (changed["before"], changed["after"]) == ({"name": "eth-rsi"}, {"name": "renamed"})


def test_a_change_that_is_refused_leaves_no_line(api: Any, a_bot: Make):
    bot_id = a_bot()
    before = len(log(api))

    assert api.post(f"/api/bots/{bot_id}/pause").status_code == 409
    assert api.put(f"/api/trading/bots/{bot_id}/config", {"holding_time": -1}).status_code == 422

    assert len(log(api)) == before


def test_a_repeated_request_with_the_same_key_is_one_line(api: Any, a_bot: Make):
    bot_id = a_bot()

    for _ in range(2):
        api.post(f"/api/bots/{bot_id}/start", headers={"Idempotency-Key": "once"})

    assert [e["action"] for e in log(api, bot_id=bot_id)] == ["bot.start", "bot.create"]


def test_models_and_credentials_are_logged_without_their_secrets(api: Any, a_model: Make, credential_id: int):
    model_id = a_model()
    assert api.delete(f"/api/models/{model_id}").status_code == 204
    assert api.delete(f"/api/credentials/{credential_id}").status_code == 204

    entries = log(api)

    assert [e["action"] for e in entries] == ["credential.delete", "model.delete", "credential.create"]
    assert "its-secret" not in str(entries)
    assert "key-of-the-account" not in str(entries)


@pytest.mark.parametrize(
    ("header", "via"), [({}, "api"), ({"X-Flotilla-Via": "cli"}, "cli"), ({"X-Flotilla-Via": "telegram"}, "api")]
)
def test_a_token_may_say_that_it_is_the_command_line(api: Any, a_bot: Make, header: dict[str, str], via: str):
    bot_id = a_bot()

    api.post(f"/api/bots/{bot_id}/start", headers=header)

    assert log(api, action="bot.start")[0]["via"] == via


def test_a_button_of_a_page_is_logged_as_web(api: Any, a_bot: Make, page: Make):
    bot_id = a_bot()
    client = page()
    token = client.get("/").text.split('name="csrf_token" value="')[1].split('"')[0]

    client.post(f"/bots/{bot_id}/start", data={"csrf_token": token})

    entry = log(api, action="bot.start")[0]
    assert (entry["actor"], entry["via"]) == ("admin", "web")


def test_the_log_is_read_in_pages_and_filtered_by_bot_actor_and_action(api: Any, api_as: Make, a_bot: Make):
    first, second = a_bot(), a_bot(name="other")
    api_as("trader").post(f"/api/bots/{second}/start")

    page = api.get("/api/audit", query_string={"limit": 2}).json
    rest = api.get("/api/audit", query_string={"cursor": page["next_cursor"]}).json

    assert [e["action"] for e in page["items"] + rest["items"]] == [
        "bot.start", "bot.create", "bot.create", "credential.create",
    ]  # fmt: skip
    assert [e["bot_id"] for e in log(api, bot_id=first)] == [first]
    assert [e["action"] for e in log(api, actor="a trader")] == ["bot.start"]
    assert [e["bot_id"] for e in log(api, action="bot.create")] == [second, first]


@pytest.mark.parametrize("who", ["viewer", "trader"])
def test_only_admins_read_the_log(api_as: Make, who: str):
    assert api_as(who).get("/api/audit").status_code == 403
