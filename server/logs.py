"""Log lines for people and for grep, the same in every process of the server.

Tracebacks stay plain: the renderer's rich ones print local variables, and with them keys and tokens.
"""

from __future__ import annotations

import sys
from typing import Any, TextIO

import structlog


def log_to(stream: TextIO | None = None) -> None:
    """Send all log lines of this process to *stream* (standard error), with level, UTC time and bound fields."""
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
    structlog.configure(processors=processors, logger_factory=lambda *_: structlog.PrintLogger(stream or sys.stderr))
