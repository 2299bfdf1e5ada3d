"""Public market data over HTTP: fields, windows, refusals, and that the endpoints agree with one another."""

from __future__ import annotations

import time
from decimal import Decimal
from urllib.parse import quote, urlencode

import pytest

DAY_MS = 86_400_000


def market(simulator, path: str, **params: object):
    return simulator.get(f"/api/v3/{path}?{urlencode(params)}").json


def all_of(simulator) -> list[str]:
    return [row["symbol"] for row in market(simulator, "exchangeInfo")["symbols"]]


def symbols(*names: str) -> str:
    return "[" + ",".join(f'"{name}"' for name in names) + "]"


def test_a_book_is_ordered_and_names_its_update(simulator):
    book = market(simulator, "depth", symbol="BTCUSDT", limit=5000)
    assert list(book) == ["lastUpdateId", "bids", "asks"]
    bids, asks = ([Decimal(price) for price, _ in book[side]] for side in ("bids", "asks"))
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    assert all(len(level) == 2 and Decimal(level[1]) > 0 for level in book["bids"] + book["asks"])
    later = market(simulator, "depth", symbol="BTCUSDT", limit=1)
    assert later["lastUpdateId"] >= book["lastUpdateId"]
    assert (len(later["bids"]), len(later["asks"])) == (1, 1)


def test_the_newest_trades_end_now(simulator):
    asked = time.time() * 1000
    trades = market(simulator, "trades", symbol="BTCUSDT", limit=1000)
    told = time.time() * 1000
    assert list(trades[0]) == ["id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch"]
    assert len(trades) == 1000
    assert [trade["id"] for trade in trades] == sorted({trade["id"] for trade in trades})
    assert asked - 10_000 < trades[-1]["time"] <= told
    row = trades[0]
    assert Decimal(row["price"]) * Decimal(row["qty"]) == Decimal(row["quoteQty"])
    assert len(market(simulator, "trades", symbol="BTCUSDT")) == 500


def test_older_trades_are_found_by_id(simulator):
    trades = market(simulator, "trades", symbol="ETHUSDT", limit=1000)
    middle = trades[400]["id"]
    assert market(simulator, "historicalTrades", symbol="ETHUSDT", fromId=middle, limit=100) == trades[400:500]
    month_old = market(simulator, "historicalTrades", symbol="ETHUSDT", fromId=1, limit=2)
    assert month_old[0]["time"] % DAY_MS < 1000
    assert market(simulator, "historicalTrades", symbol="ETHUSDT", fromId=10**18) == []


def test_aggregates_are_the_trades_by_time_or_id(simulator):
    trades = market(simulator, "trades", symbol="BTCUSDT", limit=1000)[:900]  # what is newer may still grow
    start, end = trades[100]["time"], trades[-1]["time"]
    within = market(simulator, "aggTrades", symbol="BTCUSDT", startTime=start, endTime=end, limit=1000)
    wanted = [trade for trade in trades if start <= trade["time"] <= end]
    assert [row["a"] for row in within] == [trade["id"] for trade in wanted]
    assert set(within[0]) == set("apqflTmM")
    assert (within[0]["p"], within[0]["q"], within[0]["T"]) == (wanted[0]["price"], wanted[0]["qty"], start)
    by_id = market(simulator, "aggTrades", symbol="BTCUSDT", fromId=wanted[7]["id"], limit=50)
    assert by_id == within[7:57]
    assert market(simulator, "aggTrades", symbol="BTCUSDT", startTime=start, endTime=end, limit=5) == within[:5]
    assert market(simulator, "aggTrades", symbol="BTCUSDT", endTime=end, limit=5) == within[-5:]
    assert market(simulator, "aggTrades", symbol="BTCUSDT", startTime=end + 10**10) == []


def test_candles_open_by_the_zone_asked_for(simulator):
    def opened(zone: str) -> int:
        return market(simulator, "klines", symbol="BTCUSDT", interval="1d", timeZone=zone, limit=2)[0][0] % DAY_MS

    hour = 3_600_000
    assert [opened(zone) for zone in ("0", "8", "-1:00", "+05:45", "14:00", "-12")] == [
        0, 16 * hour, hour, 18 * hour + hour // 4, 10 * hour, 12 * hour,
    ]  # fmt: skip


