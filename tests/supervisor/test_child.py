"""A child of ``flotilla up`` that cannot be started again."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from server.up.child import Child


def test_a_child_that_cannot_be_started_again_is_tried_with_pauses(tmp_path: Path, monkeypatch: Any) -> None:
    now = [0.0]
    monkeypatch.setattr("server.up.child.time", SimpleNamespace(monotonic=lambda: now[0]))
    said: list[str] = []
    child = Child("web", [sys.executable, "-c", "input()"], tmp_path / "web.log", dict(os.environ), said.append)
    tried: list[float] = []

    def refuse(*_: Any, **__: Any) -> Any:
        tried.append(now[0])
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as crowded:
        crowded.setattr(subprocess, "Popen", refuse)
        for tenth in range(80):
            now[0] = tenth / 10
            child.look()

    assert tried == [0.0, 1.0, 3.0, 7.0]
    assert said[1:3] == [
        "The web cannot be started (Resource temporarily unavailable); trying again in 1 s.",
        "The web cannot be started (Resource temporarily unavailable); trying again in 2 s.",
    ]
    now[0] = 60.0
    child.look()
    assert child.pid > 0
    child.kill()
    child.wait(float("inf"))
