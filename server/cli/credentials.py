"""``flotilla credentials``: exchange keys. They go in and never come out."""

from __future__ import annotations

import click

from server.cli.client import Client, talks_to_server
from server.cli.output import is_interactive, json_option, print_json, print_table, read_secret


@click.group()
def credentials() -> None:
    """Exchange keys, encrypted in the database. Key and secret come from a prompt, or from standard input."""


@credentials.command("list")
@json_option
@talks_to_server
def list_credentials(client: Client, as_json: bool) -> None:
    """Stored keys by name, with the last four characters of each."""
    found = list(reversed(list(client.items("/api/credentials"))))
    if as_json:
        print_json({"items": found})
        return
    rows = [[c["id"], c["name"], c["exchange"], f"…{c['api_key_last4']}", c["created_at"]] for c in found]
    print_table(["id", "name", "exchange", "key", "stored"], rows, numbers=["id"])


@credentials.command()
@click.argument("name")
@click.option("--exchange", required=True, type=click.Choice(["simulator", "binance_testnet", "binance"]))
@json_option
@talks_to_server
def add(client: Client, name: str, exchange: str, as_json: bool) -> None:
    """Store the keys of an exchange account. Piped: the key on the first line, the secret on the second."""
    api_key = str(click.prompt("API key", err=True)) if is_interactive() else read_secret("API key")
    secret = read_secret("API secret")
    body = {"name": name, "exchange": exchange, "api_key": api_key.strip(), "api_secret": secret.strip()}
    made = client.post("/api/credentials", body)
    if as_json:
        print_json(made)
    else:
        click.echo(f"Stored as credential {made['id']}.")


@credentials.command()
@click.argument("credential_id", type=click.IntRange(1), metavar="ID")
@talks_to_server
def remove(client: Client, credential_id: int) -> None:
    """Delete keys that no bot uses."""
    client.delete(f"/api/credentials/{credential_id}")
    click.echo(f"Credential {credential_id} is gone.")
