"""One bot, one process: wiring and life cycle.

Started by the supervisor with a run ticket on an inherited descriptor, or by hand, when it asks the server for one.
First act: keep standard output for events and point it at standard error, so that a stray print never lands between
JSON lines. Then the lock, the journal's memory, the model, the exchange, and `Live` until it is told to end. Exit
codes: 0 wanted, 73 already running, 78 something a person must put right (the `exit` event says what).
"""

# ruff: noqa: E402
from __future__ import annotations

import os
import signal

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
if __name__ == "__main__":
    # Before the slow imports: a signal that comes early waits for its handler instead of killing the process.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # Read when the numeric libraries load. Their threads would only cost: they wait, and take signals.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import asyncio
import faulthandler
import gc
import hashlib
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click
from setproctitle import setproctitle

from bots.by_hand import ByHand, Replaced
from bots.core.predictor import Predictor
from bots.core.strategy import Strategy
from bots.core.trader import Trader
from bots.live import Live
from bots.reporters.composite_reporter import CompositeReporter, LogEvents
from bots.reporters.journal import Journal, last_memory
from bots.strategies import DEFINITIONS, build
from bots.trading.binance_client import BinanceClient
from bots.trading.exchange import KeysRefused, Unreachable
from bots.utils.logger import set_up_logging
from bots.utils.manual_launch import EXIT_ALREADY_RUNNING, EXIT_CONFIG, LaunchRefused, read_options
from bots.utils.run_lock import AlreadyRunning, take_run_lock
from shared.config import TradingConfig, parse_config
from shared.errors import FlotillaError, Refused
from shared.events import Alert, Exit, Payload, Snapshot, Started, Status
from shared.intervals import INTERVAL_MS
from shared.positions import Counters
from shared.states import BotState
from shared.symbols import SymbolRules
from shared.tickets import RunTicket

HANDED_OVER: Final = "restarting; positions are held over"
CONNECT_PAUSE_S: Final = 2.0
SAY_AGAIN_S: Final = 30.0

log = logging.getLogger(__name__)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Ctrl-C ends the bot in order, by its on_stop, and the bot is wanted stopped from then on. "
    "See docs/manual-launch.md.",
)
@click.option("--bot-id", type=click.IntRange(min=1), required=True, metavar="N", help="Which bot.")
@click.option("--server", metavar="URL", help="Flotilla's server. Default: FLOTILLA_HOST and FLOTILLA_PORT.")
@click.option("--token", help="API token of a trader. Default: FLOTILLA_TOKEN, then cli.token in FLOTILLA_HOME.")
@click.option("--symbol", metavar="S", help="Refuse to start unless this is the bot's symbol.")
@click.option("--ticket-fd", type=int, hidden=True)
def main(bot_id: int, server: str | None, token: str | None, symbol: str | None, ticket_fd: int | None) -> None:
    """Run one bot in this terminal. Its events go to standard output as JSON lines, its log to standard error."""
    try:
        by_hand: ByHand | None = None
        if ticket_fd is None:
            by_hand = ByHand(read_options(bot_id, server, token, symbol, os.environ))
            events_fd = by_hand.begin()
            ticket = by_hand.ticket
        else:
            events_fd = keep_stdout_for_events()
            with os.fdopen(ticket_fd, "rb") as channel:
                ticket = RunTicket.from_json(channel.read())
            take_run_lock(Path(ticket.home), ticket.generation, ticket.run_id)
    except (AlreadyRunning, LaunchRefused) as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_ALREADY_RUNNING if isinstance(error, AlreadyRunning) else error.exit_code)
    faulthandler.enable()
    setproctitle(f"flotilla: bot {bot_id} {ticket.symbol}")
    secrets = (ticket.api_key, ticket.api_secret, ticket.token, *(by_hand.secrets if by_hand else ()))
    set_up_logging(ticket.run_id, secrets=secrets)
    home = Path(ticket.home)
    journal = CompositeReporter(
        Journal(events_fd, bot_id=bot_id, run_id=ticket.run_id, folder=home), by_hand.followers if by_hand else ()
    )
    code = run(ticket, journal, by_hand, secrets)
    if by_hand is not None:
        by_hand.end()
    sys.exit(code)


