"""How long a decision takes: from the bytes of a candle's frame to the command, in one run beside LightGBM alone.

``python benchmarks/decision_latency.py [--candles 20000] [--folder DIR] [--json]``. The frames go through the code of a
live bot: stream parser, trader, features, model, order manager. Every candle is a decision. A model of 100 trees with
31 leaves is trained on the spot, on generated candles. *folder* is where the journal of the last two rows is written.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import lightgbm
import numpy

from bots.core.candles import Candle, Window
from bots.core.feature_engineering import compute
from bots.core.messages import AccountSeen, ControlChanged, OrderRefused, PlaceOrder, Quote, Refusal
from bots.core.order_manager import Output
from bots.core.predictor import FEATURE_NAMES_IN_MODEL, Predictor
from bots.core.trader import Trader
from bots.market.websocket_handler import MarketStream, parse_frame
from bots.reporters.journal import Journal
from bots.strategies import build
from bots.strategies.lightgbm_scalper import LightGBMConfig
from shared.config import parse_config
from shared.events import Payload
from shared.states import DesiredState
from shared.symbols import SymbolRules

START_MS = 1_760_000_000_000
WARM_UP = 2_000
TRAINED_ON = 6_000
SYNCED = 2_000
RULES = SymbolRules(
    symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=Decimal("0.01"), lot_size=Decimal("0.00001"),
    min_quantity=Decimal("0.00001"), max_quantity=Decimal(9000), min_notional=Decimal(5),
)  # fmt: skip


@click.command(help="Measure the way from a candle's frame to the command.")
@click.option("--candles", default=20_000, show_default=True, help="Decisions to measure, after a warm-up.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Where the journal is written.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def main(candles: int, folder: Path | None, as_json: bool) -> None:
    """Measure and print."""
    frames = [frame.encode() for frame in generate_frames(candles + WARM_UP)]
    booster = train(frames[: TRAINED_ON + 100])
    model = Predictor(booster.model_to_string().encode())
    with tempfile.TemporaryDirectory(dir=folder) as home:
        rows = {
            "frame → decision, no signal": live(frames, model, threshold=1.0),
            "frame → PlaceOrder": live(frames, model, threshold=0.0),
            "frame → PlaceOrder, journal written": live(frames, model, 0.0, open_journal(home, 1), sync=False),
            "frame → PlaceOrder, journal on disk": live(
                frames[: WARM_UP + min(candles, SYNCED)], model, 0.0, open_journal(home, 2), sync=True
            ),
            "of this: parsing the frame": alone(lambda frame: parse_frame(frame.decode()), frames),
            "of this: features": alone_features(frames, candles),
            "LightGBM C call, one row": alone_model(frames, model.probability),
            "lightgbm.Booster.predict, one row": alone_booster(frames, booster),
        }
    report(rows, as_json, model.trees)


def generate_frames(count: int) -> Iterator[str]:
    """Frames of the combined stream as Binance sends them, of a random walk of one-second candles."""
    chance = random.Random(7)
    price = 60_000.0
    for number in range(count):
        opened = price
        price = max(1_000.0, price + chance.gauss(0, 6.0))
        high, low = max(opened, price) + chance.random(), min(opened, price) - chance.random()
        volume = chance.expovariate(2.0)
        bought = volume * chance.random()
        start = START_MS + number * 1000
        k = {
            "t": start, "T": start + 999, "s": "BTCUSDT", "i": "1s", "f": number * 9, "L": number * 9 + 8,
            "o": f"{opened:.8f}", "c": f"{price:.8f}", "h": f"{high:.8f}", "l": f"{low:.8f}", "v": f"{volume:.8f}",
            "n": chance.randrange(1, 60), "x": True, "q": f"{volume * price:.8f}", "V": f"{bought:.8f}",
            "Q": f"{bought * price:.8f}", "B": "0",
        }  # fmt: skip
        event = {"e": "kline", "E": start + 1003, "s": "BTCUSDT", "k": k}
        yield json.dumps({"stream": "btcusdt@kline_1s", "data": event}, separators=(",", ":"))


def train(frames: list[bytes]) -> lightgbm.Booster:
    """A model of 100 trees with 31 leaves: does the price rise within half a minute?"""
    candles = [read_candle(frame) for frame in frames]
    window, rows, labels = Window(), [], []
    for candle, later in zip(candles, candles[30:], strict=False):
        window.push(candle)
        if window.full:
            rows.append(compute(window))
            labels.append(later.close > candle.close)
    options = {"objective": "binary", "num_leaves": 31, "min_data_in_leaf": 20, "num_threads": 1, "verbose": -1}
    data = lightgbm.Dataset(numpy.array(rows), numpy.array(labels), feature_name=list(FEATURE_NAMES_IN_MODEL))
    return lightgbm.train(options, data, num_boost_round=100)


def read_candle(frame: bytes) -> Candle:
    """The candle of a generated frame."""
    candle = parse_frame(frame)
    assert isinstance(candle, Candle)
    return candle


def live(
    frames: list[bytes], model: Predictor, threshold: float, journal: Journal | None = None, sync: bool = False
) -> list[float]:
    """Microseconds from each frame to the outputs of its step, with *journal* to their being written."""
    document = {
        "model_id": 1, "confidence_threshold": threshold, "signal_interval": 1, "capital_per_trade": "200",
        "entry_order_type": "limit_maker",
    }  # fmt: skip
    config = parse_config(LightGBMConfig, document)
    trader = Trader(
        id_prefix="fbench1-1",
        rules=RULES,
        interval="1s",
        strategy=build("lightgbm_scalper", 1000, config, model),
        config=config,
        config_version=1,
    )
    rich = Decimal(1_000_000)
    trader.step(AccountSeen(base_free=Decimal(0), base_locked=Decimal(0), quote_free=rich, quote_locked=Decimal(0)))
    trader.step(ControlChanged(desired=DesiredState.RUNNING))
    outputs: list[Output] = []

    def on_candle(candle: Candle, arrived: float) -> None:
        outputs.extend(trader.step(candle))
        if journal is not None:
            journal.write([output for output in outputs if isinstance(output, Payload)], sync=sync)

    stream: Any = MarketStream("ws://nowhere/", "BTCUSDT", on_candle, trader.step)

    def one(frame: bytes) -> None:
        stream._take(frame.decode(), time.perf_counter(), None)

    def clear() -> None:
        """Take the order back, so that the next candle can place one, and move the touch."""
        for output in outputs:
            if isinstance(output, PlaceOrder):
                refused = OrderRefused(
                    client_order_id=output.client_order_id, kind=Refusal.POST_ONLY, message="would take"
                )
                trader.step(refused)
        price = trader.window.closes[-1]
        trader.step(Quote(price - 0.01, price + 0.01))
        placed.append(any(isinstance(output, PlaceOrder) for output in outputs))
        outputs.clear()

    placed: list[bool] = []
    took = alone(one, frames, clear)
    assert trader.tally.decisions == len(frames) - 59
    assert all(placed[60:]) is (threshold == 0.0)
    return took


def alone(work: Callable[[Any], object], inputs: list[Any], after: Callable[[], None] | None = None) -> list[float]:
    """Microseconds that *work* takes for each input after the warm-up; *after* is not measured."""
    took: list[float] = []
    gc.collect()
    for one in inputs:
        began = time.perf_counter_ns()
        work(one)
        took.append((time.perf_counter_ns() - began) / 1000)
        if after is not None:
            after()
    return took[WARM_UP:]


def alone_features(frames: list[bytes], count: int) -> list[float]:
    """The features of one full window."""
    window = Window()
    for frame in frames[:60]:
        window.push(read_candle(frame))
    return alone(lambda _: compute(window), list(range(count + WARM_UP)))


def feature_rows(frames: list[bytes]) -> list[list[float]]:
    """The features after each frame from the sixtieth on."""
    window, rows = Window(), []
    for frame in frames:
        window.push(read_candle(frame))
        if window.full:
            rows.append(compute(window))
    return rows


def alone_model(frames: list[bytes], probability: Callable[[list[float]], float]) -> list[float]:
    """One row after the other through LightGBM's C library, as a bot calls it."""
    return alone(probability, feature_rows(frames))


