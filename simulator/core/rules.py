"""Symbols, their limits and fees, exact decimal text, and the exchange's errors.

Pure. Inside the simulator every price is an integer number of *ticks*, every quantity an integer number of *lots*,
and every balance or notional an integer number of *atoms* (1e-8 of the asset), so that nothing is ever rounded by
accident. This module alone knows how those integers are written on the wire, and which orders a symbol's filters
refuse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ATOM_DIGITS = 8
ATOMS: int = 10**ATOM_DIGITS
DECIMAL_PATTERN = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
CLIENT_ID_PATTERN = r"^[a-zA-Z0-9-_]{1,36}$"
ORDER_ID_PATTERN = r"^[0-9]{1,20}$"
QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD", "EUR", "TRY", "BTC", "ETH", "BNB")
STP_MODES = ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT")
DEFAULT_STP = "EXPIRE_MAKER"
MAX_OPEN_ORDERS = 200
PRICE_BAND = 5  # PERCENT_PRICE_BY_SIDE: a limit price lies within last/5 … last*5

_DECIMAL = re.compile(DECIMAL_PATTERN)


class ApiError(Exception):
    """A refusal in the exchange's own words: HTTP *status* and a body ``{"code", "msg"}``."""

    def __init__(self, code: int, msg: str, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(msg)
        self.code, self.msg, self.status, self.headers = code, msg, status, headers or {}


def filter_failure(name: str) -> ApiError:
    """-1013 naming the filter that refused the order."""
    return ApiError(-1013, f"Filter failure: {name}")


def rejected(msg: str) -> ApiError:
    """-2010: the matching engine refused a new order."""
    return ApiError(-2010, msg)


def mandatory(name: str) -> ApiError:
    """-1102: a parameter is missing, empty or malformed."""
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def illegal(name: str, pattern: str) -> ApiError:
    """-1100: a parameter holds characters outside its pattern."""
    return ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{pattern}'.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolRules:
    """One symbol's limits. A tick is 10^-price_digits of the quote, a lot 10^-qty_digits of the base asset."""

    symbol: str
    base: str
    quote: str
    price_digits: int
    qty_digits: int
    maker_ppm: int = 1000
    taker_ppm: int = 1000
    min_lots: int = 1
    max_qty: int = 9000  # in base units
    max_price: int = 1_000_000  # in quote units
    min_notional: int = 5  # in quote units
    max_notional: int = 9_000_000

    @property
    def tick_atoms(self) -> int:
        """Atoms of quote in one tick of price."""
        return int(10 ** (ATOM_DIGITS - self.price_digits))

    @property
    def lot_atoms(self) -> int:
        """Atoms of base in one lot."""
        return int(10 ** (ATOM_DIGITS - self.qty_digits))

    @property
    def notional_atoms(self) -> int:
        """Atoms of quote in one tick × one lot."""
        return int(10 ** (ATOM_DIGITS - self.price_digits - self.qty_digits))

    def cost(self, price: int, qty: int) -> int:
        """Atoms of quote that *qty* lots are worth at *price* ticks."""
        return price * qty * self.notional_atoms

    def price_text(self, ticks: int) -> str:
        """Price on the wire, padded to 8 places."""
        return fixed(ticks * self.tick_atoms)

    def qty_text(self, lots: int) -> str:
        """Quantity on the wire, padded to 8 places."""
        return fixed(lots * self.lot_atoms)

    def check_price(self, atoms: int, last: int, side: str) -> int:
        """Ticks of a limit price given in *atoms*; *last* is the last trade's price in ticks."""
        if atoms <= 0:
            raise ApiError(-1013, "Invalid price.")
        if atoms % self.tick_atoms or atoms > self.max_price * ATOMS:
            raise filter_failure("PRICE_FILTER")
        ticks = atoms // self.tick_atoms
        if ticks > last * PRICE_BAND or ticks * PRICE_BAND < last:
            raise filter_failure("PERCENT_PRICE_BY_SIDE")
        return ticks

    def check_qty(self, atoms: int) -> int:
        """Lots of a quantity given in *atoms*."""
        if atoms <= 0:
            raise ApiError(-1013, "Invalid quantity.")
        if atoms % self.lot_atoms or atoms > self.max_qty * ATOMS or atoms < self.min_lots * self.lot_atoms:
            raise filter_failure("LOT_SIZE")
        return atoms // self.lot_atoms

    def check_notional(self, atoms: int) -> None:
        """Refuse an order worth *atoms* of quote when that is too little or too much."""
        if not self.min_notional * ATOMS <= atoms <= self.max_notional * ATOMS:
            raise filter_failure("NOTIONAL")


SYMBOLS: dict[str, SymbolRules] = {
    rules.symbol: rules
    for rules in (
        SymbolRules(symbol="BTCUSDT", base="BTC", quote="USDT", price_digits=2, qty_digits=5),
        SymbolRules(symbol="ETHUSDT", base="ETH", quote="USDT", price_digits=2, qty_digits=4),
        SymbolRules(symbol="BTCUSDC", base="BTC", quote="USDC", price_digits=2, qty_digits=5, maker_ppm=0),
        SymbolRules(symbol="ETHUSDC", base="ETH", quote="USDC", price_digits=2, qty_digits=4, maker_ppm=0),
    )
}


def rules_for(symbol: str, price_digits: int, qty_digits: int) -> SymbolRules | None:
    """Rules of *symbol*; for one that is not built in, made from the decimals its data uses (``None``: cannot be)."""
    if symbol in SYMBOLS:
        return SYMBOLS[symbol]
    quote = next((q for q in QUOTES if symbol.endswith(q) and len(symbol) > len(q)), None)
    if quote is None or price_digits + qty_digits > ATOM_DIGITS:
        return None
    return SymbolRules(
        symbol=symbol,
        base=symbol[: -len(quote)],
        quote=quote,
        price_digits=price_digits,
        qty_digits=qty_digits,
        max_qty=90_000_000,
    )


def fixed(atoms: int) -> str:
    """Decimal text of *atoms* (1e-8), always with 8 places."""
    sign = "-" if atoms < 0 else ""
    whole, part = divmod(abs(atoms), ATOMS)
    return f"{sign}{whole}.{part:08d}"


def parse_atoms(name: str, text: str) -> int:
    """Atoms in a decimal parameter; -1100 when it is not a decimal, -1111 beyond 8 places."""
    match = _DECIMAL.match(text)
    if match is None or text.endswith("\n"):
        raise illegal(name, DECIMAL_PATTERN)
    part = (match[2] or ".")[1:].rstrip("0")
    if len(part) > ATOM_DIGITS:
        raise ApiError(-1111, f"Parameter '{name}' has too much precision.")
    return int(match[1]) * ATOMS + int(part.ljust(ATOM_DIGITS, "0"))


def symbol_info(rules: SymbolRules, status: str) -> dict[str, object]:
    """The symbol's object in ``exchangeInfo``."""
    return {
        "symbol": rules.symbol,
        "status": status,
        "baseAsset": rules.base,
        "baseAssetPrecision": ATOM_DIGITS,
        "quoteAsset": rules.quote,
        "quotePrecision": ATOM_DIGITS,
        "quoteAssetPrecision": ATOM_DIGITS,
        "baseCommissionPrecision": ATOM_DIGITS,
        "quoteCommissionPrecision": ATOM_DIGITS,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _filters(rules),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": DEFAULT_STP,
        "allowedSelfTradePreventionModes": list(STP_MODES),
    }


def _filters(rules: SymbolRules) -> list[dict[str, object]]:
    tick, lot = fixed(rules.tick_atoms), fixed(rules.lot_atoms)
    max_qty = fixed(rules.max_qty * ATOMS)
    up, down = str(PRICE_BAND), f"{1 / PRICE_BAND:g}"
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": fixed(rules.max_price * ATOMS), "tickSize": tick},
        {
            "filterType": "LOT_SIZE",
            "minQty": fixed(rules.min_lots * rules.lot_atoms),
            "maxQty": max_qty,
            "stepSize": lot,
        },
        {"filterType": "MARKET_LOT_SIZE", "minQty": fixed(0), "maxQty": max_qty, "stepSize": fixed(0)},
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": up,
            "bidMultiplierDown": down,
            "askMultiplierUp": up,
            "askMultiplierDown": down,
            "avgPriceMins": 0,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": fixed(rules.min_notional * ATOMS),
            "applyMinToMarket": True,
            "maxNotional": fixed(rules.max_notional * ATOMS),
            "applyMaxToMarket": True,
            "avgPriceMins": 0,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": MAX_OPEN_ORDERS},
    ]
