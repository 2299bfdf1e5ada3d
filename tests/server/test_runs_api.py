"""Manual launches: the run ticket, and the events that a remote run posts."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, update

from bots.utils.run_lock import take_run_lock
from server.security.tokens import find_token
from server.storage.engine import read, write
from server.storage.models import AuditEntry, BotRun, Event, Fill, JournalOffset
from server.storage.times import now_ms
from server.supervisor.identity import boot_id
from shared.events import Exit, FillBooked, Status, encode_line
from shared.states import BotState, Role, Side
from shared.tickets import RunTicket

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def here(settings: Any) -> dict[str, Any]:
    """A body from a launcher that sees the server's home."""
    home = os.stat(settings.home)
    namespace = os.stat("/proc/self/ns/pid").st_ino
    place = {"boot_id": boot_id(), "pid_namespace": namespace, "device": home.st_dev, "inode": home.st_ino}
    return {"host": "study", "home": place}


@pytest.fixture
def remote(api: Any, api_as: Any, a_bot: Any) -> Any:
    """A remote run: its ticket, and the API with its token."""

    class Remote:
        def __init__(self) -> None:
            self.bot_id = a_bot()
            self.ticket = api.post(f"/api/bots/{self.bot_id}/runs", {"host": "barn"}).json
            self.api = api_as(None)
            self.api.token = self.ticket["token"]
            self.path = f"/api/trading/bots/{self.bot_id}/events"

        def line(self, seq: int, payload: Any, run_id: str | None = None, bot_id: int | None = None) -> bytes:
            run_id = run_id or self.ticket["run_id"]
            return encode_line(
                bot_id=bot_id or self.bot_id, run_id=run_id, seq=seq, ts=1_700_000_000_000, payload=payload
            )

        def post(self, *lines: bytes, **options: Any) -> Any:
            return self.api("POST", self.path, data=b"".join(lines), headers=options.pop("headers", NDJSON), **options)

    return Remote()


def a_fill(trade_id: int) -> FillBooked:
    return FillBooked(
        trade_id=trade_id, order_id=1, client_order_id="fx-1-1-e1", position_key=1, symbol="ETHUSDT", role=Role.ENTRY,
        side=Side.BUY, price=Decimal(1), quantity=Decimal(1), fee=Decimal(0), fee_asset="ETH", fee_quote=Decimal(0),
        is_maker=False, time_ms=1,
    )  # fmt: skip


RUNNING = Status(status=BotState.RUNNING)


def rows(engine: Any, table: Any, bot_id: int) -> list[Any]:
    with read(engine) as connection:
        return list(connection.execute(select(table).where(table.bot_id == bot_id).order_by(table.id)))


# --- the ticket -------------------------------------------------------------------------------------------------------


def test_a_launcher_that_sees_the_servers_home_gets_a_ticket_for_this_host(api, a_bot, here, engine, settings):
    bot_id = a_bot()

    answer = api.post(f"/api/bots/{bot_id}/runs", here)

    assert answer.status_code == 201
    ticket = RunTicket.from_json(answer.data)
    assert (ticket.run_id, ticket.kind, ticket.memory) == (f"{bot_id}.1", "manual", None)
    assert (ticket.api_key, ticket.api_secret) == ("key-of-the-account", "its-secret")
    assert ticket.home == str(settings.journals(bot_id))
    with read(engine) as connection:
        token = find_token(connection, ticket.token)
    assert token is not None
    assert token.bot_id == bot_id
    bot = api.get(f"/api/bots/{bot_id}").json
    assert (bot["desired_state"], bot["status"], bot["run_id"]) == ("running", "starting", ticket.run_id)
    assert "study" in bot["status_reason"]
    (run,) = rows(engine, BotRun, bot_id)
    assert (run.kind, run.host, run.state) == ("manual", "study", "spawning")


def test_a_launch_is_in_the_audit_log_without_secrets(api, a_bot, here, engine):
    bot_id = a_bot()

    api.post(f"/api/bots/{bot_id}/runs", here)

    with read(engine) as connection:
        entries = list(connection.execute(select(AuditEntry).where(AuditEntry.bot_id == bot_id)))
    launch = next(e for e in entries if e.action == "bot.launch")
    assert launch.after == {"run_id": f"{bot_id}.1", "kind": "manual", "host": "study"}
    assert "its-secret" not in str(entries)


def test_the_keys_of_a_real_exchange_are_handed_to_admins_only(api, api_as, a_bot, here, observe):
    simulated, real = a_bot(), a_bot()
    observe(real, exchange="binance_testnet")

    refused = api_as("trader").post(f"/api/bots/{real}/runs", here)

    assert refused.status_code == 403
    assert "needs the role admin" in refused.json["error"]["message"]
    assert api.get(f"/api/bots/{real}").json["run_id"] is None
    assert api_as("trader").post(f"/api/bots/{simulated}/runs", here).status_code == 201
    assert api.post(f"/api/bots/{real}/runs", here).status_code == 201


