"""The running exchange: drives the pure core along the market clock and tells listeners what happened.

Every entry point first calls ``advance``, so an order always meets the market as it stands at that very moment,
however late the pump is. Owns the order of things: facts are stored, then applied, then announced. Leaves out HTTP
and sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from simulator.core.exchange import AccountOpened, Exchange, Fact, Filled, Order, OrderPlaced, Request
from simulator.core.matching import touch_after
from simulator.market.candles import SECOND_MS, Candles, History, Tape, Trade
from simulator.market.clock import MarketClock, wall_ms
from simulator.store import StateError, Store

NEVER = 1 << 62
CATCH_UP_S = 600  # wall seconds of missed market that are made up for; after a longer sleep the market moves on without
THREAD_ABOVE_S = 20_000  # candle requests that may compute more seconds than this do so beside the event loop


class Listener:
    """What is told about the market and the accounts, in order, as it happens. Deaf to what it does not override."""

    def on_trade(self, symbol: str, trade: Trade) -> None:
        """A market trade, after its fills."""

    def on_second(self, symbol: str, second: int) -> None:
        """A market second has ended."""

    def on_fact(self, fact: Fact, order: Order) -> None:
        """An order changed; *order* is as it stands right after."""

    def on_accounts(self, touched: Mapping[str, set[str]], time_ms: int) -> None:
        """Balances changed: API key -> assets."""


@dataclass(slots=True)
class _Feed:
    """Where one symbol's tape has been played to."""

    symbol: str
    tape: Tape
    second: int = 0
    due_ms: int = NEVER
    trades: list[Trade] = field(default_factory=list)
    next: int = 0

    def load(self, second: int, from_ms: int) -> None:
        self.second, self.next = second, 0
        self.trades = self.tape.trades(max(from_ms, second * SECOND_MS), (second + 1) * SECOND_MS).rows()
        self._look()

    def step(self) -> Trade:
        trade = self.trades[self.next]
        self.next += 1
        self._look()
        return trade

    def has_trade(self) -> bool:
        return self.next < len(self.trades)

    def _look(self) -> None:
        self.due_ms = self.trades[self.next].time_ms if self.has_trade() else (self.second + 1) * SECOND_MS


