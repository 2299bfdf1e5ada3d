"""What an exchange allows for one symbol: steps, minimums and the two assets, read from its exchange information."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from shared.units import ZERO, round_down, round_up


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolRules:
    """Exchange limits for one symbol. Prices in quote currency, quantities in base currency."""

    symbol: str
    base: str
    quote: str
    tick_size: Decimal
    lot_size: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    min_notional: Decimal
    status: str = "TRADING"
    market_maximum: Decimal | None = None

    @property
    def max_market_quantity(self) -> Decimal:
        """The most that one market order may move."""
        return self.max_quantity if self.market_maximum is None else min(self.max_quantity, self.market_maximum)

    def round_quantity(self, quantity: Decimal) -> Decimal:
        """Largest multiple of `lot_size` not above *quantity* (never rounds risk up)."""
        return round_down(quantity, self.lot_size)

    def round_price_down(self, price: Decimal) -> Decimal:
        """Largest multiple of `tick_size` not above *price*."""
        return round_down(price, self.tick_size)

    def round_price_up(self, price: Decimal) -> Decimal:
        """Smallest multiple of `tick_size` not below *price*."""
        return round_up(price, self.tick_size)

    def is_tradable(self, quantity: Decimal, price: Decimal) -> bool:
        """Whether an order of *quantity* (already rounded) at *price* passes the exchange's minimums."""
        return ZERO < quantity >= self.min_quantity and quantity * price >= self.min_notional

    @classmethod
    def from_exchange_info(cls, document: Mapping[str, Any]) -> SymbolRules:
        """Rules from one entry of Binance's ``exchangeInfo.symbols``. Raises KeyError if a filter is missing."""
        filters: dict[str, Mapping[str, Any]] = {f["filterType"]: f for f in document["filters"]}
        lot = filters["LOT_SIZE"]
        market = filters.get("MARKET_LOT_SIZE")
        notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {}
        return cls(
            symbol=document["symbol"],
            base=document["baseAsset"],
            quote=document["quoteAsset"],
            tick_size=Decimal(filters["PRICE_FILTER"]["tickSize"]).normalize(),
            lot_size=Decimal(lot["stepSize"]).normalize(),
            min_quantity=Decimal(lot["minQty"]),
            max_quantity=Decimal(lot["maxQty"]),
            min_notional=Decimal(notional.get("minNotional", "0")),
            status=document.get("status", "TRADING"),
            market_maximum=Decimal(market["maxQty"]) if market and Decimal(market["maxQty"]) else None,
        )


def rules_of(symbol: str, symbols: Sequence[Mapping[str, Any]]) -> SymbolRules | None:
    """The rules of *symbol* among ``exchangeInfo.symbols``; None if the exchange does not list it."""
    return next((SymbolRules.from_exchange_info(s) for s in symbols if s["symbol"] == symbol), None)
