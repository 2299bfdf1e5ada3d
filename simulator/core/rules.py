"""Symbols, exact decimal text, and the exchange's errors.

Pure. Inside the simulator every price is an integer number of *ticks*, every quantity an integer number of *lots*,
and every balance or notional an integer number of *atoms* (1e-8 of the asset), so that nothing is ever rounded by
accident. This module alone knows how those integers are written on the wire. Which orders a symbol's filters refuse
is said in ``filters.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ATOM_DIGITS = 8
ATOMS: int = 10**ATOM_DIGITS
PPM = 1_000_000
DECIMAL_PATTERN = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
CLIENT_ID_PATTERN = r"^[a-zA-Z0-9-_]{1,36}$"
ORDER_ID_PATTERN = r"^[0-9]{1,20}$"
QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD", "EUR", "TRY", "BTC", "ETH", "BNB")
STP_MODES = ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT")
DEFAULT_STP = "EXPIRE_MAKER"
STATUSES = ("TRADING", "HALT", "BREAK", "CANCEL_ONLY", "END_OF_DAY")
TRADING = "TRADING"

_DECIMAL = re.compile(DECIMAL_PATTERN)


class ApiError(Exception):
    """A refusal in the exchange's own words: HTTP *status* and a body ``{"code", "msg"}``, with *data* if there is."""

    def __init__(
        self, code: int, msg: str, status: int = 400, headers: dict[str, str] | None = None, data: object = None
    ) -> None:
        super().__init__(msg)
        self.code, self.msg, self.status, self.headers, self.data = code, msg, status, headers or {}, data

    def body(self) -> dict[str, object]:
        """The error as JSON."""
        body: dict[str, object] = {"code": self.code, "msg": self.msg}
        return body if self.data is None else {**body, "data": self.data}


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


def not_valid(name: str) -> ApiError:
    """-1130: a parameter holds none of the values it may have."""
    return ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolRules:
    """One symbol: its units, fees and limits. A tick is 10^-price_digits of the quote, a lot 10^-qty_digits of the
    base asset; steps and limits are in ticks, lots and atoms. 0 switches a limit with a ``max_`` name off."""

    symbol: str
    base: str
    quote: str
    price_digits: int
    qty_digits: int
    maker_ppm: int = 1000
    taker_ppm: int = 1000
    tick_step: int = 1
    min_price: int = 1
    max_price: int = 10**12
    lot_step: int = 1
    min_lots: int = 1
    max_lots: int = 10**12
    max_market_lots: int = 10**12
    min_notional: int = 5 * ATOMS
    max_notional: int = 9_000_000 * ATOMS
    band_up: int = 5 * PPM  # a limit price is at most last × band_up / 10⁶
    band_down: int = PPM // 5
    max_orders: int = 200
    max_algo_orders: int = 5
    max_lists: int = 20
    max_position: int = 0  # atoms of base, open buys counted in
    # Powers of ten that follow from the digits; fields, since they are needed for every fill.
    tick_atoms: int = 0
    lot_atoms: int = 0
    notional_atoms: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tick_atoms", 10 ** (ATOM_DIGITS - self.price_digits))
        object.__setattr__(self, "lot_atoms", 10 ** (ATOM_DIGITS - self.qty_digits))
        object.__setattr__(self, "notional_atoms", 10 ** (ATOM_DIGITS - self.price_digits - self.qty_digits))

    def cost(self, price: int, qty: int) -> int:
        """Atoms of quote that *qty* lots are worth at *price* ticks."""
        return price * qty * self.notional_atoms

    def price_text(self, ticks: int) -> str:
        """Price on the wire, padded to 8 places."""
        return fixed(ticks * self.tick_atoms)

    def qty_text(self, lots: int) -> str:
        """Quantity on the wire, padded to 8 places."""
        return fixed(lots * self.lot_atoms)


def make_rules(
    symbol: str, base: str, quote: str, price_digits: int, qty_digits: int, *, max_qty: int = 9000,
    max_market_qty: int = 0, maker_ppm: int = 1000,
) -> SymbolRules:  # fmt: skip
    """A symbol with the exchange's usual limits; quantities in whole base units."""
    lots = 10**qty_digits
    return SymbolRules(
        symbol=symbol, base=base, quote=quote, price_digits=price_digits, qty_digits=qty_digits, maker_ppm=maker_ppm,
        max_price=1_000_000 * 10**price_digits, max_lots=max_qty * lots,
        max_market_lots=(max_market_qty or max_qty) * lots,
    )  # fmt: skip


SYMBOLS: dict[str, SymbolRules] = {
    rules.symbol: rules
    for rules in (
        make_rules("BTCUSDT", "BTC", "USDT", 2, 5, max_market_qty=140),
        make_rules("ETHUSDT", "ETH", "USDT", 2, 4, max_market_qty=2800),
        make_rules("BTCUSDC", "BTC", "USDC", 2, 5, max_market_qty=140, maker_ppm=0),
        make_rules("ETHUSDC", "ETH", "USDC", 2, 4, max_market_qty=2800, maker_ppm=0),
        make_rules("BNBUSDT", "BNB", "USDT", 2, 3, max_market_qty=5000),
        make_rules("BNBUSDC", "BNB", "USDC", 2, 3, max_market_qty=5000, maker_ppm=0),
    )
}


def rules_for(symbol: str, price_digits: int, qty_digits: int) -> SymbolRules | None:
    """Rules of *symbol*; for one that is not built in, made from the decimals its data uses (``None``: cannot be)."""
    if symbol in SYMBOLS:
        return SYMBOLS[symbol]
    quote = next((q for q in QUOTES if symbol.endswith(q) and len(symbol) > len(q)), None)
    if quote is None or price_digits + qty_digits > ATOM_DIGITS:
        return None
    return make_rules(symbol, symbol[: -len(quote)], quote, price_digits, qty_digits, max_qty=90_000_000)


def fixed(atoms: int) -> str:
    """Decimal text of *atoms* (1e-8), always with 8 places."""
    if atoms < 0:
        return "-" + fixed(-atoms)
    digits = str(atoms)
    if len(digits) <= ATOM_DIGITS:
        digits = digits.zfill(ATOM_DIGITS + 1)
    return f"{digits[:-ATOM_DIGITS]}.{digits[-ATOM_DIGITS:]}"


def parse_atoms(name: str, text: str) -> int:
    """Atoms in a decimal parameter; -1100 when it is not a decimal, -1111 beyond 8 places."""
    match = _DECIMAL.match(text)
    if match is None or text.endswith("\n"):
        raise illegal(name, DECIMAL_PATTERN)
    part = (match[2] or ".")[1:].rstrip("0")
    if len(part) > ATOM_DIGITS:
        raise ApiError(-1111, f"Parameter '{name}' has too much precision.")
    return int(match[1]) * ATOMS + int(part.ljust(ATOM_DIGITS, "0"))
