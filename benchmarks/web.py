"""How fast the first page is, and how heavy: fifty bots with history, a real web process, with and without live pages.

``python benchmarks/web.py [--bots 50] [--requests 300] [--streams 40] [--path /] [--json]``. The home folder is
temporary. A writer books ten heartbeats a second all the while, as fifty running bots make the supervisor do.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import psutil
import requests
from sqlalchemy import Engine, insert, update

from server.security.users import first_start
from server.settings import load_settings
from server.storage.engine import make_engine, write
from server.storage.models import (
    Bot,
    BotRun,
    Event,
    Fill,
    SupervisorBeat,
    TradingConfigVersion,
    TradingOrder,
    TradingStats,
)
from server.storage.times import day_of, now_ms

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "a password for an hour"
POSITIONS = 200
EVENTS = 400
HEARTBEATS_PER_S = 10
MINUTE_MS = 60_000


@click.command(help="Measure the pages of a fleet with history.")
@click.option("--bots", default=50, show_default=True, help="Bots, each with 200 closed positions and 400 events.")
@click.option("--requests", "count", default=300, show_default=True, help="Requests per row of the table.")
@click.option("--streams", default=40, show_default=True, help="Live pages open during the second half.")
@click.option("--path", default="/", show_default=True, help="The page.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def main(bots: int, count: int, streams: int, path: str, as_json: bool) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        port = free_port()
        given = {"FLOTILLA_HOME": home, "FLOTILLA_PORT": str(port), "FLOTILLA_ADMIN_PASSWORD": PASSWORD}
        settings = load_settings(given)
        first_start(settings)
        engine = make_engine(settings.database_url)
        fill(engine, bots)
        web = stack.enter_context(serving(given))
        address = f"http://127.0.0.1:{port}"
        session = signed_in(address)
        stack.enter_context(writing(engine, bots))
        figures: dict[str, Any] = {"bytes": weigh(session, address, path), "bots": bots}
        figures["0 streams"] = measure(session, address, path, count)
        figures["rss_mib_alone"] = rss_mib(web.pid)
        with listening(session, port, live_address(session, address, path), streams) as heard:
            time.sleep(3)  # what all get at first is over
            began, before = time.monotonic(), (sum(heard), cpu_s(web.pid))
            figures[f"{streams} streams"] = measure(session, address, path, count)
            took = time.monotonic() - began
            figures["stream_bytes_per_s"] = round((sum(heard) - before[0]) / took / streams)
            time.sleep(5)
            idle = cpu_s(web.pid)
            time.sleep(5)
            figures["cpu_share_of_streams"] = round((cpu_s(web.pid) - idle) / 5, 3)
            figures["streams_open"] = sum(1 for n in heard if n > 0)
            figures["rss_mib"] = rss_mib(web.pid)
    report(figures, as_json)


# The fleet


def fill(engine: Engine, bots: int) -> None:
    """Bots that all run, with closed positions over a month, one open one each, their fills, days and events."""
    now = now_ms()
    with write(engine) as connection:
        connection.execute(insert(SupervisorBeat).values(id=1, pid=1, started_ms=now, beat_ms=now + 86_400_000))
        for number in range(1, bots + 1):
            connection.execute(insert(Bot).values(**a_bot(number, now)))
            connection.execute(insert(TradingConfigVersion).values(
                bot_id=number, version=1, config=CONFIG, diff={}, author="admin", created_ms=now
            ))  # fmt: skip
            connection.execute(insert(BotRun).values(
                bot_id=number, generation=1, state="running", pid=1, created_ms=now - 3_600_000, wanted=False
            ))  # fmt: skip
            positions = [a_position(number, n, now) for n in range(POSITIONS + 1)]
            connection.execute(insert(TradingOrder), positions)
            connection.execute(insert(Fill), [row for position in positions for row in fills_of(position)])
            connection.execute(insert(TradingStats), list(days_of(positions)))
            connection.execute(insert(Event), [an_event(number, n, now) for n in range(EVENTS)])


CONFIG = {"capital_per_trade": "200", "holding_time": 2000, "on_stop": "close"}


def a_bot(number: int, now: int) -> dict[str, Any]:
    """A running bot."""
    return {
        "name": f"eth-rsi-{number}", "strategy": "rsi", "symbol": "ETHUSDT", "exchange": "simulator", "mode": "trade",
        "interval": "1m", "tags": ["bench"], "desired_state": "running", "status": "running", "created_ms": now,
        "updated_ms": now, "status_since_ms": now - 3_600_000, "run_id": f"{number}.1", "generation": 1, "pid": number,
        "started_ms": now - 3_600_000, "balance": {"quote_free": "1000", "quote_locked": "0"}, **heartbeat(now, 1),
    }  # fmt: skip


def heartbeat(now: int, count: int) -> dict[str, Any]:
    """What the supervisor writes to a bot's row with each heartbeat."""
    beat = {
        "last_candle_ms": now, "last_price": 3000 + count % 100, "loop_lag_ms": 1.5, "decision_p50_us": 26.0,
        "decision_p99_us": 46.0, "decisions": count, "above_threshold": 3, "blocked": {}, "best_score": 0.4,
        "digest": "ab" * 8, "open_orders": 1, "open_positions": 1, "rss_mib": 68.0, "cpu_percent": 1.8,
        "config_version": 1, "breakers": {}, "errors": {}, "last_decision_ms": now, "unrealised": None,
    }  # fmt: skip
    return {"heartbeat_ms": now, "market_ms": now, "last_decision_ms": now, "rss_mib": 68.0, "heartbeat": beat}


