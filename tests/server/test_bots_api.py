from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from server.storage.times import DAY_MS, day_of, now_ms

Make = Callable[..., Any]

PROMISED = {
    "id", "name", "strategy", "symbol", "exchange", "mode", "interval", "tags", "desired_state", "halted",
    "status", "status_reason", "status_since", "pid", "run_id", "config_version", "applied_config_version",
    "started_at", "heartbeat_at", "last_decision_at", "restarts_24h", "open_positions", "balance",
    "pnl_today", "pnl_total", "rss_mib",
}  # fmt: skip


def test_a_new_bot_is_stopped_and_has_every_promised_field(api: Any, new_bot: Make):
    answer = api.post("/api/bots", new_bot(tags=["demo"]))

    assert answer.status_code == 201
    assert set(answer.json) >= PROMISED
    assert (answer.json["status"], answer.json["desired_state"], answer.json["config_version"]) == (
        "stopped",
        "stopped",
        1,
    )
    assert answer.json["pnl_today"] == answer.json["pnl_total"] == "0"
    assert api.get(f"/api/bots/{answer.json['id']}").json == answer.json


def test_the_interval_defaults_to_the_strategys_first(api: Any, new_bot: Make):
    first = api.get("/api/strategies/rsi").json["intervals"][0]

    assert api.post("/api/bots", new_bot(interval=...)).json["interval"] == first


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"exchange": "binance"}, "exchange"),
        ({"exchange": "binance_testnet"}, "exchange"),
        ({"exchange": "kraken"}, "exchange"),
        ({"mode": "paper"}, "mode"),
        ({"mode": "live"}, "mode"),
        ({"mode": ...}, "mode"),
        ({"strategy": "astrology"}, "strategy"),
        ({"interval": "7m"}, "interval"),
        ({"symbol": "eth/usdt"}, "symbol"),
        ({"symbol": "ETH"}, "symbol"),
        ({"symbol": "ÉTHUSDT"}, "symbol"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\x07b"}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": 3}, "name"),
        ({"tags": "demo"}, "tags"),
        ({"tags": ["x" * 41]}, "tags.0"),
        ({"credential_id": 99}, "credential_id"),
        ({"credential_id": 10**30}, "credential_id"),
        ({"config": {"holding_time": -1}}, "config.holding_time"),
        ({"config": {"nonsense": 1}}, "config.nonsense"),
        ({"config": []}, "config"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_name(api: Any, new_bot: Make, changes: dict[str, Any], field: str):
    answer = api.post("/api/bots", new_bot(**changes))

    assert answer.status_code == 422
    assert field in answer.json["error"]["fields"]
    assert api.get("/api/bots").json["items"] == []


def test_what_is_not_available_yet_says_what_is(api: Any, new_bot: Make):
    reason = api.post("/api/bots", new_bot(exchange="binance")).json["error"]["fields"]["exchange"]

    assert reason == "binance is not available yet; use exchange simulator with mode trade"


def test_names_may_be_in_any_language(api: Any, new_bot: Make):
    assert api.post("/api/bots", new_bot(name="кит 🐋")).json["name"] == "кит 🐋"


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"name": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"config":' + b'{"a":' * 500 + b"1" + b"}" * 501, "application/json", 400),
        (b"1" * 5000, "application/json", 400),
        (b"[]", "application/json", 422),
        (b'"{}"', "application/json", 422),
        (b"null", "application/json", 422),
        (b'{"name": "\\ud800"}', "application/json", 422),
        (b'{"config": {"capital_per_trade": 1e999}}', "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"{}", None, 415),
        (b'{"name":"' + b"x" * 2_000_000 + b'"}', "application/json", 413),
    ],
)
def test_a_body_that_is_no_json_object_is_the_callers_fault(api: Any, data: bytes, content_type: str, status: int):
    answer = api("POST", "/api/bots", data=data, content_type=content_type)

    assert answer.status_code == status
    assert set(answer.json["error"]) == {"code", "message", "fields"}


def test_the_list_is_newest_first_and_pages_through_everything_once(api: Any, a_bot: Make):
    ids = [a_bot() for _ in range(5)]

    seen, cursor = [], None
    while True:
        page = api.get("/api/bots", query_string={"limit": 2, **({"cursor": cursor} if cursor else {})}).json
        seen += [bot["id"] for bot in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == ids[::-1]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "limit=1e3", "cursor=!!", "cursor=%00", "cursor=é"]
)
def test_a_page_that_cannot_be_is_refused(api: Any, query: str):
    assert api.get(f"/api/bots?{query}").status_code == 422


@pytest.mark.parametrize("bot_id", ["99", "0", "-1", "x", "99999999999999999999", "1.0"])
def test_a_bot_that_is_not_there_is_not_found(api: Any, bot_id: str):
    assert api.get(f"/api/bots/{bot_id}").status_code == 404


