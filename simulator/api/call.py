"""One request that passed the door, as handlers see it.

A handler takes a ``Call`` and returns JSON, or raises ``ApiError``. Leaves out how the request came and who may send
it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from simulator.core.accounts import Account
from simulator.core.rules import SymbolRules
from simulator.doors.limits import Limits
from simulator.doors.params import Params
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
