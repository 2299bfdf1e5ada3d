"""What the API gives of exchanges: candles, prices, symbols and balances, with an example of each."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from server.api.schemas import Given, list_of
from server.api.wire import documented


class Candle(Given):
    open_ms: int = Field(description="When it opened, market time in UTC ms.")
    open: str
    high: str
    low: str
    close: str
    volume: str = Field(description="In the base asset.")
    closed: bool = Field(description="Whether it can still change.")


class MarketPrice(Given):
    exchange: str
    symbol: str
    price: str


class MarketSymbol(Given):
    symbol: str
    base: str
    quote: str
    tick_size: str
    lot_size: str
    min_quantity: str
    max_quantity: str
    min_notional: str


class AssetBalance(Given):
    asset: str
    free: str
    locked: str = Field(description="Tied up in orders.")


class AccountBalances(Given):
    credential_id: int
    name: str
    exchange: str
    balances: list[AssetBalance]
    problem: str | None = Field(description="Why the balances could not be read.")


CANDLE: dict[str, Any] = {
    "open_ms": 1_795_185_120_000,
    "open": "97548.1",
    "high": "97559.8",
    "low": "97524",
    "close": "97531.6",
    "volume": "1.204",
    "closed": True,
}
BALANCES: dict[str, Any] = {
    "credential_id": 1,
    "name": "simulator account 1",
    "exchange": "simulator",
    "balances": [{"asset": "USDC", "free": "9799.42", "locked": "200.58"}],
    "problem": None,
}
PRICE: dict[str, Any] = {"exchange": "simulator", "symbol": "BTCUSDC", "price": "97531.6"}
SYMBOL: dict[str, Any] = {
    "symbol": "BTCUSDC",
    "base": "BTC",
    "quote": "USDC",
    "tick_size": "0.01",
    "lot_size": "0.00001",
    "min_quantity": "0.00001",
    "max_quantity": "9000",
    "min_notional": "5",
}

documented(MarketPrice, PRICE)
CandleList = list_of(Candle, CANDLE)
SymbolList = list_of(MarketSymbol, SYMBOL)
BalancesList = list_of(AccountBalances, BALANCES)
