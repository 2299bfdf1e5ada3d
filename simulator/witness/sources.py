"""Where a ledger comes from: a running simulator, or a file.

Answers with what JSON holds; whether that is a ledger is for ``reading`` to say. What cannot be fetched or is no JSON
is `Unreadable`.
"""

from __future__ import annotations

import http.client
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from simulator.witness.reading import Unreadable

LEDGER = "/sim/ledger"
PATIENCE_S = 30.0
STANDARD_INPUT = Path("-")


def from_url(url: str) -> object:
    """The ledger of the simulator whose base address *url* is. Never through a proxy."""
    if not url.startswith(("http://", "https://")):
        raise Unreadable(f"{url!r} is no address of a simulator: give one such as http://127.0.0.1:9700.")
    address = url.rstrip("/").removesuffix(LEDGER) + LEDGER
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(address, timeout=PATIENCE_S) as reply:
            raw = reply.read()
    except urllib.error.HTTPError as error:
        raise Unreadable(f"{address} answers {error.code}: give the address of a simulator, without a path.") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise Unreadable(f"{address} cannot be read: {reason}. Start the simulator, or give another --url.") from None
    return _parsed(raw, address)


def from_file(path: Path) -> object:
    """The ledger in a JSON file; ``-`` is standard input."""
    try:
        raw = sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}. Give what GET {LEDGER} answered.") from None
    return _parsed(raw, "standard input" if path == STANDARD_INPUT else str(path))


def _parsed(raw: bytes, where: str) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Unreadable(f"{where} is not JSON: give what GET {LEDGER} answered.") from None
