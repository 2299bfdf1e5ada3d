"""Which market a simulator opens: generated or replayed, its symbols, its tapes and the clock it runs by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from simulator.core.rules import SYMBOLS, SymbolRules
from simulator.market.candles import Tape
from simulator.market.clock import MarketClock
from simulator.market.generated import PROFILES, GeneratedTape
from simulator.market.replay import load_tapes, rebased

SAMPLE_MS = 3_600_000  # the usual size of a recorded trade is that of its first hour


class Anchors(Protocol):
    """What remembers where a market clock was hung up."""

    def load_anchor(self, market: str) -> tuple[int, int, int] | None:
        """(wall_ms, market_ms, begun_ms) saved for the same *market* description."""

    def save_anchor(self, market: str, wall_ms: int, market_ms: int, begun_ms: int) -> None:
        """Remember them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """A market to open. *usual* is the size of a usual trade of each symbol in lots, *begun_ms* the market time at
    which it first opened, *name* what its clock is remembered by, *about* a line for people."""

    symbols: Mapping[str, SymbolRules]
    tapes: dict[str, Tape]
    usual: Mapping[str, int]
    clock: MarketClock
    begun_ms: int
    name: str
    about: str


def open_market(
    now_ms: int, anchors: Anchors | None, *, replay: Sequence[Path], rebase: bool, loop: bool, speed: float, seed: int,
    history_s: int, start_delay_s: float, start_ms: int | None, keeps_start: bool = False,
) -> Market:  # fmt: skip
    """The market that the options ask for; *keeps_start*: its clock goes on from its first start after a restart, also
    where it shows the time of day. Raises ``BadFile``."""
    if replay:
        return _replayed(now_ms, anchors, replay, rebase, loop, speed, seed, history_s, start_delay_s)
    about = f"generated market, seed {seed}"
    name = about if start_ms is None else f"{about}, start {start_ms}"
    name += f", speed {speed:g}"
    clock = MarketClock(now_ms, now_ms if start_ms is None else start_ms, speed)
    begun_ms = clock.market_ms
    if speed != 1 or start_ms is not None or keeps_start:
        clock, begun_ms = _anchored(clock, name, anchors)
    return Market(
        symbols=SYMBOLS,
        tapes={symbol: GeneratedTape(rules, seed) for symbol, rules in SYMBOLS.items()},
        usual={symbol: int(profile.lots) for symbol, profile in PROFILES.items()},
        clock=clock,
        begun_ms=begun_ms,
        name=name,
        about=about,
    )


def _replayed(
    now_ms: int, anchors: Anchors | None, replay: Sequence[Path], rebase: bool, loop: bool, speed: float, seed: int,
    history_s: int, start_delay_s: float,
) -> Market:  # fmt: skip
    replays = load_tapes(replay, loop)
    about = "replay of " + ", ".join(path.name for path in replay)
    name = f"{about}, rebase {rebase}, loop {loop}, speed {speed:g}"
    head_ms = min(tape.first_ms(0) for tape in replays.values()) + history_s * 1000
    begin_ms = now_ms // 1000 * 1000 if rebase else head_ms
    clock, begun_ms = _anchored(MarketClock(now_ms + int(start_delay_s * 1000), begin_ms, speed), name, anchors)
    usual = {}
    for symbol, tape in replays.items():
        first = tape.first_ms(0)
        sizes = tape.trades(first, first + SAMPLE_MS).qty
        usual[symbol] = max(1, int(sizes.mean())) if len(sizes) else 1
    tapes = rebased(replays, begun_ms - head_ms) if rebase else replays
    symbols = {symbol: tape.rules for symbol, tape in tapes.items()}
    return Market(
        symbols=symbols, tapes=dict(tapes), usual=usual, clock=clock, begun_ms=begun_ms, name=name, about=about
    )  # fmt: skip


def _anchored(clock: MarketClock, market: str, anchors: Anchors | None) -> tuple[MarketClock, int]:
    """The clock that an earlier process hung up for the same market, else *clock*, hung up for later ones; and the
    market time at which it was first."""
    if anchors is None:
        return clock, clock.market_ms
    saved = anchors.load_anchor(market)
    if saved is not None:
        wall_ms, market_ms, begun_ms = saved
        return MarketClock(wall_ms, market_ms, clock.speed), begun_ms
    anchors.save_anchor(market, clock.wall_ms, clock.market_ms, clock.market_ms)
    return clock, clock.market_ms
