"""The life of each order: its fills add up to it, its changes tell the same story, and its end is its end.

An order of which self-trade prevention took a part is filled when the rest is: nothing of it is left then. Expects
the caller's exact decimal context.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from simulator.witness.money import ZERO, text
from simulator.witness.reading import ENDED, Account, Fill, Ledger, Order, OrderList

NO_LIST = -1


def life_violations(ledger: Ledger) -> Iterator[str]:
    """Sentences about the orders and order lists of every account."""
    ids = Counter(order.order_id for account in ledger.accounts for order in account.orders)
    for account in ledger.accounts:
        fills: dict[int, list[Fill]] = {}
        for fill in account.fills:
            fills.setdefault(fill.order_id, []).append(fill)
        for order in account.orders:
            where = f"Account {account.label}, order {order.order_id}"
            if ids[order.order_id] > 1:
                yield f"{where}: {ids[order.order_id]} orders have this id."
            own = fills.get(order.order_id, [])
            yield from (f"{where}: {fault}" for fault in [*_sums(order, own), *_state(order), *_story(order, own)])
        yield from _lists(account)


def _sums(order: Order, fills: list[Fill]) -> Iterator[str]:
    qty, quote = sum((f.qty for f in fills), ZERO), sum((f.price * f.qty for f in fills), ZERO)
    if order.filled_qty != qty:
        yield f"filled_qty is {text(order.filled_qty)}, but its fills add up to {text(qty)}."
    if order.filled_quote != quote:
        yield f"filled_quote is {text(order.filled_quote)}, but price × quantity of its fills is {text(quote)}."
    if order.filled_qty + order.prevented_qty > order.qty:
        yield (
            f"{text(order.filled_qty)} filled + {text(order.prevented_qty)} prevented "
            f"is more than its quantity {text(order.qty)}."
        )
    if order.quote_order_qty and order.filled_quote > order.quote_order_qty:
        yield f"it traded for {text(order.filled_quote)}, more than its quote_order_qty {text(order.quote_order_qty)}."
    for fill in fills:
        beyond = fill.price > order.price if order.side == "BUY" else fill.price < order.price
        if order.price and beyond:
            yield (
                f"trade {fill.trade_id} is at {text(fill.price)}, beyond its "
                f"{order.side.lower()} limit {text(order.price)}."
            )


def _state(order: Order) -> Iterator[str]:
    if order.qty <= 0 or min(order.filled_qty, order.prevented_qty, order.locked, order.price) < 0:
        yield (
            f"quantity {text(order.qty)} must be above 0, and filled {text(order.filled_qty)}, prevented "
            f"{text(order.prevented_qty)}, locked {text(order.locked)} and price {text(order.price)} not below."
        )
    if order.base == order.quote or order.locked_asset not in (order.base, order.quote):
        yield f"{order.symbol} of {order.base} and {order.quote} cannot lock {order.locked_asset}."
    left = order.qty - order.filled_qty - order.prevented_qty
    is_filled = order.filled_qty == order.qty or (left == 0 and order.filled_qty > 0 and order.status == "FILLED")
    if (order.status == "FILLED") != is_filled or (order.status == "CANCELED" and left == 0):
        yield (
            f"status is {order.status} with {text(order.filled_qty)} filled and {text(order.prevented_qty)} prevented "
            f"of {text(order.qty)}."
        )
    if order.is_open and (order.status == "NEW") != (order.filled_qty == 0):
        yield f"status is {order.status}, but {text(order.filled_qty)} is filled."
    if not order.is_open and order.locked:
        yield f"it ended as {order.status}, but still locks {text(order.locked)} {order.locked_asset}."


def _story(order: Order, fills: list[Fill]) -> Iterator[str]:
    """The changes against the order and its fills."""
    changes = order.changes
    if [change.what for change in changes[:1]] != ["NEW"] or sum(change.what == "NEW" for change in changes) != 1:
        yield "its changes must begin with NEW, once."
    by_trade = {fill.trade_id: fill for fill in fills}
    told: Counter[int] = Counter()
    filled, end = ZERO, None
    before = changes[0].time if changes else 0
    for number, change in enumerate(changes, 1):
        if change.time < before:
            yield f"change {number} ({change.what}) at {change.time} lies before the one above it at {before}."
        before = change.time
        if end is not None:
            yield f"change {number} ({change.what}) comes after its end as {end.status} at {end.time}."
        if change.what in ENDED and change.status != change.what:
            yield f"change {number} is {change.what}, but leaves the status {change.status}."
        fill = by_trade.get(change.trade_id) if change.trade_id is not None else None
        if (change.what == "TRADE") != (change.trade_id is not None):
            yield f"change {number} ({change.what}) must {'' if change.what == 'TRADE' else 'not '}name a trade."
        elif change.trade_id is not None and fill is None:
            yield f"change {number} names trade {change.trade_id}, of which it has no fill."
        elif fill is not None:
            told[fill.trade_id] += 1
            filled += fill.qty
            if fill.time != change.time:
                yield f"trade {fill.trade_id} is at {fill.time}, but its change at {change.time}."
        if change.filled_qty != filled:
            yield (
                f"change {number} ({change.what}) says {text(change.filled_qty)} filled, "
                f"but the fills so far add up to {text(filled)}."
            )
        if end is None and change.status in ENDED:
            end = change
    for fill in fills:
        if told[fill.trade_id] != 1:
            yield f"its changes tell of trade {fill.trade_id} {told[fill.trade_id]} times, not once."
        if end is not None and fill.time > end.time:
            yield f"trade {fill.trade_id} at {fill.time} comes after its end as {end.status} at {end.time}."
    if changes and changes[-1].status != order.status:
        yield f"status is {order.status}, but its last change leaves {changes[-1].status}."
    prevented = sum((change.prevented_qty for change in changes), Decimal(0))
    if prevented != order.prevented_qty:
        yield f"prevented_qty is {text(order.prevented_qty)}, but its changes add up to {text(prevented)}."


def _lists(account: Account) -> Iterator[str]:
    orders = {order.order_id: order for order in account.orders}
    lists = {group.order_list_id: group for group in account.lists}
    for order in account.orders:
        if order.order_list_id != NO_LIST and order.order_id not in _members(lists.get(order.order_list_id)):
            yield f"Account {account.label}, order {order.order_id}: list {order.order_list_id} does not hold it."
    for group in account.lists:
        where = f"Account {account.label}, list {group.order_list_id}"
        members = [orders[number] for number in group.order_ids if number in orders]
        strangers = [n for n in group.order_ids if n not in orders or orders[n].order_list_id != group.order_list_id]
        if strangers:
            yield f"{where}: order {strangers[0]} does not belong to it."
        is_open = any(order.is_open for order in members)
        if is_open != (group.status == "EXECUTING"):
            yield f"{where}: status is {group.status}, but {'an' if is_open else 'no'} order of it is open."
        if group.locked < 0 or (group.locked and group.status == "ALL_DONE"):
            yield f"{where}: it is {group.status}, but locks {text(group.locked)} {group.locked_asset}."
        filled = [str(order.order_id) for order in members if order.filled_qty]
        if len(filled) > 1:
            yield f"{where}: orders {' and '.join(filled)} are both filled, though one cancels the other."


def _members(group: OrderList | None) -> tuple[int, ...]:
    return group.order_ids if group is not None else ()
