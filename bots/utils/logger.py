"""The log for people, on standard error. Standard output belongs to events."""

from __future__ import annotations

import logging
import sys
import time


def set_up_logging(run_id: str, level: str = "INFO") -> None:
    """Log lines as ``2026-11-20T12:00:00Z INFO 3.7 message``; the libraries' chatter only from warnings on."""
    formatter = logging.Formatter(f"%(asctime)sZ %(levelname)s {run_id} %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("websockets", "asyncio", "aiohttp", "binance"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
