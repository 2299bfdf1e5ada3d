"""Each verb changes what is wanted of a bot, where its state allows it, and says so where it does not."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select

from server.storage.engine import read, write
from server.storage.models import Bot, BotRun, JournalOffset
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
    "verb",
    ["start", "stop", "pause", "resume", "restart", "halt", "release", "close-positions", "reset-errors", "take-over"],
)
def test_a_verb_takes_a_trader_and_an_existing_bot(api: Any, api_as: Make, a_bot: Make, verb: str):
    assert api_as("viewer").post(f"/api/bots/{a_bot()}/{verb}").status_code == 403
    assert api_as("trader").post(f"/api/bots/999/{verb}").status_code == 404


@pytest.mark.parametrize("body", [{"reason": 7}, {"reason": "x" * 501}, {"because": "typo"}])
def test_a_body_that_is_not_understood_changes_nothing(api: Any, a_bot: Make, body: Any):
    bot_id = a_bot()

    assert api.post(f"/api/bots/{bot_id}/halt", body).status_code == 422
    assert not api.get(f"/api/bots/{bot_id}").json["halted"]


# --- single positions -------------------------------------------------------------------------------------------------


def order_of(api: Any, bot_id: int) -> Any:
    return api.get(f"/api/trading/bots/{bot_id}/orders").json["items"][0]


def test_closing_one_position_is_a_command_with_its_key(api: Any, api_as: Make, a_bot: Make, a_position: Make):
    bot_id = a_bot()
    a_position(bot_id, position_key=77)
    path = f"/api/trading/bots/{bot_id}/orders/{order_of(api, bot_id)['id']}/close"

    assert api.post(path).status_code == api.post(path).status_code == 202

    (command,) = api_as(f"bot:{bot_id}").get(f"/api/bots/{bot_id}/control").json["commands"]
    assert (command["verb"], command["args"]) == ("close_position", {"position_key": 77})


def test_a_lost_position_is_forgotten_with_a_reason_and_counts_nowhere(api: Any, a_bot: Make, a_position: Make):
    bot_id = a_bot()
    a_position(bot_id)
    path = f"/api/trading/bots/{bot_id}/orders/{order_of(api, bot_id)['id']}/forget"
    assert api.post(path).status_code == 422

    forgotten = api.post(path, {"reason": "the account is gone"}).json

    assert (forgotten["status"], forgotten["exit_reason"], forgotten["pnl"]) == ("closed", "forgotten", None)
    assert api.get(f"/api/bots/{bot_id}/stats").json["totals"]["trades"] == 0
    (alert,) = api.get(f"/api/bots/{bot_id}/events?type=alert").json["items"]
    assert "the account is gone" in alert["data"]["message"]
    assert "still rests there is cancelled when the bot starts again" in alert["data"]["message"]
    assert api.post(path, {"reason": "again"}).status_code == 409
    assert api.delete(f"/api/bots/{bot_id}").status_code == 204


def test_a_position_is_not_forgotten_before_all_that_its_bot_reported_is_read(
    api: Any, a_bot: Make, a_position: Make, engine: Engine
):
    bot_id = a_bot()
    a_position(bot_id)
    path = f"/api/trading/bots/{bot_id}/orders/{order_of(api, bot_id)['id']}/forget"
    with write(engine) as connection:
        offset = {"bot_id": bot_id, "generation": 1, "done": False, "file": "1.1.jsonl", "offset": 0, "last_seq": 0}
        connection.execute(insert(JournalOffset).values(**offset))

    refused = api.post(path, {"reason": "the account is gone"})

    assert refused.status_code == 409
    assert "may be closed already" in refused.json["error"]["message"]
    assert order_of(api, bot_id)["status"] == "active"


@pytest.mark.parametrize("verb", ["close", "forget"])
def test_only_an_open_position_of_that_bot_is_acted_on(
    api: Any, api_as: Make, a_bot: Make, a_position: Make, verb: str
):
    bot_id, other = a_bot(), a_bot(name="other")
    a_position(bot_id, status="closed", closed_ms=5, pnl=Decimal(1))
    order_id, why = order_of(api, bot_id)["id"], {"reason": "x"}

    assert api.post(f"/api/trading/bots/{bot_id}/orders/{order_id}/{verb}", why).status_code == 409
    assert api.post(f"/api/trading/bots/{other}/orders/{order_id}/{verb}", why).status_code == 404
    assert api_as("viewer").post(f"/api/trading/bots/{bot_id}/orders/{order_id}/{verb}", why).status_code == 403


def test_nothing_is_forgotten_and_nothing_launched_by_hand_restarted_while_a_process_runs(
    api: Any, engine: Engine, a_bot: Make, a_position: Make, observe: Make
):
    bot_id = a_bot()
    a_position(bot_id)
    order_id = order_of(api, bot_id)["id"]
    observe(bot_id, desired_state="running", generation=1)
    with write(engine) as connection:
        run = {"generation": 1, "state": "running", "created_ms": 1, "kind": "manual"}
        connection.execute(insert(BotRun).values(bot_id=bot_id, **run))

    forget = api.post(f"/api/trading/bots/{bot_id}/orders/{order_id}/forget", {"reason": "x"})
    restart = api.post(f"/api/bots/{bot_id}/restart")

    assert (forget.status_code, restart.status_code) == (409, 409)
    assert "launched by hand" in restart.json["error"]["message"]
