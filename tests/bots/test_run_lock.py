from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from bots.utils.run_lock import AlreadyRunning, start_ticks, take_run_lock
from server.supervisor.identity import Free, Identity, probe

HOLDER = """
import sys
from pathlib import Path
from bots.utils.run_lock import take_run_lock
take_run_lock(Path(sys.argv[1]), 4, "2.4")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused(tmp_path, holder):
    with pytest.raises(AlreadyRunning, match="already runs"):
        take_run_lock(tmp_path, 5, "2.5")


def test_the_lock_says_who_holds_it(tmp_path, holder):
    found = probe(tmp_path / "lock")

    assert isinstance(found, Identity)
    assert (found.pid, found.generation, found.run_id) == (holder.pid, 4, "2.4")
    assert found.start_ticks == start_ticks(holder.pid)


def test_a_refused_process_leaves_the_identity_alone(tmp_path, holder):
    with pytest.raises(AlreadyRunning):
        take_run_lock(tmp_path, 5, "2.5")

    found = probe(tmp_path / "lock")
    assert isinstance(found, Identity)
    assert found.generation == 4


def test_the_kernel_frees_the_lock_of_a_killed_process(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert isinstance(probe(tmp_path / "lock"), Free)
    os.close(take_run_lock(tmp_path, 5, "2.5"))


def test_a_new_holder_overwrites_a_longer_identity_completely(tmp_path):
    os.close(take_run_lock(tmp_path, 123456789, "2.123456789"))

    fd = take_run_lock(tmp_path, 5, "2.5")

    found = probe(tmp_path / "lock")
    assert isinstance(found, Identity)
    assert (found.pid, found.generation) == (os.getpid(), 5)
    os.close(fd)


def test_the_lock_does_not_outlive_its_holder_in_a_child(tmp_path):
    fd = take_run_lock(tmp_path, 1, "2.1")
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)

    os.close(fd)

    os.close(take_run_lock(tmp_path, 2, "2.2"))
    child.communicate()
