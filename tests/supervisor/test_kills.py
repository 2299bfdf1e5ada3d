"""Whatever is killed, whenever: each line on disk is a row exactly once, and no bot is started twice."""

from __future__ import annotations

from typing import Any

from server.supervisor.backoff import RestartPolicy
from server.supervisor.decisions import Policy


def test_killing_the_supervisor_again_and_again_loses_no_line_and_restarts_no_bot(fleet: Any, waiting: Any) -> None:
    bots = [fleet.add_bot(lines=8, rotate=700) for _ in range(3)]
    child = fleet.supervisor_process()
    waiting(lambda: all(fleet.bot(b).status == "running" for b in bots))
    pids = {b: fleet.identity(b).pid for b in bots}

    for kill in range(5):
        so_far = len(fleet.events(bots[0]))
        waiting(lambda before=so_far: len(fleet.events(bots[0])) > before + 150)
        child.kill()
        child.wait()
        child = fleet.supervisor_process()
        assert {b: fleet.identity(b).pid for b in bots} == pids, f"kill {kill}"
    child.kill()
    child.wait()
    for bot in bots:
        fleet.set(bot, desired_state="stopped")
    last = fleet.supervisor()
    fleet.run(last, last.is_finished)

    for bot in bots:
        on_disk = [(e["run_id"], e["seq"]) for e in fleet.journal_lines(bot) if e["type"] != "heartbeat"]
        booked = [(e.run_id, e.seq) for e in fleet.events(bot) if e.type != "heartbeat"]  # these are thinned
        assert booked == on_disk
        assert len(on_disk) > 700
        assert len(fleet.runs(bot)) == 1
        assert not fleet.dead_letters(bot)
    assert len(list(fleet.settings.journals(bots[0]).glob("*.jsonl"))) > 1


def test_a_line_torn_by_a_kill_is_kept_as_a_dead_letter_and_the_next_run_starts_clean(fleet: Any) -> None:
    bot = fleet.add_bot(lines=1, tear=60)
    supervisor = fleet.supervisor(policy=Policy(restart=RestartPolicy(base_s=60, max_deaths=50)))
    fleet.run(supervisor, lambda: fleet.bot(bot).started_ms is not None)
    fleet.plan(bot, lines=1)

    fleet.run(
        supervisor,
        lambda: len(fleet.runs(bot)) > 1 and fleet.offsets(bot)[0].done and fleet.bot(bot).status == "running",
    )

    (letter,) = fleet.dead_letters(bot)
    assert letter.reason.startswith("torn")
    assert len(letter.line) == 30
    first = [e for e in fleet.events(bot) if e.run_id == f"{bot}.1" and e.seq > 0 and e.type != "heartbeat"]
    assert len(first) == len(
        [e for e in fleet.journal_lines(bot) if e["run_id"] == f"{bot}.1" and e["type"] != "heartbeat"]
    )


def test_runs_that_ended_unseen_are_read_in_the_order_of_their_generations(fleet: Any) -> None:
    bot = fleet.add_bot(lines=1)
    supervisor = fleet.supervisor()
    fleet.run(supervisor, lambda: fleet.bot(bot).status == "running")
    fleet.kill_bot(bot)
    supervisor._ingest.step = dict  # this supervisor reads nothing from now on
    fleet.run(supervisor, lambda: len(fleet.runs(bot)) == 2 and fleet.runs(bot)[1].pid is not None)

    fleet.run(fleet.supervisor(), lambda: any(e.run_id == f"{bot}.2" and e.seq > 30 for e in fleet.events(bot)))

    order = [e.run_id for e in fleet.events(bot) if e.seq > 0]
    assert order == sorted(order)
    assert fleet.offsets(bot)[0].done