@pytest.mark.parametrize("part", ["boot_id", "inode", "device", "pid_namespace"])
def test_a_launcher_with_another_home_is_remote(api, a_bot, here, part):
    here["home"][part] = "another" if part == "boot_id" else here["home"][part] + 1

    assert api.post(f"/api/bots/{a_bot()}/runs", here).json["kind"] == "remote"


def test_a_ticket_needs_no_body_and_is_remote_then(api, a_bot):
    answer = api.post(f"/api/bots/{a_bot()}/runs")

    assert (answer.status_code, answer.json["kind"]) == (201, "remote")


def test_a_second_ticket_is_refused_while_the_first_one_may_still_come_up(api, a_bot, here):
    bot_id = a_bot()
    api.post(f"/api/bots/{bot_id}/runs", here)

    answer = api.post(f"/api/bots/{bot_id}/runs", here)

    assert (answer.status_code, answer.json["error"]["code"]) == (409, "already_running")


def test_a_bot_whose_lock_is_held_is_running_whatever_the_rows_say(api, a_bot, here, settings):
    bot_id = a_bot()
    folder = settings.journals(bot_id)
    folder.mkdir(parents=True)
    lock = take_run_lock(folder, 7, f"{bot_id}.7")

    answer = api.post(f"/api/bots/{bot_id}/runs", here)

    assert (answer.status_code, answer.json["error"]["code"]) == (409, "already_running")
    os.close(lock)
    assert api.post(f"/api/bots/{bot_id}/runs", here).status_code == 201


def test_an_abandoned_ticket_does_not_keep_a_later_launch_away(api, a_bot, here, engine):
    bot_id = a_bot()
    api.post(f"/api/bots/{bot_id}/runs", here)
    with write(engine) as connection:
        connection.execute(update(BotRun).values(created_ms=BotRun.created_ms - 11_000))

    assert api.post(f"/api/bots/{bot_id}/runs", here).json["generation"] == 2


def test_a_launch_takes_a_number_above_every_journal_there_is(api, a_bot, here, settings):
    bot_id = a_bot()
    settings.journals(bot_id).mkdir(parents=True)
    (settings.journals(bot_id) / f"{bot_id}.41.jsonl").touch()

    assert api.post(f"/api/bots/{bot_id}/runs", here).json["generation"] == 42


def test_refusals_of_a_launch_change_nothing(api, api_as, a_bot, here, observe):
    bot_id, halted = a_bot(), a_bot()
    observe(halted, halted=True)
    path = f"/api/bots/{bot_id}/runs"

    assert api.post(path, here | {"symbol": "BTCUSDT"}).status_code == 422
    assert api.post(path, here | {"nonsense": 1}).status_code == 422
    assert api.post(f"/api/bots/{halted}/runs", here).json["error"]["code"] == "conflict"
    assert api.post("/api/bots/99999/runs", here).status_code == 404
    assert api_as("viewer").post(path, here).status_code == 403
    assert api_as(f"bot:{bot_id}").post(path, here).status_code == 403
    assert api_as(None).post(path, here).status_code == 401
    assert api.get(f"/api/bots/{bot_id}").json["run_id"] is None


def test_only_its_own_host_can_say_that_a_silent_remote_run_is_dead(api, a_bot, engine):
    bot_id = a_bot()
    path = f"/api/bots/{bot_id}/runs"
    first = api.post(path, {"host": "barn"}).json["run_id"]

    assert api.post(path, {"host": "barn"}).status_code == 409
    assert api.post(path, {"host": "study", "replaces": first}).status_code == 409
    assert "barn" in api.post(path, {"host": "study"}).json["error"]["message"]
    second = api.post(path, {"host": "barn", "replaces": first})

    assert second.status_code == 201
    assert [run.state for run in rows(engine, BotRun, bot_id)] == ["ended", "spawning"]


