"""A market that is a pure function of (seed, symbol, second).

Log-price is a sum of smooth value-noise octaves from 12 seconds to eleven days, hashed from the seed, so any second
of any day is computed directly and never stepped to. Slow regimes scale the short octaves (calm and lively hours) and
trade momentum against chop; the aggressors' side leans towards where the smooth price is heading, and activity grows
with its speed, so that flow and recent drift say something about the next 10 to 60 seconds. Only +, −, ×, ÷ and
rounding are used, which IEEE 754 makes equal on every machine.

Trade ids are second × 16 + slot: increasing, unique per symbol, with gaps. The first second of a minute always
trades, so a minute needs nothing from the one before it. Owns no clock and no I/O; the caller says which seconds it
wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from simulator.core.rules import SymbolRules
from simulator.market.candles import DAY_MS, SECOND_MS, Candles, Ints, Trade, Trades, join, second_candles

Floats = NDArray[np.float64]

SLOTS = 16
MAX_TRADES = 12
BLOCK_S = 600
CACHED_BLOCKS = 8
HISTORY_DAYS = 30
LOOKAHEAD_S = 6
OCTAVES_S = (12, 36, 108, 324, 972, 2916, 8748, 26244, 78732, 236196, 944784)
SHORT_OCTAVES = 4  # these follow the volatility regime
STEP = 0.000_095  # amplitude of an octave = STEP × sqrt(period in seconds)
CHOP = 0.000_022  # amplitude of the noise between neighbouring seconds
IDLE = 0.03  # share of seconds without a trade

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a symbol's price is made of: *paths* are (name, weight); symbols that share a path move together."""

    price: float
    paths: tuple[tuple[str, float], ...]
    lots: float  # typical trade size


PROFILES = {
    "BTCUSDT": Profile(price=67_000.0, paths=(("BTC", 1.0),), lots=1500.0),
    "BTCUSDC": Profile(price=67_000.0, paths=(("BTC", 1.0),), lots=1200.0),
    "ETHUSDT": Profile(price=3_200.0, paths=(("BTC", 0.75), ("ETH", 0.85)), lots=3000.0),
    "ETHUSDC": Profile(price=3_200.0, paths=(("BTC", 0.75), ("ETH", 0.85)), lots=2400.0),
    "BNBUSDT": Profile(price=600.0, paths=(("BTC", 0.7), ("BNB", 0.6)), lots=900.0),
    "BNBUSDC": Profile(price=600.0, paths=(("BTC", 0.7), ("BNB", 0.6)), lots=700.0),
}