def alone_booster(frames: list[bytes], booster: lightgbm.Booster) -> list[float]:
    """One row after the other through the Python package."""
    rows = [numpy.array([row]) for row in feature_rows(frames[: WARM_UP + 5_000])]
    return alone(lambda row: booster.predict(row, num_threads=1), rows)


def open_journal(home: str, number: int) -> Journal:
    """A journal in a file of its own."""
    path = Path(home) / f"1.{number}.jsonl"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return Journal(fd, bot_id=1, run_id=f"1.{number}", folder=Path(home))


def report(rows: dict[str, list[float]], as_json: bool, trees: int) -> None:
    """The table, or the same as JSON."""
    figures = {
        name: {"p50_us": quantile(took, 0.5), "p99_us": quantile(took, 0.99), "count": len(took)}
        for name, took in rows.items()
    }
    about = {"python": platform.python_version(), "cpu": cpu(), "cores": os.cpu_count(), "trees": trees}
    if as_json:
        print(json.dumps({**about, "rows": figures}, ensure_ascii=False))
        return
    print(f"Python {about['python']} · {about['cpu']} · {about['cores']} cores · {trees} trees × 31 leaves")
    print(f"{'µs':36}{'p50':>10}{'p99':>10}{'count':>10}")
    for name, row in figures.items():
        print(f"{name:36}{row['p50_us']:>10.1f}{row['p99_us']:>10.1f}{row['count']:>10}")


def quantile(values: list[float], fraction: float) -> float:
    """The value below which *fraction* of *values* lie."""
    return round(sorted(values)[min(int(len(values) * fraction), len(values) - 1)], 2)


def cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())
