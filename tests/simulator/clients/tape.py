"""The market of the clients' scenario: a calm pair and a waving one, as replay files and as the candles they make."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

LENGTH_S = 900
HISTORY_S = 40  # of which are past when the market opens


class Traded(NamedTuple):
    """A market trade, *after_ms* from the beginning of the tape."""

    after_ms: int
    price: str
    qty: str
    is_buyer_maker: int


def calm(length_s: int = LENGTH_S) -> list[Traded]:
    """BTCUSDT: twice a second, between 20000.00 and 20000.01."""
    return [
        trade
        for second in range(length_s)
        for trade in (
            Traded(second * 1000 + 200, "20000.00", "0.5", 1),
            Traded(second * 1000 + 700, "20000.01", "0.25", 0),
        )
    ]


def waving(length_s: int = LENGTH_S) -> list[Traded]:
    """ETHUSDT: around 2000; in every other second for 100 ms at 1990, and for 100 ms at 2010."""
    wave = (
        (0, "2000.00", "3", 1),
        (1000, "2000.01", "3", 0),
        (1500, "1990.00", "0.5", 1),
        (1600, "2000.00", "3", 1),
        (1700, "2010.00", "0.5", 0),
        (1800, "2000.01", "3", 0),
    )
    return [Traded(second * 1000 + after, *rest) for second in range(0, length_s, 2) for after, *rest in wave]


def write(folder: Path, length_s: int = LENGTH_S) -> list[Path]:
    """Both tapes as files that the simulator replays."""
    files = []
    for symbol, trades in (("BTCUSDT", calm(length_s)), ("ETHUSDT", waving(length_s))):
        start_ms = 1_700_000_000_000
        rows = [f"{start_ms + t.after_ms},{t.price},{t.qty},{t.is_buyer_maker}" for t in trades]
        files.append(folder / f"{symbol}-trades.csv")
        files[-1].write_text("\n".join(["time_ms,price,qty,is_buyer_maker", *rows]) + "\n")
    return files


def candle(trades: list[Traded], second: int) -> list[Decimal]:
    """Open, high, low, close and volume of a second from the beginning."""
    inside = [t for t in trades if t.after_ms // 1000 == second]
    prices = [Decimal(t.price) for t in inside]
    return [prices[0], max(prices), min(prices), prices[-1], sum((Decimal(t.qty) for t in inside), Decimal())]
