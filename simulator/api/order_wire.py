"""Orders, order lists, executions and accounts as Binance writes them, in answers and in account events.

Pure functions from state to JSON-ready values; field names and order follow the vendor's documents.
"""

from __future__ import annotations

from collections.abc import Iterable

from simulator.core.accounts import Account
from simulator.core.exchange import received_asset
from simulator.core.matching import BUY
from simulator.core.orders import Ended, Filled, Order, OrderFact, OrderList, OrderPlaced, Prevented, Triggered
from simulator.core.rules import PPM, SymbolRules, fixed

Json = dict[str, object]
ZERO = fixed(0)


# answers


def ack(rules: SymbolRules, order: Order) -> Json:
    """ACK form of a placement."""
    placed = order.placed
    return {
        "symbol": placed.symbol,
        "orderId": placed.order_id,
        "orderListId": placed.list_id,
        "clientOrderId": placed.client_id,
        "transactTime": placed.time_ms,
    }


def result(rules: SymbolRules, order: Order) -> Json:
    """RESULT form of a placement."""
    return {**ack(rules, order), **_state(rules, order), **_conditions(rules, order), **_end(order)}


def full(rules: SymbolRules, order: Order) -> Json:
    """FULL form of a placement."""
    fills = [
        {
            "price": rules.price_text(fill.price),
            "qty": rules.qty_text(fill.qty),
            "commission": fixed(fill.fee),
            "commissionAsset": fee_asset(rules, order, fill),
            "tradeId": fill.trade_id,
        }
        for fill in order.fills
    ]
    return {**result(rules, order), "fills": fills}


FORMS = {"ACK": ack, "RESULT": result, "FULL": full}


def query(rules: SymbolRules, order: Order) -> Json:
    """Form of GET order, openOrders, allOrders."""
    placed = order.placed
    return {
        "symbol": placed.symbol,
        "orderId": placed.order_id,
        "orderListId": placed.list_id,
        "clientOrderId": placed.client_id,
        **_state(rules, order),
        "stopPrice": rules.price_text(placed.stop),
        "icebergQty": ZERO,
        "time": placed.time_ms,
        "updateTime": order.updated_ms,
        "isWorking": order.working_ms >= 0,
        "workingTime": order.working_ms,
        "origQuoteOrderQty": fixed(placed.quote_qty),
        "selfTradePreventionMode": placed.stp,
        **_prevention(rules, order),
        **_end(order),
    }


def canceled(rules: SymbolRules, order: Order) -> Json:
    """Form of a cancel; ``clientOrderId`` names the cancel request."""
    placed = order.placed
    state = _state(rules, order)
    return {
        "symbol": placed.symbol,
        "origClientOrderId": placed.client_id,
        "orderId": placed.order_id,
        "orderListId": placed.list_id,
        "clientOrderId": order.ended.cancel_id if order.ended else "",
        "transactTime": order.updated_ms,
        **state,
        **({"stopPrice": rules.price_text(placed.stop)} if placed.stop else {}),
        "selfTradePreventionMode": placed.stp,
        **_prevention(rules, order),
    }


def order_list(found: OrderList, legs: Iterable[Order], reports: list[Json] | None = None) -> Json:
    """An order list; *reports* are those of its orders, in answers to changes."""
    opened = found.opened
    status = ("ALL_DONE", "ALL_DONE") if found.is_done else ("EXEC_STARTED", "EXECUTING")
    answer: Json = {
        "orderListId": opened.list_id,
        "contingencyType": opened.contingency,
        "listStatusType": status[0],
        "listOrderStatus": status[1],
        "listClientOrderId": opened.client_id,
        "transactionTime": found.updated_ms if found.is_done else opened.time_ms,
        "symbol": opened.symbol,
        "orders": [_member(leg) for leg in legs],
    }
    return answer if reports is None else {**answer, "orderReports": reports}


