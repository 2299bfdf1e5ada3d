"""One latch over all bots, as a row and as a file: either engages, a release clears both, and nothing is forgotten."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, insert
from sqlalchemy.event import listen, remove

from server.cli.root import cli
from server.settings import Settings
from server.storage import halt_checklist, kill_switch
from server.storage.engine import read, write
from server.storage.models import Event
from server.storage.times import iso, now_ms
from shared.halt import HaltOrder, halt_order

Make = Callable[..., Any]
WHY = {"reason": "odd fills"}


@pytest.fixture
def flotilla(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command line in this home."""
    monkeypatch.setenv("FLOTILLA_HOME", str(settings.home))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return lambda *arguments: CliRunner().invoke(cli, arguments)


def say(engine: Engine, bot_id: int, type_: str, seq: int, ts: int = 2**41, **data: Any) -> None:
    row = {"bot_id": bot_id, "run_id": f"{bot_id}.1", "seq": seq, "ts": ts, "type": type_, "data": data}
    with write(engine) as connection:
        connection.execute(insert(Event).values(**row))


def test_the_switch_writes_row_and_file_and_latches(api: Any, settings: Settings, a_bot: Make):
    assert api.get("/api/system/halt").json["engaged"] is False

    answer = api.post("/api/system/halt", WHY)

    assert answer.status_code == 202
    state = api.get("/api/system/halt").json
    assert (state["engaged"], state["in_database"], state["in_file"], state["number"]) == (True, True, True, 1)
    assert (state["reason"], state["engaged_by"]) == ("odd fills", "a admin")
    order = halt_order(settings.halt_file.read_bytes)
    assert order is not None
    assert (order.by, order.reason, order.close_positions) == ("a admin", "odd fills", False)


def test_while_it_holds_nothing_starts_and_every_bots_control_is_halted(api: Any, api_as: Make, a_bot: Make):
    bot_id = a_bot()
    api.post("/api/system/halt", WHY)

    assert api.post(f"/api/bots/{bot_id}/start").status_code == 409
    control = api_as(f"bot:{bot_id}").get(f"/api/bots/{bot_id}/control").json["control"]
    assert (control["halted"], control["halt_reason"]) == (True, "kill switch, by a admin: odd fills")
    assert control["close_positions"] is False


def test_asked_again_it_asks_for_more_but_never_for_less(api: Any, settings: Settings):
    api.post("/api/system/halt", WHY | {"close_positions": True})
    again = api.post("/api/system/halt", {"reason": "panic"}).json

    assert (again["close_positions"], again["reason"], again["number"]) == (True, "odd fills", 1)
    order = halt_order(settings.halt_file.read_bytes)
    assert order is not None
    assert order.close_positions


def test_a_release_needs_a_reason_clears_both_and_is_audited(api: Any, settings: Settings, a_bot: Make):
    bot_id = a_bot()
    assert api.post("/api/system/release", WHY).status_code == 409
    api.post("/api/system/halt", WHY)
    assert api.post("/api/system/release", {}).status_code == 422

    released = api.post("/api/system/release", {"reason": "found it"}).json

    assert (released["engaged"], released["release_reason"], released["bots"]) == (False, "found it", [])
    assert not settings.halt_file.exists()
    assert api.post(f"/api/bots/{bot_id}/start").status_code == 202
    entries = api.get("/api/audit").json["items"]
    assert [(e["action"], e["reason"]) for e in entries[1:3]] == [
        ("system.release", "found it"),
        ("system.halt", "odd fills"),
    ]


def test_viewers_see_it_and_traders_use_it(api_as: Make):
    assert api_as("viewer").get("/api/system/halt").status_code == 200
    assert api_as("viewer").post("/api/system/halt", WHY).status_code == 403
    assert api_as("trader").post("/api/system/halt", WHY).status_code == 202
    assert api_as("viewer").post("/api/system/release", WHY).status_code == 403


