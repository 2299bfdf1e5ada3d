"""``flotilla bots``: see the fleet, and tell bots what to do."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from server.cli.client import ApiRefused, Client, NoAnswer, talks_to_server
from server.cli.logs import follow_logs, print_logs
from server.cli.output import age, is_interactive, json_option, print_json, print_table, printable, say
from shared.errors import FlotillaError

_POLL_S = 0.5
_REACHED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "start": lambda bot: bot["status"] == "running",
    "resume": lambda bot: bot["status"] == "running",
    "pause": lambda bot: bot["status"] == "paused",
    "stop": lambda bot: bot["status"] == "stopped",
}


class NoSuchBot(FlotillaError):
    """A name or id that is no bot's, or several bots'."""

    code = "no_such_bot"


class NotReached(FlotillaError):
    """The bot did not get where it was sent."""

    code = "not_reached"


@click.group()
def bots() -> None:
    """See the fleet, and start, stop, pause and resume bots. A bot is named by its id or its name."""


@bots.command("list")
@json_option
@talks_to_server
def list_bots(client: Client, as_json: bool) -> None:
    """All bots, with state, PNL and signs of life."""
    found = list(reversed(list(client.items("/api/bots"))))
    if as_json:
        print_json({"items": found})
        return
    columns = ["id", "name", "symbol", "strategy", "where", "state", "wanted", "positions", "pnl today", "pnl total"]
    columns += ["heartbeat", "restarts"]
    rows = [
        [
            b["id"], b["name"], b["symbol"], b["strategy"], f"{b['exchange']} {b['mode']}", b["status"],
            "halted" if b["halted"] else b["desired_state"], b["open_positions"], b["pnl_today"], b["pnl_total"],
            age(b["heartbeat_at"]), b["restarts_24h"],
        ]
        for b in found
    ]  # fmt: skip
    print_table(columns, rows, numbers=["id", "positions", "pnl today", "pnl total", "heartbeat", "restarts"])


@bots.command()
@click.argument("bot")
@json_option
@talks_to_server
def show(client: Client, bot: str, as_json: bool) -> None:
    """One bot: everything known about it."""
    (found,) = resolve(client, [bot])
    if as_json:
        print_json(found)
        return
    width = max(map(len, found))
    for name, value in found.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
        click.echo(f"{name.ljust(width)}  {printable(shown)}".rstrip())


def _verb(name: str, summary: str) -> None:
    @click.argument("bot", nargs=-1)
    @click.option("--all", "every", is_flag=True, help="Every bot; asks first, unless --yes.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
    @click.option("--wait", is_flag=True, help="Until the bots were seen to do it.")
    @click.option("--timeout", default=60.0, show_default=True, metavar="SECONDS", help="How long to --wait.")
    @json_option
    @talks_to_server
    def command(client: Client, bot: tuple[str, ...], every: bool, yes: bool, **options: Any) -> None:
        tell(client, name, choose(client, bot, every, yes, name), **options)

    command.__doc__ = summary
    bots.command(name)(command)


_verb("start", "Let bots trade.")
_verb("stop", "End bots in order; what becomes of their positions is `on_stop` in their config.")
_verb("pause", "No new entries; open positions stay guarded.")
_verb("resume", "Entries again.")


@bots.command()
@click.argument("bot")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(0, 100_000), help="How many lines.")
@click.option("--level", default="debug", type=click.Choice(["debug", "info", "warning", "error"]), help="And above.")
@click.option("--search", default="", metavar="TEXT", help="Only lines that contain this.")
@json_option
@talks_to_server
def logs(client: Client, bot: str, follow: bool, lines: int, as_json: bool, **wanted: str) -> None:
    """What a bot did, oldest line first. With --json one object a line."""
    (found,) = resolve(client, [bot])
    path = f"/api/bots/{found['id']}/logs"
    last = print_logs(client, path, lines, wanted, as_json=as_json)
    if follow:
        follow_logs(client, path, last, wanted, as_json=as_json)


def choose(client: Client, names: Sequence[str], every: bool, yes: bool, verb: str) -> list[dict[str, Any]]:
    """The bots that a command is for. Raises `NoSuchBot`; exit code 2 for a command that names none."""
    if bool(names) == every:
        raise click.UsageError("Name the bots by id or name, or say --all.")
    if not every:
        return resolve(client, names)
    found = list(client.items("/api/bots"))
    if found and not yes:
        if not is_interactive():
            raise click.UsageError("Say --yes to do this without being asked.")
        click.confirm(f"{verb.capitalize()} all {len(found)} bots?", abort=True, err=True)
    return list(reversed(found))


def resolve(client: Client, names: Sequence[str]) -> list[dict[str, Any]]:
    """Each bot named by id or name, once. Raises `NoSuchBot`."""
    fleet = list(client.items("/api/bots"))
    chosen: dict[int, dict[str, Any]] = {}
    for name in names:
        mine = [b for b in fleet if str(b["id"]) == name] or [b for b in fleet if b["name"] == name]
        if len(mine) > 1:
            ids = ", ".join(str(b["id"]) for b in reversed(mine))
            raise NoSuchBot(f"{len(mine)} bots are called {name!r}. Take an id: {ids}.")
        if not mine:
            near = difflib.get_close_matches(name, [b["name"] for b in fleet], n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else " See: flotilla bots list"
            raise NoSuchBot(f"There is no bot {name!r}.{hint}")
        chosen[mine[0]["id"]] = mine[0]
    return list(chosen.values())


def tell(
    client: Client,
    verb: str,
    chosen: Sequence[dict[str, Any]],
    *,
    reason: str | None,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask for *verb* on each bot, then wait for all if wanted. Exit code 1 if any refused or did not get there."""
    done, failed = [], []
    deadline = time.monotonic() + timeout
    asked: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for before in chosen:
        try:
            body = None if reason is None else {"reason": reason}
            asked.append((before, client.post(f"/api/bots/{before['id']}/{verb}", body)))
        except ApiRefused as error:
            failed.append(_failure(before, error))
    for before, after in asked:
        try:
            done.append(_await(client, verb, before, deadline) if wait else after)
        except FlotillaError as error:
            failed.append(_failure(before, error))
    if as_json:
        print_json({"items": done, "failed": failed})
    else:
        for bot in done:
            seen = f"now {bot['status']}" if wait else f"wanted {bot['desired_state']}, now {bot['status']}"
            click.echo(printable(f"{bot['id']} {bot['name']}: {seen}"))
    for failure in failed:
        say(f"{failure['id']} {failure['name']}: {failure['error']}")
    if failed:
        raise click.exceptions.Exit(1)


def _await(client: Client, verb: str, before: dict[str, Any], deadline: float) -> dict[str, Any]:
    """The bot as soon as it is where *verb* sends it. Raises `NotReached`."""
    seen = before
    while True:
        try:
            seen = client.get(f"/api/bots/{before['id']}")
        except NoAnswer:
            pass  # a server that restarts answers again
        if _REACHED[verb](seen):
            return seen
        is_new = (seen["status"], seen["status_since"]) != (before["status"], before["status_since"])
        if seen["status"] == "error" and is_new:
            raise NotReached(f"error: {seen['status_reason'] or 'no reason given'}")
        if time.monotonic() >= deadline:
            raise NotReached(f"still {seen['status']}; wanted {seen['desired_state']}.")
        time.sleep(_POLL_S)


def _failure(bot: dict[str, Any], error: FlotillaError) -> dict[str, Any]:
    reasons = "".join(f" {name}: {reason}." for name, reason in error.fields.items())
    return {"id": bot["id"], "name": bot["name"], "error": error.message + reasons}