def test_the_average_lies_between_the_extremes(simulator):
    average = market(simulator, "avgPrice", symbol="BTCUSDT")
    window = market(simulator, "ticker", symbol="BTCUSDT", windowSize="6m")
    assert set(average) == {"mins", "price", "closeTime"}
    assert average["mins"] == 5
    assert Decimal(window["lowPrice"]) <= Decimal(average["price"]) <= Decimal(window["highPrice"])


def test_a_day_is_what_its_candles_add_up_to(simulator):
    (row,) = market(simulator, "ticker/24hr", symbols=symbols("BTCUSDT"))
    assert row["closeTime"] - row["openTime"] == DAY_MS
    whole = -(-row["openTime"] // 60_000) * 60_000
    rows = [
        line
        for start in (whole, whole + 1000 * 60_000)
        for line in market(simulator, "klines", symbol="BTCUSDT", interval="1m", startTime=start, limit=1000)
    ]
    inner = [line for line in rows[:1000] + rows[1000:] if line[6] <= row["closeTime"]]
    edge = 2 * max(Decimal(line[5]) for line in inner)
    assert 0 <= Decimal(row["volume"]) - sum(Decimal(line[5]) for line in inner) <= edge
    assert Decimal(row["highPrice"]) >= max(Decimal(line[2]) for line in inner)
    assert Decimal(row["lowPrice"]) <= min(Decimal(line[3]) for line in inner)
    change = Decimal(row["lastPrice"]) - Decimal(row["openPrice"])
    assert Decimal(row["priceChange"]) == change
    assert abs(Decimal(row["priceChangePercent"]) - 100 * change / Decimal(row["openPrice"])) <= Decimal("0.0005")


def test_tickers_come_singly_for_some_or_for_all_in_two_forms(simulator):
    assert isinstance(market(simulator, "ticker/24hr", symbol="BTCUSDT"), dict)
    assert [row["symbol"] for row in market(simulator, "ticker/24hr")] == all_of(simulator)
    some = market(simulator, "ticker/24hr", symbols=symbols("ETHUSDC", "BTCUSDT"), type="MINI")
    assert [row["symbol"] for row in some] == ["ETHUSDC", "BTCUSDT"]
    assert len(some[0]) == 12
    full, mini = (market(simulator, "ticker", symbol="BTCUSDT", type=form) for form in ("FULL", "MINI"))
    assert set(full) - set(mini) == {"priceChange", "priceChangePercent", "weightedAvgPrice"}
    for days in range(1, 8):  # each takes some while to generate
        for symbol in ("ETHUSDC", "BTCUSDT"):
            assert market(simulator, "ticker", symbol=symbol, windowSize=f"{days}d")["symbol"] == symbol
    assert len(market(simulator, "ticker", symbols=symbols("ETHUSDC", "BTCUSDT"), windowSize="7d")) == 2


def test_a_window_opens_on_a_minute_and_closes_now(simulator):
    row = market(simulator, "ticker", symbol="ETHUSDC", windowSize="5m")
    assert row["openTime"] % 60_000 == 0
    assert 300_000 <= row["closeTime"] - row["openTime"] < 360_000
    assert row["closeTime"] % DAY_MS != DAY_MS - 1


def test_a_trading_day_is_a_calendar_day_of_its_zone(simulator):
    row = market(simulator, "ticker/tradingDay", symbol="BTCUSDT", timeZone="8")
    assert (row["openTime"] + 8 * 3_600_000) % DAY_MS == 0
    assert row["closeTime"] == row["openTime"] + DAY_MS - 1
    assert row["openTime"] <= time.time() * 1000 <= row["closeTime"] + 1
    today = market(simulator, "klines", symbol="BTCUSDT", interval="1d", timeZone="8", limit=1)[0]
    assert (today[0], today[1]) == (row["openTime"], row["openPrice"])


def test_the_book_ticker_is_the_top_of_the_book(start, tmp_path):
    path = tmp_path / "BTCUSDT-x.csv"
    path.write_text("time_ms,price,qty,is_buyer_maker\n1000000,100,1,1\n")
    simulator = start("--replay", path, "--speed", 0)
    assert simulator.sim("POST", "clock", {"advance_ms": 1000}).json["halted"]["BTCUSDT"]

    book, best = market(simulator, "depth", symbol="BTCUSDT"), market(simulator, "ticker/bookTicker", symbol="BTCUSDT")
    assert [best["bidPrice"], best["bidQty"]] == book["bids"][0]
    assert [best["askPrice"], best["askQty"]] == book["asks"][0]
    assert market(simulator, "depth", symbol="BTCUSDT")["lastUpdateId"] == book["lastUpdateId"]
    day = market(simulator, "ticker/24hr", symbol="BTCUSDT")
    assert (day["bidPrice"], day["count"], day["lastPrice"]) == (best["bidPrice"], 1, "100.00000000")


def test_symbols_are_picked_by_status(start, tmp_path, eventually):
    path = tmp_path / "BTCUSDT-x.csv"
    path.write_text("time_ms,price,qty,is_buyer_maker\n1000000,100,1,1\n")
    simulator = start("--replay", path)
    eventually(lambda: market(simulator, "exchangeInfo")["symbols"][0]["status"] == "HALT")
    for name in ("ticker/24hr", "ticker/price", "ticker/bookTicker"):
        assert len(market(simulator, name, symbolStatus="HALT")) == 1
        assert market(simulator, name, symbolStatus="TRADING") == []
    mismatch = market(simulator, "depth", symbol="BTCUSDT", symbolStatus="TRADING")
    assert mismatch == {"code": -1220, "msg": "The symbol's status does not match the requested symbolStatus."}
    assert market(simulator, "exchangeInfo", symbolStatus="BREAK")["symbols"] == []


def test_exchange_info_is_picked_by_permission(simulator):
    def listed(**params: object) -> list[dict]:
        return market(simulator, "exchangeInfo", **params)["symbols"]

    assert listed(permissions="SPOT") == listed(permissions='["MARGIN","SPOT"]') == listed()
    assert listed(permissions="MARGIN") == []
    (one,) = listed(symbol="BTCUSDT", showPermissionSets="false")
    assert (one["permissions"], one["permissionSets"]) == ([], [])
    assert listed(symbol="BTCUSDT", showPermissionSets="true")[0]["permissionSets"] == [["SPOT"]]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("exchangeInfo?symbol=BTCUSDT&permissions=SPOT", -1128),
        ('exchangeInfo?symbols=["BTCUSDT"]&symbolStatus=HALT', -1128),
        ("exchangeInfo?symbolStatus=OPEN", -1122),
        ("exchangeInfo?permissions=DANCE", -1130),
        ("exchangeInfo?permissions=[", -1130),
        ("exchangeInfo?permissions=[1]", -1130),
        ('exchangeInfo?symbols=["BTCUSDT","BTCUSDT"]', -1151),
        ("depth", -1102),
        ("depth?symbol=BTCUSDT&limit=0", -1102),
        ("depth?symbol=BTCUSDT&limit=-5", -1100),
        ("depth?symbol=BTCUSDT&symbolStatus=X", -1122),
        ("trades?symbol=BTCUSDT&fromId=1", -1104),
        ("historicalTrades?symbol=BTCUSDT&fromId=x", -1100),
        ("aggTrades?symbol=BTCUSDT&fromId=1&startTime=1", -1128),
        ("aggTrades?symbol=BTCUSDT&fromId=1&endTime=1", -1128),
        ("klines?symbol=BTCUSDT&interval=1d&timeZone=14:01", -1130),
        ("klines?symbol=BTCUSDT&interval=1d&timeZone=-13", -1130),
        ("klines?symbol=BTCUSDT&interval=1d&timeZone=1:60", -1130),
        ("klines?symbol=BTCUSDT&interval=1d&timeZone=Asia/Kathmandu", -1130),
        ("avgPrice", -1102),
        ("referencePrice?symbol=BTCUSDT", -2043),
        ("ticker/24hr?symbol=BTCUSDT&type=HUGE", -1139),
        ('ticker/24hr?symbol=BTCUSDT&symbols=["BTCUSDT"]', -1128),
        ("ticker/24hr?symbols=BTCUSDT", -1100),
        ("ticker", -1102),
        ("ticker/tradingDay", -1102),
        ("ticker?symbol=BTCUSDT&windowSize=60m", -1100),
        ("ticker?symbol=BTCUSDT&windowSize=1M", -1100),
        ("ticker?symbol=BTCUSDT&windowSize=", -1105),
        ("ticker?symbol=XRPUSDT", -1121),
        ("ticker/price?symbolStatus=AUCTION", -1122),
    ],
)
def test_bad_requests_are_refused_by_name(simulator, query, code):
    reply = simulator.get("/api/v3/" + quote(query, safe="/?&=:"))
    assert (reply.status, reply.json["code"]) == (400, code)
