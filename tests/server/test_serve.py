"""The web server as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests import waiting
from tests.ports import free_port
from tests.waiting import DEADLINE_S

ROOT = Path(__file__).resolve().parents[2]
SERVE = (
    "import sys; from server.app import serve; from server.settings import load_settings; "
    "sys.exit(serve(load_settings()))"
)


@contextmanager
def web(home: Path, port: int, **environment: str) -> Iterator[subprocess.Popen[str]]:
    given = {"FLOTILLA_HOME": str(home), "FLOTILLA_PORT": str(port), "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=ROOT,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("FLOTILLA_")}, **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(port: int, process: subprocess.Popen[str]) -> requests.Response:
    def health() -> requests.Response | None:
        assert process.poll() is None, process.communicate()
        with suppress(requests.RequestException):
            return requests.get(f"http://127.0.0.1:{port}/health", timeout=5)
        return None

    answer = waiting.wait_for(health, what="the server answers")
    assert answer is not None
    return answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_the_first_password_serves_and_ends_in_order(tmp_path: Path, number: signal.Signals):
    port = free_port()
    with web(tmp_path / "home", port) as process:
        health = wait_for(port, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=DEADLINE_S)

    assert health.json() == {"status": "ok"}
    assert process.returncode == 0
    password = out.split("password ")[1].split()[0]
    assert len(password) == 16
    assert err == ""


def test_the_printed_password_logs_in_and_is_not_printed_again(tmp_path: Path):
    port, home = free_port(), tmp_path / "home"
    with web(home, port) as process:
        wait_for(port, process)
        process.terminate()
        out = process.communicate(timeout=DEADLINE_S)[0]
    password = out.split("password ")[1].split()[0]

    with web(home, port) as process:
        wait_for(port, process)
        body = {"username": "admin", "password": password}
        answer = requests.post(f"http://127.0.0.1:{port}/api/auth/login", json=body, timeout=10)
        process.terminate()
        again = process.communicate(timeout=DEADLINE_S)[0]

    assert answer.status_code == 200
    assert "Server" not in answer.headers
    assert again == ""


def test_a_taken_port_is_one_sentence(tmp_path: Path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with web(tmp_path / "home", port, FLOTILLA_ADMIN_PASSWORD="given") as process:
            out, err = process.communicate(timeout=DEADLINE_S)

    assert (process.returncode, out) == (1, "")
    assert err.count("\n") == 1
    assert f"FLOTILLA_PORT {port} is taken" in err


def test_a_request_that_hangs_does_not_hold_up_the_end(tmp_path: Path):
    port = free_port()
    with web(tmp_path / "home", port) as process, socket.socket() as client:
        wait_for(port, process)
        client.connect(("127.0.0.1", port))
        client.sendall(b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        process.terminate()
        process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 0


def test_forty_callers_at_once_are_all_served(tmp_path: Path):
    from concurrent.futures import ThreadPoolExecutor

    port, home = free_port(), tmp_path / "home"

    def create(number: int) -> Any:
        body = {"name": f"b{number}", "strategy": "rsi", "symbol": "ETHUSDT", "exchange": "simulator", "mode": "trade"}
        return requests.post(
            f"http://127.0.0.1:{port}/api/bots", json=body, headers=headers, timeout=DEADLINE_S
        ).status_code

    with web(home, port) as process:
        wait_for(port, process)
        headers = {"Authorization": f"Bearer {(home / 'cli.token').read_text().strip()}"}
        with ThreadPoolExecutor(40) as callers:
            statuses = list(callers.map(create, range(40)))
        process.terminate()
        process.communicate(timeout=DEADLINE_S)

    assert statuses == [201] * 40


@pytest.mark.parametrize("path", ["/api/models/upload", "/login"])
def test_a_body_of_200_mb_is_answered_by_us_and_kept_nowhere(tmp_path: Path, path: str):
    port = free_port()
    with web(tmp_path / "home", port) as process:
        wait_for(port, process)
        seen = psutil.Process(process.pid)
        memory, written = seen.memory_info().rss, seen.io_counters().write_chars

        answer = send(port, path, b"Content-Length: 200000000\r\n", [b"x" * 1_000_000] * 200)

        assert seen.memory_info().rss - memory < 30_000_000
        assert seen.io_counters().write_chars - written < 5_000_000
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"request_entity_too_large"' in answer


def test_a_body_without_a_length_is_kept_up_to_the_limit_only(tmp_path: Path):
    port = free_port()
    chunk = b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n"
    with web(tmp_path / "home", port) as process:
        wait_for(port, process)
        written = psutil.Process(process.pid).io_counters().write_chars

        answer = send(port, "/login", b"Transfer-Encoding: chunked\r\n", [*[chunk] * 50, b"0\r\n\r\n"])

        assert psutil.Process(process.pid).io_counters().write_chars - written < 5_000_000
    assert answer.startswith(b"HTTP/1.1 413 ")


def send(port: int, path: str, header: bytes, parts: list[bytes]) -> bytes:
    """The whole answer to a POST of *parts*, read after all of them were sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"POST " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n")
        for part in parts:
            client.sendall(part)
        return b"".join(iter(lambda: client.recv(65_536), b""))


def test_a_client_that_asks_first_is_told_before_it_sends(tmp_path: Path):
    port = free_port()
    with web(tmp_path / "home", port) as process:
        wait_for(port, process)
        answer = send(port, "/login", b"Content-Length: 200000000\r\nExpect: 100-continue\r\n", [])

    assert answer.startswith(b"HTTP/1.1 413 ")
