"""What the exchange decides when something is asked of it or the market trades.

Pure. A decision checks everything and returns the facts that follow from it, or raises the exchange's error; it
changes nothing. The time comes with each call and is market time in milliseconds.
"""

from __future__ import annotations

from dataclasses import replace

from simulator.core.exchange import Exchange, paid_asset
from simulator.core.filters import changed, check_band, check_notional, check_price, check_qty
from simulator.core.matching import BUY, MARKET, touch_after
from simulator.core.orders import (
    NO_LIST,
    Ended,
    Fact,
    Filled,
    ListOpened,
    Order,
    OrderPlaced,
    Queued,
    Request,
    SymbolChanged,
    Transferred,
    Triggered,
)
from simulator.core.rules import ApiError, SymbolRules, filter_failure, rejected
from simulator.core.stops import is_rising
from simulator.core.taking import Taking, fee_of, others_of_list, rest_facts, take
from simulator.market.candles import Trade

TOO_POOR = "Account has insufficient balance for requested action."


# orders


def place(exchange: Exchange, ask: Request, now_ms: int) -> list[Fact]:
    """Facts of a new order: placed, and whatever happens to it at once. Raises `ApiError`."""
    rules = _open_market(exchange, ask.symbol)
    price, stop = _checked_prices(exchange, rules, ask)
    _check_counts(exchange, ask, orders=1, algos=1 if stop else 0)
    _check_client_id(exchange, ask)
    if stop:
        return [_waiting(exchange, rules, ask, len(exchange.orders) + 1, price, stop, now_ms)]
    if ask.type == "LIMIT_MAKER":
        _check_takes_nothing(exchange, ask, price, now_ms)
    elif not price or ask.tif != "GTC" or exchange.books[ask.symbol].reaches(ask.side, price):
        return _working(exchange, rules, ask, price, now_ms)
    return [_resting(exchange, rules, ask, len(exchange.orders) + 1, price, now_ms)]


def place_oco(exchange: Exchange, above: Request, below: Request, client_id: str, now_ms: int) -> list[Fact]:
    """Facts of a one-cancels-the-other pair. Raises `ApiError`."""
    rules = _open_market(exchange, above.symbol)
    asks = (above, below)
    checked = [_checked_prices(exchange, rules, ask) for ask in asks]
    touch = exchange.books[above.symbol].touch
    assert touch is not None
    (high, low), last = [stop or price for price, stop in checked], touch.last.price
    if not low < last < high:
        raise rejected("The relationship of the prices for the orders is not correct.")
    _check_counts(exchange, above, orders=2, algos=sum(bool(stop) for _, stop in checked), lists=1)
    for ask in asks:
        _check_client_id(exchange, ask)
    known = exchange.find_list(above.api_key, None, client_id)
    if above.client_id == below.client_id or (known is not None and not known.is_done):
        raise rejected("Duplicate order sent.")

    for ask, (price, stop) in zip(asks, checked, strict=True):
        if not stop:
            _check_takes_nothing(exchange, ask, price, now_ms)

    list_id, first = len(exchange.lists), len(exchange.orders) + 1
    legs = [
        _waiting(exchange, rules, ask, number, price, stop, now_ms, list_id)
        if stop
        else _resting(exchange, rules, ask, number, price, now_ms, list_id)
        for number, (ask, (price, stop)) in enumerate(zip(asks, checked, strict=True), first)
    ]
    locked = max(leg.locked for leg in legs)
    _check_funds(exchange, above, rules, locked)
    numbers = [leg.order_id for leg in legs]
    opened = ListOpened(
        list_id, above.api_key, above.symbol, above.side, client_id, "OCO", numbers, locked, now_ms
    )  # fmt: skip
    return [opened, *legs]


def check_filters(exchange: Exchange, ask: Request) -> None:
    """Check what `place` checks before the matching engine: the market, filters, prices. Raises `ApiError`."""
    _checked_prices(exchange, _open_market(exchange, ask.symbol), ask)


