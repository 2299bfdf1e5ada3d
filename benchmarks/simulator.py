"""How much the exchange simulator carries: matching, REST, market streams, memory, its own market.

``python benchmarks/simulator.py [matching] [rest] [streams] [memory] [market] [--seconds 5] [--days 1] [--speed 600]
[--json]``.
Matching runs in this process; for the rest a simulator runs in one process and its clients in another, over loopback.
Every rate is printed beside a plain Python loop's of the same run, so that runs on different machines can be compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import random
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import psutil

# This file bears the name of the package that it measures: its own folder must not be looked at first.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]

from simulator.core import decisions
from simulator.core.exchange import Exchange
from simulator.core.matching import BUY, SELL, touch_after
from simulator.core.orders import AccountOpened, OrderPlaced, Request
from simulator.core.rules import ATOMS, SYMBOLS
from simulator.garbage import collect_seldom
from simulator.market.candles import Trade
from simulator.market.generated import compute

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("matching", "rest", "streams", "memory", "market")
LAST = 6_000_000  # ticks
ACCOUNTS = 10
CONNECTIONS = 8
SUBSCRIBERS = 200


@click.command(help="Measure the exchange simulator.")
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--orders", default=100_000, show_default=True, help="Orders per matching run.")
@click.option("--seconds", default=8, show_default=True, help="Length of each REST and streams run.")
@click.option("--days", default=1.0, show_default=True, help="Market days of the memory run.")
@click.option("--speed", default=600, show_default=True, help="Speed of the memory run.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def main(parts: tuple[str, ...], orders: int, seconds: int, days: float, speed: int, as_json: bool) -> None:
    """Run the parts asked for, or all."""
    collect_seldom()  # as the simulator does
    found: dict[str, Any] = {"plain loop, million steps/s": round(_plain_loop(), 1)}
    for part in parts or PARTS:
        if part == "matching":
            found |= {
                "matching, orders/s, most rest (1 in 40 meets another)": _median(lambda: _match(orders, 5)),
                "matching, orders/s, four of ten take": _median(lambda: _match(orders, 200)),
            }
        elif part == "rest":
            found |= _rest(seconds)
        elif part == "streams":
            found |= _streams(seconds)
        elif part == "memory":
            found |= _memory(days, speed)
        else:
            found |= _market()
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        click.echo(f"{name:<64} {value:>12,}" if isinstance(value, int) else f"{name:<64} {value:>12}")


def _plain_loop() -> float:
    """Million steps a second of an empty counting loop: how fast this Python is right now."""
    started = time.perf_counter()
    total = 0
    for step in range(3_000_000):
        total += step
    return 3 / (time.perf_counter() - started)


def _median(run: Any) -> int:
    return int(statistics.median(run() for _ in range(3)))


def _match(count: int, reach: int) -> float:
    """Orders per second: limit orders around the last price, up to *reach* ticks across it; of a thousand open ones the
    oldest is cancelled. Every order is checked, decided and applied."""
    chance = random.Random(1)
    exchange, rules = Exchange(SYMBOLS), SYMBOLS["BTCUSDT"]
    for number in range(ACCOUNTS):
        deposits = {"USDT": 10**9 * ATOMS, "BTC": 10**6 * ATOMS}
        exchange.apply(AccountOpened(f"k{number}", "s", "", number, 0, deposits))
    exchange.books["BTCUSDT"].touch = touch_after(Trade(1, 0, LAST, 1000, False))
    asks = []
    for number in range(count):
        side = chance.choice((BUY, SELL))
        away = chance.randint(-200, reach) * (1 if side == BUY else -1)
        asks.append(
            Request(
                api_key=f"k{number % ACCOUNTS}", symbol="BTCUSDT", side=side, type="LIMIT", tif="GTC",
                qty=chance.randint(100, 2000) * rules.lot_atoms, quote_qty=None, price=(LAST + away) * rules.tick_atoms,
                client_id=f"c{number}", stp="EXPIRE_MAKER",
            )
        )  # fmt: skip
    opened: list[int] = []
    started = time.perf_counter()
    for now, ask in enumerate(asks, 1_000_000):
        facts = decisions.place(exchange, ask, now)
        for fact in facts:
            exchange.apply(fact)
        assert isinstance(facts[0], OrderPlaced)
        opened.append(facts[0].order_id)
        if len(opened) > 1000:
            order = exchange.orders[opened.pop(0)]
            if order.is_open:
                for fact in decisions.cancel(exchange, order, "x", now):
                    exchange.apply(fact)
    return count / (time.perf_counter() - started)


# a simulator in a process of its own


@contextmanager
def _simulator(*options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        command = [sys.executable, "-m", "simulator", "--port", "0", "--port-file", str(port_file), *options]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while not port_file.exists():
                if time.monotonic() > deadline or process.poll() is not None:
                    raise click.ClickException("The simulator did not start.")
                time.sleep(0.02)
            yield process, int(port_file.read_text())
        finally:
            process.terminate()
            process.wait(10)


def _account(port: int) -> tuple[str, str]:
    body = json.dumps({"balances": {"USDT": "1000000000", "BTC": "100000"}}).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/sim/accounts", body, timeout=10) as answer:
        keys = json.loads(answer.read())
    return keys["api_key"], keys["api_secret"]


def _rest(seconds: int) -> dict[str, Any]:
    """Signed orders over keep-alive connections: market orders that are filled, then limit orders that rest."""
    found = {}
    orders = {
        "market, filled": "type=MARKET&quantity=0.001&newOrderRespType=FULL",
        "limit, rests": "type=LIMIT&timeInForce=GTC&quantity=0.001&price={price}&newOrderRespType=RESULT",
    }
    for name, order in orders.items():
        with tempfile.TemporaryDirectory() as state, _simulator("--unlimited", "--state", state) as (_, port):
            accounts = [_account(port) for _ in range(CONNECTIONS)]
            times = asyncio.run(_place_for(port, accounts, order, seconds))
        rate = len(times) / seconds
        found[f"REST, signed orders/s, {name}"] = int(rate)
        found[f"REST, signed order, {name}, p50 / p99 ms"] = _percentiles(times)
    return found


async def _place_for(port: int, accounts: list[tuple[str, str]], order: str, seconds: int) -> list[float]:
    times: list[float] = []
    until = time.perf_counter() + seconds

    async def place(api_key: str, secret: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        number = 0
        while time.perf_counter() < until:
            number += 1
            # A symbol takes 200 open orders of an account: after each 150, all are cancelled.
            wipe = "{price}" in order and number % 150 == 0
            text = "symbol=BTCUSDT" if wipe else f"symbol=BTCUSDT&side=BUY&{order.format(price=30_000)}"
            text += f"&timestamp={time.time_ns() // 1_000_000}"
            signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
            path, method = ("openOrders", "DELETE") if wipe else ("order", "POST")
            started = time.perf_counter()
            writer.write(
                f"{method} /api/v3/{path}?{text}&signature={signature} HTTP/1.1\r\nHost: x\r\n"
                f"X-MBX-APIKEY: {api_key}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
            if not head.startswith(b"HTTP/1.1 200"):
                raise click.ClickException(body.decode())
            if not wipe:
                times.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(place(*keys) for keys in accounts))
    return times


def _streams(seconds: int) -> dict[str, Any]:
    """From the end of each second to its candle at each of 200 subscribers."""
    late: list[float] = []
    with _simulator("--unlimited") as (_, port):
        poll, sockets = select.epoll(), {}
        for _ in range(SUBSCRIBERS):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(
                b"GET /ws/btcusdt@kline_1s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            client.recv(4096)
            sockets[client.fileno()] = client
            poll.register(client.fileno(), select.EPOLLIN)
        until, skipped = time.monotonic() + seconds + 1, time.monotonic() + 1
        while time.monotonic() < until:
            for descriptor, _ in poll.poll(0.5):
                at = time.time()
                data = sockets[descriptor].recv(65536)
                if b'"kline"' in data and time.monotonic() > skipped:
                    late.append(at - int(at))
        for client in sockets.values():
            client.close()
    return {
        f"streams, candles received by {SUBSCRIBERS} subscribers": len(late),
        "streams, from the end of a second to its candle, p50 / p99 ms": _percentiles(late),
    }


def _memory(days: float, speed: int) -> dict[str, Any]:
    """Resident memory over market days with a few followers and an order now and then."""
    with _simulator("--unlimited", "--speed", str(speed)) as (process, port):
        followed = socket.create_connection(("127.0.0.1", port))
        followed.sendall(
            b"GET /stream?streams=btcusdt@kline_1s/btcusdt@aggTrade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        followed.setblocking(False)
        sizes = []
        started = time.monotonic()
        while time.monotonic() - started < days * 86_400 / speed:
            time.sleep(0.05)
            try:
                while followed.recv(1 << 20):
                    pass
            except BlockingIOError:
                pass
            sizes.append(psutil.Process(process.pid).memory_info().rss / 2**20)
    settled = sizes[len(sizes) // 10 :]
    name = f"memory at {speed}×, MiB after a tenth of {days:g} market days / at the end"
    return {
        name: f"{settled[0]:.0f} / {sizes[-1]:.0f}",
        "memory, largest, MiB": round(max(sizes)),
    }


def _market() -> dict[str, Any]:
    """How fast a market is made up, and a day of all its symbols told once it is there."""
    began_s, length_s = 1_790_000_000 // 60 * 60, 10_000
    started = time.perf_counter()
    compute(SYMBOLS["ETHUSDT"], 99, began_s, began_s + length_s)
    rate = length_s / (time.perf_counter() - started)
    times = []
    with _simulator("--unlimited") as (_, port):
        for _ in range(101):
            started = time.perf_counter()
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v3/ticker/24hr").read()
            times.append(time.perf_counter() - started)
    return {
        "market, generated seconds of a symbol/s": int(rate),
        "market, 24 hours of all symbols, p50 / p99 ms": _percentiles(times[1:]),
    }


def _percentiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50, p99 = (1000 * ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
    return f"{p50:.1f} / {p99:.1f}"


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
