from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server import make_parent
from tests.waiting import DEADLINE_S, wait_for

needs_make = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")

CHILD = """
import importlib.util, os, signal, sys, time
spec = importlib.util.spec_from_file_location("make_parent", sys.argv[1])
make_parent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_parent)
say = lambda line: os.write(1, line.encode() + b"\\n")
signal.signal(signal.SIGINT, lambda *_: say("child SIGINT"))
signal.signal(signal.SIGTERM, lambda *_: say("child SIGTERM") and sys.exit(0))
say("ready")
deadline = time.monotonic() + 20
while time.monotonic() < deadline and not make_parent.parent_was_interrupted():
    time.sleep(float(sys.argv[2]))
say("noticed" if time.monotonic() < deadline else "gave up")
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start_make(tmp_path: Path) -> Iterator[Start]:
    """Start a real make whose last recipe line is `@exec` of a child that polls; SIGINT has its default action."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "child.py").write_text(CHILD)

    def start(*, poll_s: float = 0.02, sigint: signal.Handlers = signal.SIG_DFL) -> subprocess.Popen[str]:
        command = f"exec '{sys.executable}' child.py '{make_parent.__file__}' {poll_s}"
        (tmp_path / "Makefile").write_text(f"run:\n\t@echo set up\n\t@{command}\n\t@echo never reached\n")
        make = subprocess.Popen(
            ["make", "run"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": os.environ["PATH"]},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, sigint) and None,
        )
        started.append(make)
        assert make.stdout is not None
        assert make.stdout.readline() == "set up\n"
        assert make.stdout.readline() == "ready\n"
        return make

    yield start
    for make in started:
        try:
            os.killpg(make.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        make.communicate()


@needs_make
def test_an_interrupt_sent_only_to_make_is_noticed_by_its_child(start_make: Start) -> None:
    make = start_make()

    make.send_signal(signal.SIGINT)

    output, _ = make.communicate(timeout=DEADLINE_S)
    assert output.startswith("noticed\n")
    assert "child SIGINT" not in output
    assert "never reached" not in output
    assert make.returncode != 0


@needs_make
def test_two_interrupts_kill_make_and_its_child_still_notices(start_make: Start) -> None:
    make = start_make(poll_s=2)

    make.send_signal(signal.SIGINT)
    wait_for(lambda: make_parent.is_interrupted_make(Path(f"/proc/{make.pid}/status").read_text()))
    make.send_signal(signal.SIGINT)

    output, _ = make.communicate(timeout=DEADLINE_S)
    assert output == "noticed\n"
    assert make.returncode == -signal.SIGINT


@needs_make
def test_make_passes_a_termination_on_to_its_child(start_make: Start) -> None:
    make = start_make()

    make.send_signal(signal.SIGTERM)

    output, _ = make.communicate(timeout=DEADLINE_S)
    assert output.startswith("child SIGTERM\n")


@needs_make
def test_nothing_is_noticed_while_make_is_left_alone_or_ignores_interrupts(start_make: Start) -> None:
    make = start_make(sigint=signal.SIG_IGN)

    make.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        make.wait(timeout=0.4)
    make.send_signal(signal.SIGTERM)

    output, _ = make.communicate(timeout=DEADLINE_S)
    assert output.startswith("child SIGTERM\n")


def test_a_parent_that_is_not_make_is_never_interrupted() -> None:
    status = "Name:\tbash\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n"

    assert not make_parent.is_interrupted_make(status)


@pytest.mark.parametrize(
    ("caught", "ignored", "interrupted"),
    [("4203", "0", False), ("4200", "2", False), ("4201", "0", True)],
    ids=["handled", "ignored", "back to default"],
)
def test_make_is_interrupted_once_sigint_is_neither_handled_nor_ignored(
    caught: str, ignored: str, interrupted: bool
) -> None:
    status = f"Name:\tmake\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\n"

    assert make_parent.is_interrupted_make(status) is interrupted


def test_an_unreadable_status_is_no_interrupt() -> None:
    assert not make_parent.is_interrupted_make("")
