"""A small exchange's whole ledger, written by hand: every kind of order, trade and change, and each figure adds up."""

from __future__ import annotations

import copy

import pytest

MARKET = 0


def order(number: int, side: str, kind: str, status: str, qty: str, **facts: object) -> dict[str, object]:
    """An order in BTCUSDT; what it does not say is nothing."""
    return {
        "order_id": number, "client_order_id": f"c{number}", "order_list_id": -1, "symbol": "BTCUSDT", "base": "BTC",
        "quote": "USDT", "side": side, "type": kind, "time_in_force": "GTC", "status": status, "price": "0.00000000",
        "stop_price": "0.00000000", "qty": qty, "quote_order_qty": "0.00000000", "filled_qty": "0.00000000",
        "filled_quote": "0.00000000", "prevented_qty": "0.00000000", "locked": "0.00000000",
        "locked_asset": "USDT" if side == "BUY" else "BTC", "time": 1000, "update_time": 1000, "reason": "",
        **facts,
    }  # fmt: skip


def fill(trade: int, number: int, side: str, price: str, qty: str, worth: str, **facts: object) -> dict[str, object]:
    """One execution."""
    return {
        "trade_id": trade, "order_id": number, "client_order_id": f"c{number}", "symbol": "BTCUSDT", "side": side,
        "price": price, "qty": qty, "quote_qty": worth, "fee": "0.00000000", "fee_asset": "USDT",
        "is_maker": False, "against": MARKET, "time": 1000, **facts,
    }  # fmt: skip


def change(what: str, time: int, status: str, filled_qty: str = "0.00000000", **facts: object) -> dict[str, object]:
    """One step."""
    return {"what": what, "time": time, "status": status, "filled_qty": filled_qty, **facts}


def alice() -> dict[str, object]:
    """Buys at market (1), rests, trades with Bob and cancels the rest (2), and has an OCO that is over (3, 4)."""
    return {
        "api_key": "A" * 60 + "aaaa",
        "name": "Alice",
        "deposits": {"USDT": "10000.00000000", "BNB": "1.00000000"},
        "transfers": [
            {"asset": "USDT", "amount": "500.00000000", "time": 900},
            {"asset": "USDT", "amount": "-100.00000000", "time": 950},
        ],
        # USDT: 10000 + 400 − 5000 (1) − 1960 (2) + 2550 − 2.55 (3); BTC: 0.1 − 0.0001 (1) + 0.04 (2) − 0.05 (3)
        "balances": {
            "USDT": {"free": "5987.45000000", "locked": "0.00000000"},
            "BTC": {"free": "0.08990000", "locked": "0.00000000"},
            "BNB": {"free": "0.99500000", "locked": "0.00000000"},
        },
        "orders": [
            order(1, "BUY", "MARKET", "FILLED", "0.10000000", quote_order_qty="5000.50000000",
                  filled_qty="0.10000000", filled_quote="5000.00000000",
                  changes=[change("NEW", 1000, "NEW"),
                           change("TRADE", 1000, "FILLED", "0.10000000", trade_id=1)]),
            order(2, "BUY", "LIMIT", "CANCELED", "0.10000000", price="49000.00000000",
                  filled_qty="0.04000000", filled_quote="1960.00000000",
                  changes=[change("NEW", 1100, "NEW"),
                           change("TRADE", 1200, "PARTIALLY_FILLED", "0.01000000", trade_id=2),
                           change("TRADE", 1300, "PARTIALLY_FILLED", "0.04000000", trade_id=3),
                           change("CANCELED", 1400, "CANCELED", "0.04000000")]),
            order(3, "SELL", "LIMIT_MAKER", "FILLED", "0.05000000", order_list_id=1, price="51000.00000000",
                  filled_qty="0.05000000", filled_quote="2550.00000000",
                  changes=[change("NEW", 1500, "NEW"), change("TRADE", 1600, "FILLED", "0.05000000", trade_id=4)]),
            order(4, "SELL", "STOP_LOSS_LIMIT", "EXPIRED", "0.05000000", order_list_id=1, price="47000.00000000",
                  stop_price="48000.00000000",
                  changes=[change("NEW", 1500, "NEW"), change("EXPIRED", 1600, "EXPIRED")]),
        ],
        "lists": [
            {"order_list_id": 1, "client_order_id": "l1", "symbol": "BTCUSDT", "contingency": "OCO",
             "status": "ALL_DONE", "order_ids": [3, 4], "locked": "0.00000000", "locked_asset": "BTC", "time": 1500},
        ],
        "fills": [
            fill(1, 1, "BUY", "50000.00000000", "0.10000000", "5000.00000000", fee="0.00010000", fee_asset="BTC"),
            fill(2, 2, "BUY", "49000.00000000", "0.01000000", "490.00000000", is_maker=True, against=5, time=1200),
            fill(3, 2, "BUY", "49000.00000000", "0.03000000", "1470.00000000", fee="0.00500000", fee_asset="BNB",
                 is_maker=True, time=1300),
            fill(4, 3, "SELL", "51000.00000000", "0.05000000", "2550.00000000", fee="2.55000000", is_maker=True,
                 time=1600),
        ],
    }  # fmt: skip


