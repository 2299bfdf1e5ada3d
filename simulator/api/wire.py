"""The exchange's objects as Binance writes them: order forms, account and account events. Market data is beside.

Pure functions from state to JSON-ready values; field names and order follow the vendor's documents.
"""

from __future__ import annotations

from collections.abc import Iterable

from simulator.core.accounts import Account
from simulator.core.exchange import Ended, Fact, Filled, Order, OrderPlaced, fee_asset
from simulator.core.matching import BUY
from simulator.core.rules import SymbolRules, fixed

Json = dict[str, object]


def ack(rules: SymbolRules, order: Order) -> Json:
    """ACK form of a placement."""
    placed = order.placed
    return {
        "symbol": placed.symbol,
        "orderId": placed.order_id,
        "orderListId": -1,
        "clientOrderId": placed.client_id,
        "transactTime": placed.time_ms,
    }


def result(rules: SymbolRules, order: Order) -> Json:
    """RESULT form of a placement."""
    return {**ack(rules, order), **_state(rules, order), **_times(order)}


def full(rules: SymbolRules, order: Order) -> Json:
    """FULL form of a placement."""
    asset = fee_asset(rules, order.placed.side)
    fills = [
        {
            "price": rules.price_text(fill.price),
            "qty": rules.qty_text(fill.qty),
            "commission": fixed(fill.fee),
            "commissionAsset": asset,
            "tradeId": fill.trade_id,
        }
        for fill in order.fills
    ]
    return {**result(rules, order), "fills": fills}


def query(rules: SymbolRules, order: Order) -> Json:
    """Form of GET order, openOrders, allOrders."""
    placed = order.placed
    return {
        "symbol": placed.symbol,
        "orderId": placed.order_id,
        "orderListId": -1,
        "clientOrderId": placed.client_id,
        **_state(rules, order),
        "stopPrice": fixed(0),
        "icebergQty": fixed(0),
        "time": placed.time_ms,
        "updateTime": order.updated_ms,
        "isWorking": True,
        **_times(order),
    }


def canceled(rules: SymbolRules, order: Order, cancel_id: str) -> Json:
    """Form of a cancel; ``clientOrderId`` names the cancel request."""
    placed = order.placed
    return {
        "symbol": placed.symbol,
        "origClientOrderId": placed.client_id,
        "orderId": placed.order_id,
        "orderListId": -1,
        "clientOrderId": cancel_id,
        "transactTime": order.updated_ms,
        **_state(rules, order),
        "selfTradePreventionMode": placed.stp,
    }


def my_trade(rules: SymbolRules, order: Order, fill: Filled) -> Json:
    """A row of myTrades."""
    return {
        "symbol": rules.symbol,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "orderListId": -1,
        "price": rules.price_text(fill.price),
        "qty": rules.qty_text(fill.qty),
        "quoteQty": fixed(rules.cost(fill.price, fill.qty)),
        "commission": fixed(fill.fee),
        "commissionAsset": fee_asset(rules, order.placed.side),
        "time": fill.time_ms,
        "isBuyer": order.placed.side == BUY,
        "isMaker": fill.is_maker,
        "isBestMatch": True,
    }


def account(customer: Account, omit_zero: bool) -> Json:
    """GET account."""
    balances = [
        {"asset": asset, "free": fixed(free), "locked": fixed(locked)}
        for asset, (free, locked) in sorted(customer.balances.items())
        if free or locked or not omit_zero
    ]
    rate = "0.00100000"
    return {
        "makerCommission": 10,
        "takerCommission": 10,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": rate, "taker": rate, "buyer": fixed(0), "seller": fixed(0)},
        "canTrade": True,
        "canWithdraw": False,
        "canDeposit": False,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": customer.updated_ms,
        "accountType": "SPOT",
        "balances": balances,
        "permissions": ["SPOT"],
        "uid": customer.uid,
    }


def execution_report(rules: SymbolRules, order: Order, fact: Fact) -> Json:
    """The account's event for one fact about *order*, as the order stands right after it."""
    placed = order.placed
    fill = fact if isinstance(fact, Filled) else None
    canceled = isinstance(fact, Ended) and fact.status == "CANCELED"
    report: Json = {
        "e": "executionReport",
        "E": order.updated_ms,
        "s": placed.symbol,
        "c": fact.cancel_id if isinstance(fact, Ended) and canceled else placed.client_id,
        "S": placed.side,
        "o": placed.type,
        "f": placed.tif,
        "q": rules.qty_text(placed.qty),
        "p": rules.price_text(placed.price),
        "P": fixed(0),
        "F": fixed(0),
        "g": -1,
        "C": placed.client_id if canceled else "",
        "x": "TRADE" if fill else "NEW" if isinstance(fact, OrderPlaced) else order.status,
        "X": order.status,
        "r": "NONE",
        "i": placed.order_id,
        "l": rules.qty_text(fill.qty if fill else 0),
        "z": rules.qty_text(order.filled),
        "L": rules.price_text(fill.price if fill else 0),
        "n": fixed(fill.fee) if fill else "0",
        "N": fee_asset(rules, placed.side) if fill else None,
        "T": order.updated_ms,
        "t": fill.trade_id if fill else -1,
        "I": placed.order_id * 10_000 + 2 * len(order.fills) + (isinstance(fact, Ended)),
        "w": order.is_open and placed.type != "MARKET",
        "m": bool(fill and fill.is_maker),
        "M": False,
        "O": placed.time_ms,
        "Z": fixed(order.spent),
        "Y": fixed(rules.cost(fill.price, fill.qty) if fill else 0),
        "Q": fixed(placed.quote_qty),
        "W": placed.time_ms,
        "V": placed.stp,
    }
    if isinstance(fact, Ended) and not canceled:
        report["eR"] = expiry_reason(order)
    return report


def account_position(customer: Account, assets: Iterable[str], time_ms: int) -> Json:
    """outboundAccountPosition: absolute balances of the touched assets."""
    return {
        "e": "outboundAccountPosition",
        "E": time_ms,
        "u": time_ms,
        "B": [{"a": a, "f": fixed(customer.free(a)), "l": fixed(customer.locked(a))} for a in sorted(assets)],
    }


def expiry_reason(order: Order) -> str:
    """Why an order expired."""
    return "UNFILLED_FOK_ORDER_EXPIRED" if order.placed.tif == "FOK" else "UNFILLED_IOC_QUANTITY_EXPIRED"


def _state(rules: SymbolRules, order: Order) -> Json:
    placed = order.placed
    state: Json = {
        "price": rules.price_text(placed.price),
        "origQty": rules.qty_text(placed.qty),
        "executedQty": rules.qty_text(order.filled),
        "origQuoteOrderQty": fixed(placed.quote_qty),
        "cummulativeQuoteQty": fixed(order.spent),
        "status": order.status,
        "timeInForce": placed.tif,
        "type": placed.type,
        "side": placed.side,
    }
    if order.status == "EXPIRED":
        state["expiryReason"] = expiry_reason(order)
    return state


def _times(order: Order) -> Json:
    return {"workingTime": order.placed.time_ms, "selfTradePreventionMode": order.placed.stp}
