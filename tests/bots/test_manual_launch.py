"""What a launch by hand is told: options, environment, and the files of the home folder."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bots.utils import manual_launch
from bots.utils.manual_launch import LaunchRefused, newest_run, read_options, take_ticket
from bots.utils.run_lock import take_run_lock


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "cli.token").write_text("fla_file\n")
    return tmp_path


@pytest.mark.parametrize(
    ("option", "environment", "token", "origin"),
    [
        ("fla_option", {"FLOTILLA_TOKEN": "fla_variable"}, "fla_option", "--token"),
        (None, {"FLOTILLA_TOKEN": "fla_variable\n"}, "fla_variable", "FLOTILLA_TOKEN"),
        (None, {}, "fla_file", "cli.token"),
    ],
)
def test_the_nearest_token_wins(home, option, environment, token, origin):
    wanted = read_options(3, None, option, None, {"FLOTILLA_HOME": str(home), **environment})

    assert wanted.token == token
    assert wanted.token_from.endswith(origin)


@pytest.mark.parametrize(
    ("option", "environment", "server"),
    [
        (None, {}, "http://127.0.0.1:5000"),
        (None, {"FLOTILLA_HOST": "10.0.0.7", "FLOTILLA_PORT": "5001"}, "http://10.0.0.7:5001"),
        (None, {"FLOTILLA_HOST": "0.0.0.0"}, "http://127.0.0.1:5000"),
        (None, {"FLOTILLA_HOST": "::1"}, "http://[::1]:5000"),
        ("https://bots.example/", {"FLOTILLA_PORT": "1"}, "https://bots.example"),
    ],
)
def test_the_server_is_this_installations_unless_another_is_named(home, option, environment, server):
    assert read_options(3, option, None, None, {"FLOTILLA_HOME": str(home), **environment}).server == server


@pytest.mark.parametrize("token", ["", "two words", "wörd"])
def test_a_token_that_cannot_be_one_is_refused_before_it_is_sent(home, token):
    (home / "cli.token").write_text(token)

    with pytest.raises(LaunchRefused, match=r"cli\.token"):
        read_options(3, None, None, None, {"FLOTILLA_HOME": str(home)})


def test_a_remote_bot_that_runs_on_this_machine_is_not_asked_for_again(home):
    assert newest_run(home / "spool", 3) is None
    (home / "spool").mkdir()
    (home / "spool" / "3.9.jsonl").touch()
    (home / "spool" / "3.10.jsonl").touch()
    assert newest_run(home / "spool", 3) == "3.10"

    take_run_lock(home / "spool", 10, "3.10")
    with pytest.raises(LaunchRefused, match="already runs on this machine") as refused:
        newest_run(home / "spool", 3)

    assert refused.value.exit_code == 73


@pytest.mark.parametrize(
    ("kind", "folder", "halt_file"),
    [("manual", "journals/3", "halt"), ("remote", "spool/127.0.0.1_5000/3", None)],
)
def test_the_files_of_a_run_are_those_of_this_machine(home, monkeypatch, kind, folder, halt_file):
    ticket = {
        "bot_id": 3, "name": "b", "generation": 7, "install": "ab12cd", "strategy": "rsi", "symbol": "BTCUSDT",
        "exchange": "simulator", "mode": "trade", "interval": "1s", "model": None, "kind": kind,
        "document": {"control": {"desired": "running"}, "config_version": 1, "config": {}},
        "endpoints": {"rest": "", "streams": "", "ws_api": ""}, "api_key": "", "api_secret": "", "token": "flb_x",
        "server_url": "http://elsewhere", "home": "/srv/flotilla/journals/3", "halt_file": "/srv/flotilla/halt",
    }  # fmt: skip
    answer = SimpleNamespace(status_code=201, content=json.dumps(ticket).encode())
    monkeypatch.setattr(manual_launch, "_ask", lambda *_: answer)
    wanted = read_options(3, None, None, None, {"FLOTILLA_HOME": str(home)})

    taken = take_ticket(wanted)

    assert (taken.home, taken.server_url) == (str(home / folder), "http://127.0.0.1:5000")
    assert taken.halt_file == (str(home / halt_file) if halt_file else None)
