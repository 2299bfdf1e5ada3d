"""The log for people, on standard error. Standard output belongs to events. No secret of a run shows in either."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Collection

SHORTEST_SECRET = 8


class _Discreet(logging.Formatter):
    """A formatter that shows a secret by its last four characters only."""

    def __init__(self, form: str, secrets: Collection[str]) -> None:
        super().__init__(form, "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        self._secrets = sorted((s for s in secrets if len(s) >= SHORTEST_SECRET), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, f"…{secret[-4:]}")
        return text


class _Brief(_Discreet):
    """Only the message, with the last line of an exception: the event that it goes into has time and run already."""

    def formatException(self, ei: object) -> str:
        return super().formatException(ei).splitlines()[-1]  # type: ignore[arg-type]

    def format(self, record: logging.LogRecord) -> str:
        kept, record.exc_text = record.exc_text, None  # cached by the other formatter, in full
        try:
            return super().format(record)
        finally:
            record.exc_text = kept


def set_up_logging(
    run_id: str, level: str = "INFO", *, secrets: Collection[str] = (), also: logging.Handler | None = None
) -> None:
    """Log lines as ``2026-11-20T12:00:00Z INFO 3.7 message``; the libraries' chatter only from warnings on.

    *also* gets the bare messages. *secrets* are blotted out everywhere.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Discreet(f"%(asctime)sZ %(levelname)s {run_id} %(message)s", secrets))
    handlers: list[logging.Handler] = [handler]
    if also is not None:
        also.setFormatter(_Brief("%(message)s", secrets))
        handlers.append(also)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    for chatty in ("websockets", "asyncio", "aiohttp", "binance"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
