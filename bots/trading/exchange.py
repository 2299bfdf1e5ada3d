"""The port to an exchange: what a bot asks of it, and the four ways in which that can fail."""

from __future__ import annotations

from typing import Protocol

from bots.core.candles import Candle
from bots.core.messages import AccountSeen, OrderReport, PlaceOrder, Refusal
from shared.symbols import SymbolRules


class Denied(Exception):
    """The exchange refused a request; nothing happened."""

    def __init__(self, kind: Refusal, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class KeysRefused(Exception):
    """The API key is wrong, revoked, or lacks a permission: retrying is no use."""


class OutcomeUnknown(Exception):
    """A change was sent and no answer came; only asking tells whether it happened."""


class Unreachable(Exception):
    """A read failed for now. It says nothing about any order."""


class Exchange(Protocol):
    """One account at one exchange."""

    async def rules(self, symbol: str) -> SymbolRules | None:
        """The limits of *symbol*; None if it is not listed. Raises `KeysRefused`, `Unreachable`, as every read does."""

    async def account(self, rules: SymbolRules) -> AccountSeen:
        """The balances of the symbol's assets. Raises `KeysRefused`, `Unreachable`."""

    async def place(self, order: PlaceOrder) -> OrderReport:
        """Send *order* once. Raises `Denied`, `OutcomeUnknown`."""

    async def cancel(self, client_order_id: str, symbol: str) -> None:
        """Ask to cancel; whether it worked is learned by `query`. Never raises for an order that has ended.

        Raises `KeysRefused`, `Unreachable`.
        """

    async def query(self, client_order_id: str, symbol: str) -> OrderReport | None:
        """The order with all its executions; None if the exchange knows no such order. Raises `Unreachable`."""

    async def open_orders(self, symbol: str) -> list[str]:
        """Client ids of the account's open orders. Raises `Unreachable`."""

    async def candles(self, symbol: str, interval: str, start_ms: int | None, end_ms: int, limit: int) -> list[Candle]:
        """Closed candles, oldest first, that open in [*start_ms*, *end_ms*); without start the newest *limit* of them.

        Raises `Unreachable`.
        """

    async def market_time_ms(self, symbol: str) -> int:
        """When the newest candle of *symbol* opened (market time). Raises `Unreachable`."""

    async def last_price(self, symbol: str) -> float:
        """The price of the last trade. Raises `Unreachable`."""

    async def close(self) -> None:
        """Give the connections back."""
