"""Copies are stopped and complete; a document that comes from elsewhere is taken whole or refused by its paths."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert

from bots.strategies import DEFINITIONS
from server.storage.bot_documents import read_document, write_document
from server.storage.engine import write
from server.storage.models import BotRun, Event
from shared.config import config_document, parse_config
from shared.errors import Refused

Make = Callable[..., Any]
OF_AN_EARLIER_SYSTEM: dict[str, Any] = {
    "id": "rsi_btc", "name": "RSI BTC", "enabled": True, "symbol": "BTCUSDT",
    "broker": {"type": "simulator", "trading_mode": "trade", "name": "rsi_btc_broker"},
    "strategy": {"type": "rsi", "parameters": {"rsi_period": 14, "buy_below": 30}},
    "data": {"data_source": "simulator", "interval": "1m"},
    "trading": {"max_positions": 1},
    "risk_management": {"max_position_size": 1000.0, "stop_loss_pct": 3.0, "take_profit_pct": 6.0,
                        "max_daily_loss": 200.0, "max_daily_trades": 5},
    "notifications": {"position_opened": True, "position_closed": True, "error_notifications": False,
                      "performance_summaries": "daily"},
}  # fmt: skip
A_BOT = {
    "name": "n", "description": "d", "symbol": "ETHUSDT", "tags": ["t"], "exchange": "simulator", "mode": "trade",
    "strategy": "rsi", "interval": "1m",
}  # fmt: skip


def without(document: dict[str, Any], part: str, name: str, **more: Any) -> dict[str, Any]:
    kept = {k: v for k, v in document[part].items() if k != name} | more
    return document | {part: kept}


# --- cloning ----------------------------------------------------------------------------------------------------------


def test_a_clone_is_stopped_has_the_newest_config_and_a_name_of_its_own(api: Any, a_bot: Make):
    bot_id = a_bot(tags=["demo"])
    api.put(f"/api/trading/bots/{bot_id}/config", {"holding_time": 77})
    api.post(f"/api/bots/{bot_id}/start")

    clone = api.post(f"/api/bots/{bot_id}/clone")
    named = api.post(f"/api/bots/{bot_id}/clone", {"name": "twin"})

    assert (clone.status_code, clone.json["name"], named.json["name"]) == (201, "eth-rsi copy", "twin")
    assert (clone.json["desired_state"], clone.json["status"]) == ("stopped", "stopped")
    original = api.get(f"/api/bots/{bot_id}").json
    for name in ("strategy", "symbol", "exchange", "mode", "interval", "tags", "credential_id"):
        assert clone.json[name] == original[name]
    config = api.get(f"/api/trading/bots/{clone.json['id']}/config").json
    assert config | {"version": 2} == api.get(f"/api/trading/bots/{bot_id}/config").json
    actions = [e["action"] for e in api.get("/api/audit", query_string={"bot_id": clone.json["id"]}).json["items"]]
    assert actions == ["bot.clone", "bot.create"]


def test_a_clone_asked_for_twice_with_one_key_is_one_bot(api: Any, a_bot: Make):
    bot_id = a_bot()

    ids = [api.post(f"/api/bots/{bot_id}/clone", headers={"Idempotency-Key": "k"}).json["id"] for _ in range(2)]

    assert ids[0] == ids[1]


# --- documents --------------------------------------------------------------------------------------------------------


def test_an_exported_bot_is_imported_as_the_same_bot_without_its_keys(api: Any, a_bot: Make):
    bot_id = a_bot(tags=["demo"], description="buys dips")
    exported = api.get(f"/api/bots/{bot_id}/export").json

    imported = api.post("/api/bots/import", exported)

    assert imported.status_code == 201, imported.json
    new_id = imported.json["id"]
    assert api.get(f"/api/bots/{new_id}/export").json == exported
    assert imported.json["credential_id"] is None
    assert api.get(f"/api/trading/bots/{new_id}/config").json == api.get(f"/api/trading/bots/{bot_id}/config").json


def test_a_document_of_an_earlier_system_is_understood_percent_and_all(api: Any):
    answer = api.post("/api/bots/import", OF_AN_EARLIER_SYSTEM)

    assert answer.status_code == 201, answer.json
    bot = answer.json
    assert (bot["name"], bot["strategy"], bot["exchange"], bot["mode"]) == ("RSI BTC", "rsi", "simulator", "trade")
    assert bot["desired_state"] == "stopped"
    config = api.get(f"/api/trading/bots/{bot['id']}/config").json
    expected = {
        "stop_loss_pct": 0.03, "profit_target_pct": 0.06, "max_position_size": "1000", "max_daily_loss": "200",
        "max_daily_trades": 5, "max_positions": 1, "buy_below": 30, "notify_positions": True, "notify_errors": False,
        "notify_daily": True,
    }  # fmt: skip
    assert {n: Decimal(config[n]) if n.startswith("max_") else config[n] for n in expected} == {
        n: Decimal(v) if n.startswith("max_") else v for n, v in expected.items()
    }


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (without(OF_AN_EARLIER_SYSTEM, "broker", "name", cash=100.0), "broker.cash"),
        (without(OF_AN_EARLIER_SYSTEM, "broker", "trading_mode", trading_mode="moon"), "broker.trading_mode"),
        (without(without(OF_AN_EARLIER_SYSTEM, "broker", "type", type="kraken"), "data", "data_source"), "broker.type"),
        (without(OF_AN_EARLIER_SYSTEM, "strategy", "type", type="CustomStrategy"), "strategy.type"),
        (without(OF_AN_EARLIER_SYSTEM, "strategy", "parameters", parameters={"magic": 7}), "strategy.parameters.magic"),
        (without(OF_AN_EARLIER_SYSTEM, "data", "lookback_bars", lookback_bars=500), "data.lookback_bars"),
        (without(OF_AN_EARLIER_SYSTEM, "data", "interval", interval="7y"), "data.interval"),
        (without(OF_AN_EARLIER_SYSTEM, "data", "data_source", data_source="binance"), "data.data_source"),
        (without(OF_AN_EARLIER_SYSTEM, "trading", "x", position_size=0.1), "trading.position_size"),
        (without(OF_AN_EARLIER_SYSTEM, "risk_management", "x", stop_loss_pct=300), "risk_management.stop_loss_pct"),
        (without(OF_AN_EARLIER_SYSTEM, "risk_management", "x", stop_loss_pct="lots"), "risk_management.stop_loss_pct"),
        (without(OF_AN_EARLIER_SYSTEM, "notifications", "x", email_enabled=False), "notifications.email_enabled"),
        (without(OF_AN_EARLIER_SYSTEM, "notifications", "x", position_closed=False), "notifications.position_closed"),
        (OF_AN_EARLIER_SYSTEM | {"leverage": 20}, "leverage"),
        (OF_AN_EARLIER_SYSTEM | {"symbol": "no symbol"}, "symbol"),
        ({k: v for k, v in OF_AN_EARLIER_SYSTEM.items() if k != "symbol"}, "symbol"),
    ],
)
def test_what_has_no_meaning_here_is_refused_by_its_path(api: Any, document: dict[str, Any], path: str):
    refused = api.post("/api/bots/import", document)

    assert (refused.status_code, list(refused.json["error"]["fields"])) == (422, [path])
    assert api.get("/api/bots").json["items"] == []


@given(st.sampled_from(sorted(DEFINITIONS)), st.integers(1, 99_999), st.integers(1, 99_999), st.booleans())
def test_every_config_survives_the_way_out_and_in(strategy: str, stop: int, target: int, notify: bool):
    kind = DEFINITIONS[strategy].config
    changes = {
        "stop_loss_pct": stop / 100_000, "profit_target_pct": target / 100_000, "notify_daily": notify,
        "max_daily_loss": None, "capital_per_trade": "33.33",
    }  # fmt: skip
    config = parse_config(kind, changes)

    reading = read_document(write_document(A_BOT, config_document(config)))

    assert parse_config(kind, reading.config) == config
    assert reading.fields == A_BOT


def test_a_document_is_refused_as_a_whole_with_every_path_at_once():
    with pytest.raises(Refused) as refused:
        read_document({"name": "x", "trading": {"leverage": 3}, "extra": {"deep": {"er": 1}}})

    assert set(refused.value.fields) == {
        "trading.leverage", "extra.deep", "symbol", "broker.type", "broker.trading_mode", "strategy.type",
    }  # fmt: skip


# --- the past ---------------------------------------------------------------------------------------------------------


def test_runs_are_listed_with_how_they_ended(api: Any, engine: Engine, a_bot: Make):
    bot_id = a_bot()
    rows: list[dict[str, Any]] = [
        {"generation": 1, "state": "ended", "created_ms": 1_000, "ended_ms": 61_000, "exit_code": -9},
        {"generation": 2, "state": "running", "created_ms": 62_000, "ended_ms": None, "exit_code": None},
    ]
    with write(engine) as connection:
        for row in rows:
            connection.execute(insert(BotRun).values(bot_id=bot_id, wanted=False, **row))

    second, first = api.get(f"/api/bots/{bot_id}/runs").json["items"]

    assert (first["run_id"], first["uptime"], first["exit_code"], first["wanted"]) == (f"{bot_id}.1", 60, -9, False)
    assert (second["run_id"], second["ended_at"], second["wanted"]) == (f"{bot_id}.2", None, None)


def test_the_equity_curve_adds_each_closed_position_to_what_was_allocated(api: Any, a_bot: Make, a_position: Make):
    bot_id = a_bot(config={"capital_per_trade": "100", "max_positions": 2})
    a_position(bot_id, position_key=1, status="closed", closed_ms=10, pnl=Decimal("20"))
    a_position(bot_id, position_key=2, status="closed", closed_ms=20, pnl=Decimal("-55"))
    a_position(bot_id, position_key=3, status="closed", closed_ms=30, pnl=None)
    a_position(bot_id, position_key=4)

    curve = api.get(f"/api/bots/{bot_id}/equity").json

    assert (curve["allocated"], curve["positions"]) == ("200", 2)
    assert curve["points"] == [
        {"time": 10, "equity": "220", "pnl": "20", "drawdown": 0.0},
        {"time": 20, "equity": "165", "pnl": "-35", "drawdown": 0.25},
    ]


def test_signals_are_the_decisions_that_led_to_something(api: Any, engine: Engine, a_bot: Make):
    bot_id = a_bot()
    with write(engine) as connection:
        for seq, type_ in enumerate(["signal", "status", "signal"], start=1):
            row = {"bot_id": bot_id, "run_id": f"{bot_id}.1", "seq": seq, "ts": seq, "type": type_, "data": {}}
            connection.execute(insert(Event).values(**row))

    assert [e["seq"] for e in api.get(f"/api/bots/{bot_id}/signals").json["items"]] == [3, 1]


@pytest.mark.parametrize("what", ["runs", "equity", "signals", "export"])
def test_the_past_of_a_bot_that_is_not_there_is_not_found(api: Any, what: str):
    assert api.get(f"/api/bots/99/{what}").status_code == 404