class Venue:
    """One exchange at work: its state, its tapes, its clock and its log."""

    def __init__(
        self,
        exchange: Exchange,
        tapes: dict[str, Tape],
        clock: MarketClock,
        store: Store | None,
        wall: Callable[[], int] = wall_ms,
    ) -> None:
        self.exchange = exchange
        self.clock = clock
        self.wall = wall
        self.listeners: list[Listener] = []
        self.histories = {symbol: History(tape) for symbol, tape in tapes.items()}
        self._store = store
        self._failure: StateError | None = None
        self._due_ms = NEVER
        self._reached_ms = 0
        self._feeds = [_Feed(symbol, tape) for symbol, tape in tapes.items()]
        if store is not None:
            for fact in store.replay():
                exchange.apply(fact)
        self._join(self.now_ms())

    def now_ms(self) -> int:
        """Market time. It stands still while the wall steps back."""
        self._reached_ms = max(self._reached_ms, self.clock.at(self.wall()))
        return self._reached_ms

    def advance(self) -> int:
        """Play every tape up to now; returns the market time reached."""
        now = self.now_ms()
        if now - self._due_ms > CATCH_UP_S * SECOND_MS * max(1.0, self.clock.speed):
            self._join(now)
        while self._due_ms <= now:
            feed = min(self._feeds, key=lambda feed: feed.due_ms)
            if feed.has_trade():
                self._play(feed.symbol, feed.step())
            else:
                self._close_second(feed)
            self._due_ms = min(feed.due_ms for feed in self._feeds)
        return now

    async def pump(self) -> None:
        """Keep the market moving until its log can no longer be written, which raises `StateError`."""
        while True:
            self.advance()
            if self._failure is not None:
                raise self._failure
            wait_ms = self.clock.wall_at(self._due_ms) - self.wall()
            await asyncio.sleep(min(max(wait_ms, 0.5), 1000.0) / 1000)

    def place(self, ask: Request) -> Order:
        """Accept an order and let it trade. Raises `ApiError`."""
        facts = self.exchange.place(ask, self.advance())
        self._commit(facts)
        assert isinstance(facts[0], OrderPlaced)
        return self.exchange.orders[facts[0].order_id]

    def cancel(self, orders: Sequence[Order], cancel_id: str) -> None:
        """Cancel open orders. Raises `ApiError` when one is not open."""
        now = self.now_ms()
        self._commit([fact for order in orders for fact in self.exchange.cancel(order, cancel_id, now)])

    def open_account(
        self, api_key: str, api_secret: str, name: str, deposits: dict[str, int], key_kind: str = "HMAC"
    ) -> None:
        """A new customer with *deposits* in atoms. *api_secret* is the public key unless *key_kind* is HMAC."""
        uid = len(self.exchange.accounts) + 1
        self._commit([AccountOpened(api_key, api_secret, name, uid, self.now_ms(), deposits, key_kind)])

    async def klines(self, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, limit: int) -> Candles:
        """Candles of the market so far; long spans are computed beside the event loop."""
        history, now = self.histories[symbol], self.advance()
        if history.cost_s(interval, limit) <= THREAD_ABOVE_S:
            return history.klines(interval, start_ms, end_ms, limit, now)
        return await asyncio.to_thread(history.klines, interval, start_ms, end_ms, limit, now)

    def close(self) -> None:
        """Give up what is still being computed."""
        for history in self.histories.values():
            history.stopped = True

    def is_halted(self, symbol: str) -> bool:
        """The symbol's tape has ended, or not begun."""
        book = self.exchange.books[symbol]
        return book.halted or book.touch is None

    def _join(self, now: int) -> None:
        """Enter the market at *now*, without playing what was before."""
        for feed in self._feeds:
            last = feed.tape.last_trade(now)
            if last is not None:
                self.exchange.books[feed.symbol].touch = touch_after(last)
            start = max(now, feed.tape.first_ms(now))
            feed.load(start // SECOND_MS, start)
            self._halt_at_end(feed)
        self._due_ms = min(feed.due_ms for feed in self._feeds)

    def _play(self, symbol: str, trade: Trade) -> None:
        facts = self.exchange.trade(symbol, trade)
        if facts:
            self._commit(facts)
        for listener in self.listeners:
            listener.on_trade(symbol, trade)

    def _close_second(self, feed: _Feed) -> None:
        for listener in self.listeners:
            listener.on_second(feed.symbol, feed.second)
        feed.load(feed.second + 1, 0)
        self._halt_at_end(feed)

    def _halt_at_end(self, feed: _Feed) -> None:
        end = feed.tape.end_ms()
        if end is not None and feed.second * SECOND_MS >= end:
            self.exchange.books[feed.symbol].halted = True
            feed.due_ms = NEVER

    def _commit(self, facts: Sequence[Fact]) -> None:
        if self._store is not None:
            try:
                self._store.append(facts)
            except StateError as error:
                self._failure = error
                raise
        touched: dict[str, set[str]] = {}
        time_ms = 0
        for fact in facts:
            self.exchange.apply(fact)
            if isinstance(fact, AccountOpened):
                continue
            order = self.exchange.orders[fact.order_id]
            rules = self.exchange.symbols[order.placed.symbol]
            touched.setdefault(order.placed.api_key, set()).update((rules.base, rules.quote))
            time_ms = fact.time_ms
            for listener in self.listeners:
                listener.on_fact(fact, order)
        for listener in self.listeners if touched else ():
            listener.on_accounts(touched, time_ms)


def fills_of(orders: Sequence[Order]) -> list[tuple[Order, Filled]]:
    """All executions of *orders*, in the order they happened."""
    found = [(order, fill) for order in orders for fill in order.fills]
    return sorted(found, key=lambda pair: pair[1].trade_id)
