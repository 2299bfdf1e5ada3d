"""Recorded markets: files of trades or candles, played back as a tape.

Owns everything between a file and a `Tape`: opening and reading (``files``, ``numbers``, ``parquet``), what its columns
mean (``forms``), candles that cannot be as recorded (``consistent``), trades that roll up to a candle (``walk``,
``few``), and their place in time (``tape``). Leaves out clocks and everything that happens to orders.
"""

from simulator.market.replay.files import BadFile
from simulator.market.replay.forms import CANDLES_HEADER, TRADES_HEADER
from simulator.market.replay.load import load_tapes, rebased
from simulator.market.replay.tape import ReplayTape

__all__ = ["CANDLES_HEADER", "TRADES_HEADER", "BadFile", "ReplayTape", "load_tapes", "rebased"]