def test_another_host_gets_what_the_bot_holds_from_the_rows(api, a_bot, a_position, engine):
    bot_id = a_bot()
    first = api.post(f"/api/bots/{bot_id}/runs", {"host": "barn"}).json
    assert (first["memory"], first["memory_generation"]) == (None, 0)
    terms = {
        "profit_target_pct": None, "stop_loss_pct": None, "holding_time": None, "take_profit_order": "watched",
        "maker_order_timeout": 60, "on_entry_timeout": "cancel",
    }  # fmt: skip
    document = {
        "position_key": 5, "symbol": "ETHUSDT", "side": "BUY", "status": "active", "terms": terms, "opened_ms": 5,
        "config_version": 1, "quantity": "0.5", "legs": [],
    }  # fmt: skip
    a_position(bot_id, position_key=5, document=document)
    with write(engine) as connection:
        counters = {"counters": {"trades": 3, "pnl": "1.5"}}
        event = {"bot_id": bot_id, "run_id": f"{bot_id}.1", "seq": 9, "ts": 1, "type": "stats", "data": counters}
        connection.execute(Event.__table__.insert().values(**event))
        connection.execute(update(JournalOffset).values(last_seq=9))

    ticket = api.post(f"/api/bots/{bot_id}/runs", {"host": "barn", "replaces": first["run_id"]}).json

    assert ticket["memory_generation"] == 1
    assert ticket["memory"]["counters"]["trades"] == 3
    (position,) = ticket["memory"]["positions"]
    assert (position["position_key"], position["quantity"]) == (5, "0.5")


def test_another_host_waits_until_the_journal_is_read(api, a_bot, here):
    bot_id = a_bot()
    api.post(f"/api/bots/{bot_id}/runs", here)
    ticket_of_another = {"host": "barn"}

    answer = api.post(f"/api/bots/{bot_id}/runs", ticket_of_another)

    assert answer.status_code == 409


# --- what a remote run posts ------------------------------------------------------------------------------------------


def test_events_are_booked_once_however_often_they_come(remote, api, engine):
    lines = remote.line(1, RUNNING), remote.line(2, a_fill(7))

    first, again = remote.post(*lines), remote.post(*lines)

    assert first.status_code == again.status_code == 200
    assert first.json["last_seq"] == again.json["last_seq"] == 2
    assert first.json["replaced_by"] is None
    assert len(rows(engine, Fill, remote.bot_id)) == 1
    assert [e.seq for e in rows(engine, Event, remote.bot_id)] == [1, 2]
    assert api.get(f"/api/bots/{remote.bot_id}").json["status"] == "running"
    (run,) = rows(engine, BotRun, remote.bot_id)
    assert (run.state, run.host) == ("running", "barn")
    assert run.heard_ms is not None


def test_what_is_to_be_polled_shows_in_every_answer(remote, api):
    before = remote.post(remote.line(1, RUNNING)).json["control_tag"]
    assert remote.post(remote.line(1, RUNNING)).json["control_tag"] == before

    api.post(f"/api/bots/{remote.bot_id}/pause")

    assert remote.post(remote.line(1, RUNNING)).json["control_tag"] != before


def test_a_number_that_was_left_out_is_an_alarm_and_is_booked_when_it_comes(remote, engine):
    remote.post(remote.line(1, RUNNING))
    remote.post(remote.line(4, RUNNING))
    late = remote.post(remote.line(2, a_fill(7)), remote.line(3, RUNNING))

    assert late.json["last_seq"] == 4
    events = rows(engine, Event, remote.bot_id)
    assert sorted(e.seq for e in events if e.seq > 0) == [1, 2, 3, 4]
    (alarm,) = [e for e in events if e.seq < 0]
    assert "lines 2 to 3 are missing" in alarm.data["message"]


def test_a_replaced_runs_facts_are_booked_and_move_no_status(remote, api, engine):
    remote.post(remote.line(1, RUNNING))
    ended = {"host": "barn", "replaces": remote.ticket["run_id"]}
    newer = api.post(f"/api/bots/{remote.bot_id}/runs", ended).json["run_id"]

    answer = remote.post(remote.line(2, a_fill(9)), remote.line(3, Status(status=BotState.PAUSED)))

    assert (answer.status_code, answer.json["replaced_by"]) == (200, newer)
    assert [fill.trade_id for fill in rows(engine, Fill, remote.bot_id)] == [9]
    assert api.get(f"/api/bots/{remote.bot_id}").json["status"] == "starting"


def test_a_replaced_run_hears_so_however_old_it_is_until_it_has_told_its_end(remote, api, engine):
    month = 30 * 86_400_000
    with write(engine) as connection:
        connection.execute(update(BotRun).values(created_ms=BotRun.created_ms - month, heard_ms=now_ms()))
    newer = api.post(f"/api/bots/{remote.bot_id}/runs", {"host": "barn", "replaces": remote.ticket["run_id"]}).json

    assert remote.post(remote.line(1, RUNNING)).json["replaced_by"] == newer["run_id"]
    assert remote.post(remote.line(2, Exit(code=73, reason="replaced"))).status_code == 200
    api.post(f"/api/bots/{remote.bot_id}/runs", {"host": "barn", "replaces": newer["run_id"]})
    assert remote.post(remote.line(3, RUNNING)).status_code == 401


