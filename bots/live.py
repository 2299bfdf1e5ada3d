"""The live shell around the trading core: brings events in, writes facts down, carries out commands.

Everything that reaches the `Trader` passes `feed`, in one thread: step, journal, commands, in that order. An order's
intent is on disk before the order is sent; when the disk takes no more, entries are refused and exits go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from bots.balances import Balances
from bots.control import Wishes, without_restart_fields
from bots.core.candles import Candle
from bots.core.messages import (
    AccountSeen,
    ConfigChanged,
    Gate,
    OrderRefused,
    PlaceOrder,
    PriceSeen,
    QueryOrder,
    Quote,
    Refusal,
    Tick,
)
from bots.core.order_manager import Output
from bots.core.strategy import Strategy
from bots.core.trader import Event, Trader
from bots.market.backfill import CandleRow, joined, load_history
from bots.market.user_stream import UserStream
from bots.market.websocket_handler import MarketStream
from bots.reporters.journal import Reporter
from bots.trading.binance_client import report_from_execution
from bots.trading.exchange import Exchange, KeysRefused, Unreachable
from bots.trading.executor import Executor
from bots.utils.config_loader import ConfigLoader
from bots.vitals import Vitals
from shared.config import TradingConfig, parse_config
from shared.errors import Refused
from shared.events import Alert, ConfigRejected, OrderIntent, Payload, Position, Ready, Status
from shared.states import BotState, DesiredState, Role, Side
from shared.tickets import ControlDocument, RunTicket

HEARTBEAT_S: Final = 5.0
PACE_S: Final = 1.0
RECONCILE_S: Final = 30.0
NO_ENTRIES_AFTER_S: Final = 3.0
REST_PRICE_AFTER_S: Final = 15.0
RETRY_S: Final = 2.0
HISTORY_S: Final = 3.0
DELIVERED_KEPT: Final = 300
HAND_OVER_S: Final = 10.0

log = logging.getLogger(__name__)


class Live:
    """One run of one bot, from its first candle to its last. *ticket* says who we are; the caller owns the journal.

    *guard_only* says why no entry may be taken at all: then the run ends as soon as the bot is flat. *fresh_strategy*
    builds another strategy in place of one that has missed a candle.
    """

    def __init__(
        self,
        ticket: RunTicket,
        trader: Trader,
        exchange: Exchange,
        journal: Reporter,
        clock_offset_ms: Callable[[], int],
        guard_only: str | None = None,
        fresh_strategy: Callable[[TradingConfig], Strategy] | None = None,
    ) -> None:
        self._ticket = ticket
        self._trader = trader
        self._exchange = exchange
        self._journal = journal
        self._inherited = frozenset(trader.orders.positions)
        inherited = tuple(f"{trader.id_prefix}-{key}-" for key in self._inherited)
        self._executor = Executor(
            exchange, self.feed, self._on_error, lambda client_order_id: client_order_id.startswith(inherited)
        )
        self._row = CandleRow(exchange, ticket.symbol, self._on_candle, self._on_hole, self._break)
        self._market = MarketStream(ticket.endpoints.streams, ticket.symbol, self._row.take, self.feed_quote)
        self._user = UserStream(
            ticket.endpoints.ws_api,
            ticket.api_key,
            ticket.api_secret,
            self._on_user_event,
            self._on_user_connected,
            clock_offset_ms,
        )
        self._loader = ConfigLoader(
            f"{ticket.server_url}/api/bots/{ticket.bot_id}/control", ticket.token, self._on_document
        )
        self._guard_only = guard_only
        self._fresh_strategy = fresh_strategy
        self._gate("strategy", guard_only is not None, guard_only or "")
        self._status = Status(status=BotState.STARTING)
        self._wishes = Wishes(ticket)
        self._balances = Balances(trader.rules, self.feed)
        self._vitals = Vitals()
        self._last_candle: Candle | None = None
        self._candle_at = time.monotonic()
        self._candle_ms = trader.now_ms
        """Market time at `_candle_at`: when the last candle ended; before the first, what is remembered."""
        self._delivered: deque[Candle] = deque(maxlen=DELIVERED_KEPT)
        self._reloading: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.hands_over = False
        """Whether the run ends for another one that goes on with its positions."""
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._workers: list[asyncio.Task[None]] = []
        self._look: asyncio.Task[None] | None = None
        self._has_asked = self._ready = False
        self.ended_flat = False
        """Whether the run ended by itself, because nothing was left to guard."""

    async def run(self) -> None:
        """Trade until stopped; returns when everything is settled by `on_stop`. Raises `KeysRefused`."""
        began = time.monotonic()
        self._obey()  # before anything is asked about a position that is to be forgotten
        self._work(self._market.run(), self._user.run(), self._loader.run(), self._beat(), self._pace())
        stopping = asyncio.create_task(self._stopping.wait())
        getting_ready = asyncio.create_task(self._get_ready())
        settling: asyncio.Task[None] | None = None
        try:
            await self._until_one_of(getting_ready, stopping)
            if not getting_ready.done():
                if self._trader.is_flat or self.hands_over:
                    return
                await self._until_one_of(getting_ready)
            self._begin_to_trade(getting_ready.result(), time.monotonic() - began)
            self._work(self._reconcile_for_ever())
            await self._until_one_of(stopping)
            settling = asyncio.create_task(self._hand_over() if self.hands_over else self._settle())
            await self._until_one_of(settling)
        finally:
            tasks = [t for t in (*self._workers, stopping, getting_ready, settling, self._look, self._reloading) if t]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._row.close()
            await self._executor.close()

    def stop(self) -> None:
        """End in order."""
        self._stopping.set()

    def hand_over(self) -> None:
        """End for another run that goes on with the positions as they stand, whatever `on_stop` says."""
        self.hands_over = not self._stopping.is_set()
        self._stopping.set()

    def _work(self, *works: Coroutine[Any, Any, None]) -> None:
        self._workers += [asyncio.create_task(work) for work in works]

    async def _until_one_of(self, *tasks: asyncio.Task[Any]) -> None:
        """Wait for one of *tasks*. Raises what it raised, and what broke meanwhile in a worker or in the core."""
        waited = {*tasks, *self._workers, self._broken}
        done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    def _begin_to_trade(self, reconciled: int, seconds: float) -> None:
        self._ready = True
        self._take_control()
        open_positions = len(self._trader.orders.positions)
        self._tell(Ready(reconciled_orders=reconciled, open_positions=open_positions, seconds=round(seconds, 3)))
        self._show_status()

    def poll_now(self) -> None:
        """Ask the server for config and control at once."""
        self._loader.poll_now()

    # --- the one way in --------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Let the core take *event*, write down the facts, start the commands. What breaks here ends the run."""
        try:
            outputs = self._trader.step(event)
            if outputs:
                self._carry_out(outputs)
        except Exception as error:
            self._break(error)
            raise

    def _break(self, error: BaseException) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)

    def feed_quote(self, quote: Quote) -> None:
        """The best bid and ask, often: nothing can come out of it."""
        self._trader.step(quote)

    def _carry_out(self, outputs: list[Output]) -> None:
        facts = [o for o in outputs if isinstance(o, Payload)]
        intended = any(isinstance(f, OrderIntent) for f in facts)
        written = self._journal.write(facts, sync=intended)
        for output in outputs:
            if isinstance(output, Payload):
                continue
            is_entry = isinstance(output, PlaceOrder) and output.side is Side.BUY
            why_not = self._why_no_entry(written) if is_entry else None
            if why_not is None:
                self._executor.run(output)
            else:
                self.feed(OrderRefused(client_order_id=output.client_order_id, kind=Refusal.OTHER, message=why_not))

    def _why_no_entry(self, written: bool) -> str | None:
        """The last look before an order to buy goes out."""
        if not written:
            return "the journal cannot be written (disk full?), so no position is opened"
        self._look_at_halt_file()
        return self._wishes.halt_words

    def _tell(self, *payloads: Payload) -> None:
        self._journal.write(payloads)

    # --- getting ready ---------------------------------------------------------------------------------------------

    async def _get_ready(self) -> int:
        """Candles, balances, and the truth about every order. Returns the number of orders reconciled.

        Candles come first, and open positions do not wait long for history: stops and deadlines are guarded meanwhile.
        """
        if self._trader.is_flat:
            self._begin_with(*await self._until_it_answers("candles", self._load_history))
        else:
            try:
                async with asyncio.timeout(HISTORY_S):
                    history = await self._load_history()
            except (Unreachable, TimeoutError) as error:
                self._on_error("unreachable", f"candles: {error}")
                self._row.begin(None)
                self._on_hole()
            else:
                self._begin_with(*history)
        account = await self._until_it_answers("balances", lambda: self._exchange.account(self._trader.rules))
        self._on_account(account)
        questions = self._trader.unsettled()
        self._has_asked = True
        self._heed_halt()
        for question in questions:
            self._say_starting(f"reconciling order {question.client_order_id}")
            await self._executor.settle(question)
        await self._until_it_answers("open orders", self._cancel_strangers)
        return len(questions)

    async def _load_history(self) -> tuple[list[Candle], list[Candle]]:
        ticket = self._ticket
        return await load_history(self._exchange, ticket.symbol, ticket.interval, self._trader.bars_needed)

    def _begin_with(self, bars: list[Candle], seconds: list[Candle]) -> None:
        self._trader.warm_up(bars)
        for candle in seconds:
            self._on_candle(candle, 0.0)
        self._row.begin(seconds[-1].end_ms if seconds else None)

    def _on_hole(self) -> None:
        """The strategy has missed candles: no entries until another one has seen the whole history."""
        self._gate("history", True, "history incomplete, loading it again")
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload_history())
            self._reloading.add_done_callback(self._reloaded)

    def _reloaded(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._break(error)

    async def _reload_history(self) -> None:
        while True:
            try:
                bars, seconds = await self._load_history()
            except Unreachable as error:
                self._on_error("unreachable", f"candles: {error}")
            else:
                seconds = joined(seconds, list(self._delivered))
                if seconds:
                    break
            await asyncio.sleep(RETRY_S)
        if self._fresh_strategy is not None:
            self._trader.renew_strategy(self._fresh_strategy(self._trader.config), bars, seconds)
        self._gate("history", False, "")

    async def _until_it_answers(self, what: str, ask: Callable[[], Any]) -> Any:
        while True:
            try:
                return await ask()
            except Unreachable as error:
                self._on_error("unreachable", f"{what}: {error}")
                self._say_starting(f"waiting for the exchange ({what}: {error})")
            await asyncio.sleep(RETRY_S)

    async def _cancel_strangers(self) -> None:
        """Cancel open orders that bear this bot's prefix and belong to no position."""
        prefix = self._trader.id_prefix + "-"
        for client_order_id in await self._exchange.open_orders(self._ticket.symbol):
            if client_order_id.startswith(prefix) and not self._trader.orders.knows(client_order_id):
                await self._exchange.cancel(client_order_id, self._ticket.symbol)
                text = f"Order {client_order_id} belonged to no position and was cancelled; check it at the exchange."
                self._tell(Alert(kind="stray_order", message=text))

    # --- what comes in ---------------------------------------------------------------------------------------------

    def _on_candle(self, candle: Candle, arrived: float) -> None:
        self._last_candle, self._candle_at = candle, time.monotonic()
        self._candle_ms = max(self._candle_ms, candle.end_ms)
        self._delivered.append(candle)
        before = self._trader.tally.decisions
        self.feed(candle)
        if arrived and self._trader.tally.decisions != before:
            self._vitals.decided(arrived)

    def _on_user_event(self, event: dict[str, Any]) -> None:
        if event["e"] == "executionReport":
            if (event["C"] or event["c"]).startswith(self._trader.id_prefix + "-"):
                self.feed(report_from_execution(event))
        elif event["e"] == "outboundAccountPosition":
            touched = {b["a"]: (Decimal(b["f"]), Decimal(b["l"])) for b in event["B"]}
            if self._balances.touched(touched):
                self._tell(self._balances.fact(self._trader.now_ms))

    def _on_user_connected(self) -> None:
        if self._ready:
            self._ask_about_open_orders()

    def _on_account(self, account: AccountSeen) -> None:
        if self._balances.saw(account):
            self._tell(self._balances.fact(self._trader.now_ms))

    def _on_document(self, document: ControlDocument) -> None:
        if document.config_version != self._trader.config_version:
            self._take_config(document)
        if self._wishes.take(document):
            self._take_control()
        self._show_status()

    def _look_at_halt_file(self) -> None:
        if self._wishes.look_at_file():
            self._take_control()
            self._show_status()

    def _take_control(self) -> None:
        if self.hands_over or not self._ready:
            self._heed_halt()  # the rest is for the next run, or for later
            return
        self._obey()
        control = self._wishes.control
        if self._stopping.is_set():  # whoever wants it to run again starts it again
            self.feed(replace(control, desired=DesiredState.STOPPED))
        elif control.desired is DesiredState.STOPPED:
            self.stop()
        else:
            self.feed(control)

    def _heed_halt(self) -> None:
        """A halt waits neither for answers about all orders nor for the next run: entries might fill meanwhile."""
        control = self._wishes.control
        if control.halted and self._has_asked:
            self.feed(replace(control, desired=DesiredState.PAUSED))

    def _obey(self) -> None:
        for command in self._wishes.commands:
            self.feed(command)

    def _take_config(self, document: ControlDocument) -> None:
        kind = type(self._trader.config)
        try:
            config = parse_config(kind, document.config)
        except Refused as error:
            self._tell(ConfigRejected(version=document.config_version, message=error.message, fields=error.fields))
            return
        effective, waiting = without_restart_fields(self._trader.config, config)
        self.feed(ConfigChanged(version=document.config_version, config=effective))
        if waiting:
            text = f"Config version {document.config_version}: {', '.join(waiting)} apply when the bot starts again."
            self._tell(Alert(kind="restart_needed", message=text))

    def _on_error(self, kind: str, message: str) -> None:
        error = self._vitals.error(kind, message)
        if error is not None:
            self._tell(error)

    # --- what goes on in the background ----------------------------------------------------------------------------

    async def _pace(self) -> None:
        """Once a second: stale data, market time without candles, a server out of reach, a disk that recovers."""
        while True:
            await asyncio.sleep(PACE_S)
            silence = time.monotonic() - self._candle_at
            self._gate("market", silence > NO_ENTRIES_AFTER_S, "no candle for more than 3 s")
            self._look_at_halt_file()
            is_orphan = self._loader.age_s() > self._trader.config.orphan_after
            why_not = self._loader.refused or "the server is out of reach for too long"
            self._gate("server", is_orphan or self._loader.refused is not None, why_not)
            self._journal.write(())
            if self._guard_only is not None and self._trader.is_flat and not self._stopping.is_set():
                self.ended_flat = True
                self.stop()
            self._gate("disk", not self._journal.healthy, "the journal cannot be written (disk full?)")
            if silence > 1.5 * PACE_S:
                now_ms = self._candle_ms + int(silence * 1000)
                self.feed(Tick(now_ms))
                looks = self._look is not None and not self._look.done()
                if silence > REST_PRICE_AFTER_S and not self._trader.is_flat and not looks:
                    self._look = asyncio.create_task(self._look_at_price(now_ms))
            self._show_status()

    async def _look_at_price(self, now_ms: int) -> None:
        try:
            price = await self._exchange.last_price(self._ticket.symbol)
        except (Unreachable, KeysRefused) as error:
            self._on_error("unreachable", f"price: {error}")
        else:
            self.feed(PriceSeen(now_ms, price))

    def _gate(self, source: str, shut: bool, reason: str) -> None:
        self._trader.step(Gate(source=source, reason=reason if shut else None))

    async def _reconcile_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RECONCILE_S)
            self._ask_about_open_orders()
            try:
                for key in self._inherited & self._trader.orders.positions.keys():
                    await self._executor.rule_out(self._next_exit(self._trader.orders.positions[key]))
            except Unreachable as error:
                self._on_error("unreachable", f"orders: {error}")
            try:
                self._on_account(await self._exchange.account(self._trader.rules))
            except Unreachable as error:
                self._on_error("unreachable", f"balances: {error}")

    def _next_exit(self, position: Position) -> QueryOrder:
        prefix = f"{self._trader.id_prefix}-{position.position_key}-{Role.EXIT.letter}"
        numbers = [int(leg.client_order_id.removeprefix(prefix)) for leg in position.legs if leg.role is Role.EXIT]
        return QueryOrder(client_order_id=f"{prefix}{1 + max(numbers, default=0)}", symbol=position.symbol)

    def _ask_about_open_orders(self) -> None:
        for question in self._trader.unsettled():
            self._executor.run(question)

    async def _beat(self) -> None:
        due = time.monotonic()
        while True:
            due += HEARTBEAT_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self._vitals.lag_ms = max(0.0, (time.monotonic() - due) * 1000)
            due = max(due, time.monotonic() - HEARTBEAT_S)
            streams = {"market": self._market.state, "user": self._user.state}
            self._tell(self._vitals.heartbeat(self._trader, self._last_candle, streams))
            self._journal.rotate_if_large(self._trader.snapshot)

    # --- what people see -------------------------------------------------------------------------------------------

    def _say_starting(self, reason: str) -> None:
        self._set_status(BotState.STOPPING if self._stopping.is_set() else BotState.STARTING, reason)

    def _show_status(self) -> None:
        if self._stopping.is_set() or not self._ready:
            return
        hold = self._trader.entry_hold
        control = self._wishes.control
        if control.halted or control.desired is not DesiredState.RUNNING:
            self._set_status(BotState.PAUSED, control.halt_reason)
        else:
            self._set_status(BotState.RUNNING, f"no entries: {hold}" if hold else None)

    def _set_status(self, status: BotState, reason: str | None) -> None:
        told = Status(status=status, reason=reason)
        if told != self._status:
            self._status = told
            self._tell(told)

    # --- the end ---------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Take no more entries, and wait until what `on_stop` asks for has happened."""
        self.feed(replace(self._wishes.control, desired=DesiredState.STOPPED))
        while not self._trader.is_settled:
            orders, positions = self._trader.orders.open_orders, len(self._trader.orders.positions)
            self._set_status(BotState.STOPPING, f"waiting for {orders} orders, {positions} positions")
            await asyncio.sleep(0.1)
        self._set_status(BotState.STOPPING, None)

    async def _hand_over(self) -> None:
        """Begin nothing more, and wait a moment for answers that are on their way: the next run asks for the others."""
        self._gate("restart", True, "restarting")
        deadline = time.monotonic() + HAND_OVER_S
        while (waiting := self._trader.orders.unanswered) and time.monotonic() < deadline:
            self._set_status(BotState.STOPPING, f"restarting, waiting for {waiting} orders")
            await asyncio.sleep(0.05)