def a_position(bot_id: int, number: int, now: int) -> dict[str, Any]:
    """A closed position, 200 minutes after the one before; the last one is open."""
    is_open = number == POSITIONS
    opened = now - (POSITIONS - number + 1) * 200 * MINUTE_MS
    won = Decimal(number % 7 - 3) / 10
    leg = {"role": "entry", "side": "BUY", "order_type": "limit_maker", "status": "filled", "quantity": "0.0589"}
    return {
        "bot_id": bot_id, "position_key": opened, "symbol": "ETHUSDT", "side": "BUY", "quantity": Decimal("0.0589"),
        "status": "active" if is_open else "closed", "entry_price": Decimal("3388.1"),
        "exit_price": None if is_open else Decimal("3390.2"), "opened_ms": opened,
        "closed_ms": None if is_open else opened + 30 * MINUTE_MS, "fees": Decimal("0.2"),
        "pnl": None if is_open else won, "pnl_pct": None if is_open else float(won) / 200,
        "exit_reason": None if is_open else "target", "entry_logic": "rsi", "exit_logic": "", "config_version": 1,
        "exchange": "simulator", "mode": "trade",
        "document": {"legs": [{**leg, "client_order_id": f"fbench-{bot_id}-{opened}-e1"}], "stop_price": "3300"},
    }  # fmt: skip


