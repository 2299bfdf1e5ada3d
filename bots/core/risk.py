"""How large an entry may be, and whether it may be at all: figures in, a quantity or a refusal with figures out."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from shared.config import TradingConfig
from shared.events import Counters
from shared.symbols import SymbolRules
from shared.units import ZERO, plain


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an entry is held back; *code* counts, *message* is for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the checks need to know; *quote_free* is None while unknown, *unrealised* is over all open positions."""

    open_positions: int
    quote_free: Decimal | None
    unrealised: Decimal
    counters: Counters


def check_entry(now_ms: int, account: Account, config: TradingConfig, rules: SymbolRules) -> Refused | None:
    """The first limit that forbids an entry at *now_ms* (market time); the counters' day must be today."""
    counters = account.counters
    if account.open_positions >= config.max_positions:
        return Refused("max_positions", f"{account.open_positions} of {config.max_positions} positions are open")
    if counters.last_closed_ms is not None and now_ms < counters.last_closed_ms + config.cooldown * 1000:
        return Refused("cooldown", f"cooldown of {config.cooldown} s since the last position closed")
    if config.max_daily_trades is not None and counters.day_entries >= config.max_daily_trades:
        return Refused("max_daily_trades", f"{counters.day_entries} of {config.max_daily_trades} entries today")
    if config.max_daily_loss is not None:
        loss = -(counters.day_pnl + account.unrealised)
        if loss >= config.max_daily_loss:
            return Refused(
                "max_daily_loss",
                f"lost {plain(loss)} of at most {plain(config.max_daily_loss)} {rules.quote} today, until 00:00 UTC",
            )
    return None


def size_entry(
    price: Decimal, quote_free: Decimal | None, config: TradingConfig, rules: SymbolRules
) -> Decimal | Refused:
    """Quantity in base for an entry at *price*: the smallest of the configured sizes and what is free, in lots."""
    amount = config.capital_per_trade
    if config.max_position_size is not None:
        amount = min(amount, config.max_position_size)
    if quote_free is not None:
        amount = min(amount, quote_free)
    quantity = min(rules.round_quantity(amount / price), rules.max_quantity) if amount > ZERO else ZERO
    if rules.is_tradable(quantity, price):
        return quantity
    if quote_free is not None and quote_free <= amount:
        return Refused(
            "insufficient_balance",
            f"{plain(quote_free)} {rules.quote} are free, too little for the exchange's minimum order of "
            f"{plain(rules.min_notional)}; add funds",
        )
    return Refused(
        "order_too_small",
        f"{plain(amount)} {rules.quote} buy less than the exchange's minimum of {plain(rules.min_notional)}; "
        "raise capital_per_trade",
    )
