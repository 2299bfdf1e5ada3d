"""One command: simulator, supervisor, web and a fleet that trades; one signal: nothing is left."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import requests


def family(home: Path) -> list[int]:
    """Living processes that were started for the installation in *home*."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = str(home) in process.environ().get("FLOTILLA_HOME", "")
        except psutil.Error:
            continue
        if mine and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def test_up_trades_within_a_minute_ends_in_order_and_resumes(fleet, wait_for, answers):
    up = fleet.start("up", "server", "up", "--demo")
    wait_for("ready", lambda: answers(f"{fleet.api}/health/ready"), 60)
    wait_for(
        "three bots run", lambda: [b["status"] for b in fleet.pages("/api/bots")] == ["running"] * 3, 60, pause_s=0.3
    )
    bots = [b["id"] for b in fleet.pages("/api/bots")]
    wait_for("the first fill", lambda: any(fleet.fills(b) for b in bots), 60, pause_s=0.3)
    wait_for(
        "closed positions with PNL",
        lambda: [p for b in bots for p in fleet.positions(b, "closed") if p["pnl"] is not None],
        120,
        pause_s=0.3,
    )
    assert family(fleet.home)

    up.send_signal(signal.SIGINT)
    up.wait(30)
    assert (family(fleet.home), fleet.bot_pids()) == ([], [])

    fleet.processes.pop("up")
    up = fleet.start("up", "server", "up", "--demo")
    wait_for("ready again", lambda: answers(f"{fleet.api}/health/ready"))
    assert [b["desired_state"] for b in fleet.pages("/api/bots")] == ["running"] * 3
    wait_for(
        "the same three run again",
        lambda: [(b["id"], b["status"]) for b in fleet.pages("/api/bots")] == [(i, "running") for i in bots],
        40,
        pause_s=0.3,
    )
    fills_of = {b: len(fleet.fills(b)) for b in bots}
    wait_for("they trade on", lambda: any(len(fleet.fills(b)) > fills_of[b] for b in bots), 90, pause_s=0.3)
    up.send_signal(signal.SIGTERM)
    up.wait(30)
    assert (family(fleet.home), fleet.bot_pids()) == ([], [])


def test_two_installations_run_side_by_side(fleet, tmp_path, make_fleet, wait_for, answers):
    other = make_fleet(tmp_path / "other")
    for installation in (fleet, other):
        installation.start("up", "server", "up")
    for installation in (fleet, other):
        wait_for("ready", lambda i=installation: answers(f"{i.api}/health/ready"), 60)
    assert requests.get(f"{fleet.api}/health", timeout=5).status_code == 200
    assert fleet.pages("/api/bots") == other.pages("/api/bots") == []


def test_a_taken_port_is_one_sentence(fleet):
    fleet.start_simulator()
    second = fleet.start("up", "server", "up")
    assert second.wait(30) == 1
    told = (fleet.home / "up.log").read_text().strip()
    assert str(fleet.sim_port) in told
    assert "FLOTILLA_SIM_PORT" in told
    assert "Traceback" not in told
