"""``flotilla halt`` and ``flotilla release``: the kill switch, which works with the server down."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from server.cli.output import json_option, print_json
from server.settings import Settings, load_settings
from server.storage import halt_checklist, kill_switch
from server.storage.audit import REASON_LENGTH, Author, Via
from server.storage.engine import make_engine, write
from server.storage.times import now_ms
from shared.halt import HaltOrder


@click.command()
@click.option("--reason", required=True, help="Why, for the audit log.")
@click.option("--close-positions", is_flag=True, help="Also sell everything at market.")
@json_option
def halt(reason: str, close_positions: bool, as_json: bool) -> None:
    """Engage the kill switch: no bot opens a position, and entry orders are cancelled, until it is released.

    Needs no server: each bot of this machine looks at the halt file once a second and before every entry.
    """
    settings, author = load_settings(), _author()
    reason = reason[:REASON_LENGTH]
    settings.make_home()
    order = HaltOrder(by=author.name, reason=reason, at_ms=now_ms(), close_positions=close_positions)
    kill_switch.engage_file(settings.halt_file, order)  # at once, whatever the database does
    try:
        with _database(settings) as connection:
            kill_switch.halt(connection, settings.halt_file, author, reason, close_positions=close_positions)
            document = halt_checklist.document(connection, settings.halt_file)
    except SQLAlchemyError as error:
        click.echo(
            f"Halted by {settings.halt_file}. The database cannot be written ({_cause(error)}); "
            "the supervisor notes it there once it can.",
            err=True,
        )
        if as_json:
            print_json(halt_checklist.document_of_file(settings.halt_file))
        return
    if as_json:
        print_json(document)
        return
    totals = document["totals"]
    click.echo(
        f"Halted. {totals['bots']} bots, {totals['confirmed']} have confirmed so far; "
        f"{totals['waiting'] + totals['unknown']} entry orders to withdraw."
    )


@click.command()
@click.option("--reason", required=True, help="Why it is safe now, for the audit log.")
@json_option
def release(reason: str, as_json: bool) -> None:
    """Release the kill switch: every bot goes on as it is wanted to. Bots halted singly stay halted."""
    settings = load_settings()
    with _database(settings) as connection:
        kill_switch.release(connection, settings.halt_file, _author(), reason)
        document = halt_checklist.document(connection, settings.halt_file)
    if as_json:
        print_json(document)
        return
    click.echo("Released. Bots whose server is down go on once it answers again.")


def _author() -> Author:
    return Author(f"{getpass.getuser()} (command line)", Via.CLI)


@contextmanager
def _database(settings: Settings) -> Iterator[Connection]:
    engine = make_engine(settings.database_url)
    try:
        with write(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def _cause(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
