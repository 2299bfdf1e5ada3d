"""One call as its handler gets it, and what an endpoint is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from simulator.core.accounts import Account
from simulator.core.rules import SymbolRules
from simulator.doors.limits import Limits
from simulator.doors.params import SIGNING, Params
from simulator.venue import Venue


@dataclass(frozen=True, slots=True)
class Call:
    """One request that passed the door. *customer* is whose key signed it, on signed endpoints."""

    venue: Venue
    limits: Limits
    params: Params
    customer: Account | None = None

    @property
    def api_key(self) -> str:
        """Key of the account that signed."""
        assert self.customer is not None
        return self.customer.api_key

    def rules(self) -> SymbolRules:
        """Rules of the required ``symbol``."""
        symbol = self.params.symbol(self.venue.exchange.symbols)
        assert symbol is not None
        return self.venue.exchange.symbols[symbol]


Answer = object
Handler = Callable[[Call], Answer | Awaitable[Answer]]
Weight = int | Callable[[Params], int]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation. *free* ones cost nothing when they succeed; *trades* needs a key that may trade; *params* of
    ``None`` are not looked at."""

    method: str
    path: str
    ws_method: str
    weight: Weight
    handler: Handler
    params: frozenset[str] | None
    signed: bool = False
    trades: bool = False
    free: bool = False

    def cost(self, params: Params) -> int:
        """Request weight of a call with *params*."""
        return self.weight if isinstance(self.weight, int) else self.weight(params)


def public(method: str, path: str, ws_method: str, weight: Weight, handler: Handler, params: str = "") -> Endpoint:
    """An endpoint for everybody; *path* is below ``/api/v3/``, *params* are names parted by blanks."""
    return Endpoint(method, "/api/v3/" + path, ws_method, weight, handler, frozenset(params.split()))


def signed(method: str, path: str, ws_method: str, weight: Weight, handler: Handler, params: str = "") -> Endpoint:
    """An endpoint that reads for whoever signed."""
    names = frozenset(params.split()) | SIGNING
    return Endpoint(method, "/api/v3/" + path, ws_method, weight, handler, names, signed=True)


def trading(method: str, path: str, ws_method: str, weight: Weight, handler: Handler, params: str = "") -> Endpoint:
    """An endpoint that acts for whoever signed; it costs nothing when it succeeds."""
    names = frozenset(params.split()) | SIGNING
    return Endpoint(method, "/api/v3/" + path, ws_method, weight, handler, names, signed=True, trades=True, free=True)
