"""The command line and the wiring: which market, which clock, which port, and an orderly end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import click
from aiohttp import web
from aiohttp.typedefs import Handler

from simulator.control import Control
from simulator.core.exchange import Exchange
from simulator.core.rules import SYMBOLS, SymbolRules
from simulator.doors.door import Door
from simulator.doors.limits import Limits
from simulator.doors.rest import Rest
from simulator.doors.streams import Streams
from simulator.doors.ws_api import WsApi
from simulator.faults import Faults
from simulator.market.candles import Tape
from simulator.market.clock import MarketClock, wall_ms
from simulator.market.generated import GeneratedTape
from simulator.market.replay import BadFile, load_tapes, rebased
from simulator.store import StateError, Store
from simulator.venue import Venue

CLOSE_S = 1.5  # a stop takes no longer, whoever is still connected


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line, as typed."""

    host: str
    port: int
    replay: tuple[Path, ...]
    rebase: bool
    loop: bool
    speed: float
    seed: int
    history: int
    start_delay: float
    state: Path | None
    port_file: Path | None
    unlimited: bool


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=9700, type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option(
    "--replay",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Replay trades or candles: a CSV (.gz), a Parquet file or an archive of Binance's (.zip), named SYMBOL-…, or "
    "a folder of them; may be given several times. Without it, a market is generated.",
)
@click.option("--rebase", is_flag=True, help="Move the replay to now: its beginning is traded at this moment.")
@click.option("--loop", is_flag=True, help="Start the replay over at its end; else the market halts there.")
@click.option("--speed", default=1.0, type=click.FloatRange(0.01, 1000), help="Market seconds per wall second.")
@click.option("--seed", default=7, type=int, help="Which generated market.")
@click.option(
    "--history",
    default=0,
    metavar="SECONDS",
    type=click.IntRange(0),
    help="Seconds at the head of a replay that are past at the start, so that REST shows them as history.",
)
@click.option(
    "--start-delay",
    default=0.0,
    metavar="SECONDS",
    type=click.FloatRange(0, 3600),
    help="Wall seconds before the market clock starts, so that clients can connect first.",
)
@click.option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep accounts, orders and fills here; without it, they end with the process.",
)
@click.option(
    "--port-file", metavar="FILE", type=click.Path(path_type=Path), help="Write the port here once listening."
)
@click.option("--unlimited", is_flag=True, help="Count request weight and orders, but never refuse (for load tests).")
def main(**options: object) -> None:
    """A Binance-compatible spot exchange on this machine.

    REST under /api/v3, market streams under /ws and /stream, websocket API under /ws-api/v3, and under /sim what a real
    exchange does not offer: accounts, a ledger, faults, the clock.
    """
    chosen = Options(**options)  # type: ignore[arg-type]
    if not chosen.replay and (chosen.rebase or chosen.loop or chosen.history or chosen.start_delay):
        raise click.UsageError(
            "--rebase, --loop, --history and --start-delay need --replay: a generated market is now."
        )
    try:
        code = asyncio.run(_serve(chosen))
    except BadFile as error:
        click.echo(str(error), err=True)
        code = 2
    except StateError as error:
        click.echo(str(error), err=True)
        code = 1
    sys.exit(code)


async def _serve(options: Options) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store = Store(options.state) if options.state else None
    symbols, tapes, clock, about = _market(options, store)
    venue = Venue(Exchange(symbols), tapes, clock, store)
    faults = Faults()
    door = Door(venue, Limits(enforced=not options.unlimited))
    rest, streams, ws_api = Rest(door, faults), Streams(venue, faults), WsApi(door)
    venue.listeners += [door, streams, ws_api]

    def disconnect() -> None:
        streams.abort()
        ws_api.abort()

    app = web.Application(client_max_size=1 << 20, middlewares=[_without_disk])
    app.add_routes(Control(venue, faults, disconnect, lambda: streams.connected() + ws_api.connected()).routes())
    for path in ("/ws", "/ws/{name:.*}", "/stream"):
        app.router.add_get(path, streams.handle)
    app.router.add_get("/ws-api/v3", ws_api.handle)
    app.router.add_route("*", "/api/{path:.*}", rest.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_S / 2)
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port).start()
    except OSError as error:
        click.echo(f"Cannot listen on {options.host}:{options.port}: {os.strerror(error.errno or 0)}. "
                   "Stop what uses it, or give another --port.", err=True)  # fmt: skip
        return 1
    port = runner.addresses[0][1]
    if options.port_file:
        _write_port(options.port_file, port)
    click.echo(f"Simulator on http://{options.host}:{port}, {about}, speed {options.speed:g}", err=True)

    pump = asyncio.create_task(venue.pump())
    await asyncio.wait({pump, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
    failed = pump.exception() if pump.done() else None
    pump.cancel()
    venue.close()
    await asyncio.wait({asyncio.create_task(_farewell(streams, ws_api, runner))}, timeout=CLOSE_S)
    if store is not None:
        store.close()
    if failed is not None:
        raise failed
    return 0


@web.middleware
async def _without_disk(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What cannot be written down does not happen: 503, and the pump ends the process."""
    try:
        return await handler(request)
    except StateError:
        return web.json_response({"code": -1001, "msg": "Internal error; unable to process your request."}, status=503)


def _market(options: Options, store: Store | None) -> tuple[dict[str, SymbolRules], dict[str, Tape], MarketClock, str]:
    """Listed symbols, their tapes, the market clock, and a line for people."""
    now = wall_ms()
    if not options.replay:
        about = f"generated market, seed {options.seed}"
        clock = MarketClock(now, now, options.speed)
        if options.speed != 1:
            clock = _anchored(clock, about, store)
        return SYMBOLS, {name: GeneratedTape(rules, options.seed) for name, rules in SYMBOLS.items()}, clock, about

    replays = load_tapes(options.replay, options.loop)
    about = "replay of " + ", ".join(path.name for path in options.replay)
    head_ms = min(tape.first_ms(0) for tape in replays.values()) + options.history * 1000
    start_ms = now // 1000 * 1000 if options.rebase else head_ms
    clock = MarketClock(now + int(options.start_delay * 1000), start_ms, options.speed)
    clock = _anchored(clock, f"{about}, rebase {options.rebase}, loop {options.loop}", store)
    tapes = rebased(replays, clock.market_ms - head_ms) if options.rebase else replays
    return {name: tape.rules for name, tape in tapes.items()}, dict(tapes), clock, about


def _anchored(clock: MarketClock, market: str, store: Store | None) -> MarketClock:
    """The clock that an earlier process hung up for the same market, else *clock*, hung up for later ones."""
    if store is None:
        return clock
    market = f"{market}, speed {clock.speed:g}"
    saved = store.load_anchor(market)
    if saved is not None:
        return MarketClock(*saved, clock.speed)
    store.save_anchor(market, clock.wall_ms, clock.market_ms)
    return clock


async def _farewell(streams: Streams, ws_api: WsApi, runner: web.AppRunner) -> None:
    await asyncio.gather(streams.close(), ws_api.close())
    await runner.cleanup()


def _write_port(path: Path, port: int) -> None:
    draft = path.with_name(path.name + ".new")
    draft.write_text(f"{port}\n")
    draft.replace(path)
