"""``flotilla tokens``: long-lived tokens for scripts."""

from __future__ import annotations

import sys
from typing import Any

import click

from server.cli.client import Client, talks_to_server
from server.cli.output import age, json_option, print_json, print_table, say
from server.security.roles import Role


@click.group()
def tokens() -> None:
    """Long-lived tokens for scripts and other machines."""


@tokens.command("list")
@json_option
@talks_to_server
def list_tokens(client: Client, as_json: bool) -> None:
    """Tokens that still work, never their secrets."""
    found = list(reversed(list(client.items("/api/tokens"))))
    if as_json:
        print_json({"items": found})
        return
    rows = [
        [t["id"], t["name"], t["owner"], t["role"], t["prefix"], t["expires_at"] or "never", _ago(t["last_used_at"])]
        for t in found
    ]
    print_table(["id", "name", "owner", "role", "begins", "expires", "last used"], rows, numbers=["id"])


@tokens.command()
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), default="viewer", show_default=True)
@click.option("--days", type=click.FloatRange(0.001, 3650), help="How long it works; default: until revoked.")
@json_option
@talks_to_server
def create(client: Client, name: str, role: str, days: float | None, as_json: bool) -> None:
    """Make a token. Its secret is printed this one time; piped, it is all that is printed."""
    body: dict[str, Any] = {"name": name, "role": role}
    if days is not None:
        body["expires_in"] = max(60, round(days * 86_400))
    made = client.post("/api/tokens", body)
    if as_json:
        print_json(made)
        return
    click.echo(made["token"])
    if sys.stdout.isatty():
        say(f"Token {made['id']}. It is shown this once; keep it like a password.")


@tokens.command()
@click.argument("token_id", type=click.IntRange(1), metavar="ID")
@talks_to_server
def revoke(client: Client, token_id: int) -> None:
    """End a token at once."""
    client.delete(f"/api/tokens/{token_id}")
    click.echo(f"Token {token_id} works no more.")


def _ago(at: str | None) -> str:
    return f"{age(at)} ago" if at else "never"
