"""Where a ledger comes from: a running simulator, a file, or the log that a simulator keeps.

Answers with what JSON holds; whether that is a ledger is for ``reading`` to say. What cannot be fetched or is no JSON
is `Unreadable`. The log holds facts, not a ledger: they are applied to an exchange as at a restart, so what is proved
from a folder is what a simulator would know after one.
"""

from __future__ import annotations

import http.client
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from simulator.core.exchange import Exchange
from simulator.core.orders import Fact
from simulator.core.rules import SYMBOLS
from simulator.store import StateError, read_facts
from simulator.witness.ledger import ledger
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


def from_state(folder: Path) -> object:
    """The ledger that the facts in a ``--state`` folder make, which a simulator may be writing to meanwhile."""
    exchange = Exchange(SYMBOLS)
    try:
        for number, fact in enumerate(read_facts(folder), 1):
            _apply(exchange, fact, f"{folder}, fact {number}")
    except StateError as error:
        raise Unreadable(str(error)) from None
    return ledger(exchange)


def _apply(exchange: Exchange, fact: Fact, where: str) -> None:
    symbol = getattr(fact, "symbol", None)
    if symbol is not None and symbol not in exchange.symbols:
        raise Unreadable(
            f"{where} is about {symbol}, whose decimals only its replay tells: check the running simulator by --url."
        )
    try:
        exchange.apply(fact)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise Unreadable(f"{where} ({type(fact).__name__}) cannot follow those before it: {error!r}.") from None


def _parsed(raw: bytes, where: str) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Unreadable(f"{where} is not JSON: give what GET {LEDGER} answered.") from None
