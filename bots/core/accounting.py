"""What fills mean in money: cost, proceeds, fees, dust and the realised PNL of one position. Exact.

Realised PNL in quote = sells − fees − cost of what was sold. A fee in base makes the bought quantity smaller. What is
too small to sell moves to the dust account at its share of the cost, rounded down to 8 decimals; over all positions
Σ PNL = Δ quote + Δ dust at cost holds exactly.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

from bots.core.messages import Execution
from shared.events import Position
from shared.positions import Counters, Leg
from shared.states import Side
from shared.symbols import SymbolRules
from shared.units import ZERO

DAY_MS = 86_400_000
_CENT = Decimal("0.00000001")


def fee_in_quote(fill: Execution, rules: SymbolRules) -> Decimal | None:
    """The fee's worth in quote at the fill's price; None for a third asset, whose rate is not known here."""
    if fill.fee == 0 or fill.fee_asset == rules.quote:
        return fill.fee
    return fill.fee * fill.price if fill.fee_asset == rules.base else None


def book(position: Position, leg: Leg, fill: Execution, rules: SymbolRules) -> Decimal | None:
    """Add *fill* of *leg* to the position's sums, and return the fee in quote. That it is new is the caller's care."""
    amount = fill.price * fill.quantity
    fee_base = fill.fee if fill.fee_asset == rules.base else ZERO
    fee_direct = fill.fee if fill.fee_asset == rules.quote else ZERO
    if leg.side is Side.BUY:
        first_ms = position.activated_ms
        position.activated_ms = fill.time_ms if first_ms is None else min(first_ms, fill.time_ms)
        position.quantity += fill.quantity - fee_base
        position.cost += amount + fee_direct
    else:
        position.sold_quantity += fill.quantity + fee_base
        position.proceeds += amount - fee_direct
    worth = fee_in_quote(fill, rules)
    position.fees += worth or ZERO
    leg.booked_quantity += fill.quantity
    leg.booked_quote += amount
    leg.trade_ids.append(fill.trade_id)
    leg.updated_ms = max(leg.updated_ms, fill.time_ms)
    mean = mean_price(position, leg.side)
    rounded = None if mean is None else mean.quantize(_CENT)
    if leg.side is Side.BUY:
        position.entry_price = rounded
    else:
        position.exit_price = rounded
    return worth


def mean_price(position: Position, side: Side) -> Decimal | None:
    """Mean price of the booked fills on *side*; None before the first."""
    legs = [leg for leg in position.legs if leg.side is side and leg.booked_quantity]
    quantity = sum((leg.booked_quantity for leg in legs), ZERO)
    return sum((leg.booked_quote for leg in legs), ZERO) / quantity if quantity else None


def settle(position: Position) -> None:
    """Fix dust and PNL of a position that has nothing more to sell."""
    position.dust_quantity = position.held
    if position.dust_quantity:
        share = position.cost * position.dust_quantity / position.quantity
        position.dust_cost = share.quantize(_CENT, rounding=ROUND_FLOOR)
    spent = position.cost - position.dust_cost
    position.pnl = position.proceeds - spent
    position.pnl_pct = float(position.pnl / spent) if spent else 0.0


def unrealised(position: Position, price: Decimal) -> Decimal:
    """What the position would have made, had the rest been sold at *price* without fee; 0 before the first fill."""
    return position.proceeds + position.held * price - position.cost


def count_entry(counters: Counters, filled_ms: int) -> None:
    """Add an entry to the UTC day of its first fill; that of a day gone by is none of today's."""
    roll_day(counters, filled_ms)
    counters.day_entries += filled_ms // DAY_MS == counters.day


def count(counters: Counters, position: Position) -> None:
    """Add a closed position to the running totals; day figures belong to the UTC day of its closing (market time)."""
    assert position.pnl is not None
    assert position.closed_ms is not None
    roll_day(counters, position.closed_ms)
    counters.trades += 1
    counters.wins += position.pnl > 0
    counters.losses += position.pnl < 0
    counters.pnl += position.pnl
    if position.closed_ms // DAY_MS == counters.day:
        counters.day_pnl += position.pnl
    counters.fees += position.fees
    counters.dust_quantity += position.dust_quantity
    counters.dust_cost += position.dust_cost
    counters.last_closed_ms = position.closed_ms


def roll_day(counters: Counters, now_ms: int) -> None:
    """Start the day's figures afresh when a new UTC day has begun."""
    day = now_ms // DAY_MS
    if day > counters.day:
        counters.day, counters.day_entries, counters.day_pnl = day, 0, ZERO
