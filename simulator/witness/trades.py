"""The two sides of each trade: every fill belongs to an order, and whoever traded with a customer was a customer.

Expects the caller's exact decimal context.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from simulator.witness.money import text
from simulator.witness.reading import Account, Fill, Ledger, Order

Side = tuple[Account, Fill]


def trade_violations(ledger: Ledger) -> Iterator[str]:
    """Sentences about fills, then about trade ids."""
    pairs: dict[str, Order] = {}
    trades: dict[int, list[Side]] = {}
    for account in ledger.accounts:
        orders = {order.order_id: order for order in account.orders}
        for order in account.orders:
            first = pairs.setdefault(order.symbol, order)
            if (order.base, order.quote) != (first.base, first.quote):
                yield (
                    f"Account {account.label}, order {order.order_id}: {order.symbol} is {order.base} for "
                    f"{order.quote}, but {first.base} for {first.quote} in order {first.order_id}."
                )
        for fill in account.fills:
            trades.setdefault(fill.trade_id, []).append((account, fill))
            where = f"Account {account.label}, trade {fill.trade_id} of order {fill.order_id}"
            yield from (f"{where}: {fault}" for fault in _fill(fill, orders.get(fill.order_id)))
    for number, sides in trades.items():
        yield from (f"Trade {number}: {fault}" for fault in _trade(sides))


def _fill(fill: Fill, order: Order | None) -> Iterator[str]:
    if fill.price <= 0 or fill.qty <= 0 or fill.fee < 0:
        yield (
            f"price {text(fill.price)} and quantity {text(fill.qty)} must be above 0, and the fee "
            f"{text(fill.fee)} not below."
        )
    if fill.quote_qty != fill.price * fill.qty:
        yield (
            f"quote_qty is {text(fill.quote_qty)}, but {text(fill.price)} × {text(fill.qty)} "
            f"is {text(fill.price * fill.qty)}."
        )
    if order is None:
        yield "the account has no such order."
        return
    for name in ("symbol", "side", "client_order_id"):
        if getattr(fill, name) != getattr(order, name):
            yield f"{name} is {getattr(fill, name)}, but {getattr(order, name)} in the order."


def _trade(sides: list[Side]) -> Iterator[str]:
    fills = [fill for _, fill in sides]
    orders = " and ".join(str(fill.order_id) for fill in fills)
    if len(fills) == 1:
        if fills[0].against:
            yield (
                f"order {fills[0].order_id} traded {text(fills[0].qty)} against order {fills[0].against}, "
                "which has no fill of it."
            )
        return
    if len(fills) > 2 or not all(fill.against for fill in fills):
        yield (
            f"{len(fills)} fills have this id (orders {orders}): it must be one against the market, or two against "
            "one another."
        )
        return
    one, other = fills
    if (one.against, other.against) != (other.order_id, one.order_id):
        yield f"orders {orders} traded, but name {one.against} and {other.against} as the order they traded with."
    if one.side == other.side:
        yield f"orders {orders} are both on the {one.side.lower()} side."
    if one.is_maker == other.is_maker:
        yield f"orders {orders} are both {'maker' if one.is_maker else 'taker'}."
    for name in ("symbol", "price", "qty", "time"):
        if getattr(one, name) != getattr(other, name):
            yield (
                f"{name} is {_shown(getattr(one, name))} for order {one.order_id}, "
                f"but {_shown(getattr(other, name))} for order {other.order_id}."
            )


def _shown(value: object) -> str:
    return text(value) if isinstance(value, Decimal) else str(value)