def run(ticket: RunTicket, journal: CompositeReporter, by_hand: ByHand | None, secrets: tuple[str, ...]) -> int:
    """The run from its first line to its last; the exit code."""
    home = Path(ticket.home)
    try:
        memory = last_memory(home, ticket.generation, ticket.memory_generation) or ticket.memory
    except Refused as error:
        # Without a snapshot: what the next run remembers is what this one could not read.
        journal.write([*first_lines(ticket), Exit(code=EXIT_CONFIG, reason=sentence(error))], sync=True)
        return EXIT_CONFIG
    snapshot = memory or Snapshot(last_event_ms=0, counters=Counters(), positions=[])
    journal.write([*first_lines(ticket), snapshot], sync=True)
    set_up_logging(ticket.run_id, secrets=secrets, also=LogEvents(journal))
    code, reason = asyncio.run(live_and_die(ticket, journal, memory, by_hand))
    for number in SIGNALS:  # it ends anyway; a library's thread may not block them
        signal.signal(number, signal.SIG_IGN)
    journal.write([Exit(code=code, reason=reason)], sync=True)
    return code


def keep_stdout_for_events() -> int:
    """A private copy of standard output; descriptor 1 becomes standard error."""
    events_fd = os.dup(1)
    os.set_inheritable(events_fd, False)
    os.dup2(2, 1)
    return events_fd


def first_lines(ticket: RunTicket) -> list[Payload]:
    """What a run says first. With the snapshot behind it, it is on disk before anything else happens."""
    started = Started(
        version=version("flotilla"),
        pid=os.getpid(),
        strategy=ticket.strategy,
        symbol=ticket.symbol,
        exchange=ticket.exchange,
        mode=ticket.mode,
        interval=ticket.interval,
        config_version=ticket.document.config_version,
        model_sha256=ticket.model.sha256 if ticket.model else None,
    )
    return [started, Status(status=BotState.STARTING)]


