"""The ``flotilla`` command, one module for each group of commands."""

from server.cli.root import main

__all__ = ["main"]