def bob() -> dict[str, object]:
    """Sells to Alice and is prevented from trading with himself (5), rests (6), and has a stop in an OCO (7, 8)."""
    return {
        "api_key": "B" * 60 + "bbbb",
        "name": "",
        "deposits": {"BTC": "1.00000000", "USDT": "100.00000000"},
        "transfers": [],
        # BTC: 1 − 0.01 (5), of which 0.2 in the list; USDT: 100 + 490 − 0.49 (5), of which 450 in order 6
        "balances": {
            "BTC": {"free": "0.79000000", "locked": "0.20000000"},
            "USDT": {"free": "139.51000000", "locked": "450.00000000"},
        },
        "orders": [
            order(5, "SELL", "LIMIT", "EXPIRED_IN_MATCH", "0.03000000", price="48000.00000000",
                  filled_qty="0.01000000", filled_quote="490.00000000", prevented_qty="0.02000000",
                  changes=[change("NEW", 1200, "NEW"),
                           change("TRADE", 1200, "PARTIALLY_FILLED", "0.01000000", trade_id=2),
                           change("PREVENTED", 1200, "PARTIALLY_FILLED", "0.01000000", prevented_qty="0.02000000"),
                           change("EXPIRED_IN_MATCH", 1200, "EXPIRED_IN_MATCH", "0.01000000")]),
            order(6, "BUY", "LIMIT", "NEW", "0.01000000", price="45000.00000000", locked="450.00000000",
                  changes=[change("NEW", 1300, "NEW")]),
            order(7, "SELL", "LIMIT_MAKER", "NEW", "0.20000000", order_list_id=2, price="60000.00000000",
                  changes=[change("NEW", 1700, "NEW")]),
            order(8, "SELL", "STOP_LOSS", "NEW", "0.20000000", order_list_id=2, stop_price="40000.00000000",
                  changes=[change("NEW", 1700, "NEW")]),
        ],
        "lists": [
            {"order_list_id": 2, "client_order_id": "l2", "symbol": "BTCUSDT", "contingency": "OCO",
             "status": "EXECUTING", "order_ids": [7, 8], "locked": "0.20000000", "locked_asset": "BTC", "time": 1700},
        ],
        "fills": [
            fill(2, 5, "SELL", "49000.00000000", "0.01000000", "490.00000000", fee="0.49000000", against=2, time=1200),
        ],
    }  # fmt: skip


LEDGER = {
    "accounts": [alice(), bob()],
    "exchange": {
        "fees": {"BTC": "0.00010000", "USDT": "3.04000000", "BNB": "0.00500000"},
        # the market sold 0.1 (1) and 0.03 (3), and bought 0.05 (4)
        "market": {"BTC": "-0.08000000", "USDT": "3920.00000000"},
    },
}


@pytest.fixture
def ledger() -> dict:
    """A ledger in which everything holds; each test may spoil its own copy."""
    return copy.deepcopy(LEDGER)
