"""Runs that people start: waited for, adopted, taken over; and those on other hosts, which are only followed."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert, update

from server.storage import ledger, remote_runs, verbs
from server.storage.audit import Author, Via
from server.storage.engine import write
from server.storage.models import AuditEntry, BotRun, Credential
from server.storage.times import now_ms
from server.supervisor import remote, rows
from server.supervisor.backoff import RestartPolicy
from server.supervisor.decisions import Policy
from server.supervisor.remote import GiveUp, Leave, Recover, Say
from server.supervisor.rows import BotRow
from server.supervisor.run import end_bots
from shared.errors import Conflict, Refused
from shared.events import Envelope
from shared.states import BotState, DesiredState, RunKind

QUICK = Policy(restart=RestartPolicy(base_s=0.05), awaited_s=0.5)


def test_a_process_that_a_person_started_is_adopted_and_told_of_changes_without_a_hangup(fleet: Any) -> None:
    bot = fleet.add_bot(desired="stopped")
    process = fleet.launch(fleet.ticket(bot, RunKind.MANUAL))
    supervisor = fleet.supervisor()
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")
    assert (fleet.bot(bot).pid, [run.kind for run in fleet.runs(bot)]) == (process.pid, ["manual"])

    fleet.set(bot, config_version=2)
    fleet.run(supervisor, lambda: fleet.bot(bot).applied_config_version == 99)

    assert fleet.runs(bot)[0].state == "running"


def test_a_ticket_is_waited_for_and_nothing_is_started_beside_it(fleet: Any) -> None:
    bot = fleet.add_bot(desired="stopped")
    ticket = fleet.ticket(bot, RunKind.MANUAL)
    supervisor = fleet.supervisor()
    for _ in range(20):
        supervisor.tick()
    assert [run.state for run in fleet.runs(bot)] == ["spawning"]

    fleet.launch(ticket)
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")

    assert [run.state for run in fleet.runs(bot)] == ["running"]


def test_an_abandoned_ticket_is_taken_over_because_the_bot_is_wanted(fleet: Any) -> None:
    bot = fleet.add_bot(desired="stopped")
    fleet.ticket(bot, RunKind.MANUAL)

    fleet.run(fleet.supervisor(policy=QUICK), lambda: fleet.bot(bot).status == "running")

    abandoned, taken = fleet.runs(bot)
    assert (abandoned.state, abandoned.exit_reason) == ("ended", "its process never came up")
    assert taken.kind == "supervised"


def test_a_killed_one_is_taken_over_and_one_that_ended_in_order_is_not(fleet: Any) -> None:
    killed, ended = fleet.add_bot(desired="stopped"), fleet.add_bot(desired="stopped")
    processes = [fleet.launch(fleet.ticket(bot, RunKind.MANUAL)) for bot in (killed, ended)]
    supervisor = fleet.supervisor(policy=QUICK)
    fleet.run(supervisor, lambda: all(fleet.bot(b).status == "running" for b in (killed, ended)))

    processes[0].child.kill()
    processes[1].child.terminate()
    fleet.run(supervisor, lambda: fleet.bot(killed).run_id == f"{killed}.2" and fleet.bot(ended).status == "stopped")

    assert [run.kind for run in fleet.runs(killed)] == ["manual", "supervised"]
    assert (fleet.bot(killed).desired_state, fleet.bot(ended).desired_state) == ("running", "stopped")
    assert [(run.exit_code, run.wanted) for run in fleet.runs(ended)] == [(0, True)]


def test_a_start_that_was_pressed_after_the_launch_outlives_the_end_of_the_run(fleet: Any) -> None:
    bot, other = fleet.add_bot(desired="stopped"), fleet.add_bot(desired="stopped")
    processes = [fleet.launch(fleet.ticket(b, RunKind.MANUAL)) for b in (bot, other)]
    supervisor = fleet.supervisor(policy=QUICK)
    fleet.run(supervisor, lambda: all(fleet.bot(b).status == "running" for b in (bot, other)))

    with write(fleet.engine) as connection:
        keys = {"name": "k", "exchange": "simulator", "api_key_last4": "1234", "sealed": b"", "created_ms": 1}
        connection.execute(insert(Credential).values(id=1, **keys))
    fleet.set(bot, credential_id=1)
    ask(fleet, verbs.start, bot)
    fleet.set(bot, credential_id=None)
    for process in processes:
        process.child.terminate()
    fleet.run(supervisor, lambda: fleet.bot(bot).run_id == f"{bot}.2" and fleet.bot(other).status == "stopped")

    assert [run.kind for run in fleet.runs(bot)] == ["manual", "supervised"]
    assert (fleet.bot(bot).desired_state, fleet.bot(other).desired_state) == ("running", "stopped")
    (entry,) = fleet.rows(AuditEntry, other)
    assert (entry.actor, entry.action, entry.after) == ("system", "bot.stop", {"desired_state": "stopped"})


def test_the_end_of_an_older_run_moves_nothing_of_the_one_that_a_person_launched_since(
    fleet: Any, waiting: Any
) -> None:
    bot = fleet.add_bot(exit=78, reason="the keys were revoked")
    supervisor = fleet.supervisor(policy=QUICK)
    fleet.run(supervisor, lambda: supervisor.live() == [bot])
    view = supervisor._views[bot]
    waiting(view.process.has_exited)
    fleet.ticket(bot, RunKind.MANUAL)
    fleet.set(bot, status="starting", status_reason="Launched by ann.")

    with write(fleet.engine) as connection:
        (seen,) = rows.load_bots(connection)
    supervisor._note_end(seen, view)

    row = fleet.bot(bot)
    assert (row.status, row.status_reason, row.desired_state) == ("starting", "Launched by ann.", "running")
    assert row.faulted_at_start_request is None
    assert [(run.kind, run.ended_ms is None) for run in fleet.runs(bot)] == [("supervised", False), ("manual", True)]


def test_the_end_of_everything_ends_it_and_keeps_the_wish(fleet: Any) -> None:
    bot = fleet.add_bot(desired="stopped")
    fleet.launch(fleet.ticket(bot, RunKind.MANUAL))
    fleet.run(fleet.supervisor(), lambda: fleet.bot(bot).status == "running")

    end_bots(fleet.settings, until=time.monotonic() + 15)

    assert fleet.runs(bot)[0].state == "ended"
    assert fleet.bot(bot).desired_state == "running"


def test_a_launch_between_looking_and_starting_wins(fleet: Any) -> None:
    bot = fleet.add_bot()
    supervisor = fleet.supervisor()
    with write(fleet.engine) as connection:
        (seen,) = rows.load_bots(connection)
    fleet.ticket(bot, RunKind.MANUAL)

    view = supervisor._first_view(seen)
    supervisor._spawn(seen, view, False)

    assert [run.kind for run in fleet.runs(bot)] == ["manual"]
    assert view.process is None


# --- on another host --------------------------------------------------------------------------------------------------

FAR = BotRow(
    id=3, name="b", desired=DesiredState.RUNNING, told=(1, "running", False), start_requests=1, faulted_at=None,
    status=BotState.RUNNING, status_reason=None, generation=7, run_state=ledger.RUNNING, run_created_ms=0,
    run_kind=RunKind.REMOTE, host="barn", heard_ms=0,
)  # fmt: skip
LOST = replace(FAR, status=BotState.ERROR, faulted_at=1, status_reason="No word from host barn for 10 minutes. …")


@pytest.mark.parametrize(
    ("bot", "silent_s", "action"),
    [
        (FAR, 39.9, Leave),
        (FAR, 40.0, Say),
        (FAR, 599.0, Say),
        (FAR, 600.0, GiveUp),
        (replace(FAR, desired=DesiredState.STOPPED), 600.0, GiveUp),
        (LOST, 5000.0, Leave),
        (replace(LOST, start_requests=2), 5000.0, Leave),
        (LOST, 2.0, Recover),
        (replace(LOST, start_requests=2), 2.0, Recover),
        (replace(FAR, status_reason="No word from host barn for 60 s. …"), 2.0, Recover),
    ],
)
def test_silence_is_told_then_an_error_and_only_a_person_ends_it(bot: BotRow, silent_s: float, action: type) -> None:
    assert isinstance(remote.judge(bot, silent_s), action)


def test_the_length_of_silence_is_told_in_steps() -> None:
    told = remote.judge(FAR, 47.0)
    assert isinstance(told, Say)
    assert told.reason.startswith("No word from host barn for 40 s.")

    assert isinstance(remote.judge(replace(FAR, status_reason=told.reason), 58.0), Leave)
    later = remote.judge(replace(FAR, status_reason=told.reason), 61.0)
    assert isinstance(later, Say)
    assert "for 60 s" in later.reason


def far_bot(fleet: Any, **columns: Any) -> int:
    bot: int = fleet.add_bot(desired="stopped")
    fleet.ticket(bot, RunKind.REMOTE, host="barn", heard_ms=now_ms(), **columns)
    return bot


def post(fleet: Any, bot: int, seq: int, type_: str, **data: Any) -> None:
    run_id = f"{bot}.1"
    envelope = Envelope(bot_id=bot, run_id=run_id, seq=seq, ts=now_ms(), type=type_, data=data)
    with write(fleet.engine) as connection:
        remote_runs.book(connection, bot, run_id, [(1, envelope)])


def test_nothing_is_started_beside_a_remote_run(fleet: Any) -> None:
    bot = far_bot(fleet)
    post(fleet, bot, 1, "status", status="running", reason=None)
    supervisor = fleet.supervisor(policy=QUICK)
    for _ in range(30):
        supervisor.tick()

    assert [run.kind for run in fleet.runs(bot)] == ["remote"]
    assert (fleet.bot(bot).status, fleet.bots) == ("running", [])


def test_the_end_that_a_remote_run_posts_is_its_end(fleet: Any) -> None:
    bot = far_bot(fleet)
    post(fleet, bot, 1, "exit", code=0, reason="stopped")

    fleet.run(fleet.supervisor(), lambda: fleet.bot(bot).status == "stopped")

    assert fleet.bot(bot).desired_state == "stopped"
    (run,) = fleet.runs(bot)
    assert (run.state, run.exit_code, run.wanted) == ("ended", 0, True)


def test_a_remote_run_that_says_that_it_broke_is_taken_over(fleet: Any) -> None:
    bot = far_bot(fleet)
    post(fleet, bot, 1, "exit", code=1, reason="bug: ValueError: x")

    fleet.run(fleet.supervisor(policy=QUICK), lambda: fleet.bot(bot).run_id == f"{bot}.2")

    assert [run.kind for run in fleet.runs(bot)] == ["remote", "supervised"]


def lose(fleet: Any, bot: int, supervisor: Any) -> None:
    with write(fleet.engine) as connection:
        connection.execute(update(BotRun).values(heard_ms=now_ms() - 700_000))
    supervisor._began = supervisor._clock() - 700  # it was up all that time
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "error")


def ask(fleet: Any, verb: Any, bot: int, reason: str | None = None) -> None:
    with write(fleet.engine) as connection:
        verb(connection, bot, Author("ann", Via.API), reason)


def test_a_lost_remote_run_waits_for_take_over_and_its_late_words_are_facts(fleet: Any) -> None:
    bot = far_bot(fleet)
    post(fleet, bot, 1, "status", status="running", reason=None)
    supervisor = fleet.supervisor(policy=QUICK)
    lose(fleet, bot, supervisor)
    with write(fleet.engine) as connection:
        keys = {"name": "k", "exchange": "simulator", "api_key_last4": "1234", "sealed": b"", "created_ms": 1}
        connection.execute(insert(Credential).values(id=1, **keys))
    fleet.set(bot, credential_id=1)

    ask(fleet, verbs.take_over, bot, "the machine burnt down")
    fleet.set(bot, credential_id=None)
    fleet.run(supervisor, lambda: fleet.bot(bot).run_id == f"{bot}.2" and fleet.bot(bot).status == "running")
    post(fleet, bot, 2, "status", status="paused", reason="late")
    post(fleet, bot, 3, "exit", code=73, reason="taken over")

    assert fleet.bot(bot).status == "running"
    assert [e.data["reason"] for e in fleet.events(bot, "status") if e.run_id == f"{bot}.1"] == [None, "late"]
    lost = fleet.runs(bot)[0]
    assert (lost.state, lost.exit_reason, lost.exit_code) == ("settled", "taken over from host barn", 73)


@pytest.mark.parametrize("verb", [verbs.start, verbs.reset_errors])
def test_no_second_process_starts_beside_a_lost_run_because_of_start_or_reset_errors(fleet: Any, verb: Any) -> None:
    bot = far_bot(fleet)
    supervisor = fleet.supervisor(policy=QUICK)
    lose(fleet, bot, supervisor)

    with pytest.raises(Conflict) as refused:
        ask(fleet, verb, bot)
    for _ in range(20):
        supervisor.tick()

    assert "host barn" in refused.value.message
    assert "11 minutes" in refused.value.message
    assert f"/api/bots/{bot}/take-over" in refused.value.message
    assert [run.kind for run in fleet.runs(bot)] == ["remote"]
    assert fleet.bot(bot).status == "error"


def test_only_a_lost_run_is_taken_over_and_only_with_a_reason(fleet: Any) -> None:
    bot = far_bot(fleet)
    with pytest.raises(Conflict):
        ask(fleet, verbs.take_over, bot, "I think it is dead")
    lose(fleet, bot, fleet.supervisor(policy=QUICK))

    with pytest.raises(Refused):
        ask(fleet, verbs.take_over, bot)

    assert fleet.runs(bot)[0].ended_ms is None


def test_a_server_that_was_down_waits_ten_minutes_for_a_host_before_it_gives_it_up(fleet: Any) -> None:
    bot = far_bot(fleet)
    post(fleet, bot, 1, "status", status="running", reason=None)
    with write(fleet.engine) as connection:
        connection.execute(update(BotRun).values(heard_ms=now_ms() - 3_600_000))

    fleet.supervisor(policy=QUICK).tick()

    assert (fleet.bot(bot).status, fleet.bot(bot).status_reason) == ("running", None)
    assert isinstance(remote.judge(FAR, 3600.0, up_s=39.0), Leave)
    assert isinstance(remote.judge(FAR, 3600.0, up_s=599.0), Say)
    assert isinstance(remote.judge(FAR, 3600.0, up_s=600.0), GiveUp)
    assert isinstance(remote.judge(LOST, 3600.0, up_s=2.0), Leave)


def test_the_end_of_everything_does_not_wait_for_other_hosts(fleet: Any) -> None:
    bot = far_bot(fleet)

    end_bots(fleet.settings, until=time.monotonic() + 3600)  # waiting, it would outlast the test's own time

    assert fleet.runs(bot)[0].state == "spawning"
