"""What a bot process is handed, and what it polls."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from shared.states import DesiredState
from shared.tickets import Control, ControlDocument, Endpoints, ModelReference, RunTicket, control_document

DOCUMENT = ControlDocument(
    control=Control(desired=DesiredState.RUNNING, halted=True), config_version=8, config={"capital_per_trade": "200.00"}
)
TICKET = RunTicket(
    bot_id=3, name="Scalper ⛵", generation=7, install="ab12cd", strategy="rsi", symbol="BTCUSDT", exchange="simulator",
    mode="trade", interval="1s", document=DOCUMENT, model=ModelReference(id=1, sha256="00ff", path="/m.txt"),
    endpoints=Endpoints(rest="http://x/api", streams="ws://x/", ws_api="ws://x/ws-api/v3"), api_key="the-key",
    api_secret="the-secret", server_url="http://y", token="the-token", home="/h",
)  # fmt: skip


@pytest.mark.parametrize("ticket", [TICKET, replace(TICKET, model=None)])
def test_a_ticket_comes_through_the_descriptor_unchanged(ticket):
    assert RunTicket.from_json(ticket.to_json()) == ticket


def test_a_run_is_named_after_bot_and_generation():
    assert TICKET.run_id == "3.7"


def test_no_secret_shows_where_a_ticket_is_printed():
    shown = repr(TICKET)

    assert "the-" not in shown
    assert "BTCUSDT" in shown


@pytest.mark.parametrize("text", [b"", b"{}", b'{"bot_id": "three"}'])
def test_half_a_ticket_is_refused(text):
    with pytest.raises(ValueError):
        RunTicket.from_json(text)


def test_a_polled_answer_is_read_from_bytes_or_a_document():
    raw = {"control": {"desired": "running", "halted": True}, "config_version": 8, "config": DOCUMENT.config}

    assert control_document(raw) == control_document(json.dumps(raw).encode()) == DOCUMENT


def test_a_bot_is_not_halted_unless_told_so():
    raw = {"control": {"desired": "paused"}, "config_version": 1, "config": {}}

    assert control_document(raw).control == Control(desired=DesiredState.PAUSED, halted=False)


@pytest.mark.parametrize(
    "raw",
    [b"not json", b"{}", b'{"control": {"desired": "flying"}, "config_version": 1, "config": {}}'],
)
def test_a_broken_answer_is_refused(raw):
    with pytest.raises(ValueError):
        control_document(raw)
