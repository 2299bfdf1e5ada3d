"""Candles in one unbroken row: history at the start, and the seconds missed while a stream was down.

Live candles that arrive before the history or while a gap is being filled wait their turn, so that the trader sees
every second once and in order; those that waited behind others are flagged as backfilled. A gap that cannot be filled
within `FILL_S` is left open: guarding positions matters more than features.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from bots.core.candles import SECOND_MS, WINDOW, Candle
from bots.trading.exchange import Exchange, KeysRefused, Unreachable
from shared.intervals import INTERVAL_MS

PAUSES_S: Final = (0.2, 0.5, 1.0)
FILL_S: Final = 3.0
LONGEST_GAP_S: Final = 3_600

log = logging.getLogger(__name__)


class CandleRow:
    """Hands candles to *deliver* (candle, arrival) without gaps. Call `take` for each live candle, and `begin` once.

    The arrival of a candle that had to wait is 0. *on_hole* hears of a gap that stays open, before the candle behind
    it is delivered; *on_broken* of what broke while a gap was filled: nothing is delivered any more then.
    """

    def __init__(
        self,
        exchange: Exchange,
        symbol: str,
        deliver: Callable[[Candle, float], None],
        on_hole: Callable[[], None],
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self._exchange = exchange
        self._symbol = symbol
        self._deliver = deliver
        self._on_hole = on_hole
        self._on_broken = on_broken
        self._end_ms: int | None = None
        self._begun = False
        self._held: deque[Candle] = deque(maxlen=LONGEST_GAP_S)
        self._filling: asyncio.Task[None] | None = None

    def begin(self, end_ms: int | None) -> None:
        """Everything before *end_ms* has been delivered as history; None: there is none."""
        self._end_ms = end_ms
        self._begun = True
        self._take_held()

    def take(self, candle: Candle, arrived: float) -> None:
        """A live candle: delivered at once, or after the gap before it."""
        if self._filling is not None or not self._begun:
            self._held.append(candle)
            return
        end_ms = self._end_ms
        if end_ms is not None and candle.open_ms < end_ms:
            return
        if end_ms is not None and candle.open_ms > end_ms:
            self._held.append(candle)
            self._filling = asyncio.get_running_loop().create_task(self._fill(end_ms, candle.open_ms))
            self._filling.add_done_callback(self._filled)
            return
        self._end_ms = candle.end_ms
        self._deliver(candle, arrived)

    async def close(self) -> None:
        """Stop filling."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)

    def _filled(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_broken(error)

    async def _fill(self, start_ms: int, end_ms: int) -> None:
        missed: list[Candle] = []
        try:
            async with asyncio.timeout(FILL_S):
                missed = await self._missed(max(start_ms, end_ms - LONGEST_GAP_S * SECOND_MS), end_ms)
        except TimeoutError:
            log.warning("gap of %d s not filled within %g s", (end_ms - start_ms) // SECOND_MS, FILL_S)
        for candle in missed:
            self._deliver(candle, 0.0)
        self._end_ms = end_ms
        self._filling = None
        if len(missed) < (end_ms - start_ms) // SECOND_MS:
            self._on_hole()
        self._take_held()

    async def _missed(self, start_ms: int, end_ms: int) -> list[Candle]:
        for pause in (*PAUSES_S, None):
            try:
                return await self._exchange.candles(self._symbol, "1s", start_ms, end_ms, LONGEST_GAP_S)
            except (Unreachable, KeysRefused) as error:
                log.warning("gap of %d s not filled yet: %s", (end_ms - start_ms) // SECOND_MS, error)
                if pause is not None:
                    await asyncio.sleep(pause)
        return []

    def _take_held(self) -> None:
        held = list(self._held)
        self._held.clear()
        for number, candle in enumerate(held, 1):
            candle.backfilled = number < len(held)
            self.take(candle, 0.0)


async def load_history(
    exchange: Exchange, symbol: str, interval: str, bars_needed: int
) -> tuple[list[Candle], list[Candle]]:
    """Closed bars of *interval* and the one-second candles that go on from there, both oldest first.

    The seconds begin where the bars end, at a bar's start at least a whole `WINDOW` ago. Raises `Unreachable`.
    """
    now_ms = await exchange.market_time_ms(symbol)
    length = INTERVAL_MS[interval]
    if length == SECOND_MS:
        seconds = await exchange.candles(symbol, "1s", None, now_ms, max(bars_needed, WINDOW))
        return [], seconds
    boundary = (now_ms - WINDOW * SECOND_MS) // length * length
    bars = await exchange.candles(symbol, interval, None, boundary, bars_needed)
    seconds = await exchange.candles(symbol, "1s", boundary, now_ms, LONGEST_GAP_S)
    return bars, seconds


def joined(history: list[Candle], delivered: list[Candle]) -> list[Candle]:
    """*history* up to the last of the *delivered* candles, completed with these; empty where a hole is between them."""
    if not history or not delivered:
        return []
    last_ms, end_ms = delivered[-1].end_ms, history[-1].end_ms
    joined = [candle for candle in history if candle.end_ms <= last_ms]
    for candle in delivered:
        if candle.open_ms >= end_ms:
            if candle.open_ms > end_ms:
                return []
            joined.append(candle)
            end_ms = candle.end_ms
    return joined if joined and joined[-1].end_ms == last_ms else []