def test_a_method_that_an_address_does_not_take_names_those_it_does(api: Any):
    answer = api("PATCH", "/api/bots")

    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


def test_start_pause_resume_and_stop_set_what_is_wanted(api: Any, a_bot: Make):
    bot_id = a_bot()

    wanted = [
        (answer.status_code, answer.json["desired_state"])
        for answer in (api.post(f"/api/bots/{bot_id}/{verb}") for verb in ("start", "pause", "resume", "stop", "stop"))
    ]

    assert wanted == [(202, "running"), (202, "paused"), (202, "running"), (202, "stopped"), (202, "stopped")]


def test_a_stopped_bot_is_neither_paused_nor_resumed(api: Any, a_bot: Make):
    bot_id = a_bot()

    assert api.post(f"/api/bots/{bot_id}/pause").status_code == 409
    assert api.post(f"/api/bots/{bot_id}/resume").status_code == 409


def test_a_bot_without_exchange_keys_does_not_start_and_says_how_it_would(api: Any, a_bot: Make):
    answer = api.post(f"/api/bots/{a_bot(credential_id=None)}/start")

    assert answer.status_code == 422
    assert "POST /api/credentials" in answer.json["error"]["fields"]["credential_id"]


def test_a_model_strategy_without_a_model_does_not_start(api: Any, a_bot: Make, a_model: Make):
    bot_id = a_bot(strategy="lightgbm_scalper", interval="1s", config={})

    assert "model_id" in api.post(f"/api/bots/{bot_id}/start").json["error"]["fields"]

    api.put(f"/api/trading/bots/{bot_id}/config", {"model_id": a_model()})
    assert api.post(f"/api/bots/{bot_id}/start").status_code == 202


def test_starting_again_after_an_error_is_a_new_request_to_start(api: Any, a_bot: Make, observe: Make, engine: Any):
    from sqlalchemy import select

    from server.storage.models import Bot

    bot_id = a_bot()
    api.post(f"/api/bots/{bot_id}/start")
    api.post(f"/api/bots/{bot_id}/start")
    observe(bot_id, status="error")
    api.post(f"/api/bots/{bot_id}/start")

    with engine.connect() as connection:
        assert connection.execute(select(Bot.start_requests)).scalar() == 2


@pytest.mark.parametrize("status", ["stopped", "error", "starting"])
def test_start_lifts_a_fault_whatever_is_shown(
    api: Any, a_bot: Make, observe: Make, engine: Any, page: Make, status: str
):
    from server.storage.queries import bot_row, is_faulted

    bot_id = a_bot()
    observe(bot_id, status=status, desired_state="running", start_requests=1, faulted_at_start_request=1)
    html = page().get("/").text
    assert ("Already started" in html) == (status == "starting")

    assert api.post(f"/api/bots/{bot_id}/start").status_code == 202

    with engine.connect() as connection:
        bot = bot_row(connection, bot_id)
    assert not is_faulted(bot.faulted_at_start_request, bot.start_requests)


def test_a_repeated_request_with_the_same_key_gets_the_same_answer_and_changes_nothing(api: Any, a_bot: Make):
    bot_id = a_bot()
    key = {"Idempotency-Key": "k1"}

    first = api.post(f"/api/bots/{bot_id}/start", headers=key)
    api.post(f"/api/bots/{bot_id}/stop")
    again = api.post(f"/api/bots/{bot_id}/start", headers=key)

    assert (again.status_code, again.json) == (first.status_code, first.json)
    assert api.get(f"/api/bots/{bot_id}").json["desired_state"] == "stopped"


def test_a_key_taken_for_another_request_is_refused(api: Any, a_bot: Make):
    bot_id = a_bot()
    key = {"Idempotency-Key": "k1"}
    api.post(f"/api/bots/{bot_id}/start", headers=key)

    assert api.post(f"/api/bots/{bot_id}/stop", headers=key).status_code == 409


def test_creating_twice_with_one_key_creates_one_bot(api: Any, new_bot: Make):
    for _ in range(2):
        api.post("/api/bots", new_bot(), headers={"Idempotency-Key": "create"})

    assert len(api.get("/api/bots").json["items"]) == 1


def test_name_description_and_tags_change_at_any_time(api: Any, a_bot: Make, observe: Make):
    bot_id = a_bot()
    observe(bot_id, status="running", desired_state="running")

    changed = api.put(f"/api/bots/{bot_id}", {"name": "new", "description": "d", "tags": ["a", "b", "a"]})

    assert (changed.status_code, changed.json["name"], changed.json["tags"]) == (200, "new", ["a", "b"])


