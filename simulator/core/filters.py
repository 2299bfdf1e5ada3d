"""A symbol's filters: what each refuses, how they are shown, and how they change while the exchange runs.

Pure. Checks take what a customer sent, in atoms, and return ticks or lots, or raise the exchange's -1013.
"""

from __future__ import annotations

from dataclasses import replace

from simulator.core.rules import (
    ATOM_DIGITS,
    ATOMS,
    DEFAULT_STP,
    PPM,
    STP_MODES,
    ApiError,
    SymbolRules,
    filter_failure,
    fixed,
    parse_atoms,
)

ORDER_TYPES = (
    "LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT",
)  # fmt: skip


def check_price(rules: SymbolRules, atoms: int) -> int:
    """Ticks of a price or stop price in *atoms*: PRICE_FILTER."""
    if atoms <= 0:
        raise ApiError(-1013, "Invalid price.")
    ticks, rest = divmod(atoms, rules.tick_atoms)
    if rest or ticks % rules.tick_step or ticks < rules.min_price or (rules.max_price and ticks > rules.max_price):
        raise filter_failure("PRICE_FILTER")
    return ticks


def check_band(rules: SymbolRules, ticks: int, last: int) -> None:
    """PERCENT_PRICE_BY_SIDE: a limit price lies within a band around the *last* price, in ticks."""
    if not last * rules.band_down <= ticks * PPM <= last * rules.band_up:
        raise filter_failure("PERCENT_PRICE_BY_SIDE")


def check_qty(rules: SymbolRules, atoms: int, is_market: bool) -> int:
    """Lots of a quantity in *atoms*: LOT_SIZE, and MARKET_LOT_SIZE for what executes at market."""
    if atoms <= 0:
        raise ApiError(-1013, "Invalid quantity.")
    lots, rest = divmod(atoms, rules.lot_atoms)
    if rest or lots % rules.lot_step or lots < rules.min_lots or (rules.max_lots and lots > rules.max_lots):
        raise filter_failure("LOT_SIZE")
    if is_market and rules.max_market_lots and lots > rules.max_market_lots:
        raise filter_failure("MARKET_LOT_SIZE")
    return lots


def check_notional(rules: SymbolRules, atoms: int) -> None:
    """NOTIONAL: refuse an order worth *atoms* of quote when that is too little or too much."""
    if atoms < rules.min_notional or (rules.max_notional and atoms > rules.max_notional):
        raise filter_failure("NOTIONAL")


def changed(rules: SymbolRules, changes: dict[str, str]) -> SymbolRules:
    """*rules* with new values, given as decimal texts under the names of `CHANGEABLE`. Raises ``ValueError`` with a
    sentence that names field, value and remedy."""
    values: dict[str, int] = {}
    for name, text in changes.items():
        if name not in CHANGEABLE:
            raise ValueError(f"{name} is not a filter of {rules.symbol}: give one of {', '.join(CHANGEABLE)}.")
        field, unit = CHANGEABLE[name]
        try:
            atoms = parse_atoms(name, text)
        except ApiError:
            raise ValueError(f'{name} is {text!r}: give a plain decimal as text, such as "0.1".') from None
        sizes = {"price": rules.tick_atoms, "qty": rules.lot_atoms, "atoms": 1, "ppm": ATOMS // PPM, "count": ATOMS}
        size = sizes[unit]
        if atoms % size:
            raise ValueError(f"{name} is {text!r}: {rules.symbol} knows no part smaller than {fixed(size)}.")
        if not atoms and field in ("tick_step", "lot_step", "min_price", "min_lots"):
            raise ValueError(f"{name} is {text!r}: it must be above 0.")
        if field in ("maker_ppm", "taker_ppm") and atoms >= ATOMS:
            raise ValueError(f"{name} is {text!r}: give a fraction below 1, such as \"0.001\".")
        values[field] = atoms // size
    return replace(rules, **values)  # type: ignore[arg-type]


CHANGEABLE: dict[str, tuple[str, str]] = {
    "tick_size": ("tick_step", "price"),
    "min_price": ("min_price", "price"),
    "max_price": ("max_price", "price"),
    "step_size": ("lot_step", "qty"),
    "min_qty": ("min_lots", "qty"),
    "max_qty": ("max_lots", "qty"),
    "max_market_qty": ("max_market_lots", "qty"),
    "min_notional": ("min_notional", "atoms"),
    "max_notional": ("max_notional", "atoms"),
    "multiplier_up": ("band_up", "ppm"),
    "multiplier_down": ("band_down", "ppm"),
    "max_num_orders": ("max_orders", "count"),
    "max_num_algo_orders": ("max_algo_orders", "count"),
    "max_num_order_lists": ("max_lists", "count"),
    "max_position": ("max_position", "atoms"),
    "maker_fee": ("maker_ppm", "ppm"),
    "taker_fee": ("taker_ppm", "ppm"),
}


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
        "orderTypes": list(ORDER_TYPES),
        "icebergAllowed": False,
        "ocoAllowed": True,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
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
    up, down = _multiplier(rules.band_up), _multiplier(rules.band_down)
    shown: list[dict[str, object]] = [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": rules.price_text(rules.min_price),
            "maxPrice": rules.price_text(rules.max_price),
            "tickSize": rules.price_text(rules.tick_step),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": rules.qty_text(rules.min_lots),
            "maxQty": rules.qty_text(rules.max_lots),
            "stepSize": rules.qty_text(rules.lot_step),
        },
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": fixed(0),
            "maxQty": rules.qty_text(rules.max_market_lots),
            "stepSize": fixed(0),
        },
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
            "minNotional": fixed(rules.min_notional),
            "applyMinToMarket": True,
            "maxNotional": fixed(rules.max_notional),
            "applyMaxToMarket": True,
            "avgPriceMins": 0,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": rules.max_orders},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": rules.max_algo_orders},
        {"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": rules.max_lists},
    ]
    if rules.max_position:
        shown.append({"filterType": "MAX_POSITION", "maxPosition": fixed(rules.max_position)})
    return shown


def _multiplier(ppm: int) -> str:
    return f"{ppm / PPM:.6f}".rstrip("0").rstrip(".")
