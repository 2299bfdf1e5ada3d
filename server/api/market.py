"""Candles, prices and symbols of the exchanges, as the server last read them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from flask import Response, current_app, jsonify
from pydantic import BaseModel, Field
from sqlalchemy import Row, func, select

from server.api.market_schemas import BalancesList, CandleList, MarketPrice, SymbolList
from server.api.schemas import Symbol
from server.api.wire import blueprint, caller, engine, error_response, limiter
from server.market import MAX_CANDLES, Bar, ExchangeSilent, Market
from server.security.roles import Role, needs
from server.security.secrets import Vault, open_credential
from server.storage.engine import read
from server.storage.fleet import place_problems
from server.storage.models import Bot, Credential, Fill
from shared.errors import FlotillaError, Refused
from shared.intervals import INTERVAL_MS
from shared.symbols import SymbolRules
from shared.units import plain

api = blueprint("market", "What exchanges say about their markets")

CALLS = "120 per minute"
_INTERVALS = tuple(INTERVAL_MS)
Exchange = Literal["simulator", "binance", "binance_testnet"]


def market() -> Market:
    """The app's reads of exchanges."""
    found: Market = current_app.extensions["flotilla"].market
    return found


def by_caller() -> str:
    """Whose calls are counted: an exchange's patience is shared by all bots of this address."""
    return f"market {caller().owner}"


limit_calls = limiter.shared_limit(CALLS, scope="market", key_func=by_caller)


class SymbolsQuery(BaseModel):
    exchange: Exchange = Field("simulator", description="Which exchange.", json_schema_extra={"example": "simulator"})


class PriceQuery(SymbolsQuery):
    symbol: Symbol = Field(description="Which market.", json_schema_extra={"example": "BTCUSDC"})


class CandlesQuery(PriceQuery):
    interval: Literal[_INTERVALS] = Field(  # type: ignore[valid-type]
        "1m", description="Length of a candle.", json_schema_extra={"example": "1m"}
    )
    limit: int = Field(
        500, ge=1, le=MAX_CANDLES, description="How many candles at most.", json_schema_extra={"example": 120}
    )
    before: int | None = Field(
        None,
        ge=0,
        le=2**53,
        description="Only candles that open before this time (UTC ms).",
        json_schema_extra={"example": 1_795_185_120_000},
    )


@api.get("/api/market/candles", responses={200: CandleList})
@needs(Role.VIEWER)
@limit_calls
def list_candles(query: CandlesQuery) -> Response:
    """The newest candles, or those before a time, oldest first. The last one may still form: `closed` says so."""
    _require_used(query.exchange)
    try:
        bars = market().candles(query.exchange, query.symbol, query.interval, limit=query.limit, before_ms=query.before)
    except ExchangeSilent as silence:
        return _silent(silence)
    items = [bar_document(bar) for bar in bars]
    return jsonify({"items": items, "next_cursor": None})


@api.get("/api/market/price", responses={200: MarketPrice})
@needs(Role.VIEWER)
@limit_calls
def get_price(query: PriceQuery) -> Response:
    """The price of the last trade, at most ten seconds old."""
    _require_used(query.exchange)
    try:
        price = market().price(query.exchange, query.symbol)
    except ExchangeSilent as silence:
        return _silent(silence)
    return jsonify({"exchange": query.exchange, "symbol": query.symbol, "price": plain(price)})


@api.get("/api/balances", responses={200: BalancesList})
@needs(Role.VIEWER)
@limit_calls
def list_balances() -> Response:
    """What each account holds, at most a minute old; read again after a trade. `problem` says why there is none."""
    vault: Vault = current_app.extensions["flotilla"].vault
    with read(engine()) as connection:
        rows = connection.execute(select(Credential).order_by(Credential.id)).all()
        latest = connection.execute(select(func.max(Fill.id))).scalar() or 0
    return jsonify({"items": [_account(row, vault, latest) for row in rows], "next_cursor": None})


def _account(row: Row[Any], vault: Vault, latest_fill: int) -> dict[str, Any]:
    found: dict[str, Any] = {"credential_id": row.id, "name": row.name, "exchange": row.exchange}
    try:
        with read(engine()) as connection:
            api_key, api_secret = open_credential(connection, vault, row.id)
        held = market().balances(row.exchange, api_key, api_secret, latest_fill)
    except FlotillaError as error:
        return found | {"balances": [], "problem": error.message}
    balances = [{"asset": b.asset, "free": plain(b.free), "locked": plain(b.locked)} for b in held]
    return found | {"balances": balances, "problem": None}


@api.get("/api/market/symbols", responses={200: SymbolList})
@needs(Role.VIEWER)
@limit_calls
def list_symbols(query: SymbolsQuery) -> Response:
    """All symbols that trade on an exchange, with what it allows for each."""
    _require_used(query.exchange)
    try:
        found = market().symbols(query.exchange)
    except ExchangeSilent as silence:
        return _silent(silence)
    return jsonify({"items": [symbol_document(rules) for rules in found], "next_cursor": None})


def _require_used(exchange: str) -> None:
    """Raises `Refused` for an exchange where no bot can trade and none does."""
    problem = place_problems(exchange, "trade").get("exchange")
    if problem is None:
        return
    with read(engine()) as connection:
        used = select(Bot.id).where(Bot.exchange == exchange, Bot.archived_ms.is_(None)).limit(1)
        if connection.execute(used).first() is None:
            raise Refused(f"No bot trades at {exchange}, so nothing is read there.", fields={"exchange": problem})


def bar_document(bar: Bar) -> dict[str, Any]:
    """A candle as the API shows it."""
    prices = {name: plain(getattr(bar, name)) for name in ("open", "high", "low", "close", "volume")}
    return {"open_ms": bar.open_ms, **prices, "closed": bar.is_closed}


def symbol_document(rules: SymbolRules) -> dict[str, Any]:
    """A symbol's limits as the API shows them."""
    names = ("tick_size", "lot_size", "min_quantity", "max_quantity", "min_notional")
    document = asdict(rules)
    return {n: document[n] for n in ("symbol", "base", "quote")} | {n: plain(document[n]) for n in names}


def _silent(silence: ExchangeSilent) -> Response:
    fields = {"silent_since": str(silence.since_ms)}
    return error_response(503, silence.code, silence.message, fields, Retry_After=str(silence.retry_s))
