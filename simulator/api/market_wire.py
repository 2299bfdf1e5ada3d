"""Market data as Binance writes it. Pure functions from state to JSON-ready values."""

from __future__ import annotations

from simulator.core.rules import SymbolRules, fixed
from simulator.market.candles import INTERVALS, Candles, Trade, next_open

Json = dict[str, object]
Levels = list[tuple[int, int]]  # (ticks, lots), best first


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


def book_ticker(rules: SymbolRules, bids: Levels, asks: Levels) -> Json:
    """GET ticker/bookTicker. A side without a price shows zeros."""
    (bid, bid_qty), (ask, ask_qty) = (levels[0] if levels else (0, 0) for levels in (bids, asks))
    return {
        "symbol": rules.symbol,
        "bidPrice": rules.price_text(bid),
        "bidQty": rules.qty_text(bid_qty),
        "askPrice": rules.price_text(ask),
        "askQty": rules.qty_text(ask_qty),
    }


def book_ticker_event(rules: SymbolRules, bids: Levels, asks: Levels, update_id: int) -> Json:
    """The bookTicker stream, which has neither ``e`` nor ``E``."""
    row = book_ticker(rules, bids, asks)
    return {
        "u": update_id,
        "s": rules.symbol,
        "b": row["bidPrice"],
        "B": row["bidQty"],
        "a": row["askPrice"],
        "A": row["askQty"],
    }
