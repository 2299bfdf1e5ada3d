"""An order's way through the book: what it takes, whom it meets, what everybody pays.

Pure. Appends facts to the order that is on its way; changes nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from simulator.core.exchange import Exchange, received_asset
from simulator.core.matching import BUY, MARKET, SELL, Move
from simulator.core.orders import Ended, Fact, Filled, Order, OrderPlaced, Prevented, Queued
from simulator.core.rules import PPM, SymbolRules

BNB, BNB_DISCOUNT_PPM = "BNB", 750_000  # fees paid in BNB cost three quarters


@dataclass(slots=True)
class Taking:
    """An order on its way through the book. *left* lots or *budget* atoms of quote, whichever is given, bound it."""

    order_id: int
    api_key: str
    rules: SymbolRules
    side: str
    limit: int | None
    stp: str
    left: int
    budget: int | None
    now_ms: int
    filled: int = 0
    cost: int = 0
    prevented: int = 0
    trades: int = 0
    matches_prevented: int = 0
    expired: bool = False  # self-trade prevention ended it
    spent: dict[tuple[str, str], int] = field(default_factory=dict)  # what this decision uses up of what is free
    gone: set[int] = field(default_factory=set)  # orders that it met and that are no longer open
    facts: list[Fact] = field(default_factory=list)


def take(exchange: Exchange, taking: Taking, all_or_nothing: bool) -> None:
    """Let an order take what it meets: its facts, and what is left of it."""
    book, second = exchange.books[taking.rules.symbol], taking.now_ms // 1000
    if all_or_nothing and not _is_enough(exchange, taking):
        return
    other_side = SELL if taking.side == BUY else BUY
    crowd_price = crowd_used = 0
    unit = taking.rules.notional_atoms
    for offer in book.offers(taking.side, taking.limit, second):
        if crowd_used and offer.price != crowd_price:
            _move_up(taking, book.moves_at(other_side, crowd_price, crowd_used))
            crowd_used = 0
        qty = min(offer.qty, taking.left)
        if taking.budget is not None:
            affordable = (taking.budget - taking.cost) // (offer.price * unit) // taking.rules.lot_step
            qty = min(qty, affordable * taking.rules.lot_step)
        if not qty:
            break
        if offer.order_id == MARKET:
            if offer.price != crowd_price:
                crowd_price, crowd_used = offer.price, 0
            crowd_used += qty
        elif exchange.orders[offer.order_id].placed.api_key == taking.api_key:
            _prevent(exchange, taking, offer.order_id, offer.price, qty)
            if taking.expired:
                break
            continue
        _execute(exchange, taking, offer.order_id, offer.price, qty)
        if not taking.left:
            break
    if crowd_used:
        _move_up(taking, book.moves_at(other_side, crowd_price, crowd_used))


def _is_enough(exchange: Exchange, taking: Taking) -> bool:
    """Can the whole order be filled at once, from others, and before it meets one that would take a part of it?"""
    wanted = taking.left
    for offer in exchange.books[taking.rules.symbol].offers(taking.side, taking.limit, taking.now_ms // 1000):
        if offer.order_id == MARKET or exchange.orders[offer.order_id].placed.api_key != taking.api_key:
            wanted -= offer.qty
        elif taking.stp != "EXPIRE_MAKER":
            return False
        if wanted <= 0:
            return True
    return False


def _move_up(taking: Taking, moves: Sequence[Move]) -> None:
    taking.facts += [Queued(m.order_id, m.ahead, taking.now_ms) for m in moves if m.order_id not in taking.gone]


def _execute(exchange: Exchange, taking: Taking, against: int, price: int, qty: int) -> None:
    """Fill *qty* lots at *price* against a resting order or the market."""
    taking.trades += 1
    trade_id, now = exchange.last_trade_id + taking.trades, taking.now_ms
    spent = taking.spent
    fee, fee_in = _fee_for(exchange, taking.api_key, taking.rules, taking.side, price, qty, False, spent)
    fill = Filled(trade_id, taking.order_id, price, qty, fee, False, now, fee_in, against)
    if against == MARKET:
        taking.facts.append(fill)
    else:
        maker = exchange.orders[against]
        taking.facts += [other._replace(time_ms=now) for other in others_of_list(exchange, maker)]
        taking.facts.append(fill)
        fee, fee_in = fee_of(exchange, maker.placed, price, qty, True, spent)
        taking.facts.append(Filled(trade_id, against, price, qty, fee, True, now, fee_in, taking.order_id))
        if maker.left == qty:
            taking.gone.add(against)
    taking.filled += qty
    taking.left -= qty
    taking.cost += taking.rules.cost(price, qty)


def _prevent(exchange: Exchange, taking: Taking, against: int, price: int, qty: int) -> None:
    """The order would exchange *qty* lots with one of the same account: the taker's mode says which of the two goes,
    with all that is left of it, or in DECREMENT that both lose as much."""
    taking.matches_prevented += 1
    match_id, maker, now = exchange.last_match_id + taking.matches_prevented, exchange.orders[against], taking.now_ms
    hits_maker, hits_taker = taking.stp != "EXPIRE_TAKER", taking.stp != "EXPIRE_MAKER"
    is_whole = taking.stp != "DECREMENT"
    if hits_maker:
        taking.facts += [other._replace(time_ms=now) for other in others_of_list(exchange, maker)]
        lost = maker.left if is_whole else qty
        is_end = lost == maker.left
        taking.facts.append(Prevented(match_id, against, taking.order_id, lost, price, now, qty, True, is_end))
        if is_end:
            taking.facts.append(Ended(against, "EXPIRED_IN_MATCH", "", now))
            taking.gone.add(against)
    if hits_taker:
        # How much a budget is still good for, nobody knows: what would have been exchanged stands for it.
        lost = taking.left if is_whole and taking.budget is None else qty
        taking.left -= lost
        taking.prevented += lost
        taking.expired = is_whole or not taking.left
        taking.facts.append(
            Prevented(match_id, taking.order_id, against, lost, price, now, qty, False, taking.expired)
        )


def others_of_list(exchange: Exchange, order: Order) -> list[Ended]:
    """The end of the other order when one of a pair is filled or triggered; times are the caller's to set."""
    if order.placed.list_id < 0:
        return []
    return [
        Ended(leg.placed.order_id, "EXPIRED", "", 0, "OCO_TRIGGER")
        for leg in exchange.legs(exchange.lists[order.placed.list_id])
        if leg is not order and leg.is_open
    ]


