"""The running exchange: drives the pure core along the market clock and tells listeners what happened.

Every entry point first calls ``advance``, so an order always meets the market as it stands at that very moment,
however late the pump is. Owns the order of things: facts are stored, then applied, then announced; and at one moment
steps of the schedule come before trades, trades of symbols in the order they are listed. A restart goes on from the
moment of the last stored decision, so what happened meanwhile is made up for. Leaves out HTTP and sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from simulator.core import decisions
from simulator.core.exchange import Exchange
from simulator.core.matching import touch_after
from simulator.core.orders import (
    AccountOpened,
    Ended,
    Fact,
    Filled,
    ListOpened,
    Order,
    OrderFact,
    OrderList,
    OrderPlaced,
    Prevented,
    Queued,
    Request,
    SymbolChanged,
    Transferred,
    Triggered,
)
from simulator.market.candles import SECOND_MS, Candles, History, Tape, Trade
from simulator.market.clock import MarketClock, wall_ms
from simulator.market.depth import ShownBook, Sides
from simulator.store import Moment, StateError, Store

NEVER = 1 << 62
STALE_S = 60  # wall seconds after which market news is no longer told
CATCH_UP_MS = 7 * 86_400_000  # market time that is made up for where orders are open; after longer, the market moved on
THREAD_ABOVE_S = 20_000  # candle requests that may compute more seconds than this do so beside the event loop
STEP = "@"


class Listener:
    """What is told about the market and the accounts, in order, as it happens. Deaf to what it does not override."""

    def on_trade(self, symbol: str, trade: Trade) -> None:
        """A market trade, after its fills."""

    def on_second(self, symbol: str, second: int) -> None:
        """A market second has ended."""

    def on_fact(self, fact: OrderFact, order: Order) -> None:
        """An order changed; *order* is as it stands right after."""

    def on_list(self, found: OrderList) -> None:
        """An order list was opened or is done."""

    def on_transfer(self, fact: Transferred) -> None:
        """A balance was changed from outside."""

    def on_accounts(self, touched: Mapping[str, set[str]], time_ms: int) -> None:
        """Balances changed: API key -> assets."""

    def on_book(self, symbol: str) -> None:
        """Customers changed the book of *symbol*."""


class Schedule(Protocol):
    """What happens at set moments of market time. *done* counts the steps that were taken."""

    done: int

    def next_ms(self) -> int:
        """Market time of the next step; `NEVER` when there is none."""

    def step(self, venue: Venue) -> None:
        """Take the next step. *venue* stands at its moment."""

    def resume(self, moment: Moment) -> None:
        """Count the steps before *moment* as taken."""


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

    def skip(self, upto_id: int) -> None:
        while self.has_trade() and self.trades[self.next].id <= upto_id:
            self.next += 1
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
        schedule: Schedule | None = None,
    ) -> None:
        self.exchange = exchange
        self.clock = clock
        self.wall = wall
        self.skew_ms = 0  # how far the API clock is ahead of the wall, when a fault says so
        self.listeners: list[Listener] = []
        self.histories = {symbol: History(tape) for symbol, tape in tapes.items()}
        # Counting on from the wall's microseconds, update ids grow over restarts too.
        self.shown = {symbol: ShownBook(partial(self._levels, symbol), wall() * 1000) for symbol in tapes}
        self._schedule = schedule
        self._store = store
        self._failure: StateError | None = None
        self._due_ms = NEVER
        self._reached_ms = 0  # latest market time that was told
        self._played_ms = 0  # market time up to which tapes and schedule were played
        self._moment: Moment | None = None  # while the market moves: how far it has come
        self._feeds = [_Feed(symbol, tape) for symbol, tape in tapes.items()]
        self._start(self._restored(store.replay() if store is not None else ()))

    def _restored(self, log: Iterable[tuple[Moment | None, list[Fact]]]) -> Moment | None:
        """Make what was written down true again; how far the market had come then. Raises `StateError`."""
        last = None
        for moment, facts in log:
            last = moment
            for fact in facts:
                symbol = getattr(fact, "symbol", "")
                if symbol and symbol not in self.exchange.symbols:
                    raise StateError(
                        f"The state has orders or limits in {symbol}, which this market does not list: "
                        "start the market it was made with, or give another --state."
                    )
                self.exchange.apply(fact)
        return last

    def _start(self, last: Moment | None) -> None:
        now = self.now_ms()
        if last is not None and self._schedule is not None:
            self._schedule.resume(last)
        if last is None or last.time_ms > now or not self._go_on(last, now):
            begin = now
            if last is None and self._schedule is not None:
                begin = min(now, self._schedule.next_ms())  # the clock runs while a process starts
            self._join(self._feeds, begin)
            last = Moment(begin)
        self._played_ms = last.time_ms
        self._moment = last  # a kill may have come between a trade and what it triggers
        self._run_triggers()
        self._moment = None

    # time

    def now_ms(self) -> int:
        """Market time. It stands still while the wall steps back, and while a step of the schedule is taken."""
        if self._moment is not None:
            return self._moment.time_ms
        self._reached_ms = max(self._reached_ms, self.clock.at(self.wall()))
        return self._reached_ms

    def api_ms(self) -> int:
        """The API clock: what server time says, and timestamps are checked against."""
        return self.wall() + self.skew_ms

    def advance(self) -> int:
        """Play every tape and the schedule up to now; returns the market time reached."""
        now = self.now_ms()
        if self._moment is not None:
            return now
        if now - self._due_ms > STALE_S * SECOND_MS * max(1.0, self.clock.speed):
            self._join([feed for feed in self._feeds if not self._is_needed(feed)], now)
        while True:
            step_ms = NEVER if self._schedule is None else self._schedule.next_ms()
            if min(step_ms, self._due_ms) > now:
                self._played_ms = now
                return now
            if step_ms <= self._due_ms:
                self._take_step(step_ms)
                continue
            feed = min(self._feeds, key=lambda feed: feed.due_ms)
            if feed.has_trade():
                self._play(feed.symbol, feed.step(), now)
            else:
                self._close_second(feed, now)
            self._due_ms = min(feed.due_ms for feed in self._feeds)

    def move_clock(self, by_ms: int) -> None:
        """Move a clock that stands still on; the market follows with the next `advance`."""
        self.clock = self.clock.moved(by_ms)

    async def pump(self) -> None:
        """Keep the market moving until its log can no longer be written, which raises `StateError`."""
        while True:
            self.advance()
            if self._failure is not None:
                raise self._failure
            due = self._due_ms if self._schedule is None else min(self._due_ms, self._schedule.next_ms())
            wait_ms = self.clock.wall_at(due) - self.wall()
            await asyncio.sleep(min(max(wait_ms, 0.5), 1000.0) / 1000)

    def close(self) -> None:
        """Give up what is still being computed."""
        for history in self.histories.values():
            history.stopped = True

    # what customers ask

    def place(self, ask: Request) -> Order:
        """Accept an order and let it trade. Raises `ApiError`."""
        facts = decisions.place(self.exchange, ask, self.advance())
        self._commit(facts)
        assert isinstance(facts[0], OrderPlaced)
        return self.exchange.orders[facts[0].order_id]

    def place_oco(self, above: Request, below: Request, client_id: str) -> OrderList:
        """Accept a pair of orders of which one cancels the other. Raises `ApiError`."""
        facts = decisions.place_oco(self.exchange, above, below, client_id, self.advance())
        self._commit(facts)
        assert isinstance(facts[0], ListOpened)
        return self.exchange.lists[facts[0].list_id]

    def check_filters(self, ask: Request) -> None:
        """Check an order as far as that needs no engine. Raises `ApiError`."""
        self.advance()
        decisions.check_filters(self.exchange, ask)

    def cancel(self, orders: Sequence[Order], cancel_id: str) -> list[Order]:
        """Cancel open orders, and the lists they belong to; returns all that ended. Raises `ApiError` when one is not
        open."""
        now = self.advance()
        ended: dict[int, Ended] = {}
        for order in orders:
            if order.placed.order_id not in ended:
                found = decisions.cancel(self.exchange, order, cancel_id, now)
                ended |= {fact.order_id: fact for fact in found}
        self._commit(list(ended.values()))
        return [self.exchange.orders[number] for number in ended]

    async def klines(
        self, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, limit: int, offset_ms: int = 0
    ) -> Candles:
        """Candles of the market so far; long spans are computed beside the event loop."""
        history, now = self.histories[symbol], self.advance()
        if history.cost_s(interval, limit) <= THREAD_ABOVE_S:
            return history.klines(interval, start_ms, end_ms, limit, now, offset_ms)
        return await asyncio.to_thread(history.klines, interval, start_ms, end_ms, limit, now, offset_ms)

    def book_levels(self, symbol: str, count: int) -> Sides:
        """The best *count* bids and asks of the book now, as (price in ticks, lots), best first."""
        self.advance()
        return self._levels(symbol, count)

    def is_halted(self, symbol: str) -> bool:
        """New orders are refused: by status, or because the tape has ended or not begun."""
        return not self.exchange.is_trading(symbol)

    def _levels(self, symbol: str, count: int) -> Sides:
        """The book as far as the market was played: also for listeners, who are told while it is."""
        return self.exchange.books[symbol].levels(count, self._at().time_ms // SECOND_MS)

    # what is done from outside

    def open_account(self, opened: AccountOpened) -> None:
        """A new customer. The number and the time of *opened* are set here."""
        number = len(self.exchange.accounts) + 1
        self._commit([opened._replace(uid=number, time_ms=self.advance())])

    def transfer(self, api_key: str, asset: str, atoms: int) -> None:
        """Change a free balance by *atoms*, signed. Raises ``ValueError`` with a sentence."""
        self._commit(decisions.transfer(self.exchange, api_key, asset, atoms, self.advance()))

    def set_status(self, symbol: str, status: str) -> None:
        """Halt a symbol or let it trade again. Raises ``ValueError`` with a sentence."""
        self._commit(decisions.change_symbol(self.exchange, symbol, status, {}, self.advance()))
        self._run_triggers()

    def change_filters(self, symbol: str, filters: dict[str, str]) -> None:
        """Change a symbol's filters. Raises ``ValueError`` with a sentence."""
        self._commit(decisions.change_symbol(self.exchange, symbol, None, filters, self.advance()))

    # the market moves

    def _join(self, feeds: Sequence[_Feed], now: int) -> None:
        """Let *feeds* enter the market at *now*, without playing what was before."""
        for feed in feeds:
            self._see_last(feed, now)
            start = max(now, feed.tape.first_ms(now))
            feed.load(start // SECOND_MS, start)
            self._end_if_over(feed)
        self._due_ms = min(feed.due_ms for feed in self._feeds)

    def _go_on(self, last: Moment, now: int) -> bool:
        """Let the feeds enter where the last decision left them; ``False`` when nothing depends on what came after."""
        needed = [feed for feed in self._feeds if self._is_needed(feed)]
        if not needed or now - last.time_ms > CATCH_UP_MS:
            return False
        self._join([feed for feed in self._feeds if feed not in needed], now)
        names = [feed.symbol for feed in self._feeds]
        place = names.index(last.symbol) if last.symbol in names else -1
        for feed in needed:
            played_at = last.symbol == "" or names.index(feed.symbol) < place
            start = max(last.time_ms + 1 if played_at else last.time_ms, feed.tape.first_ms(now))
            feed.load(start // SECOND_MS, start)
            self._see_last(feed, start)
            if feed.symbol == last.symbol:
                passed = [trade for trade in feed.trades if trade.id <= last.number]
                if passed:
                    self.exchange.books[feed.symbol].touch = touch_after(passed[-1])
                feed.skip(last.number)
            self._end_if_over(feed)
        self._due_ms = min(feed.due_ms for feed in self._feeds)
        return True

    def _is_needed(self, feed: _Feed) -> bool:
        """Does anything depend on each trade of the feed: an open order, a fee in BNB, or what is scheduled?"""
        if self._schedule is not None:
            return True
        is_open = self.exchange.has_open_orders
        return is_open(feed.symbol) or (feed.symbol.startswith("BNB") and any(is_open(f.symbol) for f in self._feeds))

    def _see_last(self, feed: _Feed, before_ms: int) -> None:
        last = feed.tape.last_trade(before_ms)
        if last is not None:
            self.exchange.books[feed.symbol].touch = touch_after(last)

    def _play(self, symbol: str, trade: Trade, now: int) -> None:
        facts = decisions.trade(self.exchange, symbol, trade)
        if facts or self.exchange.stops[symbol].waits:
            self._moment = Moment(trade.time_ms, symbol, trade.id)
            try:
                if facts:
                    self._commit(facts)
                self._trigger(symbol)
            finally:
                self._moment = None
        if self._is_news(trade.time_ms, now) and self.exchange.statuses[symbol] == "TRADING":
            for listener in self.listeners:
                listener.on_trade(symbol, trade)

    def _run_triggers(self) -> None:
        """Work orders whose stop price was reached while nobody looked: before a restart, or in a halt."""
        for symbol in self.exchange.symbols:
            self._trigger(symbol)

    def _trigger(self, symbol: str) -> None:
        while (order := decisions.next_triggered(self.exchange, symbol)) is not None:
            self._commit(decisions.trigger(self.exchange, order, self._at().time_ms))

    def _take_step(self, step_ms: int) -> None:
        assert self._schedule is not None
        self._moment = Moment(step_ms, STEP, self._schedule.done + 1)
        try:
            self._schedule.step(self)
        finally:
            self._moment = None

    def _close_second(self, feed: _Feed, now: int) -> None:
        if self._is_news((feed.second + 1) * SECOND_MS, now):
            for listener in self.listeners:
                listener.on_second(feed.symbol, feed.second)
        feed.load(feed.second + 1, 0)
        self._end_if_over(feed)

    def _is_news(self, time_ms: int, now: int) -> bool:
        return now - time_ms <= STALE_S * SECOND_MS * max(1.0, self.clock.speed)

    def _end_if_over(self, feed: _Feed) -> None:
        end = feed.tape.end_ms()
        if end is not None and feed.second * SECOND_MS >= end:
            self.exchange.over.add(feed.symbol)
            feed.due_ms = NEVER

    # facts

    def _at(self) -> Moment:
        """How far the market has come; the clock may be further already."""
        return self._moment or Moment(self._played_ms)

    def _commit(self, facts: Sequence[Fact]) -> None:
        if self._store is not None:
            try:
                self._store.append(facts, self._at())
            except StateError as error:
                self._failure = error
                raise
        touched: dict[str, set[str]] = {}
        time_ms, exchange = 0, self.exchange
        for fact in facts:
            exchange.apply(fact)
            if isinstance(fact, AccountOpened | SymbolChanged | Queued):
                continue
            time_ms = fact.time_ms
            if isinstance(fact, Transferred):
                touched.setdefault(fact.api_key, set()).add(fact.asset)
                for listener in self.listeners:
                    listener.on_transfer(fact)
            elif isinstance(fact, ListOpened):
                continue  # told once its orders are there
            else:
                self._tell(fact, touched)
        self._tell_after(facts, touched, time_ms)

    def _tell(self, fact: OrderFact, touched: dict[str, set[str]]) -> None:
        order = self.exchange.orders[fact.order_id]
        placed = order.placed
        rules = self.exchange.symbols[placed.symbol]
        assets = touched.setdefault(placed.api_key, set())
        assets.update((rules.base, rules.quote))
        if isinstance(fact, Filled) and fact.fee_asset:
            assets.add(fact.fee_asset)
        for listener in self.listeners:
            listener.on_fact(fact, order)

    def _tell_after(self, facts: Sequence[Fact], touched: dict[str, set[str]], time_ms: int) -> None:
        lists: dict[int, OrderList] = {}
        symbols: dict[str, None] = {}
        for fact in facts:
            if isinstance(fact, ListOpened):
                lists[fact.list_id] = self.exchange.lists[fact.list_id]
            elif isinstance(fact, OrderPlaced | Triggered | Queued | Filled | Prevented | Ended):
                placed = self.exchange.orders[fact.order_id].placed
                symbols[placed.symbol] = None
                if placed.list_id >= 0 and self.exchange.lists[placed.list_id].is_done:
                    lists[placed.list_id] = self.exchange.lists[placed.list_id]
        for listener in self.listeners:
            for found in lists.values():
                listener.on_list(found)
            if touched:
                listener.on_accounts(touched, time_ms)
            for symbol in symbols:
                listener.on_book(symbol)


def fills_of(orders: Sequence[Order]) -> list[tuple[Order, Filled]]:
    """All executions of *orders*, in the order they happened."""
    found = [(order, fill) for order in orders for fill in order.fills]
    return sorted(found, key=lambda pair: pair[1].trade_id)