@pytest.mark.parametrize(
    "change", [{"symbol": "BTCUSDT"}, {"interval": "5m"}, {"strategy": "lightgbm_scalper"}, {"credential_id": None}]
)
def test_what_it_trades_changes_only_at_rest(
    api: Any, a_bot: Make, observe: Make, a_position: Make, change: dict[str, Any]
):
    bot_id = a_bot()
    observe(bot_id, status="stopping", desired_state="stopped")
    assert api.put(f"/api/bots/{bot_id}", change).status_code == 409

    observe(bot_id, status="stopped")
    assert api.put(f"/api/bots/{bot_id}", change).status_code == 200

    a_position(bot_id)
    assert api.put(f"/api/bots/{bot_id}", {"symbol": "ADAUSDT"}).status_code == 409


def test_saying_again_what_already_is_changes_nothing_and_is_never_refused(api: Any, a_bot: Make, observe: Make):
    bot_id = a_bot()
    observe(bot_id, status="running", desired_state="running")

    assert api.put(f"/api/bots/{bot_id}", {"symbol": "ETHUSDT", "interval": "1m"}).status_code == 200


def test_another_strategy_keeps_the_fields_that_both_know(api: Any, a_bot: Make):
    bot_id = a_bot(config={"holding_time": 1234, "rsi_period": 21})

    changed = api.put(f"/api/bots/{bot_id}", {"strategy": "lightgbm_scalper"}).json

    config = api.get(f"/api/trading/bots/{bot_id}/config").json
    assert (changed["interval"], changed["config_version"], config["version"]) == ("1s", 2, 2)
    assert config["holding_time"] == 1234
    assert "rsi_period" not in config


@pytest.mark.parametrize(
    "change", [{"mode": "paper"}, {"exchange": "binance"}, {"name": None}, {"tags": None}, {"id": 7}]
)
def test_a_change_that_cannot_be_is_refused(api: Any, a_bot: Make, change: dict[str, Any]):
    answer = api.put(f"/api/bots/{a_bot()}", change)

    assert (answer.status_code, list(answer.json["error"]["fields"])) == (422, list(change))


def test_a_deleted_bot_is_gone_from_the_fleet_and_its_id_is_not_used_again(api: Any, a_bot: Make):
    bot_id = a_bot()

    assert api.delete(f"/api/bots/{bot_id}").status_code == 204

    assert api.get(f"/api/bots/{bot_id}").status_code == 404
    assert api.get("/api/bots").json["items"] == []
    assert a_bot() > bot_id


def test_a_bot_that_runs_or_holds_a_position_is_not_deleted(api: Any, a_bot: Make, observe: Make, a_position: Make):
    running, holding = a_bot(), a_bot()
    observe(running, status="running", desired_state="running")
    a_position(holding, status="pending")

    assert api.delete(f"/api/bots/{running}").status_code == 409
    assert "flat" in api.delete(f"/api/bots/{holding}").json["error"]["message"]


def test_a_bot_whose_journal_is_not_read_to_its_end_is_neither_deleted_nor_given_another_symbol(
    api: Any, a_bot: Make, engine: Any
):
    from sqlalchemy import insert, update

    from server.storage.engine import write
    from server.storage.models import JournalOffset

    bot_id = a_bot()
    with write(engine) as connection:
        connection.execute(
            insert(JournalOffset).values(
                bot_id=bot_id, generation=1, file=f"{bot_id}.1.jsonl", offset=0, last_seq=0, done=False
            )
        )

    for answer in (api.delete(f"/api/bots/{bot_id}"), api.put(f"/api/bots/{bot_id}", {"symbol": "BTCUSDT"})):
        assert answer.status_code == 409
        assert "its journal is still being read; try again in a moment" in answer.json["error"]["message"]
    with write(engine) as connection:
        connection.execute(update(JournalOffset).values(done=True))
    assert api.put(f"/api/bots/{bot_id}", {"symbol": "BTCUSDT"}).status_code == 200
    assert api.delete(f"/api/bots/{bot_id}").status_code == 204


def test_pnl_today_of_a_bot_that_rests_since_yesterday_is_zero(api: Any, a_bot: Make, observe: Make, a_day: Make):
    bot_id, now = a_bot(), now_ms()
    yesterday = now - 86_400_000
    a_day(bot_id, day_of(yesterday), "50")

    observe(bot_id, market_ms=yesterday, heartbeat_ms=yesterday)
    assert api.get(f"/api/bots/{bot_id}").json["pnl_today"] == "0"
    observe(bot_id, market_ms=yesterday, heartbeat_ms=now)  # it trades a recorded market of yesterday
    assert api.get(f"/api/bots/{bot_id}").json["pnl_today"] == "50"


