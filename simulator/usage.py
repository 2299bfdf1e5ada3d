"""How ``python -m simulator --help`` reads: options by what they are about, what is served where, and examples.

Only words and their order. An option that no group names still shows, in a group of its own.
"""

from __future__ import annotations

import click
from click.core import ParameterSource

GROUPS = {
    "Where it listens": ("host", "port", "port_file"),
    "The market": ("replay", "rebase", "loop", "history", "start_delay", "start", "speed", "seed"),
    "What happens in it": ("scenario", "state", "unlimited"),
}
SERVED = (
    ("/", "a page to look at it with, and to break it: markets, accounts, orders, faults"),
    ("/api/v3", "Binance's REST API"),
    ("/ws, /stream", "market streams, raw and combined"),
    ("/ws-api/v3", "the websocket API, with the user data stream"),
    ("/sim/accounts", 'POST {"balances": {"USDT": "10000"}} opens an account and answers its key and secret'),
    ("/sim/ledger", "every order and fill there ever was"),
    ("/sim/faults", "GET, POST and DELETE: what goes wrong next"),
    ("/sim/clock", "both clocks"),
)
EXAMPLES = (
    ("python -m simulator", "a generated market on port 9700"),
    ("python -m simulator --replay BTCUSDT-trades.csv.gz --rebase --loop", "recorded trades, as if now"),
    ("python -m simulator --state var/simulator --speed 10", "ten times as fast, and kept over restarts"),
    ("python -m simulator check", "prove that it made no coin and lost none"),
)


class Program(click.Group):
    """The simulator's command: runs the exchange when no subcommand is named."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options in their groups, then commands, routes and examples."""
        records = {p.name: record for p in self.get_params(ctx) if (record := p.get_help_record(ctx)) is not None}
        for title, names in GROUPS.items():
            _section(formatter, title, [records.pop(name) for name in names if name in records])
        _section(formatter, "Other options", list(records.values()))
        self.format_commands(ctx, formatter)
        _section(formatter, "Served", list(SERVED))
        with formatter.section("Examples"):
            for command, effect in EXAMPLES:
                formatter.write_text(f"# {effect}")
                formatter.write_text(command)


def is_for_a_command(ctx: click.Context) -> bool:
    """A subcommand was named and will run; the options of the exchange before it are refused, never ignored."""
    if ctx.invoked_subcommand is None:
        return False
    given = [p for p in ctx.command.params if ctx.get_parameter_source(p.name or "") is ParameterSource.COMMANDLINE]
    if given:
        raise click.UsageError(
            f"{given[0].opts[0]} is for running the exchange, not for {ctx.invoked_subcommand}: "
            f"give {ctx.invoked_subcommand} options of its own, after its name."
        )
    return True


def _section(formatter: click.HelpFormatter, title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)