def test_a_locked_database_does_not_keep_the_switch_from_working(api: Any, settings: Settings, monkeypatch: Any):
    from sqlalchemy.exc import OperationalError

    def locked(*_: Any, **__: Any) -> None:
        raise OperationalError("BEGIN IMMEDIATE", {}, Exception("database is locked"))

    monkeypatch.setattr(kill_switch, "halt", locked)

    assert api.post("/api/system/halt", WHY).status_code == 503

    state = api.get("/api/system/halt").json
    assert (state["engaged"], state["in_database"], state["in_file"], state["reason"]) == (
        True,
        False,
        True,
        "odd fills",
    )

    assert api.post("/api/system/halt", {"reason": "panic", "close_positions": True}).status_code == 503
    assert api.post("/api/system/halt", {"reason": "again"}).status_code == 503
    state = api.get("/api/system/halt").json
    assert (state["reason"], state["close_positions"]) == ("odd fills", True)


# --- row and file -----------------------------------------------------------------------------------------------------


def keep_alike(engine: Engine, settings: Settings) -> kill_switch.Latch:
    with write(engine) as connection:
        kill_switch.keep_alike(connection, settings.halt_file)
        assert kill_switch.are_alike(connection, settings.halt_file)
        return kill_switch.state(connection)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"by": 7}'])
def test_a_file_made_by_hand_engages_the_row(engine: Engine, settings: Settings, content: bytes):
    settings.halt_file.write_bytes(content)

    latch = keep_alike(engine, settings)

    assert (latch.engaged, latch.engaged_by, latch.close_positions) == (True, "the halt file", False)


def test_a_file_that_is_lost_is_written_again_from_the_row(engine: Engine, settings: Settings, api: Any):
    api.post("/api/system/halt", WHY | {"close_positions": True})
    settings.halt_file.unlink()

    keep_alike(engine, settings)

    document = json.loads(settings.halt_file.read_text())
    assert (document["reason"], document["close_positions"]) == ("odd fills", True)