def test_figures_are_exact_and_times_are_iso(api: Any, a_bot: Make, observe: Make, a_day: Make, a_position: Make):
    bot_id, today = a_bot(), day_of(now_ms())
    a_day(bot_id, today - 1, "0.1")
    a_day(bot_id, today, "0.2")
    a_position(bot_id)
    observe(bot_id, balance={"quote_free": "100.10", "quote_locked": "0.2"}, heartbeat_ms=1_760_000_000_123)

    bot = api.get(f"/api/bots/{bot_id}").json

    assert (bot["pnl_today"], bot["pnl_total"], bot["balance"], bot["open_positions"]) == ("0.2", "0.3", "100.3", 1)
    assert bot["heartbeat_at"] == "2025-10-09T08:53:20.123Z"


def test_restarts_count_runs_after_one_that_ended_unwanted(api: Any, a_bot: Make, engine: Any):
    from sqlalchemy import insert

    from server.storage.engine import write
    from server.storage.models import BotRun

    bot_id, now = a_bot(), now_ms()
    runs = [
        (1, now - 2 * DAY_MS, True),  # ended as wanted
        (2, now - 5000, False),  # started by a person; died
        (3, now - 3000, False),  # restart; died
        (4, now - 1000, None),  # restart; alive
    ]
    with write(engine) as connection:
        for generation, created, wanted in runs:
            ended = None if wanted is None else now
            row = {"generation": generation, "state": "x", "created_ms": created, "ended_ms": ended}
            connection.execute(insert(BotRun).values(bot_id=bot_id, wanted=bool(wanted), **row))

    assert api.get(f"/api/bots/{bot_id}").json["restarts_24h"] == 2


def test_control_has_one_tag_over_wish_and_config(api: Any, a_bot: Make):
    bot_id = a_bot()
    path = f"/api/bots/{bot_id}/control"
    first = api.get(path)
    assert set(first.json) == {"control", "config_version", "config", "commands"}

    def unchanged(etag: str) -> bool:
        return bool(api.get(path, headers={"If-None-Match": etag}).status_code == 304)

    assert unchanged(first.headers["ETag"])
    api.post(f"/api/bots/{bot_id}/start")
    started = api.get(path)
    assert not unchanged(first.headers["ETag"])
    assert started.json["control"] == {
        "desired": "running", "halted": False, "halt_reason": None, "close_positions": False,
    }  # fmt: skip
    assert started.json["commands"] == []
    api.put(f"/api/trading/bots/{bot_id}/config", {"max_positions": 3})
    assert not unchanged(started.headers["ETag"])


def test_status_health_and_events_answer_for_a_bot_that_never_ran(api: Any, a_bot: Make):
    bot_id = a_bot()

    assert api.get(f"/api/bots/{bot_id}/status").json["status"] == "stopped"
    assert api.get(f"/api/bots/{bot_id}/health").json["heartbeat_age_ms"] is None
    assert api.get(f"/api/bots/{bot_id}/events").json == {"items": [], "next_cursor": None}
    assert api.get(f"/api/bots/{bot_id}/positions").json["items"] == []


def test_strategies_are_the_same_at_both_addresses(api: Any):
    listed = api.get("/api/strategies").json["items"]

    assert listed == api.get("/api/bots/strategies").json["items"]
    assert listed[0] == api.get(f"/api/bots/strategies/{listed[0]['id']}").json
    names = {p["name"] for p in listed[0]["parameters"]}
    assert {"holding_time", "capital_per_trade"} <= names
    assert api.get("/api/strategies/astrology").status_code == 404


def test_an_answer_never_shows_the_inside(app: Any, api: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setattr("server.storage.queries.bot_rows", lambda *_, **__: 1 / 0)
    app.config["PROPAGATE_EXCEPTIONS"] = False

    answer = api.get("/api/bots")

    assert answer.status_code == 500
    assert answer.json["error"]["code"] == "internal"
    assert "division" not in answer.text
    assert "ZeroDivision" not in answer.text
    correlation_id = answer.json["error"]["message"].split()[-1].rstrip(".")
    assert correlation_id in capsys.readouterr().err


def test_a_busy_database_asks_to_come_back(api: Any, a_bot: Make, monkeypatch: pytest.MonkeyPatch):
    from sqlalchemy.exc import OperationalError

    def locked(*_: Any) -> None:
        raise OperationalError("BEGIN IMMEDIATE", {}, Exception("database is locked"))

    bot_id = a_bot()
    monkeypatch.setitem(__import__("server.storage.verbs", fromlist=["VERBS"]).VERBS, "start", locked)

    answer = api.post(f"/api/bots/{bot_id}/start")

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "BEGIN" not in json.dumps(answer.json)