def my_trade(rules: SymbolRules, order: Order, fill: Filled) -> Json:
    """Row of myTrades."""
    return {
        "symbol": rules.symbol,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "orderListId": order.placed.list_id,
        "price": rules.price_text(fill.price),
        "qty": rules.qty_text(fill.qty),
        "quoteQty": fixed(rules.cost(fill.price, fill.qty)),
        "commission": fixed(fill.fee),
        "commissionAsset": fee_asset(rules, order, fill),
        "time": fill.time_ms,
        "isBuyer": order.placed.side == BUY,
        "isMaker": fill.is_maker,
        "isBestMatch": True,
    }


def prevented_match(rules: SymbolRules, taker: Order, maker: Order, prevented: Prevented) -> Json:
    """Row of myPreventedMatches, which tells what was taken off the one, the other, or both."""
    lost = {
        name: rules.qty_text(fact.qty)
        for name, order in (("takerPreventedQuantity", taker), ("makerPreventedQuantity", maker))
        for _, fact in order.preventions
        if fact.match_id == prevented.match_id
    }
    return {
        "symbol": rules.symbol,
        "preventedMatchId": prevented.match_id,
        "takerOrderId": taker.placed.order_id,
        "makerSymbol": rules.symbol,
        "makerOrderId": maker.placed.order_id,
        "tradeGroupId": -1,
        "selfTradePreventionMode": taker.placed.stp,
        "price": rules.price_text(prevented.price),
        **lost,
        "transactTime": prevented.time_ms,
    }


