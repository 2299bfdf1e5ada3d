"""What an exchange allows for a symbol."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.symbols import SymbolRules, rules_of

D = Decimal
BTCUSDT = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00", "maxQty": "107.70000000", "stepSize": "0.00000000"},
        {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True},
    ],
}


def changed(name, **values):
    filters = [f | values if f["filterType"] == name else f for f in BTCUSDT["filters"]]
    return BTCUSDT | {"filters": filters}


def without(name):
    return BTCUSDT | {"filters": [f for f in BTCUSDT["filters"] if f["filterType"] != name]}


def test_the_rules_are_read_from_the_exchange_information():
    assert SymbolRules.from_exchange_info(BTCUSDT) == SymbolRules(
        symbol="BTCUSDT", base="BTC", quote="USDT", tick_size=D("0.01"), lot_size=D("0.00001"),
        min_quantity=D("0.00001"), max_quantity=D(9000), min_notional=D(5), status="TRADING", market_maximum=D("107.7"),
    )  # fmt: skip


def test_the_older_name_of_the_least_order_is_understood():
    old = without("NOTIONAL")
    old["filters"].append({"filterType": "MIN_NOTIONAL", "minNotional": "10"})

    assert SymbolRules.from_exchange_info(old).min_notional == 10
    assert SymbolRules.from_exchange_info(without("NOTIONAL")).min_notional == 0


@pytest.mark.parametrize("needed", ["PRICE_FILTER", "LOT_SIZE"])
def test_a_missing_filter_is_an_error(needed):
    with pytest.raises(KeyError):
        SymbolRules.from_exchange_info(without(needed))


@pytest.mark.parametrize(
    ("document", "most"),
    [(BTCUSDT, "107.7"), (without("MARKET_LOT_SIZE"), "9000"), (changed("MARKET_LOT_SIZE", maxQty="0.00"), "9000")],
)
def test_a_market_order_has_a_limit_of_its_own(document, most):
    assert SymbolRules.from_exchange_info(document).max_market_quantity == D(most)


def test_a_symbol_is_found_by_name():
    assert rules_of("BTCUSDT", [BTCUSDT]).base == "BTC"
    assert rules_of("ETHUSDT", [BTCUSDT]) is None


@pytest.mark.parametrize(
    ("quantity", "price", "tradable"),
    [
        ("0.00008", "62500", True),  # worth exactly 5
        ("0.00007", "62500", False),  # 4.375
        ("0", "62500", False),
        ("-1", "62500", False),
        ("0.000009", "1000000", False),  # below the least quantity
    ],
)
def test_an_order_has_a_least_size_and_worth(quantity, price, tradable):
    assert SymbolRules.from_exchange_info(BTCUSDT).is_tradable(D(quantity), D(price)) is tradable


@given(st.decimals("0", "10000", places=8), st.decimals("0.01", "1000000", places=8))
def test_rounding_never_adds_risk(quantity, price):
    rules = SymbolRules.from_exchange_info(BTCUSDT)

    assert rules.round_quantity(quantity) <= quantity
    assert rules.round_price_down(price) <= price <= rules.round_price_up(price)