def cancel(exchange: Exchange, order: Order, cancel_id: str, now_ms: int) -> list[Ended]:
    """Facts of cancelling *order*, and its list with it; -2011 when it is no longer open."""
    if not order.is_open:
        raise ApiError(-2011, "Unknown order sent.")
    legs = [order]
    if order.placed.list_id >= 0:
        legs = [leg for leg in exchange.legs(exchange.lists[order.placed.list_id]) if leg.is_open]
    return [Ended(leg.placed.order_id, "CANCELED", cancel_id, now_ms) for leg in legs]


# the market


def trade(exchange: Exchange, symbol: str, trade: Trade) -> list[Fact]:
    """Facts of a market trade: the fills of resting orders and how others move up. Moves the touch."""
    book = exchange.books[symbol]
    book.touch = touch_after(trade)
    if exchange.statuses[symbol] != "TRADING":
        return []
    matches, moves = book.matches(trade)
    if not matches and not moves:
        return []
    facts: list[Fact] = []
    spent: dict[tuple[str, str], int] = {}
    ended: set[int] = set()
    trade_id = exchange.last_trade_id
    for match in matches:
        order = exchange.orders[match.order_id]
        if match.order_id in ended:
            continue
        for other in others_of_list(exchange, order):
            facts.append(other._replace(time_ms=trade.time_ms))
            ended.add(other.order_id)
        trade_id += 1
        fee, fee_in = fee_of(exchange, order.placed, match.price, match.qty, True, spent)
        facts.append(
            Filled(trade_id, match.order_id, match.price, match.qty, fee, True, trade.time_ms, fee_in, MARKET)
        )
    facts += [Queued(move.order_id, move.ahead, trade.time_ms) for move in moves if move.order_id not in ended]
    return facts


def next_triggered(exchange: Exchange, symbol: str) -> Order | None:
    """The waiting order whose stop price the last trade has reached."""
    book = exchange.books[symbol]
    if book.touch is None or exchange.statuses[symbol] != "TRADING":
        return None
    number = exchange.stops[symbol].next_due(book.touch.last.price)
    return None if number is None else exchange.orders[number]


