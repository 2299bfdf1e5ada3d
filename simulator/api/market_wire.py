"""Market data as Binance writes it: candles, trades, tickers and books, for REST and for streams.

Pure functions from market values to JSON-ready ones; field names and order follow the vendor's documents. What is
worth sending, and when, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable

from simulator.core.rules import SymbolRules, fixed
from simulator.market.candles import INTERVALS, Candles, Trade, next_open
from simulator.market.depth import Best, Diff, Level, Snapshot
from simulator.market.tickers import AVERAGE_MINS, Stats

Json = dict[str, object]


def kline_rows(rules: SymbolRules, interval: str, candles: Candles, offset_ms: int = 0) -> list[list[object]]:
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
                close_ms(interval, open_s * 1000, offset_ms),
                fixed(quote * unit),
                count,
                rules.qty_text(taken),
                fixed(taken_quote * unit),
                "0",
            ]
        )
    return rows


def kline_event(
    rules: SymbolRules, interval: str, candles: Candles, event_ms: int, closed: bool, offset_ms: int = 0
) -> Json:
    """Stream form of the one candle in *candles*."""
    (open_s, o, h, l, c, volume, quote, count, taken, taken_quote, first, last) = candles.rows()[-1]  # noqa: E741
    return {
        "e": "kline",
        "E": event_ms,
        "s": rules.symbol,
        "k": {
            "t": open_s * 1000,
            "T": close_ms(interval, open_s * 1000, offset_ms),
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


def close_ms(interval: str, open_ms: int, offset_ms: int = 0) -> int:
    """Last millisecond of a candle."""
    return next_open(interval, open_ms, offset_ms) - 1 if interval == "1M" else open_ms + INTERVALS[interval] - 1


def trade_row(rules: SymbolRules, trade: Trade) -> Json:
    """A row of GET trades and historicalTrades."""
    return {
        "id": trade.id,
        "price": rules.price_text(trade.price),
        "qty": rules.qty_text(trade.qty),
        "quoteQty": fixed(rules.cost(trade.price, trade.qty)),
        "time": trade.time_ms,
        "isBuyerMaker": trade.buyer_maker,
        "isBestMatch": True,
    }


def agg_trade_row(rules: SymbolRules, trade: Trade) -> Json:
    """A row of GET aggTrades. Each market trade is an aggregate of its own."""
    return {
        "a": trade.id,
        "p": rules.price_text(trade.price),
        "q": rules.qty_text(trade.qty),
        "f": trade.id,
        "l": trade.id,
        "T": trade.time_ms,
        "m": trade.buyer_maker,
        "M": True,
    }


def agg_trade_event(rules: SymbolRules, trade: Trade) -> Json:
    """The aggTrade stream."""
    return {"e": "aggTrade", "E": trade.time_ms, "s": rules.symbol, **agg_trade_row(rules, trade)}


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


def average_row(rules: SymbolRules, average: tuple[int, int], last: Trade) -> Json:
    """GET avgPrice. *average* is a quote volume and a volume."""
    return {"mins": AVERAGE_MINS, "price": average_text(rules, *average), "closeTime": last.time_ms}


def average_event(rules: SymbolRules, average: tuple[int, int], last: Trade, event_ms: int) -> Json:
    """The avgPrice stream."""
    return {
        "e": "avgPrice",
        "E": event_ms,
        "s": rules.symbol,
        "i": f"{AVERAGE_MINS}m",
        "w": average_text(rules, *average),
        "T": last.time_ms,
    }


def window_row(rules: SymbolRules, stats: Stats) -> Json:
    """FULL form of GET ticker and ticker/tradingDay."""
    return {"symbol": rules.symbol, **_change(rules, stats), **_range(rules, stats), **_extent(stats)}


def mini_row(rules: SymbolRules, stats: Stats) -> Json:
    """MINI form of the three window tickers."""
    return {"symbol": rules.symbol, **_range(rules, stats), **_extent(stats)}


def day_row(rules: SymbolRules, stats: Stats, before: Trade | None, last: Trade | None, best: Best) -> Json:
    """FULL form of GET ticker/24hr. *before* is the last trade before the window, *last* the last in it."""
    row = window_row(rules, stats)
    head = {name: row.pop(name) for name in ("symbol", "priceChange", "priceChangePercent", "weightedAvgPrice")}
    book = book_row(rules, best)
    return {
        **head,
        "prevClosePrice": rules.price_text(before.price if before else 0),
        "lastPrice": row.pop("lastPrice"),
        "lastQty": rules.qty_text(last.qty if last and stats.count else 0),
        "bidPrice": book["bidPrice"],
        "bidQty": book["bidQty"],
        "askPrice": book["askPrice"],
        "askQty": book["askQty"],
        **row,
    }


def mini_event(rules: SymbolRules, stats: Stats, event_ms: int) -> Json:
    """The miniTicker streams."""
    return {
        "e": "24hrMiniTicker",
        "E": event_ms,
        "s": rules.symbol,
        "c": rules.price_text(stats.close),
        "o": rules.price_text(stats.open),
        "h": rules.price_text(stats.high),
        "l": rules.price_text(stats.low),
        "v": rules.qty_text(stats.volume),
        "q": fixed(stats.quote * rules.notional_atoms),
    }


def window_event(rules: SymbolRules, size: str, stats: Stats, event_ms: int) -> Json:
    """The ticker_1h, ticker_4h and ticker_1d streams."""
    row = window_row(rules, stats)
    names = {
        "p": "priceChange", "P": "priceChangePercent", "w": "weightedAvgPrice", "o": "openPrice", "h": "highPrice",
        "l": "lowPrice", "c": "lastPrice", "v": "volume", "q": "quoteVolume", "O": "openTime", "C": "closeTime",
        "F": "firstId", "L": "lastId", "n": "count",
    }  # fmt: skip
    return {"e": f"{size}Ticker", "E": event_ms, "s": rules.symbol, **{k: row[name] for k, name in names.items()}}


def day_event(
    rules: SymbolRules, stats: Stats, before: Trade | None, last: Trade | None, best: Best, event_ms: int
) -> Json:
    """The ticker stream."""
    row = day_row(rules, stats, before, last, best)
    names = {
        "p": "priceChange", "P": "priceChangePercent", "w": "weightedAvgPrice", "x": "prevClosePrice",
        "c": "lastPrice", "Q": "lastQty", "b": "bidPrice", "B": "bidQty", "a": "askPrice", "A": "askQty",
        "o": "openPrice", "h": "highPrice", "l": "lowPrice", "v": "volume", "q": "quoteVolume", "O": "openTime",
        "C": "closeTime", "F": "firstId", "L": "lastId", "n": "count",
    }  # fmt: skip
    return {"e": "24hrTicker", "E": event_ms, "s": rules.symbol, **{k: row[name] for k, name in names.items()}}


def price_row(rules: SymbolRules, last: Trade) -> Json:
    """GET ticker/price."""
    return {"symbol": rules.symbol, "price": rules.price_text(last.price)}


def book_row(rules: SymbolRules, best: Best) -> Json:
    """GET ticker/bookTicker."""
    (bid, bid_qty), (ask, ask_qty) = best.bid, best.ask
    return {
        "symbol": rules.symbol,
        "bidPrice": rules.price_text(bid),
        "bidQty": rules.qty_text(bid_qty),
        "askPrice": rules.price_text(ask),
        "askQty": rules.qty_text(ask_qty),
    }


def book_event(rules: SymbolRules, best: Best) -> Json:
    """The bookTicker stream, which has neither ``e`` nor ``E``."""
    row = book_row(rules, best)
    return {
        "u": best.update_id,
        "s": rules.symbol,
        "b": row["bidPrice"],
        "B": row["bidQty"],
        "a": row["askPrice"],
        "A": row["askQty"],
    }


def depth_row(rules: SymbolRules, book: Snapshot) -> Json:
    """GET depth and the partial depth streams, which name neither event nor symbol."""
    return {
        "lastUpdateId": book.update_id,
        "bids": _levels(rules, book.bids),
        "asks": _levels(rules, book.asks),
    }


def depth_event(rules: SymbolRules, diff: Diff, event_ms: int) -> Json:
    """The diff depth streams."""
    return {
        "e": "depthUpdate",
        "E": event_ms,
        "s": rules.symbol,
        "U": diff.first_id,
        "u": diff.update_id,
        "b": _levels(rules, diff.bids),
        "a": _levels(rules, diff.asks),
    }


def average_text(rules: SymbolRules, quote: int, volume: int) -> str:
    """Average price of *volume* lots that were worth *quote* ticks × lots, rounded to 8 places; 0 of nothing."""
    return fixed(_rounded(quote * rules.tick_atoms, volume) if volume else 0)


def percent_text(change: int, of: int) -> str:
    """*change* in per cent, with three places; 0 of nothing."""
    thousandths = _rounded(abs(change) * 100_000, of) if of else 0
    sign = "-" if change < 0 and thousandths else ""
    return f"{sign}{thousandths // 1000}.{thousandths % 1000:03d}"


def _change(rules: SymbolRules, stats: Stats) -> Json:
    change = stats.close - stats.open
    return {
        "priceChange": rules.price_text(change),
        "priceChangePercent": percent_text(change, stats.open),
        "weightedAvgPrice": average_text(rules, stats.quote, stats.volume),
    }


def _range(rules: SymbolRules, stats: Stats) -> Json:
    return {
        "openPrice": rules.price_text(stats.open),
        "highPrice": rules.price_text(stats.high),
        "lowPrice": rules.price_text(stats.low),
        "lastPrice": rules.price_text(stats.close),
        "volume": rules.qty_text(stats.volume),
        "quoteVolume": fixed(stats.quote * rules.notional_atoms),
    }


def _extent(stats: Stats) -> Json:
    return {
        "openTime": stats.open_ms,
        "closeTime": stats.close_ms,
        "firstId": stats.first_id,
        "lastId": stats.last_id,
        "count": stats.count,
    }


def _levels(rules: SymbolRules, levels: Iterable[Level]) -> list[list[str]]:
    return [[rules.price_text(price), rules.qty_text(qty)] for price, qty in levels]


def _rounded(value: int, by: int) -> int:
    return (2 * value + by) // (2 * by)
