"""What people were told can be looked up, and a channel can be tried out."""

from __future__ import annotations

from typing import Any

import pytest

from server.notify import outbox
from server.notify.deliveries import Trouble, Undelivered, write_channel_state
from server.notify.templates import Message
from server.storage.engine import write
from server.storage.times import now_ms

CHANNEL = "telegram:4711"


@pytest.fixture
def channel(engine: Any) -> str:
    with write(engine) as connection:
        outbox.set_channels(connection, [CHANNEL])
    return CHANNEL


def test_notifications_are_listed_newest_first_with_their_state(api_as: Any, engine: Any, channel: str):
    with write(engine) as connection:
        for n in range(3):
            outbox.tell(connection, Message(kind="closed", text=f"text {n}", key=str(n)), now_ms())

    viewer = api_as("viewer")
    first = viewer.get("/api/notifications?limit=2").json
    rest = viewer.get(f"/api/notifications?cursor={first['next_cursor']}").json

    assert [n["text"] for n in first["items"] + rest["items"]] == ["text 2", "text 1", "text 0"]
    assert (first["items"][0]["state"], first["items"][0]["channel"]) == ("queued", CHANNEL)
    assert viewer.get("/api/notifications?state=sent").json["items"] == []
    assert viewer.get("/api/notifications?state=odd").status_code == 422


def test_channels_say_how_they_are(api: Any, engine: Any, channel: str):
    assert api.get("/api/channels").json["items"][0]["state"] == "new"
    with write(engine) as connection:
        write_channel_state(connection, CHANNEL, Undelivered(Trouble.REFUSED, "Unblock it."), now_ms())

    (seen,) = api.get("/api/channels").json["items"]

    assert (seen["id"], seen["type"], seen["state"], seen["error"]) == (CHANNEL, "telegram", "refused", "Unblock it.")


def test_a_test_message_is_queued_for_that_channel_alone_and_audited(api: Any, channel: str):
    answer = api.post(f"/api/channels/{CHANNEL}/test")

    assert answer.status_code == 202
    assert (answer.json["kind"], answer.json["state"], answer.json["channel"]) == ("test", "queued", CHANNEL)
    assert "asked for by a admin" in answer.json["text"]
    assert api.get("/api/notifications").json["items"] == [answer.json]
    assert api.get("/api/audit?action=channel.test").json["items"][0]["target"] == CHANNEL


def test_a_repeated_test_with_the_same_key_is_one_message(api: Any, channel: str):
    for _ in range(2):
        api.post(f"/api/channels/{CHANNEL}/test", headers={"Idempotency-Key": "k"})

    assert len(api.get("/api/notifications").json["items"]) == 1


def test_only_admins_test_channels_and_only_those_there_are(api: Any, api_as: Any, channel: str):
    assert api_as("trader").post(f"/api/channels/{CHANNEL}/test").status_code == 403
    assert api.post("/api/channels/telegram:1/test").status_code == 404
    assert api_as(None).get("/api/notifications").status_code == 401


def test_without_telegram_there_is_no_channel(api: Any):
    assert api.get("/api/channels").json == {"items": [], "next_cursor": None}