def trigger(exchange: Exchange, order: Order, now_ms: int) -> list[Fact]:
    """Facts of an order whose stop price was reached: it is worked like a new one, its list's other order expires."""
    placed, rules = order.placed, exchange.symbols[order.placed.symbol]
    account = exchange.accounts[placed.api_key]
    facts: list[Fact] = [other._replace(time_ms=now_ms) for other in others_of_list(exchange, order)]
    held = placed.locked
    budget = None
    if placed.side == BUY and not placed.price:
        budget = held + account.free(rules.quote)
    taking = Taking(
        placed.order_id, placed.api_key, rules, placed.side, placed.price or None, placed.stp, order.left, budget,
        now_ms,
    )  # fmt: skip
    take(exchange, taking, all_or_nothing=placed.tif == "FOK")
    needed = max(held, taking.cost) if budget is not None else held
    ahead = 0
    if placed.price and taking.left:
        ahead = exchange.books[placed.symbol].queue_at(placed.side, placed.price, now_ms // 1000)
    facts.append(Triggered(placed.order_id, ahead, needed, now_ms))
    return facts + taking.facts + rest_facts(taking, placed.tif, is_market=not placed.price)


# from outside


def transfer(exchange: Exchange, api_key: str, asset: str, atoms: int, now_ms: int) -> list[Fact]:
    """Change a free balance by *atoms*, signed. Raises ``ValueError`` with a sentence."""
    account = exchange.accounts.get(api_key)
    if account is None:
        raise ValueError(f"api_key is {api_key!r}: no account has it; GET /sim/ledger lists them.")
    if account.free(asset) + atoms < 0:
        raise ValueError(f"amount takes more than the free {asset} of the account: cancel its orders, or take less.")
    return [Transferred(api_key, asset, atoms, now_ms)]


def change_symbol(
    exchange: Exchange, symbol: str, status: str | None, filters: dict[str, str], now_ms: int
) -> list[Fact]:
    """Change a symbol's status or filters. Raises ``ValueError`` with a sentence."""
    if symbol not in exchange.symbols:
        raise ValueError(f"symbol is {symbol!r}: give one of {', '.join(exchange.symbols)}.")
    changed(exchange.symbols[symbol], filters)
    return [SymbolChanged(symbol, status or exchange.statuses[symbol], filters, now_ms)]


# checks


def _open_market(exchange: Exchange, symbol: str) -> SymbolRules:
    if not exchange.is_trading(symbol):
        raise rejected("Market is closed.")
    return exchange.symbols[symbol]


def _checked_prices(exchange: Exchange, rules: SymbolRules, ask: Request) -> tuple[int, int]:
    """Price and stop price in ticks, 0 where there is none, after all filters that need no book."""
    touch = exchange.books[ask.symbol].touch
    assert touch is not None
    last = touch.last.price
    price = stop = 0
    if ask.price is not None:
        price = check_price(rules, ask.price)
        check_band(rules, price, last)
    if ask.stop is not None:
        stop = check_price(rules, ask.stop)
    if ask.qty is not None:
        lots = check_qty(rules, ask.qty, is_market=not price)
        check_notional(rules, rules.cost(price or stop or last, lots))
        if rules.max_position and ask.side == BUY:
            _check_position(exchange, rules, ask, lots)
    else:
        assert ask.quote_qty is not None
        check_notional(rules, ask.quote_qty)
    if stop and (stop <= last if is_rising(ask.type, ask.side) else stop >= last):
        raise rejected("Order would trigger immediately.")
    return price, stop


def _check_position(exchange: Exchange, rules: SymbolRules, ask: Request, lots: int) -> None:
    account = exchange.accounts[ask.api_key]
    held = account.free(rules.base) + account.locked(rules.base)
    buying = sum(o.left for o in exchange.open_orders(ask.api_key, ask.symbol) if o.placed.side == BUY)
    if held + (buying + lots) * rules.lot_atoms > rules.max_position:
        raise filter_failure("MAX_POSITION")


def _check_counts(exchange: Exchange, ask: Request, orders: int, algos: int, lists: int = 0) -> None:
    rules = exchange.symbols[ask.symbol]
    if exchange.count_open(ask.api_key, ask.symbol) + orders > rules.max_orders:
        raise filter_failure("MAX_NUM_ORDERS")
    if algos and exchange.waiting_algos.get((ask.api_key, ask.symbol), 0) + algos > rules.max_algo_orders:
        raise filter_failure("MAX_NUM_ALGO_ORDERS")
    if lists:
        known = exchange.lists_by_account[ask.api_key]
        if sum(not one.is_done and one.opened.symbol == ask.symbol for one in known) + lists > rules.max_lists:
            raise filter_failure("MAX_NUM_ORDER_LISTS")


def _check_client_id(exchange: Exchange, ask: Request) -> None:
    known = exchange.find(ask.api_key, ask.symbol, None, ask.client_id)
    if known is not None and known.is_open:
        raise rejected("Duplicate order sent.")


def _check_takes_nothing(exchange: Exchange, ask: Request, price: int, now_ms: int) -> None:
    book = exchange.books[ask.symbol]
    if book.reaches(ask.side, price) and next(book.offers(ask.side, price, now_ms // 1000), None) is not None:
        raise rejected("Order would immediately match and take.")


def _check_funds(exchange: Exchange, ask: Request, rules: SymbolRules, needed: int) -> None:
    if exchange.accounts[ask.api_key].free(paid_asset(rules, ask.side)) < needed:
        raise rejected(TOO_POOR)


# new orders


def _placed(
    ask: Request, number: int, price: int, qty: int, locked: int, now_ms: int, stop: int = 0, list_id: int = NO_LIST,
    ahead: int = 0,
) -> OrderPlaced:  # fmt: skip
    return OrderPlaced(
        number, ask.api_key, ask.symbol, ask.client_id, ask.side, ask.type, ask.tif, price, qty, ask.quote_qty or 0,
        ask.stp, locked, now_ms, stop, list_id, ahead,
    )  # fmt: skip


def _waiting(
    exchange: Exchange, rules: SymbolRules, ask: Request, number: int, price: int, stop: int, now_ms: int,
    list_id: int = NO_LIST,
) -> OrderPlaced:  # fmt: skip
    """A stop order. A buy at market sets its stop price aside; what it costs more is taken from what is free then."""
    assert ask.qty is not None
    qty = ask.qty // rules.lot_atoms
    locked = _needed(rules, ask.side, price or stop, qty)
    if list_id == NO_LIST:
        _check_funds(exchange, ask, rules, locked)
    return _placed(ask, number, price, qty, locked, now_ms, stop, list_id)


def _resting(
    exchange: Exchange, rules: SymbolRules, ask: Request, number: int, price: int, now_ms: int, list_id: int = NO_LIST
) -> OrderPlaced:
    """An order that takes nothing, as the caller has made sure: one for makers only, or one too far away."""
    assert ask.qty is not None
    qty = ask.qty // rules.lot_atoms
    locked = _needed(rules, ask.side, price, qty)
    if list_id == NO_LIST:
        _check_funds(exchange, ask, rules, locked)
    ahead = exchange.books[ask.symbol].queue_at(ask.side, price, now_ms // 1000)
    return _placed(ask, number, price, qty, locked, now_ms, 0, list_id, ahead)


def _working(exchange: Exchange, rules: SymbolRules, ask: Request, price: int, now_ms: int) -> list[Fact]:
    """An order that takes what it can at once."""
    number = len(exchange.orders) + 1
    qty = 0 if ask.qty is None else ask.qty // rules.lot_atoms
    taking = Taking(
        number, ask.api_key, rules, ask.side, price or None, ask.stp, qty or rules.max_lots or 1 << 62,
        None if ask.qty is not None else ask.quote_qty, now_ms,
    )  # fmt: skip
    if price:
        locked = _needed(rules, ask.side, price, qty)
        _check_funds(exchange, ask, rules, locked)
        _set_aside(taking, locked)
        take(exchange, taking, all_or_nothing=ask.tif == "FOK")
    else:
        if ask.side != BUY:
            _set_aside(taking, (qty or _sold(exchange, taking)) * rules.lot_atoms)
        take(exchange, taking, all_or_nothing=False)
        if ask.qty is None:
            qty = taking.filled + taking.prevented
            if not taking.filled and not taking.expired:
                raise rejected("Order book liquidity is less than LOT_SIZE filter minimum quantity.")
            taking.left = 0
        locked = taking.cost if ask.side == BUY else qty * rules.lot_atoms
        _check_funds(exchange, ask, rules, locked)
    ahead = 0
    if price and taking.left and ask.tif == "GTC":
        ahead = exchange.books[ask.symbol].queue_at(ask.side, price, now_ms // 1000)
    placed = _placed(ask, number, price, qty, locked, now_ms, ahead=ahead)
    return [placed, *taking.facts, *rest_facts(taking, ask.tif, is_market=not price)]


def _set_aside(taking: Taking, atoms: int) -> None:
    """What an order pays with is no longer free for its fees."""
    taking.spent[taking.api_key, paid_asset(taking.rules, taking.side)] = atoms


def _sold(exchange: Exchange, taking: Taking) -> int:
    """Lots that a sale for an amount of quote comes to."""
    trial = replace(taking, spent={}, gone=set(), facts=[])
    take(exchange, trial, all_or_nothing=False)
    return trial.filled + trial.prevented


def _needed(rules: SymbolRules, side: str, price: int, qty: int) -> int:
    return rules.cost(price, qty) if side == BUY else qty * rules.lot_atoms


