"""Each verb changes what is wanted of a bot, where its state allows it, and says so where it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, select

from server.storage.engine import read
from server.storage.models import Bot
from server.storage.queries import is_faulted

Make = Callable[..., Any]


def test_a_halt_latches_says_by_whom_and_refuses_start_and_resume(api: Any, a_bot: Make):
    bot_id = a_bot()
    api.post(f"/api/bots/{bot_id}/start")

    halted = api.post(f"/api/bots/{bot_id}/halt", {"reason": "strange fills"})

    assert halted.status_code == 202
    assert (halted.json["halted"], halted.json["desired_state"]) == (True, "running")
    assert halted.json["halt_reason"] == "halted by a admin: strange fills"
    for verb in ("start", "resume"):
        refused = api.post(f"/api/bots/{bot_id}/{verb}")
        assert refused.status_code == 409
        assert "halted by a admin: strange fills" in refused.json["error"]["message"]


@pytest.mark.parametrize("body", [None, {}, {"reason": ""}, {"reason": "  "}, {"reason": None}])
def test_a_release_needs_a_reason(api: Any, a_bot: Make, body: Any):
    bot_id = a_bot()
    api.post(f"/api/bots/{bot_id}/halt")

    refused = api.post(f"/api/bots/{bot_id}/release", body)

    assert (refused.status_code, list(refused.json["error"]["fields"])) == (422, ["reason"])
    assert api.get(f"/api/bots/{bot_id}").json["halted"]


def test_a_released_bot_is_wanted_as_before(api: Any, a_bot: Make):
    bot_id = a_bot()
    api.post(f"/api/bots/{bot_id}/start")
    api.post(f"/api/bots/{bot_id}/halt")

    released = api.post(f"/api/bots/{bot_id}/release", {"reason": "found the cause"}).json

    assert (released["halted"], released["halt_reason"], released["desired_state"]) == (False, None, "running")
    assert api.post(f"/api/bots/{bot_id}/start").status_code == 202


def test_a_stopped_bot_cannot_be_restarted(api: Any, a_bot: Make):
    refused = api.post(f"/api/bots/{a_bot()}/restart")

    assert refused.status_code == 409
    assert "is stopped" in refused.json["error"]["message"]


@pytest.mark.parametrize("desired", ["running", "stopped"])
def test_resetting_errors_lifts_the_fault_and_leaves_what_is_wanted(
    api: Any, engine: Engine, a_bot: Make, observe: Make, desired: str
):
    bot_id = a_bot()
    observe(bot_id, desired_state=desired, status="error", start_requests=4, faulted_at_start_request=4)

    answer = api.post(f"/api/bots/{bot_id}/reset-errors")

    assert (answer.status_code, answer.json["desired_state"]) == (202, desired)
    with read(engine) as connection:
        row = connection.execute(select(Bot).where(Bot.id == bot_id)).one()
    assert not is_faulted(row.faulted_at_start_request, row.start_requests)


@pytest.mark.parametrize(
    "verb", ["start", "stop", "pause", "resume", "restart", "halt", "release", "close-positions", "reset-errors"]
)
def test_a_verb_takes_a_trader_and_an_existing_bot(api: Any, api_as: Make, a_bot: Make, verb: str):
    assert api_as("viewer").post(f"/api/bots/{a_bot()}/{verb}").status_code == 403
    assert api_as("trader").post(f"/api/bots/999/{verb}").status_code == 404


@pytest.mark.parametrize("body", [{"reason": 7}, {"reason": "x" * 501}, {"because": "typo"}])
def test_a_body_that_is_not_understood_changes_nothing(api: Any, a_bot: Make, body: Any):
    bot_id = a_bot()

    assert api.post(f"/api/bots/{bot_id}/halt", body).status_code == 422
    assert not api.get(f"/api/bots/{bot_id}").json["halted"]
