"""``python -m simulator check``: which ledger to look at, and how the verdict is told.

Ends with 0 when every identity holds, with 1 when one does not, and with 2 when there was nothing to look at.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from simulator.witness.check import Verdict, examine
from simulator.witness.reading import Unreadable
from simulator.witness.sources import from_file, from_state, from_url
from simulator.witness.telling import told

DEFAULT_URL = "http://127.0.0.1:9700"


@click.command(
    short_help="Prove from the ledger that no coin was made or lost.",
    epilog="Exit code: 0 every identity holds, 1 one is broken, 2 there was no ledger to read.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--url", metavar="URL", help=f"A running simulator (without any option: {DEFAULT_URL}).")
@click.option(
    "--ledger",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="A saved answer of GET /sim/ledger; - reads standard input.",
)
@click.option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="The --state folder of a simulator, running or not.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def check(url: str | None, ledger: Path | None, state: Path | None, as_json: bool) -> None:
    """Prove from a ledger alone that the exchange made no coin and lost none.

    Recomputes each account's balances from deposits, fills and fees, each order from its fills and its history, both
    sides of each trade, and the totals of the whole exchange, in exact decimals and without the exchange's own code.
    Each broken identity is one sentence.
    """
    sources = [source for source in (url, ledger, state) if source is not None]
    if len(sources) > 1:
        raise click.UsageError("Give one of --url, --ledger and --state.")
    source = str(sources[0]) if sources else DEFAULT_URL
    try:
        verdict = examine(_fetched(source, ledger, state))
    except Unreadable as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    click.echo(_json(source, verdict) if as_json else told(source, verdict))
    sys.exit(0 if verdict.holds else 1)


def _fetched(url: str, ledger: Path | None, state: Path | None) -> object:
    if ledger is not None:
        return from_file(ledger)
    return from_state(state) if state is not None else from_url(url)


def _json(source: str, verdict: Verdict) -> str:
    document = {"source": source, "holds": verdict.holds, **asdict(verdict)}
    return json.dumps(document, indent=2, ensure_ascii=False, default=lambda amount: f"{amount:f}")
