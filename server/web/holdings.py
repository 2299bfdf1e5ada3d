"""What a bot holds: its open positions and resting orders in figures, as pages show them before somebody acts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, select

from server.storage.models import TradingOrder
from server.storage.queries import OPEN
from shared.states import OrderState, PositionState, Role
from shared.units import ZERO, exact


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrder:
    """An order that may still be executed at the exchange; *price* is None for market orders."""

    role: str
    client_order_id: str
    price: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """All open positions of one bot. *quantity* in base, the rest in quote.

    *worth* is at the bot's last price, *cost* at the average entry; both None while unknown. *pending* positions have
    no fill yet. *unguarded* counts held positions without a stop price.
    """

    quantity: Decimal = ZERO
    entry_price: Decimal | None = None
    cost: Decimal | None = None
    worth: Decimal | None = None
    unrealised: Decimal | None = None
    active: int = 0
    pending: int = 0
    unguarded: int = 0
    stops: tuple[Decimal, ...] = ()
    orders: tuple[OpenOrder, ...] = ()

    @property
    def positions(self) -> int:
        """Pending and active."""
        return self.active + self.pending

    @property
    def entries(self) -> int:
        """Resting entry orders."""
        return sum(order.role == Role.ENTRY for order in self.orders)


@dataclass(slots=True)
class _Sum:
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    costed: Decimal = ZERO
    active: int = 0
    pending: int = 0
    unguarded: int = 0
    stops: list[Decimal] = field(default_factory=list)
    orders: list[OpenOrder] = field(default_factory=list)


def open_position_rows(connection: Connection, bot_ids: Sequence[int]) -> dict[int, list[Row[Any]]]:
    """The pending and active positions of each bot."""
    wanted = TradingOrder.bot_id.in_(bot_ids), TradingOrder.status.in_(OPEN)
    held: dict[int, list[Row[Any]]] = {bot_id: [] for bot_id in bot_ids}
    for row in connection.execute(select(TradingOrder).where(*wanted).order_by(TradingOrder.id)):
        held[row.bot_id].append(row)
    return held


def holding_of(positions: Iterable[Row[Any]], heartbeat: dict[str, Any] | None) -> Holding:
    """What *positions* (open ones of one bot) add up to, valued at the last price of the bot's *heartbeat*."""
    total = _Sum()
    for row in positions:
        _add(total, row)
    beat = heartbeat or {}
    price = beat.get("last_price")
    worth = total.quantity * exact(float(price)) if price is not None else None
    seen = beat.get("unrealised_pnl")
    return Holding(
        quantity=total.quantity,
        entry_price=total.cost / total.costed if total.costed else None,
        cost=total.cost if total.costed == total.quantity else None,
        worth=worth if total.active else ZERO,
        unrealised=(None if seen is None else Decimal(str(seen))) if total.active else ZERO,
        active=total.active,
        pending=total.pending,
        unguarded=total.unguarded,
        stops=tuple(total.stops),
        orders=tuple(total.orders),
    )


def _add(total: _Sum, row: Row[Any]) -> None:
    document = row.document or {}
    for leg in document.get("legs", []):
        if OrderState(leg.get("status", OrderState.FILLED)).is_final:
            continue
        price = leg.get("price")
        total.orders.append(
            OpenOrder(
                role=str(leg.get("role", "")),
                client_order_id=str(leg.get("client_order_id", "")),
                price=None if price is None else Decimal(str(price)),
            )
        )
    if row.status != PositionState.ACTIVE:
        total.pending += 1
        return
    total.active += 1
    held = row.quantity - Decimal(str(document.get("sold_quantity") or 0))
    total.quantity += held
    if row.entry_price is not None:
        total.cost += held * row.entry_price
        total.costed += held
    stop = document.get("stop_price")
    if stop is None:
        total.unguarded += 1
    else:
        total.stops.append(Decimal(str(stop)))
