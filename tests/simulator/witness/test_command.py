"""``python -m simulator check`` from outside: what it prints, and what it ends with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run(*args: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The program to its end."""
    command = [sys.executable, "-m", "simulator", *(str(arg) for arg in args)]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def saved(ledger, tmp_path) -> Path:
    """The sound ledger as a file."""
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps(ledger))
    return path


@pytest.fixture
def spoilt(ledger, tmp_path) -> Path:
    """A ledger in which one account has a coin too many, as a file."""
    ledger["accounts"][0]["balances"]["BTC"]["free"] = "1.08990000"
    path = tmp_path / "spoilt.json"
    path.write_text(json.dumps(ledger))
    return path


def test_a_sound_ledger_is_told_with_its_totals(saved):
    done = run("check", "--ledger", saved)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{saved}: 2 accounts, 8 orders (3 open), 5 fills, 3 assets.\n"
        "\n"
        "              deposited   transferred     in accounts        fees   at the market\n"
        "  BNB        1.00000000    0.00000000      0.99500000  0.00500000      0.00000000  ok\n"
        "  BTC        1.00000000    0.00000000      1.07990000  0.00010000     -0.08000000  ok\n"
        "  USDT  10,100.00000000  400.00000000  6,576.96000000  3.04000000  3,920.00000000  ok\n"
        "\n"
        "Every identity holds: no coin was made, and none was lost.\n"
    )


def test_a_spoilt_ledger_ends_with_1_and_its_sentences(spoilt):
    done = run("check", "--ledger", spoilt)

    assert done.returncode == 1
    assert "1.00000000 made\n" in done.stdout
    assert done.stdout.endswith(
        "2 identities do not hold:\n"
        "  Account Alice (…aaaa), BTC: 0 deposited + 0 transferred + 0.14 received − 0.05 paid − 0.0001 fees = 0.0899, "
        "but 1.0899 free + 0 locked = 1.0899.\n"
        "  Exchange, BTC: 1 deposited + 0 transferred = 1, but 2.0799 in accounts + 0.0001 fees + -0.08 at the market "
        "= 2: 1 made out of nothing.\n"
    )


def test_standard_input_is_read_too(saved):
    done = run("check", "--ledger", "-", stdin=saved.read_text())
    assert (done.returncode, done.stdout.splitlines()[-1][:20]) == (0, "Every identity holds")


def test_a_script_gets_one_json_object(saved, spoilt):
    good, bad = run("check", "--json", "--ledger", saved), run("check", "--json", "--ledger", spoilt)

    assert (good.returncode, bad.returncode) == (0, 1)
    verdict = json.loads(good.stdout)
    assert {name: verdict[name] for name in ("holds", "accounts", "orders", "open_orders", "fills", "violations")} == {
        "holds": True, "accounts": 2, "orders": 8, "open_orders": 3, "fills": 5, "violations": [],
    }  # fmt: skip
    assert verdict["assets"]["BNB"] == {
        "deposits": "1.00000000", "transfers": "0", "held": "0.99500000", "fees": "0.00500000", "market": "0",
    }  # fmt: skip
    assert len(json.loads(bad.stdout)["violations"]) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not JSON: give what GET /sim/ledger answered."),
        ('{"accounts": [', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\udc80", "is not JSON"),
        ("[]", "the ledger is []: it must be an object."),
        ('{"accounts": []}', "exchange is missing"),
    ],
)
def test_what_is_no_ledger_ends_with_2_and_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "ledger.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))

    done = run("check", "--ledger", path)

    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert sentence in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("--ledger", "no/such/file.json"),
        ("--state", "no/such/folder"),
        ("--url", "http://127.0.0.1:1"),
        ("--url", "localhost:9700"),
        ("--url", "http://[bad"),
        ("--url", "http://127.0.0.1:1/a b"),
    ],
)
def test_nothing_to_look_at_ends_with_2_and_one_sentence(args):
    done = run("check", *args)

    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_an_address_that_is_no_simulator_is_said(simulator):
    done = run("check", "--url", simulator.url + "/api/v3")

    assert done.returncode == 2
    assert "/api/v3/sim/ledger answers 404: give the address of a simulator" in done.stderr


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("not json\n", "line 1 is not readable"),
        ('[["cancel",1]]\n', "line 1 is not readable"),
        ('[["end",7,"CANCELED","",5]]\n', "fact 1 (Ended) cannot follow those before it"),
        ('[["symbol","SOLUSDT","HALT",{},5]]\n', "fact 1 is about SOLUSDT, whose decimals only its replay tells"),
    ],
)
def test_a_folder_that_tells_no_story_is_said(tmp_path, line, sentence):
    (tmp_path / "facts.jsonl").write_text(line)

    done = run("check", "--state", tmp_path)

    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert sentence in done.stderr


def test_a_line_that_was_torn_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "facts.jsonl").write_text('[["end",7,"CANC')

    done = run("check", "--state", tmp_path)

    assert (done.returncode, (tmp_path / "facts.jsonl").read_text()) == (0, '[["end",7,"CANC')


def test_one_source_at_a_time(saved):
    done = run("check", "--ledger", saved, "--url", "http://127.0.0.1:9700")
    assert done.returncode == 2
    assert "Give one of" in done.stderr


def test_options_of_the_exchange_are_not_ignored_before_a_command():
    done = run("--port", "9701", "check")
    assert done.returncode == 2
    assert "--port is for running the exchange, not for check" in done.stderr


def test_help_reads_like_a_tool():
    text = run("--help").stdout
    for title in ("Where it listens:", "The market:", "What happens in it:", "Commands:", "Served:", "Examples:"):
        assert f"\n{title}\n" in text
    assert "  check  Prove from the ledger" in text
    assert "python -m simulator --replay BTCUSDT-trades.csv.gz --rebase --loop\n" in text
    own = run("check", "--help").stdout
    assert all(option in own for option in ("--url", "--ledger", "--state", "--json", "Exit code: 0"))
