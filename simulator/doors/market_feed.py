"""What market streams tell, and when: by trade, by market second, and by a clock of its own.

A second's kline is sent closed right after the second, also when nothing traded; longer klines every two seconds and at
their close. Tickers, averages and depth go by market time, but never more often than ten times in a second of the
wall, however fast the market clock runs. Works only for streams that somebody listens to. Who that is, and how they are
reached, is ``streams.py``'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from dataclasses import replace

from simulator.api import market_wire as wire
from simulator.core.rules import SymbolRules
from simulator.market.candles import DAY_MS, INTERVALS, Candles, Trade, next_open, open_of
from simulator.market.depth import Level
from simulator.market.tickers import Stats, average_price, rolling_open, stats, window_ms
from simulator.venue import Listener, Venue

TICK_MS = 100  # wall milliseconds between ticks
LONG_KLINE_MS = 2000
ZONES = {"": 0, "@+08:00": 8 * 3_600_000}
SIZES = ("1h", "4h", "1d")
LEVELS = (5, 10, 20)
SPEEDS = {100: ("@100ms",), 1000: ("", "@1000ms")}  # milliseconds of market time -> how a stream's name ends
ALL_MINI = "!miniTicker@arr"
ALL_SIZES = {size: f"!ticker_{size}@arr" for size in SIZES}

Publish = Callable[[str, Callable[[], object]], None]

_DEPTH = {speed: [f"depth{end}" for end in ends] for speed, ends in SPEEDS.items()}
_PARTIAL = {speed: {n: [f"depth{n}{end}" for end in ends] for n in LEVELS} for speed, ends in SPEEDS.items()}
_CLOCKED = frozenset(
    {"miniTicker", "ticker", "avgPrice", *(f"ticker_{size}" for size in SIZES)}
    | {name for names in _DEPTH.values() for name in names}
    | {name for kinds in _PARTIAL.values() for names in kinds.values() for name in names}
)
KINDS = _CLOCKED | {"aggTrade", "trade", "bookTicker", *(f"kline_{i}{zone}" for i in INTERVALS for zone in ZONES)}
MARKET_WIDE = frozenset({ALL_MINI, *ALL_SIZES.values()})


class MarketFeed(Listener):
    """Builds the messages of one venue's streams. *wanted* holds the names that have listeners."""

    def __init__(self, venue: Venue, wanted: Container[str], publish: Publish) -> None:
        self._venue = venue
        self._wanted = wanted
        self._publish = publish
        self._clocked: set[str] = set()
        self._clock: asyncio.Task[None] | None = None
        self._ticked = (-1, -1, -1)  # wall tick, market tick, market second
        self._best: dict[str, tuple[Level, Level]] = {}
        self._told: dict[tuple[str, str], Stats] = {}
        self._warming: dict[str, asyncio.Task[Candles]] = {}

    def is_served(self, stream: str) -> bool:
        """Is there such a stream?"""
        symbol, _, kind = stream.partition("@")
        is_listed = symbol.isascii() and symbol.islower() and symbol.upper() in self._venue.exchange.symbols
        return stream in MARKET_WIDE or (is_listed and kind in KINDS)

    def begin(self, stream: str) -> None:
        """*stream* has its first listener."""
        symbol, _, kind = stream.partition("@")
        for speed, kinds in _DEPTH.items():
            if kind in kinds:
                self._venue.shown[symbol.upper()].follow(str(speed))
        if kind in _CLOCKED or stream in MARKET_WIDE:
            self._clocked.add(stream)
            if self._clock is None or self._clock.done():
                self._clock = asyncio.create_task(self._run_clock())

    def end(self, stream: str) -> None:
        """*stream* has lost its last listener."""
        self._clocked.discard(stream)
        symbol, _, kind = stream.partition("@")
        for speed, kinds in _DEPTH.items():
            if kind in kinds and not self._any(symbol, kinds):
                self._venue.shown[symbol.upper()].leave(str(speed))

    # the venue tells

    def on_trade(self, symbol: str, trade: Trade) -> None:
        """aggTrade, trade, and bookTicker when the best moved."""
        name, rules = symbol.lower(), self._venue.exchange.symbols[symbol]
        self._publish(f"{name}@aggTrade", lambda: wire.agg_trade_event(rules, trade))
        self._publish(f"{name}@trade", lambda: wire.trade_event(rules, trade))
        self._tell_best(symbol)

    def on_book(self, symbol: str) -> None:
        """bookTicker, when customers moved the best."""
        self._tell_best(symbol)

    def on_second(self, symbol: str, second: int) -> None:
        """The second's own candle, and the longer ones that are due."""
        end_ms = (second + 1) * 1000
        for zone, offset in ZONES.items():
            for interval in INTERVALS:
                stream = f"{symbol.lower()}@kline_{interval}{zone}"
                if stream not in self._wanted:
                    continue
                opened = open_of(interval, second * 1000, offset)
                closed = next_open(interval, opened, offset) == end_ms
                if closed or end_ms % LONG_KLINE_MS == 0:
                    self._tell_kline(stream, symbol, interval, opened, closed, offset)

    def _tell_kline(self, stream: str, symbol: str, interval: str, open_ms: int, closed: bool, offset: int) -> None:
        rules, history, now = self._venue.exchange.symbols[symbol], self._venue.histories[symbol], self._venue.now_ms()
        if not self._is_warm(symbol, open_ms, now):
            return
        until = min(now, next_open(interval, open_ms, offset) - 1)
        candle = history.candle(interval, open_ms, until, offset)
        if len(candle):
            self._publish(stream, lambda: wire.kline_event(rules, interval, candle, now, closed, offset))

    def _tell_best(self, symbol: str) -> None:
        stream = f"{symbol.lower()}@bookTicker"
        if stream not in self._wanted:
            return
        best = self._venue.shown[symbol].best()
        if self._best.get(symbol) != (best.bid, best.ask):
            self._best[symbol] = (best.bid, best.ask)
            rules = self._venue.exchange.symbols[symbol]
            self._publish(stream, lambda: wire.book_event(rules, best))

    # the clock ticks

    async def _run_clock(self) -> None:
        while self._clocked:
            await asyncio.sleep((TICK_MS - self._venue.wall() % TICK_MS) / 1000)
            self.tick()

    def tick(self) -> None:
        """Tell what is due: each speed at most once per unit of market time, and all at most once per wall tick."""
        wall, now = self._venue.wall(), self._venue.now_ms()
        before = self._ticked
        if wall // TICK_MS == before[0] or now // 100 == before[1]:
            return
        self._ticked = (wall // TICK_MS, now // 100, now // 1000)
        is_second = now // 1000 != before[2]
        for symbol, rules in self._venue.exchange.symbols.items():
            self._tell_depth(rules, 100, now)
            if is_second:
                self._tell_depth(rules, 1000, now)
                self._tell_average(symbol, rules, now)
        if is_second:
            self._tell_days(now)
            for size in SIZES:
                self._tell_windows(size, now)

    def _tell_depth(self, rules: SymbolRules, speed: int, now: int) -> None:
        name, kinds, partial = rules.symbol.lower(), _DEPTH[speed], _PARTIAL[speed]
        follows = self._any(name, kinds)
        counts = [count for count in LEVELS if self._any(name, partial[count])]
        if not follows and not counts:
            return
        book = self._venue.shown[rules.symbol]
        snapshot = book.snapshot(max(LEVELS))
        for count in counts:
            top = snapshot._replace(bids=snapshot.bids[:count], asks=snapshot.asks[:count])
            self._publish_all(name, partial[count], wire.depth_row(rules, top))
        diff = book.diff(str(speed)) if follows else None
        if diff is not None:
            self._publish_all(name, kinds, wire.depth_event(rules, diff, now))

    def _tell_average(self, symbol: str, rules: SymbolRules, now: int) -> None:
        stream = f"{symbol.lower()}@avgPrice"
        if stream not in self._wanted:
            return
        history = self._venue.histories[symbol]
        found, last = average_price(history, now), history.tape.last_trade(now + 1)
        if found is not None and last is not None:
            self._publish(stream, lambda: wire.average_event(rules, found, last, now))

    def _tell_days(self, now: int) -> None:
        """miniTicker and ticker of each symbol, and of those that changed together."""
        news: list[wire.Json] = []
        for symbol, rules in self._venue.exchange.symbols.items():
            mini, full = f"{symbol.lower()}@miniTicker", f"{symbol.lower()}@ticker"
            if not {mini, full, ALL_MINI} & self._clocked or not self._is_warm(symbol, now - DAY_MS, now):
                continue
            day = stats(self._venue.histories[symbol], now - DAY_MS, now)
            event = wire.mini_event(rules, day, now)
            self._publish_all(symbol.lower(), ["miniTicker"], event)
            if full in self._wanted:
                self._publish_all(symbol.lower(), ["ticker"], self._day_event(rules, day, now))
            if self._is_news(ALL_MINI, symbol, day):
                news.append(event)
        if news:
            self._publish(ALL_MINI, lambda: news)

    def _day_event(self, rules: SymbolRules, day: Stats, now: int) -> wire.Json:
        tape = self._venue.histories[rules.symbol].tape
        before, last = tape.last_trade(day.open_ms), tape.last_trade(now + 1)
        return wire.day_event(rules, day, before, last, self._venue.shown[rules.symbol].best(), now)

    def _tell_windows(self, size: str, now: int) -> None:
        """ticker_<size> of each symbol, and of those that changed together."""
        news: list[wire.Json] = []
        opened = rolling_open(window_ms(size) or 0, now)
        for symbol, rules in self._venue.exchange.symbols.items():
            if not {f"{symbol.lower()}@ticker_{size}", ALL_SIZES[size]} & self._clocked:
                continue
            if not self._is_warm(symbol, opened, now):
                continue
            window = stats(self._venue.histories[symbol], opened, now)
            event = wire.window_event(rules, size, window, now)
            self._publish_all(symbol.lower(), [f"ticker_{size}"], event)
            if self._is_news(ALL_SIZES[size], symbol, window):
                news.append(event)
        if news:
            self._publish(ALL_SIZES[size], lambda: news)

    def _is_news(self, stream: str, symbol: str, seen: Stats) -> bool:
        """Has a symbol changed since *stream* last told of it?"""
        if stream not in self._wanted:
            return False
        seen = replace(seen, open_ms=0, close_ms=0)
        if self._told.get((stream, symbol)) == seen:
            return False
        self._told[stream, symbol] = seen
        return True

    def _is_warm(self, symbol: str, start_ms: int, now: int) -> bool:
        """Are the candles from *start_ms* at hand? If not, they soon will be."""
        history = self._venue.histories[symbol]
        if history.is_ready(start_ms, now):
            return True
        if symbol not in self._warming:
            task = asyncio.create_task(asyncio.to_thread(history.minutes, start_ms // 60_000 * 60_000, now))
            self._warming[symbol] = task
            task.add_done_callback(lambda _: self._warming.pop(symbol, None))
        return False

    def _any(self, name: str, kinds: list[str]) -> bool:
        return any(f"{name}@{kind}" in self._wanted for kind in kinds)

    def _publish_all(self, name: str, kinds: list[str], event: wire.Json) -> None:
        for kind in kinds:
            self._publish(f"{name}@{kind}", lambda: event)