def fee_of(
    exchange: Exchange, placed: OrderPlaced, price: int, qty: int, is_maker: bool, spent: dict[tuple[str, str], int]
) -> tuple[int, str]:
    rules = exchange.symbols[placed.symbol]
    return _fee_for(exchange, placed.api_key, rules, placed.side, price, qty, is_maker, spent)


def _fee_for(
    exchange: Exchange, api_key: str, rules: SymbolRules, side: str, price: int, qty: int, is_maker: bool,
    spent: dict[tuple[str, str], int],
) -> tuple[int, str]:  # fmt: skip
    """Fee of an execution in atoms, rounded down, and its asset. *spent* remembers BNB that this decision uses up."""
    account = exchange.accounts[api_key]
    ppm = exchange.fee_ppm(account, rules, is_maker)
    got_in = received_asset(rules, side)
    received = qty * rules.lot_atoms if side == BUY else rules.cost(price, qty)
    if account.pays_in_bnb and ppm:
        rate = _bnb_price(exchange, rules)
        if rate is not None:
            bnb_rules, bnb_ticks = rate
            value = rules.cost(price, qty) * ppm * BNB_DISCOUNT_PPM // PPM
            fee = value * bnb_rules.lot_atoms // (PPM * bnb_rules.cost(bnb_ticks, 1))
            used = spent.get((api_key, BNB), 0)
            if account.free(BNB) - used >= fee:
                spent[api_key, BNB] = used + fee
                return fee, BNB
    return received * ppm // PPM, got_in


def _bnb_price(exchange: Exchange, rules: SymbolRules) -> tuple[SymbolRules, int] | None:
    """The market that says what a BNB costs in the quote of *rules*, and its last price in ticks."""
    name = BNB + rules.quote
    bnb = exchange.symbols.get(name)
    touch = exchange.books[name].touch if bnb is not None else None
    return (bnb, touch.last.price) if bnb is not None and touch is not None else None


def rest_facts(taking: Taking, tif: str, is_market: bool) -> list[Fact]:
    """What becomes of the rest of an order that has taken what it could."""
    if taking.expired:
        return [Ended(taking.order_id, "EXPIRED_IN_MATCH", "", taking.now_ms)]
    if not taking.left:
        return []
    if is_market:
        return [Ended(taking.order_id, "EXPIRED", "", taking.now_ms, "INSUFFICIENT_LIQUIDITY")]
    if tif == "IOC":
        return [Ended(taking.order_id, "EXPIRED", "", taking.now_ms, "UNFILLED_IOC_QUANTITY_EXPIRED")]
    if tif == "FOK":
        return [Ended(taking.order_id, "EXPIRED", "", taking.now_ms, "UNFILLED_FOK_ORDER_EXPIRED")]
    return []


