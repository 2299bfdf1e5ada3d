"""The ``flotilla`` command: one sentence and exit code 1 for what a person can put right."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click
from sqlalchemy.exc import SQLAlchemyError

from server.settings import load_settings
from shared.errors import FlotillaError

_ROOMS = {name: name for name in ("bots", "credentials", "doctor", "tokens", "users")}
_ROOMS |= {"halt": "kill_switch", "release": "kill_switch"}
"""Commands in modules of their own, each loaded only when it is asked for."""


class Commands(click.Group):
    """A group whose commands end with a sentence where they cannot do their work."""

    def list_commands(self, context: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted([*super().list_commands(context), *_ROOMS])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command called *name*."""
        if name not in _ROOMS:
            return super().get_command(context, name)
        found: click.Command = getattr(import_module(f"server.cli.{_ROOMS[name]}"), name)
        return found

    def invoke(self, context: click.Context) -> object:
        """Run the chosen command."""
        try:
            return super().invoke(context)
        except FlotillaError as error:
            click.echo(error.message, err=True)
            for field, reason in error.fields.items():
                click.echo(f"  {field}: {reason}", err=True)
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            click.echo(f"The database cannot be used ({cause}). See DATABASE_URL and FLOTILLA_HOME.", err=True)
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:  # whoever read has seen enough, as with ``flotilla bots list | head``
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            click.echo(f"The machine refused: {error.strerror or error}{where}.", err=True)
        sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Run a fleet of trading bots. All state lives in FLOTILLA_HOME (default: var in the checkout)."""
    os.umask(0o077)  # database, journals and logs are their owner's alone, also in a home folder that others may read


@cli.command()
@click.option("--demo", is_flag=True, help="Load the demo fleet, once per FLOTILLA_HOME.")
def up(demo: bool) -> None:
    """Run simulator, web server and supervisor until Ctrl-C, which ends all bots in order as well."""
    from server.up.main import up as run_up

    sys.exit(run_up(load_settings(), with_demo=demo))


@cli.command()
def web() -> None:
    """Serve the pages and the REST API."""
    from setproctitle import setproctitle

    from server.app import serve

    setproctitle("flotilla: web")
    sys.exit(serve(load_settings()))


@cli.command()
def supervisor() -> None:
    """Start, watch and adopt the bots. SIGTERM detaches: they trade on."""
    from server.supervisor.run import run_supervisor

    sys.exit(run_supervisor(load_settings()))


@cli.command()
@click.option("--dev", is_flag=True, help="With what only the tests need.")
def assets(dev: bool) -> None:
    """Install what the pages load for live updates and charts (npm packages, from the lock file)."""
    from server.packages import PackagesMissing, install_packages

    try:
        click.echo("Installed." if install_packages(say=click.echo, dev=dev) else "Nothing to do: installed before.")
    except PackagesMissing as missing:
        click.echo(str(missing), err=True)
        sys.exit(1)


@cli.command(hidden=True)
def demo() -> None:
    """Load what is missing of the demo fleet; needs a running web server and simulator."""
    from server.demo import load

    load(load_settings())


def main() -> None:
    """Entry point."""
    cli(prog_name="flotilla")
