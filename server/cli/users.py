"""``flotilla users``: accounts, straight in the database, so that a locked-out admin can be let in again."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from sqlalchemy import Connection, make_url, select

from server.cli.output import json_option, print_json, print_table, read_secret
from server.security import accounts
from server.security.roles import Role
from server.settings import load_settings
from server.storage.audit import Author, Via
from server.storage.engine import is_migrated, make_engine, write
from server.storage.models import User
from server.storage.times import iso
from shared.errors import FlotillaError

_ROLES = click.Choice([role.value for role in Role])


class NoDatabase(FlotillaError):
    """There is no database to work on yet."""

    code = "no_database"


@click.group()
def users() -> None:
    """Users and their roles. Works on the database itself, also while no server runs.

    Passwords come from a prompt, or from standard input.
    """


@users.command("list")
@json_option
def list_users(as_json: bool) -> None:
    """All users with role and last sign of life, disabled ones too."""
    with _database() as connection:
        rows = connection.execute(select(User).order_by(User.id)).all()
        seen = accounts.last_seen(connection, [row.id for row in rows])
    documents = [
        {
            "id": row.id,
            "username": row.username,
            "role": row.role,
            "disabled": row.disabled,
            "created_at": iso(row.created_ms),
            "last_seen_at": iso(seen.get(row.id)),
        }
        for row in rows
    ]
    if as_json:
        print_json({"items": documents})
        return
    shown = [
        [d["id"], d["username"], d["role"], "disabled" if d["disabled"] else "", d["last_seen_at"]] for d in documents
    ]
    print_table(["id", "name", "role", "state", "last seen"], shown, numbers=["id"])


@users.command()
@click.argument("name")
@click.option("--role", type=_ROLES, required=True, help="What they may do: look, trade, or everything.")
def add(name: str, role: str) -> None:
    """Add a user."""
    password = read_secret("Password", confirm=True)
    with _database() as connection:
        accounts.add_user(connection, username=name, password=password, role=role, author=_author())
    click.echo(f"{name} was added as {role}.")


@users.command()
@click.argument("name")
def passwd(name: str) -> None:
    """Set a user's password. Their sessions end at once."""
    with _database() as connection:
        accounts.user_named(connection, name)  # before anybody types a password for nothing
    password = read_secret("New password", confirm=True)
    with _database() as connection:
        user = accounts.user_named(connection, name)
        accounts.set_password(connection, user, password, _author())
    click.echo(f"{name} has a new password." + (" They are disabled: flotilla users enable" if user.disabled else ""))


@users.command()
@click.argument("name")
def disable(name: str) -> None:
    """Let a user in no more; sessions and tokens end at once."""
    _change(name, disabled=True)
    click.echo(f"{name} is disabled.")


@users.command()
@click.argument("name")
def enable(name: str) -> None:
    """Let a disabled user in again."""
    _change(name, disabled=False)
    click.echo(f"{name} is enabled.")


@users.command()
@click.argument("name")
@click.argument("role", type=_ROLES)
def role(name: str, role: str) -> None:
    """Give a user another role; it counts at once, in their tokens too."""
    _change(name, role=role)
    click.echo(f"{name} is {role} now.")


def _change(name: str, *, role: str | None = None, disabled: bool | None = None) -> None:
    with _database() as connection:
        user = accounts.user_named(connection, name)
        accounts.change_user(connection, user, _author(), role=role, disabled=disabled)


@contextmanager
def _database() -> Iterator[Connection]:
    """One transaction on the installation's database. Raises `NoDatabase`."""
    settings = load_settings()
    url = make_url(settings.database_url)
    missing = NoDatabase(f"There is no database in {settings.home} yet. Start Flotilla once: make run")
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise missing
    engine = make_engine(settings.database_url)
    try:
        with write(engine) as connection:
            if not is_migrated(connection):
                raise NoDatabase("The database is of another version. Start Flotilla once to bring it up to date.")
            yield connection
    finally:
        engine.dispose()


def _author() -> Author:
    try:
        who = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        who = "unknown"
    return Author(f"cli ({who})", Via.CLI)