def test_a_file_that_cannot_be_looked_at_for_a_moment_latches_nothing(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    def no_descriptor(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", no_descriptor)
        assert not keep_alike(engine, settings).engaged
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", no_descriptor)
        with write(engine) as connection, pytest.raises(OSError):
            kill_switch.keep_alike(connection, settings.halt_file)

    assert not keep_alike(engine, settings).engaged


def test_a_file_that_is_there_and_cannot_be_read_latches(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    settings.halt_file.touch()

    def forbidden(*_: Any) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", forbidden)

    assert keep_alike(engine, settings).engaged


def test_many_may_write_the_file_at_once_and_leave_nothing_else_behind(settings: Settings):
    orders = [HaltOrder(by=f"person {n}", at_ms=1) for n in range(64)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda order: kill_switch.write_file(settings.halt_file, order), orders))

    assert halt_order(settings.halt_file.read_bytes) in orders
    assert [file.name for file in settings.home.glob("halt*")] == ["halt"]


def test_a_file_that_cannot_be_put_in_its_place_leaves_the_old_one_and_no_rest(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    kill_switch.write_file(settings.halt_file, HaltOrder(by="ann", at_ms=1))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("server.storage.kill_switch.os.fsync", full)
    with pytest.raises(OSError):
        kill_switch.write_file(settings.halt_file, HaltOrder(by="bob", at_ms=2))

    assert halt_order(settings.halt_file.read_bytes) == HaltOrder(by="ann", at_ms=1)
    assert [file.name for file in settings.home.glob("halt*")] == ["halt"]


def test_a_folder_is_on_disk_with_the_files_new_name(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    synced: list[bool] = []
    monkeypatch.setattr("server.storage.kill_switch.os.fsync", lambda fd: synced.append(S_ISDIR(os.fstat(fd).st_mode)))

    kill_switch.write_file(settings.halt_file, HaltOrder())

    assert synced == [False, True]


def test_the_file_alone_can_only_be_asked_for_more(settings: Settings):
    first = HaltOrder(by="ann", reason="odd fills", at_ms=1, close_positions=True)
    kill_switch.engage_file(settings.halt_file, first)

    assert kill_switch.engage_file(settings.halt_file, HaltOrder(by="bob", reason="panic", at_ms=2)) == first
    assert halt_order(settings.halt_file.read_bytes) == first

    settings.halt_file.write_bytes(HaltOrder(by="ann", at_ms=1).to_json())
    kill_switch.engage_file(settings.halt_file, HaltOrder(by="bob", at_ms=2, close_positions=True))
    assert halt_order(settings.halt_file.read_bytes) == HaltOrder(by="ann", at_ms=1, close_positions=True)

    settings.halt_file.write_bytes(b"")  # made by hand: it does not say who and why
    kill_switch.engage_file(settings.halt_file, first)
    assert halt_order(settings.halt_file.read_bytes) == first


def test_nothing_engaged_stays_so(engine: Engine, settings: Settings):
    assert not keep_alike(engine, settings).engaged
    assert not settings.halt_file.exists()


# --- the checklist ----------------------------------------------------------------------------------------------------


def test_the_checklist_counts_what_each_bot_has_still_to_do(
    api: Any, engine: Engine, a_bot: Make, a_position: Make, observe: Make
):
    bot_id, other = a_bot(), a_bot(name="other")
    observe(bot_id, pid=4711, run_id=f"{bot_id}.1", status="paused")
    legs = [{"role": "entry", "status": "new"}, {"role": "target", "status": "new"}]
    a_position(bot_id, status="pending", position_key=1, document={"legs": legs})
    a_position(bot_id, status="pending", position_key=2, document={"legs": [{"role": "entry", "status": "unknown"}]})
    a_position(bot_id, position_key=3, document={"legs": [], "activated_ms": 5, "stop_price": None})
    say(engine, bot_id, "order", 1, role="entry", status="cancelled")
    say(engine, bot_id, "order", 2, role="target", status="cancelled")

    lines = api.post("/api/system/halt", WHY).json["bots"]

    first = next(line for line in lines if line["bot_id"] == bot_id)
    counts = {
        name: first[name] for name in ("cancelled", "waiting", "unknown", "positions", "without_stop", "confirmed")
    }
    assert counts == {
        "cancelled": 1, "waiting": 1, "unknown": 1, "positions": 1, "without_stop": 1, "confirmed": False,
    }  # fmt: skip
    assert first["note"] == "runs, and has not said yet that it is halted"
    second = next(line for line in lines if line["bot_id"] == other)
    assert (second["confirmed"], second["note"]) == (True, "does not run, no entry order is left")


def test_a_running_bot_is_confirmed_by_its_own_word_in_its_present_run(
    api: Any, engine: Engine, a_bot: Make, observe: Make
):
    bot_id = a_bot()
    observe(bot_id, pid=4711, run_id=f"{bot_id}.2", status="paused")
    api.post("/api/system/halt", WHY)
    said = {"halted": True, "reason": None, "waiting": 0, "unknown": 0, "positions": 0, "without_stop": 0}

    say(engine, bot_id, "halt", 1, **said)
    assert api.get("/api/system/halt").json["totals"]["confirmed"] == 0

    observe(bot_id, run_id=f"{bot_id}.1")
    assert api.get("/api/system/halt").json["totals"]["confirmed"] == 1


def test_the_file_alone_counts_what_was_cancelled_since_it_was_made(
    api: Any, engine: Engine, a_bot: Make, settings: Settings
):
    bot_id = a_bot()
    api.post("/api/system/halt", WHY)
    api.post("/api/system/release", WHY)
    made_ms = now_ms()
    for seq, ts in enumerate((made_ms - 10, made_ms - 5, made_ms + 60_000)):
        say(engine, bot_id, "order", seq + 1, ts=ts, role="entry", status="cancelled")

    settings.halt_file.write_bytes(HaltOrder(at_ms=made_ms).to_json())
    ordered = api.get("/api/system/halt").json
    settings.halt_file.write_bytes(b"")
    os.utime(settings.halt_file, (made_ms / 1000, made_ms / 1000))
    touched = api.get("/api/system/halt").json

    for state in (ordered, touched):
        assert (state["in_database"], state["totals"]["cancelled"]) == (False, 1)
        assert state["engaged_at"][:19] == iso(made_ms)[:19]
        assert (state["number"], state["released_by"], state["released_at"], state["release_reason"]) == (
            2, None, None, None,
        )  # fmt: skip


@pytest.mark.parametrize(("pid", "without_stop"), [(4711, 0), (None, 1)])
def test_where_no_process_watches_it_a_position_has_no_stop(
    api: Any, a_bot: Make, a_position: Make, observe: Make, pid: int | None, without_stop: int
):
    bot_id = a_bot()
    observe(bot_id, pid=pid, run_id=f"{bot_id}.1")
    a_position(bot_id, document={"legs": [], "activated_ms": 5, "stop_price": "99"})

    totals = api.post("/api/system/halt", WHY).json["totals"]

    assert (totals["positions"], totals["without_stop"]) == (1, without_stop)


def test_the_checklist_reads_events_over_an_index(engine: Engine, a_bot: Make):
    a_bot()
    a_bot(name="other")
    plans = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "FROM events" in statement and not statement.startswith("EXPLAIN"):
            plan = connection.connection.driver_connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append(" / ".join(row[3] for row in plan))

    with read(engine) as connection:
        listen(engine, "before_cursor_execute", explain)
        halt_checklist.checklist(connection, 5)
    remove(engine, "before_cursor_execute", explain)

    assert len(plans) == 2
    assert all("SEARCH events" in plan and "SCAN events" not in plan for plan in plans), plans


# --- the command line -------------------------------------------------------------------------------------------------


def test_the_command_line_halts_and_releases_without_a_server(flotilla: Make, settings: Settings, engine: Engine):
    halted = flotilla("halt", "--reason", "smoke", "--close-positions")

    assert halted.exit_code == 0, halted.output
    with read(engine) as connection:
        latch = kill_switch.state(connection)
    assert (latch.engaged, latch.reason, latch.close_positions) == (True, "smoke", True)
    assert settings.halt_file.exists()

    assert flotilla("release", "--reason", "no fire").exit_code == 0
    assert not settings.halt_file.exists()
    refused = flotilla("release", "--reason", "again")
    assert (refused.exit_code, "not engaged" in refused.output) == (1, True)


def test_the_command_line_halts_by_the_file_where_the_database_is_locked(
    flotilla: Make, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("server.cli.kill_switch.make_engine", lambda url: _impatient(url))
    with closing(sqlite3.connect(settings.home / "flotilla.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        halted = flotilla("halt", "--reason", "smoke")
        again = flotilla("halt", "--reason", "fire", "--close-positions")

    assert (halted.exit_code, again.exit_code) == (0, 0)
    assert "database is locked" in halted.output
    order = halt_order(settings.halt_file.read_bytes)
    assert order is not None
    assert (order.reason, order.close_positions) == ("smoke", True)


def test_the_command_line_prints_json_of_one_shape_with_and_without_a_database(
    flotilla: Make, settings: Settings, api: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("server.cli.kill_switch.make_engine", lambda url: _impatient(url))

    halted = json.loads(flotilla("halt", "--reason", "smoke", "--json").stdout)
    assert halted == api.get("/api/system/halt").json
    released = json.loads(flotilla("release", "--reason", "no fire", "--json").stdout)
    assert released == api.get("/api/system/halt").json

    with closing(sqlite3.connect(settings.home / "flotilla.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        alone = json.loads(flotilla("halt", "--reason", "fire", "--json").stdout)
    assert halted.keys() == released.keys() == alone.keys()
    assert (alone["engaged"], alone["in_file"], alone["reason"]) == (True, True, "fire")
    assert (alone["in_database"], alone["totals"]) == (None, None)


def _impatient(url: str) -> Engine:
    from server.storage.engine import make_engine

    return make_engine(url, busy_timeout_s=0.05)
