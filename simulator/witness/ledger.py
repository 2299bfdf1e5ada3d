"""Everything the exchange ever saw, as JSON-ready values: accounts, orders with each change, fills, balances.

What a test compares a database with, and what ``check.py`` proves conservation from. Amounts are decimal texts with 8
places, times UTC milliseconds of market time. Equal runs give equal ledgers to the byte.
"""

from __future__ import annotations

from simulator.core.accounts import Account
from simulator.core.exchange import Exchange, paid_asset, received_asset
from simulator.core.orders import Filled, Order, OrderList
from simulator.core.rules import SymbolRules, fixed

Json = dict[str, object]


def ledger(exchange: Exchange, api_key: str | None = None) -> Json:
    """The ledger of one account, or of all. Raises ``KeyError`` for an unknown *api_key*."""
    chosen = list(exchange.accounts.values()) if api_key is None else [exchange.accounts[api_key]]
    return {
        "accounts": [_statement(exchange, account) for account in chosen],
        "exchange": {"fees": _amounts(exchange.fees), "market": _amounts(exchange.market)},
    }


def _statement(exchange: Exchange, account: Account) -> Json:
    orders = exchange.by_account[account.api_key]
    fills = [(order, fill) for order in orders for fill in order.fills]
    fills.sort(key=lambda pair: (pair[1].trade_id, pair[1].order_id))
    return {
        "api_key": account.api_key,
        "name": account.name,
        "deposits": _amounts(account.deposits),
        "transfers": [
            {"asset": t.asset, "amount": fixed(t.atoms), "time": t.time_ms} for t in exchange.transfers[account.api_key]
        ],
        "balances": {
            asset: {"free": fixed(free), "locked": fixed(locked)}
            for asset, (free, locked) in sorted(account.balances.items())
        },
        "orders": [_order(exchange.symbols[order.placed.symbol], order) for order in orders],
        "lists": [_list(exchange, found) for found in exchange.lists_by_account[account.api_key]],
        "fills": [_fill(exchange.symbols[order.placed.symbol], order, fill) for order, fill in fills],
    }


def _order(rules: SymbolRules, order: Order) -> Json:
    placed = order.placed
    return {
        "order_id": placed.order_id,
        "client_order_id": placed.client_id,
        "order_list_id": placed.list_id,
        "symbol": placed.symbol,
        "base": rules.base,
        "quote": rules.quote,
        "side": placed.side,
        "type": placed.type,
        "time_in_force": placed.tif,
        "status": order.status,
        "price": rules.price_text(placed.price),
        "stop_price": rules.price_text(placed.stop),
        "qty": rules.qty_text(placed.qty),
        "quote_order_qty": fixed(placed.quote_qty),
        "filled_qty": rules.qty_text(order.filled),
        "filled_quote": fixed(order.spent),
        "prevented_qty": rules.qty_text(order.prevented),
        "locked": fixed(order.locked),
        "locked_asset": paid_asset(rules, placed.side),
        "time": placed.time_ms,
        "update_time": order.updated_ms,
        "reason": order.ended.reason if order.ended is not None else "",
        "changes": _changes(rules, order),
    }


def _changes(rules: SymbolRules, order: Order) -> list[Json]:
    """Every change of an order's state, in order."""
    placed = order.placed
    changes: list[Json] = [_change(rules, "NEW", placed.time_ms, "NEW", 0)]
    if order.triggered_ms:
        changes.append(_change(rules, "TRIGGERED", order.triggered_ms, "NEW", 0))
    filled = prevented = 0
    preventions = list(order.preventions)
    for number in range(len(order.fills) + 1):
        while preventions and preventions[0][0] == number:
            taken = preventions.pop(0)[1]
            prevented += taken.qty
            change = _change(rules, "PREVENTED", taken.time_ms, "PARTIALLY_FILLED" if filled else "NEW", filled)
            changes.append({**change, "prevented_qty": rules.qty_text(taken.qty)})
        if number < len(order.fills):
            fill = order.fills[number]
            filled += fill.qty
            status = "PARTIALLY_FILLED" if filled + prevented < placed.qty else "FILLED"
            changes.append({**_change(rules, "TRADE", fill.time_ms, status, filled), "trade_id": fill.trade_id})
    if order.ended is not None:
        changes.append(_change(rules, order.ended.status, order.ended.time_ms, order.ended.status, filled))
    return changes


def _change(rules: SymbolRules, what: str, time_ms: int, status: str, filled: int) -> Json:
    return {"what": what, "time": time_ms, "status": status, "filled_qty": rules.qty_text(filled)}


def _list(exchange: Exchange, found: OrderList) -> Json:
    opened = found.opened
    return {
        "order_list_id": opened.list_id,
        "client_order_id": opened.client_id,
        "symbol": opened.symbol,
        "contingency": opened.contingency,
        "status": "ALL_DONE" if found.is_done else "EXECUTING",
        "order_ids": list(opened.order_ids),
        "locked": fixed(found.locked),
        "locked_asset": paid_asset(exchange.symbols[opened.symbol], opened.side),
        "time": opened.time_ms,
    }


def _fill(rules: SymbolRules, order: Order, fill: Filled) -> Json:
    return {
        "trade_id": fill.trade_id,
        "order_id": fill.order_id,
        "client_order_id": order.placed.client_id,
        "symbol": order.placed.symbol,
        "side": order.placed.side,
        "price": rules.price_text(fill.price),
        "qty": rules.qty_text(fill.qty),
        "quote_qty": fixed(rules.cost(fill.price, fill.qty)),
        "fee": fixed(fill.fee),
        "fee_asset": fill.fee_asset or received_asset(rules, order.placed.side),
        "is_maker": fill.is_maker,
        "against": fill.against,
        "time": fill.time_ms,
    }


def _amounts(atoms: object) -> Json:
    assert isinstance(atoms, dict)
    return {asset: fixed(amount) for asset, amount in sorted(atoms.items())}
