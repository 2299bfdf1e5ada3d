"""How pages write amounts, prices, ages and times; one way for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from server.storage.times import iso
from shared.units import ZERO, plain

_QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "EUR", "USD", "BTC", "ETH", "BNB")
_MOST_DECIMALS = 8
_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Pnl:
    """An amount in quote: *text* has sign and two decimals or more, *exact* every digit."""

    text: str
    exact: str
    css: str
    arrow: str


def split_symbol(symbol: str) -> tuple[str, str]:
    """Base and quote asset as a person reads the symbol; the quote is empty if it is none of the usual ones."""
    for quote in _QUOTES:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    return symbol, ""


def place_of(exchange: str, mode: str) -> str:
    """Where a bot's money is: live, testnet, paper or simulator."""
    if mode == "paper":
        return "paper"
    return {"binance": "live", "binance_testnet": "testnet"}.get(exchange, "simulator")


def pnl(amount: Decimal) -> Pnl:
    """An amount with its sign and direction."""
    if amount == ZERO:
        return Pnl(text="0.00", exact="0", css="muted", arrow="")
    shown = f"{abs(amount):,.2f}" if abs(amount) >= Decimal("0.01") else f"{abs(amount):,.6f}"
    up = amount > 0
    sign = "+" if up else "−"
    return Pnl(text=sign + shown, exact=sign + plain(abs(amount)), css="up" if up else "down", arrow="▲" if up else "▼")


def money(amount: Decimal) -> str:
    """An amount without a sign of gain or loss: ``12,480.06``; tiny ones keep their first digits: ``0.000153``."""
    if amount == ZERO or abs(amount) >= Decimal("0.01"):
        return f"{amount:,.2f}".replace("-", "−")
    return f"{amount:,.6f}".replace("-", "−")


def price(amount: Decimal) -> str:
    """A price with its own decimals, and at least as many as its size needs: ``97,288.00``, ``0.38127``.

    What has more than an exchange has was computed, such as an average: six digits that count are shown of it.
    """
    size = 2 if amount >= 100 else 4 if amount >= Decimal("0.1") else 8
    own = len(plain(amount).partition(".")[2])
    if own > _MOST_DECIMALS:
        own = max(0, _DIGITS - 1 - amount.adjusted())
    return f"{amount:,.{max(size, own)}f}"


def exact_price(amount: Decimal | None) -> str:
    """Every digit, for a title; empty where there is no price."""
    return "" if amount is None else plain(amount)


def duration(ms: int) -> str:
    """``8 s``, ``14 min``, ``3 h 20 min``, ``2 d 4 h``."""
    seconds = max(0, ms) // 1000
    if seconds < 120:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def clock(ms: int) -> str:
    """``2026-11-20 14:32:08 UTC``."""
    text = iso(ms) or ""
    return f"{text[:10]} {text[11:19]} UTC"
