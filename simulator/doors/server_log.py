"""What the HTTP server writes to standard error: what is wrong here, and not what is wrong with a client.

A request that is no HTTP is answered with 400 by the server itself, before any door sees it, and who leaves amid a
request needs no answer: whoever sends garbage to the port would else fill the log with tracebacks.
"""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError

_CLIENTS_FAULT = (HttpProcessingError, ConnectionError)


def server_log() -> logging.Logger:
    """The logger for the server."""
    log = logging.getLogger("aiohttp.server")
    log.addFilter(is_ours)  # the same one twice is one
    return log


def is_ours(record: logging.LogRecord) -> bool:
    """Does *record* tell of something that a client cannot do?"""
    return record.exc_info is None or not isinstance(record.exc_info[1], _CLIENTS_FAULT)
