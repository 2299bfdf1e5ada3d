"""What a position is made of, and what a bot counts over all of them: the values inside events."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated

from pydantic import PlainSerializer

from shared.states import OrderState, OrderType, Role, Side
from shared.units import plain

Amount = Annotated[Decimal, PlainSerializer(plain, return_type=str)]
"""A price, quantity or sum of money: exact, and a string without exponent in JSON."""


@dataclass(slots=True, kw_only=True)
class Leg:
    """One order of a position, as last known. Quantities in base, `…_quote` in quote, times in market ms.

    *executed* is what the exchange states, *booked* what the fills seen so far add up to; they agree once settled.
    """

    client_order_id: str
    role: Role
    side: Side
    order_type: OrderType
    status: OrderState
    quantity: Amount
    price: Amount | None = None
    exchange_order_id: int | None = None
    executed_quantity: Amount = Decimal(0)
    executed_quote: Amount = Decimal(0)
    created_ms: int = 0
    updated_ms: int = 0
    cancel_requested_ms: int | None = None
    reason: str | None = None
    booked_quantity: Amount = Decimal(0)
    booked_quote: Amount = Decimal(0)
    trade_ids: list[int] = field(default_factory=list)

    @property
    def is_settled(self) -> bool:
        """Final, and every execution is booked."""
        return self.status.is_final and self.booked_quantity == self.executed_quantity


@dataclass(slots=True, kw_only=True)
class Terms:
    """The exit and entry terms a position was opened with; later config changes do not touch them."""

    profit_target_pct: Amount | None
    stop_loss_pct: Amount | None
    holding_time: int | None
    take_profit_order: str
    maker_order_timeout: int
    on_entry_timeout: str


@dataclass(slots=True, kw_only=True)
class Counters:
    """Running totals of a bot over all its runs; money in quote. *day* is the UTC day (market time) of `day_…`."""

    trades: int = 0
    wins: int = 0
    losses: int = 0
    pnl: Amount = Decimal(0)
    fees: Amount = Decimal(0)
    dust_quantity: Amount = Decimal(0)
    dust_cost: Amount = Decimal(0)
    day: int = 0
    day_entries: int = 0
    day_pnl: Amount = Decimal(0)
    last_closed_ms: int | None = None
