"""How large an entry may be, and whether it may be at all: figures in, a quantity or a refusal with figures out."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from shared.config import TradingConfig
from shared.positions import Counters
from shared.symbols import SymbolRules
from shared.units import ZERO, plain

_FEE_MARGIN: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Why an entry is held back; *code* counts, *message* is for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the checks need to know. *unrealised* is over all open positions, of which *pending* have no fill yet;
    refused entries set *paused_until_ms*.
    """

    open_positions: int
    unrealised: Decimal
    counters: Counters
    pending: int = 0
    paused_until_ms: int = 0


def check_entry(now_ms: int, account: Account, config: TradingConfig, rules: SymbolRules) -> HeldBack | None:
    """The first limit that forbids an entry at *now_ms* (market time); the counters' day must be today."""
    counters = account.counters
    if rules.status != "TRADING":
        return HeldBack("not_trading", f"{rules.symbol} is not traded now: the exchange says {rules.status}")
    if now_ms < account.paused_until_ms:
        return HeldBack("entries_refused", "the exchange refused the last entry; the next try comes later each time")
    if account.open_positions >= config.max_positions:
        return HeldBack("max_positions", f"{account.open_positions} of {config.max_positions} positions are open")
    if counters.last_closed_ms is not None and now_ms < counters.last_closed_ms + config.cooldown * 1000:
        return HeldBack("cooldown", f"cooldown of {config.cooldown} s since the last position closed")
    if config.max_daily_trades is not None and counters.day_entries + account.pending >= config.max_daily_trades:
        waiting = f", {account.pending} pending" if account.pending else ""
        text = f"{counters.day_entries} of {config.max_daily_trades} entries today{waiting}"
        return HeldBack("max_daily_trades", text)
    if config.max_daily_loss is not None:
        loss = -(counters.day_pnl + account.unrealised)
        if loss >= config.max_daily_loss:
            return HeldBack(
                "max_daily_loss",
                f"lost {plain(loss)} of at most {plain(config.max_daily_loss)} {rules.quote} today, until 00:00 UTC",
            )
    return None


def size_entry(
    price: Decimal, quote_free: Decimal | None, config: TradingConfig, rules: SymbolRules
) -> Decimal | HeldBack:
    """Quantity in base for an entry at *price*: the smallest of the configured sizes and what is free, in lots.

    Held back is also what could be bought, but after fees no longer be sold at its stop.
    """
    if price <= ZERO:
        return HeldBack("no_price", "entry_offset_ticks puts the entry price at or below 0; lower it")
    amount = config.capital_per_trade
    if config.max_position_size is not None:
        amount = min(amount, config.max_position_size)
    if quote_free is not None:
        amount = min(amount, quote_free)
    most = rules.max_market_quantity if config.entry_order_type == "market" else rules.max_quantity
    quantity = rules.round_quantity(min(max(amount, ZERO) / price, most))
    rest = rules.round_quantity(quantity * (1 - _FEE_MARGIN))
    lowest = price * (1 - (config.stop_loss_pct or ZERO))
    if rules.is_tradable(rest, lowest):
        return quantity
    least = f"the exchange's minimum order of {plain(rules.min_notional)}, stop and fees included"
    if quote_free is not None and quote_free <= amount:
        return HeldBack(
            "insufficient_balance", f"{plain(quote_free)} {rules.quote} are free, too little for {least}; add funds"
        )
    return HeldBack(
        "order_too_small", f"{plain(amount)} {rules.quote} are too little for {least}; raise capital_per_trade"
    )
