"""What reads along with a run's journal: the terminal, the server, Telegram; and log lines as events."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bots.reporters import backend_reporter, telegram_reporter
from bots.reporters.backend_reporter import BackendReporter
from bots.reporters.composite_reporter import LINES_A_MINUTE, CompositeReporter, LogEvents
from bots.reporters.followers import Mirror
from bots.reporters.journal import Journal
from bots.reporters.telegram_reporter import TelegramReporter
from bots.utils.logger import set_up_logging
from shared.events import Alert, Exit, LogLine, Snapshot, Started, encode_line
from shared.positions import Counters
from tests.waiting import DEADLINE_S

Answer = Callable[[str, bytes], tuple[int, Any]]


class Server:
    """Takes POSTs; *answer* says what comes back."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bytes]] = []
        self.answer: Answer = lambda _path, _body: (200, {})
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, document = owner.answer(self.path, body)
                owner.taken.append((self.path, body))
                text = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Books:
    """A server that books lines by their numbers, as Flotilla's does."""

    def __init__(self, server: Server) -> None:
        self.seqs: list[tuple[str, int]] = []
        self.down = 0
        self.unreadable: set[int] = set()
        self.replaced_by: str | None = None
        self.tag = "a"
        server.answer = self._take

    def _take(self, _path: str, body: bytes) -> tuple[int, Any]:
        if self.down:
            self.down -= 1
            return 503, {"error": {"code": "busy", "message": "", "fields": {}}}
        lines = [json.loads(line) for line in body.splitlines()]
        for number, line in enumerate(lines, 1):
            if line["seq"] in self.unreadable:
                return 422, {"error": {"code": "invalid", "message": "", "fields": {f"line {number}": "bad"}}}
        self.seqs += [(line["run_id"], line["seq"]) for line in lines]
        return 200, {"run_id": lines[0]["run_id"], "replaced_by": self.replaced_by, "control_tag": self.tag}


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_reporter, "FIRST_PAUSE_S", 0.3)
    monkeypatch.setattr(telegram_reporter, "PAUSE_S", 0.3)


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def a_journal(folder: Path, generation: int = 1, **options: Any) -> Journal:
    fd = os.open(folder / f"1.{generation}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return Journal(fd, bot_id=1, run_id=f"1.{generation}", folder=folder, **options)


def said(number: int) -> LogLine:
    return LogLine(level="info", message=f"line {number}")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


EMPTY = Snapshot(last_event_ms=0, counters=Counters(), positions=[])


# --- the terminal -----------------------------------------------------------------------------------------------------


def test_a_mirror_shows_every_line_also_of_the_files_that_a_journal_goes_on_in(tmp_path, eventually):
    shown = tmp_path / "terminal"
    target = os.open(shown, os.O_WRONLY | os.O_CREAT)
    journal = a_journal(tmp_path, rotate_bytes=1000)
    reporter = CompositeReporter(journal, [mirror := Mirror(tmp_path, "1.1.jsonl", target)])

    for number in range(30):
        reporter.write([said(number)])
        reporter.rotate_if_large(lambda: EMPTY)

    assert mirror.close(time.monotonic() + DEADLINE_S)
    assert len(list(tmp_path.glob("1.1.*.jsonl"))) > 1
    seqs = [line["seq"] for line in lines_of(shown)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert [x["data"]["message"] for x in lines_of(shown) if x["type"] == "log"] == [f"line {n}" for n in range(30)]


def test_a_reader_that_stands_still_holds_up_neither_the_journal_nor_the_end(tmp_path):
    _reader, writer = os.pipe()
    journal = a_journal(tmp_path)
    reporter = CompositeReporter(journal, [mirror := Mirror(tmp_path, "1.1.jsonl", writer)])

    for number in range(2000):  # more than a pipe holds
        assert reporter.write([said(number)])

    assert not mirror.close(time.monotonic() + 0.3)
    assert len(lines_of(tmp_path / "1.1.jsonl")) == 2000


def test_a_reader_that_is_gone_ends_the_mirror_and_nothing_else(tmp_path, eventually):
    reader, writer = os.pipe()
    os.close(reader)
    reporter = CompositeReporter(a_journal(tmp_path), [mirror := Mirror(tmp_path, "1.1.jsonl", writer)])

    reporter.write([said(1)])

    eventually(lambda: not mirror.is_alive())
    assert reporter.write([said(2)])


# --- the server -------------------------------------------------------------------------------------------------------


def a_poster(folder: Path, server: Server, run_id: str = "1.1", **hooks: Any) -> BackendReporter:
    return BackendReporter(folder, run_id, f"{server.url}/events", "flb_token", **hooks)


def test_lines_are_posted_in_order_and_once_although_the_server_is_away_for_a_while(tmp_path, server, eventually):
    books = Books(server)
    reporter = CompositeReporter(a_journal(tmp_path), [a_poster(tmp_path, server)])
    reporter.write([said(1)])
    eventually(lambda: books.seqs)

    books.down = 2
    for number in range(2, 50):
        reporter.write([said(number)])

    eventually(lambda: len(books.seqs) == 49)
    assert books.seqs == [("1.1", number) for number in range(1, 50)]


def test_a_run_goes_on_where_it_was_confirmed_and_earlier_runs_come_first(tmp_path, server, eventually):
    books = Books(server)
    reporter = CompositeReporter(a_journal(tmp_path), [first := a_poster(tmp_path, server)])
    reporter.write([said(1), said(2)])
    assert first.close(time.monotonic() + DEADLINE_S)
    reporter.write([said(3)])  # nobody posts this one

    with (tmp_path / "1.1.jsonl").open("ab") as torn:
        torn.write(b'{"v":1,"bot')
    later = CompositeReporter(a_journal(tmp_path, 2), [a_poster(tmp_path, server, "1.2")])
    later.write([said(1)])

    eventually(lambda: len(books.seqs) == 4)
    assert books.seqs == [("1.1", 1), ("1.1", 2), ("1.1", 3), ("1.2", 1)]


def test_a_spool_keeps_the_run_before_and_what_is_not_posted_once_this_run_has_a_memory(tmp_path, server, eventually):
    books = Books(server)
    for generation in (1, 2, 3):
        a_journal(tmp_path, generation).write([said(1)])
        (tmp_path / f"1.{generation}.err").touch()
    journal = a_journal(tmp_path, 4)
    reporter = CompositeReporter(journal, [a_poster(tmp_path, server, "1.4")])
    reporter.write([said(1)])
    eventually(lambda: ("1.4", 1) in books.seqs)
    assert (tmp_path / "1.1.jsonl").exists()
    (tmp_path / "1.2.posted").write_text('{"file": "1.2.jsonl", "offset": 0}')  # there is more to post of it

    reporter.write([EMPTY])

    eventually(lambda: not (tmp_path / "1.1.posted").exists())
    left = {path.name for path in tmp_path.iterdir() if path.suffix in (".jsonl", ".err")}
    assert left == {f"1.{n}.{kind}" for n in (2, 3) for kind in ("jsonl", "err")} | {"1.4.jsonl"}


def test_a_line_that_the_server_cannot_read_does_not_keep_the_others(tmp_path, server, eventually):
    books = Books(server)
    books.unreadable = {1, 4}
    journal = a_journal(tmp_path)
    journal.write([said(n) for n in range(1, 7)])

    CompositeReporter(journal, [a_poster(tmp_path, server)])

    eventually(lambda: len(books.seqs) == 4)
    assert [seq for _, seq in books.seqs] == [2, 3, 5, 6]


def test_the_bot_hears_when_there_is_something_to_poll_and_when_it_was_replaced(tmp_path, server, eventually):
    books, polls, replaced = Books(server), [], []
    poster = a_poster(tmp_path, server, on_control=lambda: polls.append(1), on_replaced=replaced.append)
    reporter = CompositeReporter(a_journal(tmp_path), [poster])
    for number in range(3):
        reporter.write([said(number)])
        eventually(lambda number=number: len(books.seqs) == number + 1)
    assert (len(polls), replaced) == (1, [])

    books.tag, books.replaced_by = "b", "1.2"
    reporter.write([said(4)])

    eventually(lambda: len(polls) == 2)
    assert replaced == ["1.2"]


def test_a_token_that_no_longer_works_makes_the_bot_poll_once_and_is_not_tried_at_full_pace(
    tmp_path, server, eventually, caplog
):
    polls: list[int] = []
    server.answer = lambda _path, _body: (401, {"error": {"code": "unauthorized", "message": "", "fields": {}}})
    poster = a_poster(tmp_path, server, on_control=lambda: polls.append(1))
    (tmp_path / "1.1.jsonl").write_bytes(encode_line(bot_id=1, run_id="1.1", seq=1, ts=1, payload=said(1)))

    pause_s = poster.step()

    assert (polls, pause_s) == ([1], backend_reporter.REFUSED_PAUSE_S)
    assert "does not know this run any more" in caplog.text


def test_a_server_that_is_not_there_holds_up_nothing(tmp_path, server):
    server.close()
    reporter = CompositeReporter(a_journal(tmp_path), [poster := a_poster(tmp_path, server)])

    for number in range(1000):  # waiting a pause for each, it would outlast the test's own time
        reporter.write([said(number)])

    assert not poster.close(time.monotonic() + 0.3)


# --- Telegram ---------------------------------------------------------------------------------------------------------


def a_messenger(folder: Path, server: Server, **options: Any) -> TelegramReporter:
    return TelegramReporter(folder, "1.1", "eth-rsi", base_url=server.url, token="12:secret", chat_id="77", **options)


STARTED = Started(
    version="0", pid=1, strategy="rsi", symbol="ETHUSDT", exchange="simulator", mode="trade", interval="1s",
    config_version=1, model_sha256=None,
)  # fmt: skip


def test_alerts_begin_and_end_are_sent_once_each_and_noise_is_not(tmp_path, server, eventually):
    down = [500, 429]
    server.answer = lambda _path, _body: (down.pop() if down else 200, {})
    reporter = CompositeReporter(a_journal(tmp_path), [a_messenger(tmp_path, server)])

    reporter.write([STARTED, said(1), Alert(kind="stray_order", message="Order f1 was cancelled.")])
    reporter.write([Exit(code=0, reason="stopped")])

    eventually(lambda: len(server.taken) == 5)
    assert {path for path, _ in server.taken} == {"/bot12:secret/sendMessage"}
    texts = [json.loads(body)["text"] for _, body in server.taken[2:]]
    assert json.loads(server.taken[0][1])["chat_id"] == "77"
    assert [text.partition(":")[0] for text in texts] == ["eth-rsi"] * 3
    assert "ETHUSDT" in texts[0]
    assert "Order f1 was cancelled." in texts[1]
    assert "ended: stopped" in texts[2]


def test_what_is_old_when_its_turn_comes_is_no_news(tmp_path, server, eventually):
    a_journal(tmp_path).write([Alert(kind="x", message="old")])
    now = [time.time_ns() // 1_000_000 + 601_000]
    CompositeReporter(a_journal(tmp_path), [messenger := a_messenger(tmp_path, server, wall_ms=lambda: now[0])])

    line = encode_line(bot_id=1, run_id="1.1", seq=2, ts=now[0], payload=Alert(kind="x", message="new"))
    with (tmp_path / "1.1.jsonl").open("ab") as journal:
        journal.write(line)
    messenger.wake()

    eventually(lambda: server.taken)
    assert [json.loads(body)["text"] for _, body in server.taken] == ["eth-rsi: new"]


def test_a_telegram_that_cannot_be_reached_never_shows_its_token(tmp_path, server, caplog, eventually):
    server.close()
    reporter = CompositeReporter(a_journal(tmp_path), [a_messenger(tmp_path, server)])

    reporter.write([Alert(kind="x", message="help")])

    eventually(lambda: "Telegram cannot be reached" in caplog.text)
    assert "12:secret" not in caplog.text


# --- log lines --------------------------------------------------------------------------------------------------------


@pytest.fixture
def reporter(tmp_path: Path) -> CompositeReporter:
    return CompositeReporter(a_journal(tmp_path), clock=lambda: reporter_clock[0])


reporter_clock = [0.0]


def logged(folder: Path) -> list[tuple[str, str]]:
    return [(line["data"]["level"], line["data"]["message"]) for line in lines_of(folder / "1.1.jsonl")]


def test_log_lines_from_info_on_are_events_without_secrets_and_stderr_has_all(tmp_path, reporter, capsys):
    set_up_logging("1.1", secrets=("api-secret-5678", ""), also=LogEvents(reporter))

    logging.getLogger("bots.x").debug("quiet")
    logging.getLogger("bots.x").info("sent with %s", "api-secret-5678")
    try:
        raise ValueError("bad api-secret-5678")
    except ValueError:
        logging.getLogger("bots.x").exception("the bot broke")

    assert logged(tmp_path) == [("info", "sent with …5678"), ("error", "the bot broke\nValueError: bad …5678")]
    errors = capsys.readouterr().err
    assert "INFO 1.1 sent with …5678" in errors
    assert "Traceback" in errors
    assert "api-secret" not in errors


def test_a_burst_is_cut_and_how_much_was_left_out_is_said(tmp_path, reporter):
    reporter_clock[0] = 0.0
    for number in range(LINES_A_MINUTE + 40):
        reporter.log("info", f"line {number}")
    assert len(logged(tmp_path)) == LINES_A_MINUTE

    reporter_clock[0] = 61.0
    reporter.write(())
    reporter.log("info", "after")

    assert logged(tmp_path)[LINES_A_MINUTE:] == [
        ("warning", "40 more log lines in a minute were left out here; the run's .err file has them all"),
        ("info", "after"),
    ]


def test_what_other_threads_log_is_written_in_the_bots_own(tmp_path, reporter):
    thread = threading.Thread(target=lambda: reporter.log("info", "from afar"))
    thread.start()
    thread.join()
    assert (tmp_path / "1.1.jsonl").read_text() == ""

    reporter.write([said(1)])

    assert [message for _, message in logged(tmp_path)] == ["from afar", "line 1"]


def test_nothing_follows_the_exit(tmp_path, reporter):
    reporter.write([Exit(code=0, reason="stopped")])

    reporter.log("info", "late")
    reporter.write(())

    assert [line["type"] for line in lines_of(tmp_path / "1.1.jsonl")] == ["exit"]


def test_a_journal_that_cannot_be_written_makes_no_log_of_its_own(tmp_path, monkeypatch):
    reporter = CompositeReporter(journal := a_journal(tmp_path))
    set_up_logging("1.1", also=LogEvents(reporter))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bots.reporters.journal.os.write", full)
    logging.getLogger("bots.x").warning("one")
    assert not journal.healthy
    monkeypatch.undo()
    reporter.write(())

    assert logged(tmp_path) == [("warning", "one")]
