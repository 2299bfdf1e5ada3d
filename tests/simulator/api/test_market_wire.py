"""How market data is written: rounding, empty windows, field order."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.api.market_wire import average_text, day_row, mini_row, percent_text, window_event
from simulator.core.rules import SYMBOLS
from simulator.market.candles import Trade
from simulator.market.depth import NOTHING, Best
from simulator.market.tickers import Stats

BTC = SYMBOLS["BTCUSDT"]
DAY = Stats(
    open_ms=1, close_ms=2, open=200_00, high=250_00, low=190_00, close=210_00, volume=300_000, quote=6_000_000_000,
    count=4, first_id=7, last_id=12,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "of", "text"),
    [(0, 100, "0.000"), (-95_960, 100_000, "-95.960"), (1, 3, "33.333"), (2, 3, "66.667"), (-1, 10**9, "0.000"),
     (5, 0, "0.000"), (1, 200_000, "0.001"), (30, 10, "300.000")],
)  # fmt: skip
def test_a_change_in_per_cent_has_three_places(change, of, text):
    assert percent_text(change, of) == text


@given(quote=st.integers(1, 10**18), volume=st.integers(1, 10**12))
def test_an_average_is_off_by_at_most_half_an_atom(quote, volume):
    shown = Fraction(average_text(BTC, quote, volume))
    assert abs(shown - Fraction(quote, volume) / 100) <= Fraction(1, 2 * 10**8)


def test_the_full_day_has_the_documented_fields_in_order():
    row = day_row(BTC, DAY, Trade(6, 0, 199_00, 1, False), Trade(12, 2, 210_00, 5, True), Best(9, (1, 2), (3, 4)))
    assert row == {
        "symbol": "BTCUSDT",
        "priceChange": "10.00000000",
        "priceChangePercent": "5.000",
        "weightedAvgPrice": "200.00000000",
        "prevClosePrice": "199.00000000",
        "lastPrice": "210.00000000",
        "lastQty": "0.00005000",
        "bidPrice": "0.01000000",
        "bidQty": "0.00002000",
        "askPrice": "0.03000000",
        "askQty": "0.00004000",
        "openPrice": "200.00000000",
        "highPrice": "250.00000000",
        "lowPrice": "190.00000000",
        "volume": "3.00000000",
        "quoteVolume": "600.00000000",
        "openTime": 1,
        "closeTime": 2,
        "firstId": 7,
        "lastId": 12,
        "count": 4,
    }
    assert list(row)[4:11] == [
        "prevClosePrice", "lastPrice", "lastQty", "bidPrice", "bidQty", "askPrice", "askQty",
    ]  # fmt: skip


def test_nothing_traded_is_written_as_zeros():
    row = day_row(BTC, Stats(open_ms=1, close_ms=2), None, Trade(1, 0, 5, 5, False), Best(0, NOTHING, NOTHING))
    assert {row[name] for name in row if name.endswith(("Price", "Qty", "olume"))} == {"0.00000000"}
    assert (row["priceChangePercent"], row["firstId"], row["lastId"], row["count"]) == ("0.000", -1, -1, 0)


def test_the_short_form_has_no_change_and_no_book():
    assert list(mini_row(BTC, DAY)) == [
        "symbol", "openPrice", "highPrice", "lowPrice", "lastPrice", "volume", "quoteVolume", "openTime", "closeTime",
        "firstId", "lastId", "count",
    ]  # fmt: skip


def test_a_window_event_has_no_book_either():
    event = window_event(BTC, "4h", DAY, 99)
    assert event["e"] == "4hTicker"
    assert set(event) == set("eEspPwohlcvqOCFLn")