def fills_of(position: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The entry's fill, and the exit's."""
    for number, time_ms in enumerate((position["opened_ms"], position["closed_ms"])):
        if time_ms is not None:
            key = position["position_key"]
            yield {
                "bot_id": position["bot_id"], "trade_id": key // 1000 * 2 + number, "order_id": key // 1000 + number,
                "client_order_id": f"fbench-{position['bot_id']}-{key}-{'ex'[number]}1", "position_key": key,
                "symbol": "ETHUSDT", "side": ("BUY", "SELL")[number], "price": Decimal("3388.1"),
                "quantity": Decimal("0.0589"), "fee": Decimal("0.1"), "fee_asset": "USDT", "fee_quote": Decimal("0.1"),
                "is_maker": True, "time_ms": time_ms,
            }  # fmt: skip


def days_of(positions: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The figures of each day."""
    by_day: dict[int, list[dict[str, Any]]] = {}
    for position in positions:
        if position["closed_ms"] is not None:
            by_day.setdefault(day_of(position["closed_ms"]), []).append(position)
    for day, closed in by_day.items():
        pnl = [position["pnl"] for position in closed]
        yield {
            "bot_id": closed[0]["bot_id"], "day": day, "trades": len(pnl), "wins": sum(p > 0 for p in pnl),
            "losses": sum(p < 0 for p in pnl), "gross_pnl": sum(pnl), "pnl": sum(pnl),
            "fees": Decimal("0.2") * len(pnl), "gains": sum(p for p in pnl if p > 0),
            "losses_sum": sum(p for p in pnl if p < 0), "holding_ms": 1_800_000,
        }  # fmt: skip


def an_event(bot_id: int, number: int, now: int) -> dict[str, Any]:
    """A log line or a heartbeat, in turns."""
    row = {"bot_id": bot_id, "run_id": f"{bot_id}.1", "seq": number + 1, "ts": now - (EVENTS - number) * MINUTE_MS}
    if number % 2:
        return {**row, "type": "log", "data": {"level": "info", "message": f"line {number}", "logger": "bots"}}
    return {**row, "type": "heartbeat", "data": heartbeat(row["ts"], number)["heartbeat"]}


# The work meanwhile


@contextmanager
def serving(given: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The web server as a process of its own."""
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("FLOTILLA_")}, **given}
    process = subprocess.Popen([sys.executable, "-m", "server", "web"], cwd=ROOT, env=environment)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                requests.get(f"http://127.0.0.1:{given['FLOTILLA_PORT']}/health", timeout=5)
                break
            except requests.ConnectionError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def writing(engine: Engine, bots: int) -> Iterator[None]:
    """Heartbeats, one bot after the other, each in a transaction of its own."""
    over = threading.Event()

    def work() -> None:
        count = 0
        while not over.wait(1 / HEARTBEATS_PER_S):
            count += 1
            with write(engine) as connection:
                beat = heartbeat(now_ms(), count)
                connection.execute(update(Bot).where(Bot.id == count % bots + 1).values(**beat))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def listening(session: requests.Session, port: int, path: str, count: int) -> Iterator[list[int]]:
    """Open streams that are read as they come; how many bytes each got so far."""
    cookie = "; ".join(f"{c.name}={c.value}" for c in session.cookies)
    over, heard, selector = threading.Event(), [0] * count, selectors.DefaultSelector()
    for number in range(count):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode())
        selector.register(connection, selectors.EVENT_READ, number)

    def read() -> None:
        while not over.is_set():
            for key, _ in selector.select(0.2):
                heard[key.data] += len(key.fileobj.recv(1 << 18))  # type: ignore[union-attr]

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]


# Measuring


def signed_in(address: str) -> requests.Session:
    """A browser's session."""
    session = requests.Session()
    token = re.search(r'name="csrf_token" value="([^"]+)"', session.get(f"{address}/login", timeout=30).text)
    assert token is not None
    form = {"username": "admin", "password": PASSWORD, "csrf_token": token[1]}
    session.post(f"{address}/login", data=form, timeout=30).raise_for_status()
    return session


def measure(session: requests.Session, address: str, path: str, count: int) -> dict[str, float]:
    """Milliseconds until the whole page is there."""
    took = []
    for _ in range(count + 10):
        began = time.perf_counter()
        answer = session.get(address + path, timeout=30)
        took.append((time.perf_counter() - began) * 1000)
        answer.raise_for_status()
    took = sorted(took[10:])
    return {"p50_ms": round(took[len(took) // 2], 1), "p99_ms": round(took[int(len(took) * 0.99)], 1)}


def weigh(session: requests.Session, address: str, path: str) -> dict[str, int]:
    """Bytes on the wire of the page and of each file that it loads."""
    html = session.get(address + path, timeout=30).text
    weights = {"html": packed(session, address + path)}
    for file in re.findall(r'(?:href|src)="(/assets/[^"]+)"', html):
        weights[file.split("/")[-1].split("?")[0]] = packed(session, address + file)
    return weights


def packed(session: requests.Session, url: str) -> int:
    """Bytes of the body as it was sent."""
    with session.get(url, stream=True, timeout=30) as answer:
        body = answer.raw.read(decode_content=False)
    return len(body) if answer.headers.get("Content-Encoding") == "gzip" else len(gzip.compress(body))


def live_address(session: requests.Session, address: str, path: str) -> str:
    """Where the page's stream is."""
    found = re.search(r'data-live="([^"]+)"', session.get(address + path, timeout=30).text)
    assert found is not None, f"{path} is not live"
    return found[1].replace("&amp;", "&")


def rss_mib(pid: int) -> float:
    """Resident memory of the process."""
    return round(psutil.Process(pid).memory_info().rss / 2**20, 1)


def cpu_s(pid: int) -> float:
    """Processor time that the process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def report(figures: dict[str, Any], as_json: bool) -> None:
    """The table, or the same as JSON."""
    if as_json:
        print(json.dumps(figures))
        return
    print(f"{figures['bots']} bots, {HEARTBEATS_PER_S} heartbeats a second · {os.cpu_count()} cores")
    for name, row in figures.items():
        if name.endswith(" streams"):
            print(f"{'page, ' + name:28}p50 {row['p50_ms']:>7.1f} ms    p99 {row['p99_ms']:>7.1f} ms")
    weights = figures["bytes"]
    print(
        f"{'page in all, gzip':28}{sum(weights.values()) / 1024:.1f} KB  "
        + ", ".join(f"{k} {v}" for k, v in weights.items())
    )
    memory = f"{figures['rss_mib_alone']} MiB, with streams {figures['rss_mib']} MiB"
    print(f"{'web process':28}{memory}; streams use {figures['cpu_share_of_streams']:.0%} of a core")
    print(f"{'streams open':28}{figures['streams_open']}, {figures['stream_bytes_per_s'] / 1024:.1f} KB/s each")


if __name__ == "__main__":
    main()
