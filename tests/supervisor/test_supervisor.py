"""Real processes: fake bots under supervisors that come and go."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DatabaseError

from server.storage.engine import read, write
from server.storage.models import TradingConfigVersion, TradingOrder
from server.storage.queries import control_document
from server.supervisor import rows
from server.supervisor.backoff import RestartPolicy
from server.supervisor.decisions import Policy
from server.supervisor.health import HealthPolicy
from server.supervisor.identity import start_ticks
from server.supervisor.run import end_bots

QUICK = Policy(restart=RestartPolicy(base_s=0.05, close_only_every_s=0.2), awaited_s=1.0)
STOPS_SOON = replace(QUICK, stop_s=1.0)
IMPATIENT = replace(STOPS_SOON, health=HealthPolicy(silent_s=1.0, dump_s=0.2))


def test_a_wanted_bot_is_started_and_reports_into_the_rows(fleet: Any) -> None:
    bot = fleet.add_bot()

    fleet.run(fleet.supervisor(), lambda: fleet.bot(bot).heartbeat_ms is not None)

    row = fleet.bot(bot)
    assert (row.status, row.run_id, row.pid) == ("running", f"{bot}.1", fleet.identity(bot).pid)
    assert (row.rss_mib, row.market_ms, row.last_decision_ms) == (1.5, 1, 2)
    assert len(fleet.events(bot, "heartbeat")) == 1


def test_a_bot_that_is_no_longer_wanted_ends_in_order_and_stays_ended(fleet: Any) -> None:
    bot = fleet.add_bot()
    supervisor = fleet.supervisor(policy=QUICK)
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")

    fleet.set(bot, desired_state="stopped")
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "stopped" and fleet.offsets(bot)[-1].done)

    (run,) = fleet.runs(bot)
    assert (run.state, run.exit_code, run.exit_reason, run.wanted) == ("ended", 0, "asked to stop", True)
    assert fleet.bot(bot).pid is None
    assert fleet.events(bot)[-1].type == "exit"


def test_progress_extends_the_time_to_stop(fleet: Any) -> None:
    bot, now = fleet.add_bot(slow_stop=8), [0.0]
    supervisor = fleet.supervisor(policy=replace(QUICK, stop_s=1.5), clock=lambda: now[0])
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")

    def has_stopped() -> bool:
        now[0] = float(len(fleet.events(bot, "status")))  # each step that it reports took a second
        return bool(fleet.bot(bot).status == "stopped")

    fleet.set(bot, desired_state="stopped")
    fleet.run(supervisor, has_stopped)

    assert now[0] >= 8
    assert fleet.runs(bot)[0].exit_code == 0
    assert fleet.bot(bot).status_reason is None


def test_silence_does_not_extend_the_time_to_stop(fleet: Any) -> None:
    bot = fleet.add_bot(deaf=True)
    supervisor = fleet.supervisor(policy=STOPS_SOON)
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")

    fleet.set(bot, desired_state="stopped")
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "stopped")

    assert (fleet.runs(bot)[0].exit_code, fleet.runs(bot)[0].wanted) == (-9, True)
    assert "did not stop within 1 s" in fleet.bot(bot).status_reason


def test_a_changed_config_reaches_the_bot_by_signal(fleet: Any) -> None:
    bot = fleet.add_bot()
    supervisor = fleet.supervisor()
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")

    fleet.set(bot, config_version=2)
    fleet.run(supervisor, lambda: fleet.bot(bot).applied_config_version == 99)

    assert len(fleet.events(bot, "config.applied")) == 1


def test_a_killed_bot_is_started_again_at_once_with_the_next_generation(fleet: Any) -> None:
    bot = fleet.add_bot()
    supervisor = fleet.supervisor()
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")

    fleet.kill_bot(bot)
    fleet.run(supervisor, lambda: fleet.bot(bot).run_id == f"{bot}.2" and fleet.bot(bot).status == "running")

    first, _ = fleet.runs(bot)
    assert (first.exit_code, first.wanted) == (-9, False)


def test_a_stopped_process_is_killed_after_missed_heartbeats_and_replaced(fleet: Any) -> None:
    bot = fleet.add_bot()
    supervisor = fleet.supervisor(policy=IMPATIENT)
    fleet.run(supervisor, lambda: fleet.bot(bot).heartbeat_ms is not None)

    fleet.kill_bot(bot, signal.SIGSTOP)
    fleet.run(supervisor, lambda: fleet.bot(bot).run_id == f"{bot}.2")

    assert fleet.runs(bot)[0].exit_reason.startswith("killed: no heartbeat")


def test_nobody_is_killed_for_silence_while_the_disk_is_full(fleet: Any, monkeypatch: Any) -> None:
    bot = fleet.add_bot(mute=True)
    supervisor = fleet.supervisor(policy=Policy(health=HealthPolicy(starting_s=0.3)))
    monkeypatch.setattr("server.supervisor.supervisor.has_room", lambda _: False)
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")
    view = supervisor._views[bot]
    held = view.pulse.silent_s
    for _ in range(20):
        supervisor.tick()
    assert view.pulse.silent_s == held

    monkeypatch.setattr("server.supervisor.supervisor.has_room", lambda _: True)
    fleet.run(supervisor, lambda: fleet.bot(bot).run_id == f"{bot}.2")


def test_an_unusable_config_stops_one_bot_with_its_reason_until_start_is_pressed_again(fleet: Any) -> None:
    bad, good = fleet.add_bot(exit=78, reason="The model has 3 features, not 48."), fleet.add_bot()
    supervisor = fleet.supervisor(policy=QUICK)

    fleet.run(supervisor, lambda: fleet.bot(bad).status == "error" and fleet.bot(good).status == "running")

    row = fleet.bot(bad)
    assert (row.status_reason, row.faulted_at_start_request) == ("The model has 3 features, not 48.", 1)
    for _ in range(20):
        supervisor.tick()
    assert len(fleet.runs(bad)) == 1

    fleet.plan(bad)
    fleet.set(bad, start_requests=2)
    fleet.run(supervisor, lambda: fleet.bot(bad).status == "running")


def test_a_ticket_that_cannot_be_made_is_an_error_in_words(fleet: Any) -> None:
    bot = fleet.add_bot()
    fleet.set(bot, mode="trade")

    fleet.run(fleet.supervisor(), lambda: fleet.bot(bot).status == "error")

    assert "has no exchange credential" in fleet.bot(bot).status_reason


def test_a_bot_that_dies_again_and_again_is_given_up_also_by_the_next_supervisor(fleet: Any) -> None:
    bot = fleet.add_bot(crash=True)
    fleet.run(fleet.supervisor(policy=QUICK), lambda: len(fleet.runs(bot)) >= 3)

    fleet.run(fleet.supervisor(policy=QUICK), lambda: fleet.bot(bot).status == "error")

    assert len(fleet.runs(bot)) == 5
    assert fleet.bot(bot).status_reason.startswith("Crash loop: 5 ends in 10 minutes")
    assert any("Crash loop" in e.data["message"] for e in fleet.events(bot, "alert"))

    fleet.plan(bot)
    fleet.set(bot, start_requests=2)
    fleet.run(fleet.supervisor(policy=QUICK), lambda: fleet.bot(bot).status == "running")


def test_a_crash_loop_with_an_open_position_goes_on_close_only(fleet: Any) -> None:
    bot = fleet.add_bot(crash=True)
    fleet.add_position(bot)
    supervisor = fleet.supervisor(policy=QUICK)
    fleet.run(supervisor, lambda: fleet.bot(bot).faulted_at_start_request == 1)

    fleet.plan(bot)
    fleet.run(supervisor, lambda: fleet.bot(bot).heartbeat_ms is not None)

    assert fleet.events(bot, "status")[-1].data["status"] == "paused"
    with read(fleet.engine) as connection:
        assert control_document(connection, bot).control.desired == "paused"
    assert fleet.bot(bot).status == "error"
    assert fleet.bot(bot).status_reason.startswith("Crash loop")

    end_bots(fleet.settings, until=time.monotonic() + 15)

    assert fleet.runs(bot)[-1].state == "ended"
    assert fleet.bot(bot).status == "error"
    assert fleet.bot(bot).status_reason.startswith("Crash loop")
    supervisor = fleet.supervisor(policy=QUICK)
    fleet.set(bot, start_requests=2)
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")


@pytest.mark.parametrize("fault", [None, 1])
def test_a_dead_bot_that_is_stopped_is_started_to_close_what_it_holds(fleet: Any, fault: int | None) -> None:
    bot = fleet.add_bot(crash=True)
    closed = fleet.add_position(bot)
    supervisor = fleet.supervisor(policy=QUICK)
    deaths = 5 if fault else 2
    fleet.run(supervisor, lambda: [r.exit_code for r in fleet.runs(bot)][:deaths] == [-9] * deaths)
    fleet.plan(bot, closes=closed, slow_stop=1)
    fleet.set(bot, desired_state="stopped")

    seen = set()

    def is_over() -> bool:
        row = fleet.bot(bot)
        seen.add((row.status, row.status_reason))
        return bool(row.status == "stopped")

    fleet.run(supervisor, is_over)

    assert [p.status for p in fleet.rows(TradingOrder, bot)] == ["closed"]
    assert fleet.runs(bot)[-1].exit_code == 0
    assert fleet.bot(bot).status_reason is None
    assert ("stopping", "Started to close what it holds.") in seen


@pytest.mark.parametrize(
    ("status", "runs"), [("active", 0), ("pending", 1)], ids=["what is held rests", "an entry is withdrawn"]
)
def test_hold_leaves_a_position_and_withdraws_an_entry(fleet: Any, status: str, runs: int) -> None:
    bot = fleet.add_bot("stopped")
    fleet.plan(bot, closes=fleet.add_position(bot, status))
    fleet.set(bot, status="running")
    with write(fleet.engine) as connection:
        connection.execute(update(TradingConfigVersion).values(config={"on_stop": "hold"}))

    fleet.run(fleet.supervisor(policy=QUICK), lambda: fleet.bot(bot).status == "stopped")

    assert len(fleet.runs(bot)) == runs


def test_a_bot_that_cannot_close_its_position_is_let_go_on_trying(fleet: Any) -> None:
    bot = fleet.add_bot(stuck=True)
    closed = fleet.add_position(bot)
    fleet.plan(bot, stuck=True, closes=closed)
    supervisor = fleet.supervisor(policy=STOPS_SOON)
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")

    fleet.set(bot, desired_state="stopped")
    fleet.run(supervisor, lambda: fleet.bot(bot).status_reason is not None)

    assert fleet.bot(bot).status == "stopping"
    assert supervisor._clock() - supervisor._views[bot].stopping_at >= STOPS_SOON.stop_s
    fleet.plan(bot, stuck=False, closes=closed)
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "stopped")
    assert [(r.exit_code, r.wanted) for r in fleet.runs(bot)] == [(0, True)]


def test_a_bot_that_falls_silent_while_it_closes_is_killed_and_another_run_closes(fleet: Any) -> None:
    bot = fleet.add_bot(deaf=True)
    closed = fleet.add_position(bot)
    supervisor = fleet.supervisor(policy=IMPATIENT)
    fleet.run(supervisor, lambda: fleet.bot(bot).heartbeat_ms is not None)
    fleet.plan(bot, closes=closed)

    fleet.set(bot, desired_state="stopped")
    fleet.run(supervisor, lambda: fleet.runs(bot)[0].ended_ms is not None)
    fleet.run(fleet.supervisor(policy=QUICK), lambda: fleet.bot(bot).status == "stopped")

    first, second = fleet.runs(bot)
    assert first.exit_reason.startswith("killed: no heartbeat")
    assert second.exit_code == 0
    assert [p.status for p in fleet.rows(TradingOrder, bot)] == ["closed"]


def test_a_closing_run_that_cannot_be_is_an_error_in_words_and_tried_again(fleet: Any) -> None:
    bot = fleet.add_bot("stopped", exit=78, reason="The key is revoked.")
    closed = fleet.add_position(bot)
    supervisor = fleet.supervisor(policy=QUICK)
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "error")
    assert fleet.bot(bot).status_reason == "The key is revoked."

    fleet.plan(bot, closes=closed)
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "stopped")

    assert [p.status for p in fleet.rows(TradingOrder, bot)] == ["closed"]


def test_a_process_forked_just_before_its_supervisor_died_is_adopted(fleet: Any, monkeypatch: Any) -> None:
    bot = fleet.add_bot()
    with monkeypatch.context() as patched:
        patched.setattr(rows, "note_process", lambda *_: 1 / 0)
        first = fleet.supervisor()
        first.tick()
    assert fleet.runs(bot)[0].state == "spawning"

    fleet.run(fleet.supervisor(), lambda: fleet.bot(bot).status == "running")

    assert len(fleet.runs(bot)) == 1
    assert fleet.bot(bot).pid == first._views[bot].process.pid


def test_a_bot_that_outlived_its_supervisor_is_adopted_and_its_exit_understood(fleet: Any) -> None:
    bot = fleet.add_bot()
    fleet.run(fleet.supervisor(), lambda: fleet.bot(bot).status == "running")
    pid = fleet.identity(bot).pid

    second = fleet.supervisor(policy=QUICK)
    second.tick()

    assert second.live() == [bot]
    assert (fleet.identity(bot).pid, len(fleet.runs(bot))) == (pid, 1)
    fleet.set(bot, desired_state="stopped")

    def is_over() -> bool:
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)  # the first supervisor's child is ours in this test: nobody else reaps it
        return bool(fleet.bot(bot).status == "stopped")

    fleet.run(second, is_over)
    assert fleet.runs(bot)[0].exit_code == 0


def test_a_run_whose_process_was_never_forked_is_closed_and_followed_by_another(fleet: Any) -> None:
    bot = fleet.add_bot()
    with write(fleet.engine) as connection:
        rows.open_run(connection, bot, rows_now())

    fleet.run(fleet.supervisor(policy=QUICK), lambda: fleet.bot(bot).status == "running")

    first, second = fleet.runs(bot)
    assert (first.state, first.exit_reason) == ("ended", "its process never came up")
    assert second.generation == 2


def test_a_journal_that_an_older_database_does_not_know_is_never_written_on(fleet: Any) -> None:
    bot = fleet.add_bot()
    forgotten = fleet.settings.journals(bot) / f"{bot}.7.2.jsonl"
    forgotten.write_bytes(b"lines of a run that the restored database never saw")

    fleet.run(fleet.supervisor(), lambda: fleet.bot(bot).status == "running")

    assert fleet.bot(bot).run_id == f"{bot}.8"


def test_a_reused_process_id_is_no_bot(fleet: Any, own_identity: Any) -> None:
    bot = fleet.add_bot()
    with write(fleet.engine) as connection:
        rows.open_run(connection, bot, 0)
        rows.note_process(connection, bot, 1, os.getpid(), 0)
    lock = fleet.settings.journals(bot) / "lock"
    lock.write_text(
        f'{{"pid": {own_identity.pid}, "start_ticks": {own_identity.start_ticks - 1}, '
        f'"boot_id": "{own_identity.boot_id}", "generation": 1, "run_id": "{bot}.1"}}'
    )

    fleet.run(fleet.supervisor(policy=QUICK), lambda: fleet.bot(bot).status == "running")

    assert fleet.bot(bot).run_id == f"{bot}.2"
    assert start_ticks(os.getpid()) == own_identity.start_ticks  # we were not signalled


def test_a_lock_held_by_someone_unknown_keeps_the_bot_from_being_started_twice(fleet: Any, monkeypatch: Any) -> None:
    import fcntl

    monkeypatch.setattr("server.supervisor.supervisor.STRANGER_AFTER_S", 0.2)
    bot = fleet.add_bot()
    lock = fleet.settings.journals(bot) / "lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        supervisor = fleet.supervisor()
        fleet.run(supervisor, lambda: fleet.bot(bot).status == "error")
        assert "cannot be identified" in fleet.bot(bot).status_reason
        assert not fleet.runs(bot)

    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")


def test_ending_brings_every_bot_and_journal_to_its_end_and_keeps_what_people_want(fleet: Any) -> None:
    bots = [fleet.add_bot(lines=3) for _ in range(3)]
    fleet.run(fleet.supervisor(), lambda: all(fleet.bot(b).status == "running" for b in bots))

    last = fleet.supervisor(policy=QUICK, ending=True)

    def is_over() -> bool:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pass
        return bool(last.is_finished())

    fleet.run(last, is_over)

    for bot in bots:
        assert (fleet.bot(bot).status, fleet.bot(bot).desired_state) == ("stopped", "running")
        assert fleet.runs(bot)[0].wanted
        assert fleet.events(bot)[-1].type == "exit"
    fleet.run(fleet.supervisor(), lambda: all(fleet.bot(b).status == "running" for b in bots))


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", None])
def test_the_end_asks_every_bot_at_once_whatever_the_database_does(
    fleet: Any, monkeypatch: Any, lock: str | None
) -> None:
    monkeypatch.setattr("server.supervisor.run._BUSY_S", 0.05)
    monkeypatch.setattr("server.supervisor.run._LAST_READING_S", 0.1)
    bots = [fleet.add_bot(slow_stop=2) for _ in range(2)]
    fleet.run(fleet.supervisor(), lambda: all(fleet.bot(b).heartbeat_ms for b in bots))
    said: list[str] = []

    with closing(sqlite3.connect(fleet.settings.home / "flotilla.db", isolation_level=None)) as other:
        if lock:
            other.execute(lock)
        else:
            other.execute("ALTER TABLE bots RENAME TO lost")
        end_bots(fleet.settings, until=time.monotonic() + 15, say=said.append)

    assert said[0] == "Ending 2 bots in order …"
    for bot in bots:
        last = fleet.journal_lines(bot)[-1]
        assert (last["type"], last["data"]["code"]) == ("exit", 0)


def test_a_journal_that_cannot_be_read_holds_up_no_other_bot_and_is_read_later(fleet: Any) -> None:
    bad, good = fleet.add_bot(), fleet.add_bot()
    supervisor = fleet.supervisor(policy=QUICK)
    fleet.run(supervisor, lambda: all(fleet.bot(b).status == "running" for b in (bad, good)))
    journal = fleet.settings.journals(bad) / f"{bad}.1.jsonl"
    aside = journal.rename(journal.with_suffix(".aside"))
    journal.mkdir()

    fleet.run(supervisor, lambda: bool(fleet.events(bad, "alert")))
    fleet.kill_bot(good)
    fleet.run(supervisor, lambda: fleet.bot(good).run_id == f"{good}.2" and fleet.bot(good).status == "running")
    fleet.set(bad, desired_state="stopped")
    fleet.run(supervisor, lambda: fleet.bot(bad).status == "stopped")

    (note,) = fleet.events(bad, "alert")
    assert note.data["kind"] == "journal_unreadable"
    assert f"{journal} cannot be read (it is no regular file)" in note.data["message"]
    journal.rmdir()
    aside.rename(journal)
    fleet.run(supervisor, lambda: fleet.offsets(bad)[-1].done)
    assert fleet.events(bad)[-1].type == "exit"


def test_whatever_the_database_raises_the_next_round_comes(fleet: Any, monkeypatch: Any) -> None:
    bot = fleet.add_bot()
    supervisor = fleet.supervisor()
    with monkeypatch.context() as broken:
        broken.setattr(rows, "load_bots", raise_malformed)
        supervisor.tick()
        assert not supervisor.is_finished()

    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")


def raise_malformed(_: Any) -> Any:
    raise DatabaseError("SELECT", {}, Exception("database disk image is malformed"))


def rows_now() -> int:
    from server.storage.times import now_ms

    return now_ms()
