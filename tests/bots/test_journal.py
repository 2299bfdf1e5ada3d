from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from bots.reporters.journal import Journal, last_memory
from shared.errors import Refused
from shared.events import Alert, Exit, LogLine, Payload, Snapshot, Stats, decode_line
from shared.positions import Counters

EMPTY = Snapshot(last_event_ms=0, counters=Counters(), positions=[])


def a_line(number: int) -> Payload:
    return LogLine(level="info", message=f"line {number}")


def open_journal(folder: Path, run_id: str = "1.1", **options: int) -> Journal:
    fd = os.open(folder / f"{run_id}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return Journal(fd, bot_id=1, run_id=run_id, folder=folder, **options)


def lines(path: Path):
    return [decode_line(line) for line in path.read_bytes().splitlines()]


class Disk:
    """Stands between the journal and the kernel: takes *room* bytes, then says that the disk is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self.writes: list[bytes] = []
        self.syncs = 0
        self._write, self._sync, self._open = os.write, os.fdatasync, os.open
        monkeypatch.setattr("os.write", self.write)
        monkeypatch.setattr("os.fdatasync", self.sync)
        monkeypatch.setattr("os.open", self.open)

    def write(self, fd: int, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        data = bytes(data) if self.room is None else bytes(data)[: self.room]
        written = self._write(fd, data)
        if self.room is not None:
            self.room -= written
        self.writes.append(data)
        return written

    def sync(self, fd: int) -> None:
        self.syncs += 1
        self._sync(fd)

    def open(self, path: object, flags: int, mode: int = 0o777) -> int:
        if self.room == 0 and flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._open(path, flags, mode)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_the_lines_of_one_step_go_out_in_one_write_and_are_synced_when_asked(tmp_path, disk):
    journal = open_journal(tmp_path)

    assert journal.write([a_line(1), a_line(2), a_line(3)])
    assert journal.write([a_line(4)], sync=True)

    assert [data.count(b"\n") for data in disk.writes] == [3, 1]
    assert disk.syncs == 1


def test_lines_are_numbered_from_one_without_a_gap(tmp_path):
    journal = open_journal(tmp_path, "1.7")

    for number in range(5):
        journal.write([a_line(number), a_line(number)])

    written = lines(tmp_path / "1.7.jsonl")
    assert [line.seq for line in written] == list(range(1, 11))
    assert {(line.bot_id, line.run_id) for line in written} == {(1, "1.7")}


def test_a_full_disk_loses_no_line_and_keeps_their_order(tmp_path, disk):
    journal = open_journal(tmp_path)
    journal.write([a_line(1)])

    disk.room = 30  # the second line is torn in the middle
    assert not journal.write([a_line(2)], sync=True)
    assert not journal.write([a_line(3)])
    assert not journal.healthy
    disk.room = None
    assert journal.write(())

    assert journal.healthy
    assert [line.data["message"] for line in lines(tmp_path / "1.1.jsonl")] == ["line 1", "line 2", "line 3"]


def test_a_device_that_is_really_full_is_survived(tmp_path):
    fd = os.open("/dev/full", os.O_WRONLY)
    journal = Journal(fd, bot_id=1, run_id="1.1", folder=tmp_path)

    assert not journal.write([a_line(1)], sync=True)
    assert not journal.write(())

    assert not journal.healthy


def test_a_large_file_ends_with_the_name_of_the_next_which_opens_with_a_snapshot(tmp_path):
    journal = open_journal(tmp_path, rotate_bytes=500)
    for number in range(10):
        journal.write([a_line(number)])

    journal.rotate_if_large(lambda: EMPTY)
    journal.write([Exit(code=0, reason="stopped")])

    first, second = lines(tmp_path / "1.1.jsonl"), lines(tmp_path / "1.1.2.jsonl")
    assert (first[-1].type, first[-1].data) == ("rotate", {"next": "1.1.2.jsonl"})
    assert [line.type for line in second] == ["snapshot", "exit"]
    assert [line.seq for line in first + second] == list(range(1, 14))


def test_a_journal_rotates_again_only_when_the_new_file_is_large(tmp_path):
    journal = open_journal(tmp_path, rotate_bytes=500)
    for number in range(30):
        journal.write([a_line(number)])
        journal.rotate_if_large(lambda: EMPTY)

    parts = sorted(path.name for path in tmp_path.iterdir())
    assert len(parts) > 3
    assert all((tmp_path / name).stat().st_size < 1_200 for name in parts)


def test_a_disk_that_is_full_at_the_rotation_leaves_the_journal_where_it_was(tmp_path, disk):
    journal = open_journal(tmp_path, rotate_bytes=100)
    journal.write([a_line(1), a_line(2)])

    disk.room = 0
    journal.rotate_if_large(lambda: EMPTY)
    disk.room = None
    journal.write([a_line(3)])

    assert [line.type for line in lines(tmp_path / "1.1.jsonl")] == ["log"] * 3


@pytest.mark.parametrize("room", [1, 40, 150, 250])
def test_a_disk_that_fills_up_within_a_rotation_puts_nothing_behind_the_marker(tmp_path, disk, room):
    journal = open_journal(tmp_path, rotate_bytes=100)
    journal.write([a_line(1), a_line(2)])

    disk.room = room
    journal.rotate_if_large(lambda: EMPTY)
    journal.write([a_line(3)])
    assert not journal.healthy
    disk.room = None
    journal.write([a_line(4)])

    first, second = lines(tmp_path / "1.1.jsonl"), lines(tmp_path / "1.1.2.jsonl")
    assert [line.type for line in first] == ["log", "log", "rotate"]
    assert [line.type for line in second] == ["snapshot", "log", "log"]
    assert [line.seq for line in first + second] == list(range(1, 7))


def with_trades(trades: int) -> Snapshot:
    return Snapshot(last_event_ms=0, counters=Counters(trades=trades), positions=[])


def write_run(folder: Path, run_id: str, *payloads: Payload) -> None:
    open_journal(folder, run_id).write(payloads)


def test_a_first_run_remembers_nothing(tmp_path):
    write_run(tmp_path, "1.1", with_trades(1))

    assert last_memory(tmp_path, before_generation=1) is None


def test_memory_comes_from_the_newest_earlier_run_that_has_a_snapshot(tmp_path):
    write_run(tmp_path, "1.9", with_trades(9))
    write_run(tmp_path, "1.10", with_trades(10), Stats(counters=Counters(trades=11)))
    write_run(tmp_path, "1.11", Alert(kind="early", message="it died before its snapshot"))
    write_run(tmp_path, "1.12", with_trades(12))

    memory = last_memory(tmp_path, before_generation=12)

    assert memory is not None
    assert memory.counters.trades == 11


def test_memory_comes_from_the_last_file_of_a_run(tmp_path):
    write_run(tmp_path, "1.1", with_trades(1))
    for part in range(2, 12):
        write_run(tmp_path, f"1.1.{part}", with_trades(part))

    memory = last_memory(tmp_path, before_generation=2)

    assert memory is not None
    assert memory.counters.trades == 11


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_torn_last_line_is_passed_over(tmp_path, cut):
    write_run(tmp_path, "1.1", with_trades(1), with_trades(2))
    path = tmp_path / "1.1.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])

    memory = last_memory(tmp_path, before_generation=2)

    assert memory is not None
    assert memory.counters.trades == (2 if cut == 1 else 1)


@pytest.mark.parametrize("torn", [b"\xff\xfe not json", b"[]", b'{"type": "snapshot"', b"\0" * 4096])
def test_only_a_last_line_without_an_end_may_be_unreadable(tmp_path, torn):
    write_run(tmp_path, "1.1", with_trades(3))
    with (tmp_path / "1.1.jsonl").open("ab") as file:
        file.write(torn)
    memory = last_memory(tmp_path, before_generation=2)
    assert memory is not None
    assert memory.counters.trades == 3

    with (tmp_path / "1.1.jsonl").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(Refused, match=r"Line 2 of the journal .*1\.1\.jsonl cannot be read.*restore the file"):
        last_memory(tmp_path, before_generation=2)


@pytest.mark.parametrize("type_", ["snapshot", "position", "stats", "heartbeat"])
def test_an_event_that_memory_is_made_of_must_be_valid(tmp_path, type_):
    write_run(tmp_path, "1.1", with_trades(3), a_line(1))
    path = tmp_path / "1.1.jsonl"
    head, tail = path.read_bytes().splitlines(keepends=True)
    bad = json.dumps({**json.loads(tail), "type": type_, "data": {"nonsense": 1}}).encode() + b"\n"
    path.write_bytes(head + bad + tail)

    with pytest.raises(Refused, match="Line 2 of the journal"):
        last_memory(tmp_path, before_generation=2)


def test_an_event_of_another_kind_may_be_anything(tmp_path):
    write_run(tmp_path, "1.1", with_trades(3), a_line(1))
    path = tmp_path / "1.1.jsonl"
    text = path.read_bytes().replace(b'"type":"log"', b'"type":"new_in_2030"')
    path.write_bytes(text)

    assert last_memory(tmp_path, before_generation=2) is not None