async def live_and_die(
    ticket: RunTicket, journal: CompositeReporter, memory: Snapshot | None, by_hand: ByHand | None = None
) -> tuple[int, str]:
    """Run to the end; the exit code, and the reason in words."""
    stop_early, hand_over_early = asyncio.Event(), asyncio.Event()
    stoppers = [stop_early.set]
    pollers: list[Callable[[], None]] = []  # the first poll comes with the start anyway

    def hand_over_at_once() -> None:
        hand_over_early.set()
        stop_early.set()

    loop = asyncio.get_running_loop()

    def stop() -> None:
        for stopper in stoppers:
            stopper()

    def poll() -> None:
        for poller in pollers:
            poller()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        loop.add_signal_handler(number, poll)
    loop.add_signal_handler(signal.SIGUSR2, hand_over_at_once)
    if by_hand is not None:
        by_hand.attend(loop, stop, poll)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        loaded = load_or_guard_only(ticket, memory)
        config, trouble = loaded.config, loaded.trouble
        if trouble is not None:
            journal.write([Alert(kind="guard_only", message=trouble)])
        connecting = asyncio.create_task(connect(ticket, journal))
        stopped = asyncio.create_task(stop_early.wait())
        await asyncio.wait({connecting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done() and (hand_over_early.is_set() or not (memory and memory.positions)):
            connecting.cancel()
            return 0, HANDED_OVER if hand_over_early.is_set() else "stopped while it waited for the exchange"
        exchange, rules = await connecting
        trader = Trader(
            id_prefix=f"f{ticket.install}-{ticket.bot_id}",
            rules=rules,
            interval=ticket.interval,
            strategy=loaded.strategy,
            config=config,
            config_version=ticket.document.config_version,
            memory=memory,
        )
        live = Live(
            ticket,
            trader,
            exchange,
            journal,
            exchange.clock_offset_ms,
            guard_only=trouble,
            fresh_strategy=loaded.fresh_strategy,
        )
        stoppers.append(live.stop)
        loop.add_signal_handler(signal.SIGUSR2, live.hand_over)
        if hand_over_early.is_set():
            live.hand_over()
        elif stop_early.is_set():
            live.stop()
        pollers.append(live.poll_now)
        # What is there now stays: looking at all of it in each full collection would hold up the loop for 14 ms.
        gc.collect()
        gc.freeze()
        try:
            await (live.run() if by_hand is None else by_hand.unless_replaced(live.run()))
        finally:
            await exchange.close()
        if trouble is not None and live.ended_flat:
            return EXIT_CONFIG, trouble
        return 0, HANDED_OVER if live.hands_over else "stopped"
    except Replaced as error:
        return EXIT_ALREADY_RUNNING, str(error)
    except (FlotillaError, KeysRefused) as error:
        return EXIT_CONFIG, sentence(error)
    except Exception as error:
        log.exception("the bot broke")
        return 1, f"bug: {type(error).__name__}: {error}"
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # nothing cuts off the last line


@dataclass(frozen=True)
class Loaded:
    """What a bot decides with; *trouble* says why there is no strategy."""

    config: TradingConfig
    strategy: Strategy | None = None
    fresh_strategy: Callable[[TradingConfig], Strategy] | None = None
    trouble: str | None = None


def load_or_guard_only(ticket: RunTicket, memory: Snapshot | None) -> Loaded:
    """Config and strategy. If they cannot be had while positions are open: none, and why; positions keep their terms.

    Raises `Refused`.
    """
    if ticket.exchange != "simulator" or ticket.mode != "trade":
        raise Refused(
            f"Mode {ticket.mode} on exchange {ticket.exchange} is not available; "
            "choose mode trade on exchange simulator."
        )
    config = what_to_do_on_stop(ticket)
    try:
        config = load_config(ticket)
        fresh_strategy = load_strategy(ticket)
        return Loaded(config, fresh_strategy(config), fresh_strategy)
    except Exception as error:
        if memory is None or not memory.positions:
            raise
        if not isinstance(error, FlotillaError):
            log.exception("the strategy could not be built")
        return Loaded(config, trouble=f"{sentence(error)} Open positions are guarded, there are no entries.")


def what_to_do_on_stop(ticket: RunTicket) -> TradingConfig:
    """All defaults but `on_stop`, which holds even where the rest of the config cannot be read."""
    try:
        return TradingConfig(on_stop=ticket.document.config["on_stop"])
    except (LookupError, TypeError, ValueError):
        return TradingConfig()


def load_config(ticket: RunTicket) -> TradingConfig:
    """The ticket's config, checked. Raises `Refused`."""
    definition = DEFINITIONS.get(ticket.strategy)
    if definition is None:
        raise Refused(f"There is no strategy {ticket.strategy!r}; there are {', '.join(sorted(DEFINITIONS))}.")
    return parse_config(definition.config, ticket.document.config)


async def connect(ticket: RunTicket, journal: CompositeReporter) -> tuple[BinanceClient, SymbolRules]:
    """The exchange and the symbol's rules, waiting as long as it is out of reach. Raises `Refused`, `KeysRefused`."""
    said, said_at = "", 0.0
    while True:
        try:
            exchange = await BinanceClient.connect(ticket.endpoints, ticket.api_key, ticket.api_secret)
            try:
                rules = await exchange.rules(ticket.symbol)
                if rules is None:
                    raise Refused(
                        f"Exchange {ticket.exchange} does not list {ticket.symbol}; choose a symbol that it trades."
                    )
                await exchange.account(rules)
                return exchange, rules
            except BaseException:
                await exchange.close()
                raise
        except Unreachable as error:
            reason = f"waiting for the exchange: {error}"
            if reason != said or time.monotonic() - said_at > SAY_AGAIN_S:
                said, said_at = reason, time.monotonic()
                journal.write([Status(status=BotState.STARTING, reason=reason)])
            await asyncio.sleep(CONNECT_PAUSE_S)


def load_strategy(ticket: RunTicket) -> Callable[[TradingConfig], Strategy]:
    """What builds the ticket's strategy, with its model if it needs one. Both raise `Refused`."""
    model = None
    if ticket.model is not None:
        model = Predictor(verified_model(ticket.model.path, ticket.model.sha256))
    return lambda config: build(ticket.strategy, INTERVAL_MS[ticket.interval], config, model)


def verified_model(path: str, sha256: str) -> bytes:
    """The bytes of a model file whose SHA-256 is the registry's: a damaged one can kill the process inside LightGBM."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise Refused(f"The model file {path} cannot be read ({error.strerror}); upload the model again.") from None
    found = hashlib.sha256(text).hexdigest()
    if found != sha256:
        raise Refused(
            f"The model file {path} is damaged: its SHA-256 is {found[:12]}…, the registry says {sha256[:12]}…; "
            "upload the model again."
        )
    return text


def sentence(error: Exception) -> str:
    """The error's message with its fields, for people."""
    if not isinstance(error, FlotillaError | KeysRefused):
        return f"The strategy cannot be built ({type(error).__name__}: {error}); see the bot's log."
    fields = getattr(error, "fields", {})
    return " ".join([str(error), *(f"{name}: {reason}." for name, reason in fields.items())])


if __name__ == "__main__":
    main()
