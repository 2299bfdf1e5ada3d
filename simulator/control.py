"""The simulator's own routes under ``/sim``: accounts, ledger, faults, clock.

Not part of the exchange's protocol: this is how a test opens an account, what it compares a database with, and where
it breaks things. Errors are ``{"error": sentence}`` with 422, or 404 for an unknown key.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable

from aiohttp import web

from simulator.core.orders import AccountOpened
from simulator.core.rules import ApiError, parse_atoms
from simulator.doors.signing import HMAC, parse_public_key
from simulator.faults import BadFault, Faults, kinds_table
from simulator.venue import Venue
from simulator.witness.ledger import ledger

_ALPHABET = string.ascii_letters + string.digits
_ASSET = re.compile(r"^[A-Z0-9]{1,20}$")
MAX_DEPOSIT_DIGITS = 15


class Refused(Exception):
    """Bad input; the text says what is wrong and what to send."""


class Control:
    """Handlers of ``/sim``."""

    def __init__(self, venue: Venue, faults: Faults, connected: Callable[[], int]) -> None:
        self._venue = venue
        self._faults = faults
        self._connected = connected

    def routes(self) -> list[web.RouteDef]:
        """All routes."""
        return [
            web.get("/sim", self.index),
            web.get("/sim/clock", self.clock),
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

    async def open_account(self, request: web.Request) -> web.Response:
        """``{balances: {asset: amount}, name?, public_key?}`` → 201 with the key, and the secret unless a public key
        (PEM, Ed25519 or RSA) came along."""
        try:
            body = await _body(request, {"balances", "name", "public_key"})
            name = body.get("name", "")
            if not isinstance(name, str) or len(name) > 100:
                raise Refused("name must be a text of at most 100 characters.")
            deposits = _deposits(body.get("balances"))
            pem, kind = _public_key(body.get("public_key"))
        except Refused as error:
            return _refused(error)
        api_key = _random_key()
        api_secret = pem or _random_key()
        self._venue.open_account(AccountOpened(api_key, api_secret, name, 0, 0, deposits, kind))
        if pem is not None:
            return web.json_response({"api_key": api_key}, status=201)
        return web.json_response({"api_key": api_key, "api_secret": api_secret}, status=201)

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
            body = await _body(request, None)
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


async def _body(request: web.Request, known: set[str] | None) -> dict[str, object]:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError, web.RequestPayloadError):
        body = None
    if not isinstance(body, dict):
        raise Refused("The body must be a JSON object.")
    unknown = set(body) - known if known is not None else set()
    if unknown:
        raise Refused(f"Unknown {', '.join(sorted(unknown))}: send {', '.join(sorted(known or ()))}.")
    return body


def _public_key(pem: object) -> tuple[str | None, str]:
    """The key as sent and its kind; ``None`` and HMAC without one."""
    if pem is None:
        return None, HMAC
    if not isinstance(pem, str):
        raise Refused("public_key must be a text in PEM.")
    try:
        return pem, parse_public_key(pem)
    except ValueError as error:
        raise Refused(str(error)) from None


def _deposits(balances: object) -> dict[str, int]:
    if not isinstance(balances, dict) or not balances:
        raise Refused('balances must be an object such as {"USDT": "10000"}.')
    return {_asset(asset): _amount(asset, amount) for asset, amount in balances.items()}


def _asset(asset: str) -> str:
    if not _ASSET.match(asset):
        raise Refused(f"{asset!r} is not an asset: use up to 20 capitals and digits, such as USDT.")
    return asset


def _amount(asset: str, amount: object) -> int:
    try:
        if isinstance(amount, bool) or not isinstance(amount, str | int | float):
            raise ValueError
        text = amount if isinstance(amount, str) else f"{amount:.8f}" if isinstance(amount, float) else str(amount)
        if len(text.partition(".")[0]) > MAX_DEPOSIT_DIGITS:
            raise ValueError
        return parse_atoms(asset, text)
    except (ValueError, ApiError):
        raise Refused(
            f"The amount of {asset} is {amount!r}: send a decimal text of at most {MAX_DEPOSIT_DIGITS} digits and 8 "
            'places, such as "250.5".'
        ) from None


def _refused(error: Exception) -> web.Response:
    return web.json_response({"error": str(error)}, status=422)


def _random_key() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(64))
