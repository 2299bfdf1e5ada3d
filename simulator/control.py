"""The simulator's own routes under ``/sim``: accounts, ledger, faults, clock.

Not part of the exchange's protocol: this is how a test opens an account, what it compares a database with, and where
it breaks things. Errors are ``{"error": sentence}`` with 422, or 404 for an unknown key.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable

from aiohttp import web

from simulator.doors.signing import HMAC
from simulator.faults import BadFault, Faults, kinds_table
from simulator.scenario.accounts import read_account
from simulator.scenario.document import BadScenario, Node
from simulator.venue import Venue
from simulator.witness.ledger import ledger

_ALPHABET = string.ascii_letters + string.digits
MAX_MOVE_MS = 7 * 86_400_000


class Refused(Exception):
    """Bad input; the text says what is wrong and what to send."""


class Control:
    """Handlers of ``/sim``."""

    def __init__(
        self, venue: Venue, faults: Faults, connected: Callable[[], int], moved: Callable[[], None]
    ) -> None:
        """*connected* counts the open websockets; *moved* is told when somebody moved the clock."""
        self._moved = moved
        self._venue = venue
        self._faults = faults
        self._connected = connected

    def routes(self) -> list[web.RouteDef]:
        """All routes."""
        return [
            web.get("/sim", self.index),
            web.get("/sim/clock", self.clock),
            web.post("/sim/clock", self.move_clock),
            web.post("/sim/accounts", self.open_account),
            web.get("/sim/ledger", self.ledger),
            web.post("/sim/faults", self.add_fault),
            web.get("/sim/faults", self.list_faults),
            web.delete("/sim/faults", self.clear_faults),
            web.delete("/sim/faults/{id}", self.remove_fault),
        ]

    async def index(self, request: web.Request) -> web.Response:
        """What is here, and how many websockets are open."""
        return web.json_response(
            {
                "name": "Flotilla simulator",
                "symbols": list(self._venue.exchange.symbols),
                "connections": self._connected(),
                "routes": ["/", "/api/v3", "/ws", "/stream", "/ws-api/v3", "/sim", "/sim/accounts", "/sim/ledger",
                           "/sim/faults", "/sim/clock"],
            }
        )  # fmt: skip

    async def clock(self, request: web.Request) -> web.Response:
        """Both clocks in UTC milliseconds."""
        market = self._venue.advance()
        return web.json_response(
            {
                "wall_ms": self._venue.wall(),
                "market_ms": market,
                "speed": self._venue.clock.speed,
                "halted": {symbol: self._venue.is_halted(symbol) for symbol in self._venue.exchange.symbols},
            }
        )

    async def move_clock(self, request: web.Request) -> web.Response:
        """``{advance_ms}``: move a market that stands still (``--speed 0``) on; answers both clocks."""
        try:
            by_ms = Node("the body", "", await _body(request)).fields("advance_ms")["advance_ms"].whole(1, MAX_MOVE_MS)
            if self._venue.clock.speed:
                raise Refused("The market moves by itself: only one that was started with --speed 0 is moved by hand.")
        except (Refused, BadScenario) as error:
            return _refused(error)
        self._venue.move_clock(by_ms)
        self._moved()  # before the market follows: a restart must not be earlier than what was decided on the way
        return await self.clock(request)

    async def open_account(self, request: web.Request) -> web.Response:
        """``{balances: {asset: amount}, name?, …}`` → 201 with the key, and the secret unless a public key came along.
        What else may be given is said in ``scenario/accounts.py``."""
        try:
            opened = read_account(Node("the body", "", await _body(request)), lambda use: _random_key())
            if opened.api_key in self._venue.exchange.accounts:
                raise Refused("api_key is that of another account: give a new one, or none.")
        except (Refused, BadScenario) as error:
            return _refused(error)
        self._venue.open_account(opened)
        answer = {"api_key": opened.api_key}
        if opened.key_kind == HMAC:
            answer["api_secret"] = opened.api_secret
        return web.json_response(answer, status=201)

    async def ledger(self, request: web.Request) -> web.Response:
        """Everything that ever happened in one account or all."""
        self._venue.advance()
        key = request.query.get("api_key")
        if key is not None and key not in self._venue.exchange.accounts:
            return web.json_response({"error": "No account has that api_key."}, status=404)
        return web.json_response(ledger(self._venue.exchange, key))

    async def add_fault(self, request: web.Request) -> web.Response:
        """Switch a fault on; some are done at once and are not listed then."""
        try:
            body = await _body(request)
            fault = self._faults.add(body, self._venue.wall())
        except (Refused, BadFault) as error:
            return _refused(error)
        return web.json_response({"id": fault.id, "faults": self._faults.listed(self._venue.wall())}, status=201)

    async def list_faults(self, request: web.Request) -> web.Response:
        """Faults that are on, with what is left of each; with ``?kinds``, which kinds there are."""
        if "kinds" in request.query:
            return web.json_response({"kinds": kinds_table()})
        return web.json_response({"faults": self._faults.listed(self._venue.wall())})

    async def clear_faults(self, request: web.Request) -> web.Response:
        """Switch all faults off, and undo what they held."""
        self._faults.clear()
        return web.json_response({"faults": []})

    async def remove_fault(self, request: web.Request) -> web.Response:
        """Switch one fault off, and undo what it held."""
        number = request.match_info["id"]
        if not number.isdecimal() or len(number) > 9 or not self._faults.remove(int(number)):
            text = f"No fault with id {number[:20]!r} is on: GET /sim/faults lists those that are."
            return web.json_response({"error": text}, status=404)
        return web.json_response({"faults": self._faults.listed(self._venue.wall())})


async def _body(request: web.Request) -> dict[str, object]:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError, web.RequestPayloadError):
        body = None
    if not isinstance(body, dict):
        raise Refused("The body must be a JSON object.")
    return body


def _refused(error: Exception) -> web.Response:
    return web.json_response({"error": str(error)}, status=422)


def _random_key() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(64))
