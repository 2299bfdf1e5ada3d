"""``python -m research …``: offline work on the core that trades."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from research.report import JsonLines, Report, Terminal
from shared.errors import FlotillaError


@click.group()
def main() -> None:
    """Offline work: train models on recorded candles."""


@main.command()
@click.option(
    "--candles",
    "sources",
    multiple=True,
    required=True,
    metavar="FILE|URL",
    help="CSV or CSV.gz of one-second candles, or a REST base address such as http://127.0.0.1:9700/api; repeatable.",
)
@click.option("--symbol", required=True, help="Such as BTCUSDT.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Only the last hours; from an address: 24.")
@click.option(
    "--horizon", type=click.IntRange(1, 86_400), default=30, show_default=True, help="Seconds to reach it in."
)
@click.option(
    "--target",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.00015,
    show_default=True,
    help="Gain to foresee, as a fraction like profit_target_pct: 0.00015 is 0.015 %.",
)
@click.option(
    "--stop",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.0003,
    show_default=True,
    help="Loss that must not come first, as a fraction like stop_loss_pct.",
)
@click.option(
    "--signal-interval",
    type=click.IntRange(1, 3600),
    default=2,
    show_default=True,
    help="Seconds between decisions, as in the bot's config.",
)
@click.option("--json", "as_json", is_flag=True, help="Progress and result as JSON lines.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The model file to write.")
def train(
    sources: tuple[str, ...],
    symbol: str,
    hours: float | None,
    horizon: int,
    target: float,
    stop: float,
    signal_interval: int,
    as_json: bool,
    out: Path,
) -> None:
    """Train a LightGBM model; writes it and, beside it, its description and scores as .json."""
    from research import candles, train  # numpy and requests only once they are needed

    report: Report = JsonLines("train") if as_json else Terminal()
    with report:
        try:
            task = train.Task(symbol=symbol, horizon=horizon, target=target, stop=stop, signal_interval=signal_interval)
            if not out.parent.is_dir():
                raise train.CannotTrain(f"The folder {out.parent} does not exist. Make it, or choose another --out.")
            series = candles.load(sources, symbol, hours, report.progress)
            description = train.train(series, task, out, report.progress)
            report.result({"model": str(out), **description})
        except FlotillaError as error:
            report.failed(error.code, error.message)
            sys.exit(1)


if __name__ == "__main__":
    main(prog_name="python -m research")