def account(customer: Account, omit_zero: bool) -> Json:
    """GET account. Fees are those of USDT pairs unless the account has its own."""
    balances = [
        {"asset": asset, "free": fixed(free), "locked": fixed(locked)}
        for asset, (free, locked) in sorted(customer.balances.items())
        if free or locked or not omit_zero
    ]
    maker, taker = (ppm if ppm >= 0 else 1000 for ppm in (customer.maker_ppm, customer.taker_ppm))
    return {
        "makerCommission": maker // 100,
        "takerCommission": taker // 100,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": rate(maker), "taker": rate(taker), "buyer": ZERO, "seller": ZERO},
        "canTrade": customer.can_trade,
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


def rate(ppm: int) -> str:
    """A fee as a fraction, padded to 8 places."""
    return fixed(ppm * (10**8 // PPM))


def fee_asset(rules: SymbolRules, order: Order, fill: Filled) -> str:
    """What a fee was paid in."""
    return fill.fee_asset or received_asset(rules, order.placed.side)


# account events


def execution_report(rules: SymbolRules, order: Order, fact: OrderFact) -> Json:
    """The account's event for one fact about *order*, as the order stands right after it."""
    placed = order.placed
    fill = fact if isinstance(fact, Filled) else None
    ended = fact if isinstance(fact, Ended) else None
    is_cancel = ended is not None and ended.status == "CANCELED"
    report: Json = {
        "e": "executionReport",
        "E": order.updated_ms,
        "s": placed.symbol,
        "c": ended.cancel_id if ended is not None and is_cancel else placed.client_id,
        "S": placed.side,
        "o": placed.type,
        "f": placed.tif,
        "q": rules.qty_text(placed.qty),
        "p": rules.price_text(placed.price),
        "P": rules.price_text(placed.stop),
        "F": ZERO,
        "g": placed.list_id,
        "C": placed.client_id if is_cancel else "",
        "x": _execution_type(fact, order),
        "X": order.status,
        "r": "NONE",
        "i": placed.order_id,
        "l": rules.qty_text(fill.qty if fill else 0),
        "z": rules.qty_text(order.filled),
        "L": rules.price_text(fill.price if fill else 0),
        "n": fixed(fill.fee) if fill else "0",
        "N": fee_asset(rules, order, fill) if fill else None,
        "T": order.updated_ms,
        "t": fill.trade_id if fill else -1,
        "I": placed.order_id * 10_000 + 2 * (len(order.fills) + len(order.preventions)) + (ended is not None),
        "w": order.is_open and placed.type != "MARKET" and not order.is_waiting,
        "m": bool(fill and fill.is_maker),
        "M": False,
        "O": placed.time_ms,
        "Z": fixed(order.spent),
        "Y": fixed(rules.cost(fill.price, fill.qty) if fill else 0),
        "Q": fixed(placed.quote_qty),
    }
    if order.working_ms >= 0:
        report["W"] = order.working_ms
    report["V"] = placed.stp
    prevented = _prevented_by(fact, order)
    if prevented is not None:
        report |= {"v": prevented.match_id, "A": rules.qty_text(order.prevented), "B": rules.qty_text(prevented.qty),
                   "u": -1, "U": prevented.against, "Cs": placed.symbol, "pl": rules.qty_text(prevented.met),
                   "pL": rules.price_text(prevented.price),
                   "pY": fixed(rules.cost(prevented.price, prevented.met))}  # fmt: skip
    if ended is not None and ended.reason:
        report["eR"] = ended.reason
    return report


def account_position(customer: Account, assets: Iterable[str], time_ms: int) -> Json:
    """outboundAccountPosition: absolute balances of the touched assets."""
    return {
        "e": "outboundAccountPosition",
        "E": time_ms,
        "u": time_ms,
        "B": [{"a": a, "f": fixed(customer.free(a)), "l": fixed(customer.locked(a))} for a in sorted(assets)],
    }


def balance_update(asset: str, atoms: int, time_ms: int) -> Json:
    """balanceUpdate: a balance was changed from outside by *atoms*, signed."""
    return {"e": "balanceUpdate", "E": time_ms, "a": asset, "d": fixed(atoms), "T": time_ms}


def list_status(found: OrderList, legs: Iterable[Order]) -> Json:
    """listStatus: an order list was opened or is done."""
    opened = found.opened
    time_ms = found.updated_ms
    return {
        "e": "listStatus",
        "E": time_ms,
        "s": opened.symbol,
        "g": opened.list_id,
        "c": opened.contingency,
        "l": "ALL_DONE" if found.is_done else "EXEC_STARTED",
        "L": "ALL_DONE" if found.is_done else "EXECUTING",
        "r": "NONE",
        "C": opened.client_id,
        "T": time_ms,
        "O": [{"s": leg.placed.symbol, "i": leg.placed.order_id, "c": leg.placed.client_id} for leg in legs],
    }


def is_told(fact: OrderFact) -> bool:
    """Has *fact* a report of its own? A prevention that ends its order is told with the end."""
    return not (isinstance(fact, Prevented) and fact.is_end)


def _prevented_by(fact: OrderFact, order: Order) -> Prevented | None:
    """What self-trade prevention has to do with *fact*."""
    if isinstance(fact, Ended) and fact.status == "EXPIRED_IN_MATCH":
        return order.preventions[-1][1]
    return fact if isinstance(fact, Prevented) else None


def _execution_type(fact: OrderFact, order: Order) -> str:
    match fact:
        case Filled():
            return "TRADE"
        case OrderPlaced() | Triggered():
            return "NEW"
        case Prevented() | Ended(status="EXPIRED_IN_MATCH"):
            return "TRADE_PREVENTION"
        case Ended(status="CANCELED"):
            return "CANCELED"
    return "EXPIRED"


def _member(order: Order) -> Json:
    placed = order.placed
    return {"symbol": placed.symbol, "orderId": placed.order_id, "clientOrderId": placed.client_id}


def _state(rules: SymbolRules, order: Order) -> Json:
    placed = order.placed
    return {
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


def _conditions(rules: SymbolRules, order: Order) -> Json:
    placed = order.placed
    fields: Json = {"stopPrice": rules.price_text(placed.stop)} if placed.stop else {}
    return {
        **fields,
        "workingTime": order.working_ms,
        "selfTradePreventionMode": placed.stp,
        **_prevention(rules, order),
    }


def _prevention(rules: SymbolRules, order: Order) -> Json:
    if not order.preventions:
        return {}
    return {
        "preventedMatchId": order.preventions[-1][1].match_id,
        "preventedQuantity": rules.qty_text(order.prevented),
    }


def _end(order: Order) -> Json:
    return {"expiryReason": order.ended.reason} if order.ended is not None and order.ended.reason else {}
