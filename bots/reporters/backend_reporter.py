"""Post what a remote run tells to its server: from the spool on disk, in order, until the server has confirmed it.

The spool is the run's own journal, so nothing is lost while the server is down, and a line that is posted twice counts
once there. How far each run was posted lies beside it; what an earlier run of this host left goes first. Once this run
has a memory of its own, earlier runs but the one before are deleted, unless something of them is still to be posted.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import requests

from bots.reporters.followers import LOOK_S, Follower, Tail
from bots.reporters.journal import journal_files
from shared.events import Snapshot

TIMEOUT_S: Final = (5, 20)
BATCH_BYTES: Final = 400_000
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 15.0
REFUSED_PAUSE_S: Final = 300.0
_REMEMBERS: Final = f'"type":"{Snapshot.type}"'.encode()
_HEAD_BYTES: Final = 200

log = logging.getLogger(__name__)


class BackendReporter(Follower):
    """Posts the journals in *folder* up to those of *run_id* to *url*.

    *on_control* is called (from this thread) when there is something to poll, *on_replaced* when another run has taken
    this one's place.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        url: str,
        token: str,
        *,
        on_control: Callable[[], None] = lambda: None,
        on_replaced: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__("backend reporter")
        self._folder, self._run_id, self._url = folder, run_id, url
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
        self._on_control, self._on_replaced = on_control, on_replaced
        self._session = requests.Session()
        self._session.trust_env = False
        self._runs = [*_runs_left(folder, run_id), run_id]
        self._tail = _resume(folder, self._runs[0])
        self._pause_s = FIRST_PAUSE_S
        self._control_tag: str | None = None
        self._failing = False

    def step(self) -> float | None:
        """Post one batch."""
        lines = self._tail.peek(BATCH_BYTES)
        if not lines:
            if len(self._runs) == 1:
                return LOOK_S
            self._begin_next_run()
            return 0.0
        try:
            answer = self._session.post(self._url, data=b"".join(lines), headers=self._headers, timeout=TIMEOUT_S)
            document = answer.json() if answer.content else {}
        except (requests.RequestException, ValueError) as error:
            return self._failed(type(error).__name__)
        if answer.status_code == 422:
            return self._pass_over(lines, document)
        if answer.status_code == 401:
            return self._refused()
        if answer.status_code != 200:
            return self._failed(f"it answered {answer.status_code}")
        self._confirmed(lines, document)
        return 0.0

    def _confirmed(self, lines: list[bytes], document: dict[str, Any]) -> None:
        if self._failing:
            log.info("the server answers again; what it missed is being posted")
        self._failing, self._pause_s = False, FIRST_PAUSE_S
        self._advance(lines)
        if document.get("run_id") != self._run_id:
            return
        if any(_REMEMBERS in line[:_HEAD_BYTES] for line in lines):
            _delete_old_runs(self._folder, self._run_id)
        if document.get("replaced_by"):
            self._on_replaced(str(document["replaced_by"]))
        tag = document.get("control_tag")
        if tag != self._control_tag:
            self._control_tag = tag
            self._on_control()

    def _pass_over(self, lines: list[bytes], document: dict[str, Any]) -> float:
        """The server cannot read a line: post those before it, and go on behind it."""
        fields = document.get("error", {}).get("fields", {})
        name = next(iter(fields), "")
        number = int(name.removeprefix("line ")) if name.removeprefix("line ").isdecimal() else 0
        if not 1 <= number <= len(lines):
            return self._failed(f"it answered 422: {document.get('error', {}).get('message')}")
        if number == 1:
            log.error("the server cannot read a line of %s and never gets it: %s", self._tail.file, fields[name])
            self._advance(lines[:1])
            return 0.0
        try:
            part = b"".join(lines[: number - 1])
            answer = self._session.post(self._url, data=part, headers=self._headers, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            return self._failed(type(error).__name__)
        if answer.status_code != 200:
            return self._failed(f"it answered {answer.status_code}")
        self._advance(lines[: number - 1])
        return 0.0

    def _refused(self) -> float:
        """The token does not work any more. Polling says the same, and then nothing is entered."""
        self._failed("it does not know this run any more: it was replaced, or its token revoked")
        self._on_control()
        return REFUSED_PAUSE_S

    def _failed(self, why: str) -> float:
        if not self._failing:
            log.warning("the server takes no reports, they wait in %s: %s", self._folder, why)
        self._failing = True
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, LONGEST_PAUSE_S)
        return pause_s

    def _advance(self, lines: list[bytes]) -> None:
        self._tail.advance(lines)
        _save(self._folder, self._runs[0], {"file": self._tail.file, "offset": self._tail.offset})

    def _begin_next_run(self) -> None:
        """An earlier run is posted to its end; what is torn there was never told."""
        _save(self._folder, self._runs[0], {"file": self._tail.file, "offset": self._tail.offset, "done": True})
        self._runs.pop(0)
        self._tail = _resume(self._folder, self._runs[0])


def _runs_left(folder: Path, run_id: str) -> list[str]:
    """Earlier runs in *folder* that are not posted to their end, oldest first."""
    bot, _, generation = run_id.partition(".")
    earlier = sorted({g for g, _part, _path in journal_files(folder) if g < int(generation)})
    return [run for run in (f"{bot}.{g}" for g in earlier) if not _load(folder, run).get("done")]


def _delete_old_runs(folder: Path, run_id: str) -> None:
    """Of the runs before *run_id* keep the newest, and those that are not posted to their end."""
    bot, _, generation = run_id.partition(".")
    earlier = sorted({g for g, _part, _path in journal_files(folder) if g < int(generation)})
    old = [f"{bot}.{g}" for g in earlier[:-1]]
    for run in [run for run in old if _load(folder, run).get("done")]:
        files = [path for g, _part, path in journal_files(folder) if f"{bot}.{g}" == run]
        try:
            for path in [*files, folder / f"{run}.err", folder / f"{run}.posted"]:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the files of run %s cannot be deleted from %s: %s", run, folder, error.strerror)


def _resume(folder: Path, run_id: str) -> Tail:
    posted = _load(folder, run_id)
    return Tail(folder, posted.get("file", f"{run_id}.jsonl"), posted.get("offset", 0))


def _load(folder: Path, run_id: str) -> dict[str, Any]:
    try:
        posted: dict[str, Any] = json.loads((folder / f"{run_id}.posted").read_bytes())
        return posted
    except (OSError, ValueError):
        return {}


def _save(folder: Path, run_id: str, posted: dict[str, Any]) -> None:
    # Not synced to disk: what is posted again changes nothing.
    path = folder / f"{run_id}.posted"
    try:
        path.with_suffix(".new").write_text(json.dumps(posted))
        os.replace(path.with_suffix(".new"), path)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error.strerror)