class GeneratedTape:
    """The endless tape of one symbol. *seed* chooses the world; all symbols of one seed belong together."""

    def __init__(self, rules: SymbolRules, seed: int) -> None:
        self.rules = rules
        self._seed = seed
        self._profile = PROFILES[rules.symbol]
        self._block = lru_cache(maxsize=CACHED_BLOCKS)(self._computed_block)

    def first_ms(self, now_ms: int) -> int:
        """The generated market keeps `HISTORY_DAYS` whole UTC days before today."""
        return (now_ms // DAY_MS - HISTORY_DAYS) * DAY_MS

    def end_ms(self) -> int | None:
        """It never ends."""
        return None

    def trades(self, start_ms: int, end_ms: int) -> Trades:
        """All trades with start_ms <= time < end_ms. The range may span at most two blocks' worth of time."""
        first, last = start_ms // (BLOCK_S * SECOND_MS), max(start_ms, end_ms - 1) // (BLOCK_S * SECOND_MS)
        if first == last:
            return self._block(first)[0].between(start_ms, end_ms)
        return compute(self.rules, self._seed, start_ms // 60_000 * 60, -(-end_ms // 1000))[0].between(start_ms, end_ms)

    def last_trade(self, before_ms: int) -> Trade | None:
        """The latest trade with time < before_ms: never further back than the minute before."""
        return self.trades((before_ms // 60_000 - 1) * 60_000, before_ms).rows()[-1]

    def seconds(self, start_s: int, end_s: int) -> Candles:
        """One candle per second; whole hours bypass the cache of recent blocks."""
        if end_s <= start_s:
            return join([])
        if end_s - start_s > 2 * BLOCK_S:
            head = start_s // 60 * 60
            return compute(self.rules, self._seed, head, end_s)[1].pick(slice(start_s - head, None))
        first, last = start_s // BLOCK_S, (end_s - 1) // BLOCK_S
        whole = join([self._block(block)[1] for block in range(first, last + 1)])
        return whole.pick(slice(start_s - first * BLOCK_S, end_s - first * BLOCK_S))

    def _computed_block(self, block: int) -> tuple[Trades, Candles]:
        return compute(self.rules, self._seed, block * BLOCK_S, (block + 1) * BLOCK_S)


def compute(rules: SymbolRules, seed: int, start_s: int, end_s: int) -> tuple[Trades, Candles]:
    """Trades and candles of the seconds [start_s, end_s); *start_s* is on a minute. Pure and uncached."""
    if start_s % 60:
        raise ValueError(f"start_s {start_s} is not on a minute")
    profile = PROFILES[rules.symbol]
    seconds = np.arange(start_s, end_s, dtype=np.int64)
    log_price = _log_price(seed, rules.symbol, profile, start_s, end_s + LOOKAHEAD_S + 1)
    count = len(seconds)
    ahead = (log_price[LOOKAHEAD_S : LOOKAHEAD_S + count] - log_price[:count]) * 1e4  # basis points
    price = profile.price * 10**rules.price_digits * (1 + log_price * (1 + log_price / 2))
    trades = _trades(rules.symbol, seed, seconds, price, ahead, profile.lots)
    return trades, second_candles(trades, start_s, count, 0)


def _log_price(seed: int, symbol: str, profile: Profile, start_s: int, end_s: int) -> Floats:
    """Log of price over the base price at each whole second."""
    at = np.arange(start_s, end_s, dtype=np.int64)
    total = np.zeros(len(at))
    for name, weight in profile.paths:
        total += weight * _path(seed, name, at)
    return total + CHOP * 0.3 * (2 * _unit(_key(seed, symbol, "basis"), at) - 1)


def _path(seed: int, name: str, at: Ints) -> Floats:
    lively = 0.55 + 1.1 * _smooth(_key(seed, name, "lively"), at, 2700)
    trending = _smooth(_key(seed, name, "trending"), at, 1500)
    total = CHOP * (1.6 - trending) * lively * (2 * _unit(_key(seed, name, "chop"), at) - 1)
    for number, period in enumerate(OCTAVES_S):
        swing = STEP * period**0.5 * (2 * _smooth(_key(seed, name, f"octave {number}"), at, period) - 1)
        if number == 0:
            total += swing * lively * (1.3 - trending)
        elif number < SHORT_OCTAVES:
            total += swing * lively * (0.6 + 0.8 * trending)
        else:
            total += swing
    return total


def _trades(symbol: str, seed: int, seconds: Ints, price: Floats, ahead: Floats, lots: float) -> Trades:
    """Up to `MAX_TRADES` per second. *price* in ticks at each second and one after, *ahead* in basis points."""
    activity = 0.35 + np.minimum(np.abs(ahead) / 4, 1.0) * 0.65
    number = 1 + (MAX_TRADES * activity * _unit(_key(seed, symbol, "number"), seconds)).astype(np.int64)
    number = np.minimum(number, MAX_TRADES)
    idle = (_unit(_key(seed, symbol, "idle"), seconds) < IDLE) & (seconds % 60 != 0)
    number[idle] = 0

    slots = np.arange(MAX_TRADES, dtype=np.int64)
    row, slot = np.nonzero(slots[None, :] < number[:, None])
    ids = seconds[row] * SLOTS + slot
    part = (slot + _unit(_key(seed, symbol, "time"), ids)) / number[row]
    lean = ahead / (1.2 + np.abs(ahead))
    buys = _unit(_key(seed, symbol, "side"), ids) < 0.5 + 0.38 * lean[row]
    middle = price[row] + (price[row + 1] - price[row]) * part
    size = lots * _unit(_key(seed, symbol, "size"), ids) ** 2 / (_unit(_key(seed, symbol, "tail"), ids) + 0.05)
    return Trades(
        id=ids,
        time_ms=seconds[row] * SECOND_MS + np.minimum((part * SECOND_MS).astype(np.int64), SECOND_MS - 1),
        price=np.floor(middle).astype(np.int64) + buys,
        qty=1 + size.astype(np.int64),
        buyer_maker=~buys,
    )


def _smooth(key: int, at: Ints, period: int) -> Floats:
    """Value noise in [0, 1): random at multiples of *period* (shifted by the key), smooth in between."""
    shifted = at + key % period
    index = shifted // period
    first = int(index[0])
    lattice = _unit(key, np.arange(first, int(index[-1]) + 2, dtype=np.int64))
    part = (shifted - index * period) / period
    fade = part * part * part * (part * (part * 6 - 15) + 10)
    low, high = lattice[index - first], lattice[index - first + 1]
    return np.asarray(low + (high - low) * fade, np.float64)


def _unit(key: int, index: Ints) -> Floats:
    """Hash of (key, index) as a number in [0, 1): the splitmix64 finaliser."""
    mixed = index.astype(np.uint64) * _GOLDEN + np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


@lru_cache(maxsize=512)
def _key(seed: int, name: str, purpose: str) -> int:
    return int.from_bytes(blake2b(f"{seed}/{name}/{purpose}".encode(), digest_size=8).digest(), "big")
