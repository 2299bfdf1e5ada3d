"""The command line and the wiring: which market, which clock, which port, and an orderly end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click
from aiohttp import web
from aiohttp.typedefs import Handler

from simulator.control import Control
from simulator.core.exchange import Exchange
from simulator.core.rules import TRADING
from simulator.doors.away import turned_away
from simulator.doors.door import Door
from simulator.doors.limits import Limits
from simulator.doors.rest import Rest
from simulator.doors.server_log import server_log
from simulator.doors.sockets import MARKET_TERMS, Gate
from simulator.doors.streams import Streams
from simulator.doors.ws_api import WsApi
from simulator.faults import Faults
from simulator.garbage import collect_seldom, restoring
from simulator.market.clock import wall_ms
from simulator.market.opening import Market, open_market
from simulator.market.replay import BadFile
from simulator.page.page import Page
from simulator.page.recent import Recent
from simulator.scenario import BadScenario, Play, read_script
from simulator.store import StateError, Store
from simulator.usage import Program, is_for_a_command
from simulator.venue import Venue
from simulator.works import Works

MAX_LINE = 1 << 16  # bytes of a request line; REST refuses what is too long in the exchange's way
MIN_START_MS, MAX_START_MS = 946_684_800_000, 4_070_908_800_000
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
    start: int | None
    state: Path | None
    port_file: Path | None
    unlimited: bool
    scenario: Path | None


@click.group(
    cls=Program,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND …]",
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100},
)
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
@click.option(
    "--speed",
    default=1.0,
    type=click.FloatRange(0, 1000),
    help="Market seconds per wall second; 0: the market stands still until POST /sim/clock moves it.",
)
@click.option("--seed", default=7, type=int, help="Which generated market, and which crowd in its book.")
@click.option(
    "--start",
    metavar="TIME",
    callback=lambda context, parameter, value: None if value is None else _time_ms(value),
    help="Market time at which a generated market begins, ISO 8601 or UTC milliseconds; without it, now.",
)
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
    "--scenario",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Open accounts, switch faults on and place orders at set moments of market time, as this YAML file says.",
)
@click.option(
    "--port-file", metavar="FILE", type=click.Path(path_type=Path), help="Write the port here once listening."
)
@click.option("--unlimited", is_flag=True, help="Count request weight and orders, but never refuse (for load tests).")
@click.pass_context
def main(context: click.Context, **options: object) -> None:
    """A Binance-compatible spot exchange on this machine, for clients that know nothing of it.

    Without a command it serves until SIGINT or SIGTERM. What a real exchange does not offer is under /sim: accounts, a
    ledger, faults, the clock.
    """
    if is_for_a_command(context):
        return
    chosen = Options(**options)  # type: ignore[arg-type]
    if not chosen.replay and (chosen.rebase or chosen.loop or chosen.history or chosen.start_delay):
        raise click.UsageError(
            "--rebase, --loop, --history and --start-delay need --replay: a generated market is now."
        )
    if chosen.replay and chosen.start is not None:
        raise click.UsageError("--start needs a generated market: a replay begins where its files do.")
    try:
        code = asyncio.run(_serve(chosen))
    except (BadFile, BadScenario) as error:
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
    market = open_market(
        wall_ms(), store, replay=options.replay, rebase=options.rebase, loop=options.loop, speed=options.speed,
        seed=options.seed, history_s=options.history, start_delay_s=options.start_delay, start_ms=options.start,
        keeps_start=options.scenario is not None,
    )  # fmt: skip
    if store is not None:
        store.keep_units({symbol: (r.price_digits, r.qty_digits) for symbol, r in market.symbols.items()})
    faults = Faults(market.clock.speed)
    play = _play(options, market, faults)
    exchange = Exchange(market.symbols, options.seed, market.usual)
    collect_seldom()
    with restoring():
        venue = Venue(exchange, market.tapes, market.clock, store, schedule=play)
    limits = Limits(enforced=not options.unlimited)
    door = Door(venue, limits)
    rest = Rest(door, faults)
    streams = Streams(venue, faults, Gate(limits, venue.wall, MARKET_TERMS))
    ws_api = WsApi(door, faults, Gate(limits, venue.wall))
    recent = Recent(exchange)
    venue.listeners += [door, streams, ws_api, recent]
    halted = {symbol: status for symbol, status in exchange.statuses.items() if status != TRADING}
    faults.install(Works(venue, streams, ws_api), venue.now_ms, halted)
    if play is not None:
        play.rejoin()
    app = web.Application(client_max_size=1 << 20, middlewares=[_without_disk, turned_away(faults, venue.wall)])

    def keep_clock() -> None:
        if store is not None:
            store.save_anchor(market.name, venue.clock.wall_ms, venue.clock.market_ms, market.begun_ms)

    control = Control(venue, faults, lambda: streams.connected() + ws_api.connected(), keep_clock)
    connected = {"streams": streams.connected, "API": ws_api.connected}
    app.add_routes(control.routes() + Page(venue, faults, recent, control, market.about, connected).routes())
    for path in ("/ws", "/ws/{name:.*}", "/stream"):
        app.router.add_get(path, streams.handle)
    app.router.add_get("/ws-api/v3", ws_api.handle)
    for path in ("/api/{path:.*}", "/sapi/{path:.*}"):
        app.router.add_route("*", path, rest.handle)
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=CLOSE_S / 2, max_line_size=MAX_LINE, auto_decompress=False,
        logger=server_log(),
    )  # fmt: skip
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port).start()
    except OSError as error:
        click.echo(f"Cannot listen on {options.host}:{options.port}: {os.strerror(error.errno or 0)}. "
                   "Stop what uses it, or give another --port.", err=True)  # fmt: skip
        return 1
    port = runner.addresses[0][1]
    click.echo(f"Simulator on http://{options.host}:{port}, {market.about}, speed {options.speed:g}", err=True)
    if options.port_file:
        _write_port(options.port_file, port)

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


def _play(options: Options, market: Market, faults: Faults) -> Play | None:
    """The scenario that was asked for, if one was; raises `BadScenario`."""
    if options.scenario is None:
        return None
    script = read_script(options.scenario, market.begun_ms, options.seed, market.symbols)
    return Play(script, faults, lambda text: click.echo(text, err=True))


@web.middleware
async def _without_disk(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What cannot be written down does not happen: 503, and the pump ends the process."""
    try:
        return await handler(request)
    except StateError:
        return web.json_response({"code": -1001, "msg": "Internal error; unable to process your request."}, status=503)


async def _farewell(streams: Streams, ws_api: WsApi, runner: web.AppRunner) -> None:
    await asyncio.gather(streams.close(), ws_api.close())
    await runner.cleanup()


def _time_ms(text: str) -> int:
    try:
        at = int(text) if text.isdigit() else int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        at = 0
    if not MIN_START_MS <= at <= MAX_START_MS:
        raise click.BadParameter(f"{text!r} is no time: give one such as 2026-01-31T12:00:00Z, from 2000 to 2099.")
    return at // 1000 * 1000


def _write_port(path: Path, port: int) -> None:
    draft = path.with_name(path.name + ".new")
    draft.write_text(f"{port}\n")
    draft.replace(path)