def test_what_people_want_now_is_not_told_to_a_run_that_was_replaced(remote, api):
    control = f"/api/bots/{remote.bot_id}/control"
    assert remote.api.get(control).json["control"]["desired"] == "running"
    newer = api.post(f"/api/bots/{remote.bot_id}/runs", {"host": "barn", "replaces": remote.ticket["run_id"]}).json

    refused = remote.api.get(control)

    assert (refused.status_code, refused.json["error"]["code"]) == (409, "replaced")
    assert refused.json["error"]["fields"] == {"replaced_by": newer["run_id"]}
    remote.api.token = newer["token"]
    assert remote.api.get(control).status_code == 200


def test_a_run_reports_itself_and_what_earlier_ones_left_but_never_a_later_one(remote, api, engine):
    newer = api.post(f"/api/bots/{remote.bot_id}/runs", {"host": "barn", "replaces": remote.ticket["run_id"]}).json

    forged = remote.post(remote.line(1, a_fill(1), run_id=newer["run_id"]))
    remote.api.token = newer["token"]
    left = remote.post(remote.line(1, a_fill(2)))

    assert (forged.status_code, left.status_code) == (403, 200)
    assert [fill.trade_id for fill in rows(engine, Fill, remote.bot_id)] == [2]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"no json\n", ""),
        (b"[1]\n", "missing or wrong"),
        (b'{"v":1}\n', "bot_id"),
        (b"[" * 2000 + b"\n", ""),
        (b'{"a":' * 60 + b"1" + b"}" * 60 + b"\n", "nested"),
        (b'{"x":"' + b"y" * 70_000 + b'"}\n', "longer than"),
        (b'{"v":1,"bot_id":1,"run_id":"1.1","seq":"x","ts":1,"type":"log","data":{}}\n', ""),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_booked(remote, engine, bad, reason):
    answer = remote.post(remote.line(1, RUNNING), bad)

    assert answer.status_code == 422
    assert list(answer.json["error"]["fields"]) == ["line 2"]
    assert reason in answer.json["error"]["fields"]["line 2"]
    assert rows(engine, Event, remote.bot_id) == []


@pytest.mark.parametrize(
    "change",
    [{"run_id": "1.99x"}, {"run_id": "77.1"}, {"bot_id": 99}, {"seq": 0}, {"seq": 2**60}, {"ts": -1}, {"data": {}}],
)
def test_a_line_that_is_not_of_this_bot_or_of_no_schema_is_named(remote, engine, change):
    line = json.dumps(json.loads(remote.line(2, a_fill(1))) | change).encode()

    answer = remote.post(remote.line(1, RUNNING), line)

    assert (answer.status_code, list(answer.json["error"]["fields"])) == (422, ["line 2"])
    assert rows(engine, Event, remote.bot_id) == []


@pytest.mark.parametrize(
    "data",
    [
        {"level": "info", "message": "\x00"},
        {"level": "info", "message": "\ud800"},
    ],
)
def test_text_that_no_database_keeps_is_named(remote, data):
    line = json.dumps(json.loads(remote.line(1, RUNNING)) | {"type": "log", "data": data}).encode()

    assert remote.post(line).status_code == 422


def test_numbers_that_no_column_holds_are_named(remote, engine):
    document = json.loads(remote.line(2, a_fill(1)))
    document["data"]["trade_id"] = 2**70

    answer = remote.post(remote.line(1, RUNNING), json.dumps(document).encode())

    assert (answer.status_code, list(answer.json["error"]["fields"])) == (422, ["line 2"])
    assert rows(engine, Event, remote.bot_id) == []


def test_too_much_at_once_is_refused(remote):
    assert remote.post(b"\n" * 1_100_000).status_code == 413
    assert remote.post(*[remote.line(1, RUNNING)] * 2001).status_code == 413
    assert remote.post().status_code == 422
    assert remote.post(remote.line(1, RUNNING), headers={"Content-Type": "image/png"}).status_code == 415


def test_only_the_bots_own_token_may_post(remote, api, api_as, a_bot):
    line = remote.line(1, RUNNING)
    other = api_as(f"bot:{a_bot()}")

    assert api("POST", remote.path, data=line, headers=NDJSON).status_code == 403
    assert api_as("trader")("POST", remote.path, data=line, headers=NDJSON).status_code == 403
    assert other("POST", remote.path, data=line, headers=NDJSON).status_code == 403
    assert api_as(None)("POST", remote.path, data=line, headers=NDJSON).status_code == 401


def test_a_run_of_this_host_does_not_report_by_http(api, api_as, a_bot, here):
    bot_id = a_bot()
    ticket = api.post(f"/api/bots/{bot_id}/runs", here).json
    bot = api_as(None)
    bot.token = ticket["token"]
    line = encode_line(bot_id=bot_id, run_id=ticket["run_id"], seq=1, ts=1, payload=RUNNING)

    answer = bot("POST", f"/api/trading/bots/{bot_id}/events", data=line, headers=NDJSON)

    assert answer.status_code == 404
