"""What people ask for between starting and stopping: restarts, commands, and the kill switch kept as row and file."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from structlog.testing import capture_logs

from server.storage import commands, kill_switch
from server.storage.audit import Author, Via
from server.storage.engine import read, write
from server.storage.models import BotCommand, TradingOrder
from server.storage.queries import bot_row, control_document
from server.storage.times import now_ms
from server.supervisor import rows

ANN = Author("ann", Via.API)


def give(fleet: Any, bot_id: int, verb: str = commands.CLOSE_POSITIONS, **args: Any) -> int:
    with write(fleet.engine) as connection:
        return commands.give(connection, bot_row(connection, bot_id), verb, args, ANN)


def rows_of(fleet: Any, bot_id: int) -> list[Any]:
    with read(fleet.engine) as connection:
        return list(connection.execute(select(BotCommand).where(BotCommand.bot_id == bot_id).order_by(BotCommand.id)))


def document(fleet: Any, bot_id: int) -> Any:
    with read(fleet.engine) as connection:
        return control_document(connection, bot_id)


def test_a_restart_is_one_new_run_and_no_death(fleet: Any) -> None:
    bot = fleet.add_bot()
    supervisor = fleet.supervisor()
    fleet.run(supervisor, lambda: fleet.bot(bot).heartbeat_ms is not None)

    fleet.set(bot, restart_requests=1)
    fleet.run(supervisor, lambda: fleet.bot(bot).run_id == f"{bot}.2" and fleet.bot(bot).status == "running")

    first, second = fleet.runs(bot)
    assert (first.wanted, first.exit_code, first.exit_reason) == (True, 0, "handed over")
    assert (first.restart_requests, second.restart_requests) == (0, 1)
    for _ in range(5):
        supervisor.tick()
    assert len(fleet.runs(bot)) == 2


def test_a_run_that_the_database_never_heard_of_is_adopted_and_not_restarted(fleet: Any) -> None:
    bot = fleet.add_bot()
    fleet.set(bot, restart_requests=3)
    with write(fleet.engine) as connection:
        rows.note_process(connection, bot, 7, 4711, now_ms())

    with read(fleet.engine) as connection:
        (row,) = rows.load_bots(connection)

    assert (row.generation, row.is_restart_wanted) == (7, False)


def test_a_command_is_told_to_a_running_bot(fleet: Any) -> None:
    bot = fleet.add_bot()
    supervisor = fleet.supervisor()
    fleet.run(supervisor, lambda: fleet.bot(bot).heartbeat_ms is not None)

    give(fleet, bot)

    fleet.run(supervisor, lambda: bool(fleet.events(bot, "config.applied")))  # how the fake bot answers SIGHUP
    assert [c.verb for c in document(fleet, bot).commands] == ["close_positions"]


def test_a_stopped_bot_is_started_for_a_command_and_stops_when_it_is_acknowledged(fleet: Any) -> None:
    bot = fleet.add_bot("stopped")
    closed = fleet.add_position(bot)
    fleet.set_config(bot, on_stop="hold")
    fleet.plan(bot, closes=closed)
    supervisor = fleet.supervisor()
    for _ in range(3):
        supervisor.tick()
    assert not fleet.runs(bot)

    number = give(fleet, bot)
    fleet.run(supervisor, lambda: fleet.runs(bot) and fleet.bot(bot).status == "stopped")

    assert [(c.number, c.result) for c in rows_of(fleet, bot)] == [(number, "closed 1")]
    assert [p.status for p in fleet.rows(TradingOrder, bot)] == ["closed"]
    assert len(fleet.runs(bot)) == 1


def test_nobody_is_started_for_a_command_whose_run_closed_all_and_never_acknowledged_it(fleet: Any) -> None:
    bot = fleet.add_bot("stopped")
    fleet.add_position(bot)
    give(fleet, bot)
    with write(fleet.engine) as connection:
        connection.execute(update(TradingOrder).values(status="closed"))
    supervisor = fleet.supervisor()

    for _ in range(3):
        supervisor.tick()

    assert [c.result for c in rows_of(fleet, bot)] == ["nothing to close"]
    assert not fleet.runs(bot)


def test_a_command_to_a_flat_bot_that_dies_before_it_acknowledges_is_done_once_all_is_read(fleet: Any) -> None:
    bot = fleet.add_bot()
    supervisor = fleet.supervisor()
    fleet.run(supervisor, lambda: fleet.bot(bot).heartbeat_ms is not None)
    give(fleet, bot)
    supervisor.tick()
    assert [c.result for c in rows_of(fleet, bot)] == [None]

    fleet.set(bot, desired_state="stopped")
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "stopped")

    assert [c.result for c in rows_of(fleet, bot)] == ["nothing to close"]
    assert len(fleet.runs(bot)) == 1


def test_the_same_command_twice_is_one_until_it_is_done(fleet: Any) -> None:
    bot = fleet.add_bot("stopped")
    fleet.add_position(bot)

    first, again, other = give(fleet, bot), give(fleet, bot), give(fleet, bot, commands.CLOSE_POSITION, position_key=1)

    assert first == again < other
    with write(fleet.engine) as connection:
        commands.mark_done(connection, bot, first, "closed 1", now_ms())
    assert give(fleet, bot) > other


def test_numbers_never_come_again_also_after_an_older_backup(fleet: Any) -> None:
    bot = fleet.add_bot("stopped")
    fleet.add_position(bot)
    before = now_ms()

    assert give(fleet, bot) >= before


def test_where_nothing_runs_and_nothing_is_held_a_command_is_done_at_once(fleet: Any) -> None:
    bot = fleet.add_bot("stopped")

    give(fleet, bot)

    assert [c.result for c in rows_of(fleet, bot)] == ["nothing to close"]
    assert document(fleet, bot).commands == ()


def test_what_a_bot_on_another_host_is_told_to_remember_ends_before_the_first_command_not_done(fleet: Any) -> None:
    bot = fleet.add_bot("stopped")
    forget = give(fleet, bot, commands.FORGET_POSITION, position_key=1)
    done = give(fleet, bot)

    def remembered() -> int:
        with read(fleet.engine) as connection:
            return commands.last_done(connection, bot)

    assert done > forget
    assert remembered() == 0
    with write(fleet.engine) as connection:
        commands.mark_done(connection, bot, forget, "forgotten", now_ms())
    assert remembered() == done


def test_a_command_to_forget_starts_nothing(fleet: Any) -> None:
    bot = fleet.add_bot("stopped")
    give(fleet, bot, commands.FORGET_POSITION, position_key=1)
    supervisor = fleet.supervisor()

    for _ in range(3):
        supervisor.tick()

    assert not fleet.runs(bot)
    assert [c.verb for c in document(fleet, bot).commands] == ["forget_position"]


def test_the_supervisor_keeps_row_and_file_of_the_kill_switch_alike(fleet: Any) -> None:
    bot = fleet.add_bot()
    file = fleet.settings.halt_file
    supervisor = fleet.supervisor()
    fleet.run(supervisor, lambda: fleet.bot(bot).heartbeat_ms is not None)

    file.write_bytes(b"")
    supervisor.tick()
    assert document(fleet, bot).control.halted
    fleet.run(supervisor, lambda: bool(fleet.events(bot, "config.applied")))

    file.unlink()
    supervisor.tick()
    assert file.exists()

    with write(fleet.engine) as connection:
        kill_switch.release(connection, file, ANN, "found it")
    supervisor.tick()
    assert not file.exists()
    assert not document(fleet, bot).control.halted


def test_a_halt_file_that_cannot_be_written_does_not_keep_the_supervisor_from_its_bots(
    fleet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot, file = fleet.add_bot(), fleet.settings.halt_file
    with write(fleet.engine) as connection:
        kill_switch.halt(connection, file, ANN, "fire")
    file.unlink()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    supervisor = fleet.supervisor()
    with monkeypatch.context() as patch, capture_logs() as lines:
        patch.setattr(kill_switch, "write_file", full)
        fleet.run(supervisor, lambda: fleet.bot(bot).heartbeat_ms is not None)
        supervisor.tick()

    assert [line["event"] for line in lines].count("halt_file_not_kept") == 1
    assert document(fleet, bot).control.halted
    supervisor.tick()
    assert file.exists()


@pytest.mark.parametrize("closes", [True, False])
def test_the_kill_switch_starts_a_stopped_bot_only_to_close_what_it_holds(fleet: Any, closes: bool) -> None:
    bot = fleet.add_bot("stopped")
    closed = fleet.add_position(bot)
    fleet.set_config(bot, on_stop="hold")
    fleet.plan(bot, closes=closed)
    supervisor = fleet.supervisor()
    with write(fleet.engine) as connection:
        kill_switch.halt(connection, fleet.settings.halt_file, ANN, "out", close_positions=closes)

    for _ in range(5):
        supervisor.tick()

    assert bool(fleet.runs(bot)) is closes


def test_the_kill_switch_closes_at_once_what_a_bot_left_that_has_just_stopped(fleet: Any) -> None:
    bot = fleet.add_bot()
    fleet.set_config(bot, on_stop="hold")
    supervisor = fleet.supervisor()
    fleet.run(supervisor, lambda: fleet.bot(bot).heartbeat_ms is not None)
    fleet.set(bot, desired_state="stopped")
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "stopped")
    fleet.plan(bot, closes=fleet.add_position(bot))

    with write(fleet.engine) as connection:
        kill_switch.halt(connection, fleet.settings.halt_file, ANN, "out", close_positions=True)
    fleet.run(supervisor, lambda: [p.status for p in fleet.rows(TradingOrder, bot)] == ["closed"])

    assert len(fleet.runs(bot)) == 2


def test_a_command_of_another_bot_is_not_this_ones(fleet: Any) -> None:
    one, other = fleet.add_bot("stopped"), fleet.add_bot("stopped")
    with write(fleet.engine) as connection:
        row = {"number": 1, "verb": "close_positions", "args": {}, "author": "ann", "created_ms": 1}
        connection.execute(insert(BotCommand).values(bot_id=other, **row))

    assert document(fleet, one).commands == ()
    assert len(document(fleet, other).commands) == 1
