"""Garbage leaves no trace in the log; what goes wrong here does."""

from __future__ import annotations

import logging

import pytest
from aiohttp.http_exceptions import BadStatusLine

from simulator.doors.server_log import is_ours, server_log


@pytest.mark.parametrize(
    ("error", "told"),
    [(BadStatusLine("FROB"), False), (ConnectionResetError("gone"), False), (ValueError("a bug"), True), (None, True)],
)
def test_what_clients_do_wrong_is_not_written_down(error, told):
    exc_info = None if error is None else (type(error), error, None)

    assert is_ours(logging.LogRecord("x", logging.ERROR, "", 0, "Unhandled exception", None, exc_info)) == told


def test_asking_for_the_log_again_changes_nothing():
    assert server_log() is server_log()
    assert server_log().filters.count(is_ours) == 1
