"""Reading a journal: whole lines, bad lines, gaps, rotation, torn ends."""

from __future__ import annotations

from pathlib import Path

from server.supervisor.journal import Cursor, last_words, read_on
from shared.events import Exit, LogLine, Payload, Rotate, encode_line


def line(seq: int, payload: Payload | None = None, *, run_id: str = "3.7", bot_id: int = 3) -> bytes:
    payload = payload or LogLine(level="info", message=f"line {seq}")
    return encode_line(bot_id=bot_id, run_id=run_id, seq=seq, ts=seq, payload=payload)


def test_only_whole_lines_are_taken_and_the_rest_later(tmp_path: Path) -> None:
    whole, half = line(1) + line(2), line(3)[:20]
    path = tmp_path / "3.7.jsonl"
    path.write_bytes(whole + half)

    first = read_on(tmp_path, 3, "3.7", Cursor(file="3.7.jsonl"))
    path.write_bytes(whole + line(3))
    second = read_on(tmp_path, 3, "3.7", first.cursor)

    assert ([e.seq for e in first.envelopes], first.cursor.offset, first.at_end) == ([1, 2], len(whole), True)
    assert ([e.seq for e in second.envelopes], second.bad) == ([3], [])


def test_a_torn_end_is_a_bad_line_only_once_the_writer_is_dead(tmp_path: Path) -> None:
    (tmp_path / "3.7.jsonl").write_bytes(line(1) + line(2)[:20])

    alive = read_on(tmp_path, 3, "3.7", Cursor(file="3.7.jsonl"))
    dead = read_on(tmp_path, 3, "3.7", alive.cursor, is_over=True)

    assert not alive.bad
    assert [b.line for b in dead.bad] == [line(2)[:20]]
    assert dead.at_end
    assert read_on(tmp_path, 3, "3.7", dead.cursor, is_over=True).is_empty


def test_bad_lines_are_set_aside_and_reading_goes_on(tmp_path: Path) -> None:
    strangers = [b"stray print\n", b"\n", b'{"v":1}\n', line(2, run_id="3.6"), line(2, bot_id=4), b"[" * 60_000 + b"\n"]
    wrong_data = line(2).replace(b'"level":"info"', b'"level":[1]')
    (tmp_path / "3.7.jsonl").write_bytes(line(1) + b"".join(strangers) + wrong_data + line(2))

    reading = read_on(tmp_path, 3, "3.7", Cursor(file="3.7.jsonl"))

    assert [e.seq for e in reading.envelopes] == [1, 2]
    assert len(reading.bad) == 7
    assert reading.bad[0].reason.startswith("not an event line")
    assert "belongs to run 3.6" in reading.bad[3].reason
    assert (reading.bad[0].offset, reading.at_end, reading.gaps) == (len(line(1)), True, [])


def test_a_line_without_end_does_not_stop_the_reader(tmp_path: Path) -> None:
    (tmp_path / "3.7.jsonl").write_bytes(line(1) + b"x" * 600_000 + b"\n" + line(2))

    cursor, seen, bad = Cursor(file="3.7.jsonl"), [], 0
    for _ in range(6):
        reading = read_on(tmp_path, 3, "3.7", cursor)
        cursor, bad = reading.cursor, bad + len(reading.bad)
        seen += [e.seq for e in reading.envelopes]

    assert seen == [1, 2]
    assert bad >= 1


def test_missing_and_repeated_lines_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "3.7.jsonl").write_bytes(line(1) + line(4) + line(4) + line(3) + line(5))

    reading = read_on(tmp_path, 3, "3.7", Cursor(file="3.7.jsonl"))

    assert [e.seq for e in reading.envelopes] == [1, 4, 5]
    assert reading.gaps == [(2, 3)]


def test_the_rotate_line_leads_to_the_next_file_which_may_not_be_there_yet(tmp_path: Path) -> None:
    (tmp_path / "3.7.jsonl").write_bytes(line(1) + line(2, Rotate(next="3.7.2.jsonl")))

    first = read_on(tmp_path, 3, "3.7", Cursor(file="3.7.jsonl"))
    waiting = read_on(tmp_path, 3, "3.7", first.cursor)
    (tmp_path / "3.7.2.jsonl").write_bytes(line(3))
    second = read_on(tmp_path, 3, "3.7", waiting.cursor)

    assert (first.at_end, first.cursor) == (False, Cursor(file="3.7.2.jsonl", last_seq=2))
    assert (waiting.at_end, waiting.is_empty) == (True, True)
    assert ([e.seq for e in second.envelopes], second.gaps) == ([3], [])


def test_a_rotate_line_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "3.7.jsonl").write_bytes(line(1, Rotate(next="../4/4.1.jsonl")) + line(1))

    reading = read_on(tmp_path, 3, "3.7", Cursor(file="3.7.jsonl"))

    assert "no file name" in reading.bad[0].reason
    assert [e.seq for e in reading.envelopes] == [1]


def test_small_steps_give_the_same_lines_as_one(tmp_path: Path) -> None:
    (tmp_path / "3.7.jsonl").write_bytes(b"".join(line(n) for n in range(1, 100)))
    cursor, seen = Cursor(file="3.7.jsonl"), []
    at_end = False

    while not at_end:
        reading = read_on(tmp_path, 3, "3.7", cursor, max_lines=7)
        cursor, at_end = reading.cursor, reading.at_end
        seen += [e.seq for e in reading.envelopes]

    assert seen == list(range(1, 100))


def test_the_last_words_are_found_in_the_last_file(tmp_path: Path) -> None:
    bye = Exit(code=78, reason="No such symbol.")
    (tmp_path / "3.7.jsonl").write_bytes(line(1) + line(2, Rotate(next="3.7.2.jsonl")))
    (tmp_path / "3.7.2.jsonl").write_bytes(line(3) + line(4, bye))

    assert last_words(tmp_path, "3.7", "3.7.jsonl") == bye
    assert last_words(tmp_path, "3.8", "3.8.jsonl") is None
