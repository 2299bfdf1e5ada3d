"""The exchange's objects as Binance writes them: order forms, account, candles, market and account events.

Pure functions from state to JSON-ready values; field names and order follow the vendor's documents.
"""

from __future__ import annotations

from collections.abc import Iterable

from simulator.core.accounts import Account
from simulator.core.exchange import Ended, Fact, Filled, Order, OrderPlaced, fee_asset
from simulator.core.matching import BUY, Touch
from simulator.core.rules import SymbolRules, fixed
from simulator.market.candles import INTERVALS, Candles, Trade, next_open

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


def kline_rows(rules: SymbolRules, interval: str, candles: Candles) -> list[list[object]]:
    """Rows of GET klines."""
    price, unit = rules.tick_atoms, rules.notional_atoms
    rows: list[list[object]] = []
    for open_s, o, h, l, c, volume, quote, count, taken, taken_quote, _, _ in candles.rows():  # noqa: E741
        rows.append(
            [
                open_s * 1000,
                fixed(o * price),
                fixed(h * price),
                fixed(l * price),
                fixed(c * price),
                rules.qty_text(volume),
                close_ms(interval, open_s * 1000),
                fixed(quote * unit),
                count,
                rules.qty_text(taken),
                fixed(taken_quote * unit),
                "0",
            ]
        )
    return rows


def kline_event(rules: SymbolRules, interval: str, candles: Candles, event_ms: int, closed: bool) -> Json:
    """Stream form of the one candle in *candles*."""
    (open_s, o, h, l, c, volume, quote, count, taken, taken_quote, first, last) = candles.rows()[-1]  # noqa: E741
    return {
        "e": "kline",
        "E": event_ms,
        "s": rules.symbol,
        "k": {
            "t": open_s * 1000,
            "T": close_ms(interval, open_s * 1000),
            "s": rules.symbol,
            "i": interval,
            "f": first,
            "L": last,
            "o": rules.price_text(o),
            "c": rules.price_text(c),
            "h": rules.price_text(h),
            "l": rules.price_text(l),
            "v": rules.qty_text(volume),
            "n": count,
            "x": closed,
            "q": fixed(quote * rules.notional_atoms),
            "V": rules.qty_text(taken),
            "Q": fixed(taken_quote * rules.notional_atoms),
            "B": "0",
        },
    }


def close_ms(interval: str, open_ms: int) -> int:
    """Last millisecond of a candle."""
    return next_open(interval, open_ms) - 1 if interval == "1M" else open_ms + INTERVALS[interval] - 1


def agg_trade_event(rules: SymbolRules, trade: Trade) -> Json:
    """Each market trade is an aggregate of its own."""
    return {
        "e": "aggTrade",
        "E": trade.time_ms,
        "s": rules.symbol,
        "a": trade.id,
        "p": rules.price_text(trade.price),
        "q": rules.qty_text(trade.qty),
        "f": trade.id,
        "l": trade.id,
        "T": trade.time_ms,
        "m": trade.buyer_maker,
        "M": True,
    }


def trade_event(rules: SymbolRules, trade: Trade) -> Json:
    """The raw trade stream."""
    return {
        "e": "trade",
        "E": trade.time_ms,
        "s": rules.symbol,
        "t": trade.id,
        "p": rules.price_text(trade.price),
        "q": rules.qty_text(trade.qty),
        "T": trade.time_ms,
        "m": trade.buyer_maker,
        "M": True,
    }


def book_ticker(rules: SymbolRules, touch: Touch) -> Json:
    """GET ticker/bookTicker."""
    return {
        "symbol": rules.symbol,
        "bidPrice": rules.price_text(touch.bid),
        "bidQty": rules.qty_text(touch.bid_qty()),
        "askPrice": rules.price_text(touch.ask),
        "askQty": rules.qty_text(touch.ask_qty()),
    }


def book_ticker_event(rules: SymbolRules, touch: Touch) -> Json:
    """The bookTicker stream, which has neither ``e`` nor ``E``."""
    row = book_ticker(rules, touch)
    return {
        "u": touch.last.id,
        "s": rules.symbol,
        "b": row["bidPrice"],
        "B": row["bidQty"],
        "a": row["askPrice"],
        "A": row["askQty"],
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
