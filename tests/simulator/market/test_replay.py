"""Recorded files as a market: exact sums, clear refusals, and the clock's switches."""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.market.candles import History, roll_up
from simulator.market.replay import CANDLES_HEADER, TRADES_HEADER, BadFile, ReplayTape, load_tapes, rebased
from tests.waiting import LONG_S

ROOT = Path(__file__).parents[3]


def a_file(folder: Path, header: str, *rows: object, name: str = "BTCUSDT-x.csv") -> Path:
    path = folder / name
    text = "\n".join([header, *(str(row) for row in rows)]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def a_tape(folder: Path, header: str, *rows: object, loop: bool = False) -> ReplayTape:
    return load_tapes([a_file(folder, header, *rows)], loop)["BTCUSDT"]


def test_trades_are_replayed_as_they_are(tmp_path):
    tape = a_tape(tmp_path, TRADES_HEADER, "1000100,100.5,0.001,1", "1000900,100.51,0.00002,0")

    assert [row[1:] for row in tape.trades(0, 10**13).rows()] == [
        (1_000_100, 10_050, 100, True),
        (1_000_900, 10_051, 2, False),
    ]
    assert (tape.first_ms(0), tape.end_ms()) == (1_000_000, 1_001_000)


candles = st.tuples(
    st.tuples(*[st.integers(9_990, 10_010)] * 4), st.integers(4, 10**6), st.floats(0, 1)
)  # fmt: skip


@given(rows=st.lists(candles, min_size=1, max_size=8))
def test_a_replayed_candle_has_the_files_prices_and_volumes(rows, tmp_path_factory):
    lines = []
    for number, ((a, b, c, d), volume, share) in enumerate(rows):
        low, opened, close, high = min(a, b, c, d), b, c, max(a, b, c, d)
        prices = [f"{price / 100:.2f}" for price in (opened, high, low, close)]
        taken = Decimal(int(volume * share)) / 100_000
        lines.append(
            ",".join(
                [str(1_000_000 + 1000 * number), *prices, f"{Decimal(volume) / 100_000:f}", "", "9", f"{taken:f}", ""]
            )
        )
    tape = a_tape(tmp_path_factory.mktemp("replay"), CANDLES_HEADER, *lines)

    replayed = tape.seconds(1000, 1000 + len(rows))

    for line, row in zip(lines, replayed.rows(), strict=True):
        want = line.split(",")
        assert [Decimal(price) / 100 for price in row[1:5]] == [Decimal(text) for text in want[1:5]]
        assert (Decimal(row[5]) / 100_000, Decimal(row[8]) / 100_000) == (Decimal(want[5]), Decimal(want[8]))


def test_a_minute_candle_is_spread_over_its_minute(tmp_path):
    tape = a_tape(
        tmp_path,
        CANDLES_HEADER,
        "960000,100,102,99,101,4,,,,",
        "1020000,101,101,101,101,1,,,,",
        "1080000,101,102,101,102,1,,,,",
    )
    trades = tape.trades(0, 1_020_000)

    price = trades.price
    assert (price[0], price.max(), price.min(), price[-1]) == (10_000, 10_200, 9_900, 10_100)
    assert (trades.qty.sum(), trades.qty[~trades.buyer_maker].sum()) == (400_000, 200_000)
    assert len(np.unique(trades.time_ms // 1000)) > 30
    assert (tape.first_ms(0), tape.end_ms()) == (960_000, 1_140_000)


def test_a_volume_finer_than_a_lot_loses_the_rest(tmp_path):
    tape = a_tape(tmp_path, CANDLES_HEADER, "960000,100,100,100,100,0.000129,,,0.000119,")
    trades = tape.trades(0, 10**7)
    assert (trades.qty.sum(), trades.qty[~trades.buyer_maker].sum()) == (12, 11)


def test_a_volume_below_a_lot_becomes_one_for_each_price(tmp_path):
    tape = a_tape(tmp_path, CANDLES_HEADER, "960000,100,101,100,101,0.000001,,,,")
    assert sorted((trade.price, trade.qty) for trade in tape.trades(0, 10**7).rows()) == [(10_000, 1), (10_100, 1)]


def test_traces_of_floating_point_are_no_digits(tmp_path):
    tape = a_tape(tmp_path, CANDLES_HEADER, "960000,100,101,100,101,0.7999999999999999,80.30000000000001,20,,")
    candle = tape.seconds(960, 961)
    assert (candle.volume.tolist(), candle.quote.tolist()) == ([80_000], [803_000_000])


def test_a_looped_tape_begins_again(tmp_path):
    tape = a_tape(tmp_path, TRADES_HEADER, "1000100,100,1,1", "1002900,101,1,0", loop=True)

    assert tape.end_ms() is None
    assert [(t.id, t.time_ms, t.price) for t in tape.trades(1_002_000, 1_007_000).rows()] == [
        (2, 1_002_900, 10_100), (3, 1_003_100, 10_000), (4, 1_005_900, 10_100), (5, 1_006_100, 10_000),
    ]  # fmt: skip
    assert tape.last_trade(1_003_050).id == 2
    assert tape.seconds(1001, 1005).close.tolist() == [10_000, 10_100, 10_000, 10_000]


def test_a_minute_that_begins_idle_opens_with_its_first_trade(tmp_path):
    rows = ["959900,90,1,1", "962100,100,1,1", "975000,102,1,0", "1019000,101,1,1", "1140000,103,1,1"]
    minutes = History(a_tape(tmp_path, TRADES_HEADER, *rows)).klines("1m", 960_000, None, 9, 1_140_999)
    assert [row[:6] for row in minutes.rows()] == [
        (960, 10_000, 10_200, 10_000, 10_100, 300_000),
        (1020, 10_100, 10_100, 10_100, 10_100, 0),
        (1080, 10_100, 10_100, 10_100, 10_100, 0),
        (1140, 10_300, 10_300, 10_300, 10_300, 100_000),
    ]


def test_the_hour_in_which_a_tape_begins_is_kept_when_it_has_ended(tmp_path):
    rows = [f"{3_600_000 + minute * 60_000},{100 + minute},1,1" for minute in (50, 55, 59, 60, 61)]
    history = History(a_tape(tmp_path, TRADES_HEADER, *rows))
    assert history.klines("1m", 0, None, 99, 7_261_000).open_s.tolist() == [3600 + 60 * n for n in range(50, 62)]
    assert history.klines("1m", 3_600_000 + 54 * 60_000, None, 2, 7_261_000).open_s.tolist() == [6840, 6900]
    assert history.klines("1h", 0, None, 9, 7_261_000).volume.tolist() == [300_000, 200_000]


def test_a_tape_moves_in_time_as_a_whole(tmp_path):
    tapes = load_tapes([a_file(tmp_path, TRADES_HEADER, "1000100,100,1,1")], False)
    moved = rebased(tapes, 5_000)["BTCUSDT"]
    assert (moved.first_ms(0), moved.trades(0, 10**9).time_ms.tolist()) == (1_005_000, [1_005_100])


def test_files_of_one_symbol_are_joined_in_time(tmp_path):
    late = a_file(tmp_path, TRADES_HEADER, "2000100,100,1,1", name="BTCUSDT-2.csv.gz")
    early = a_file(tmp_path, TRADES_HEADER, "1000100,101,1,1", name="BTCUSDT-1.csv")
    tape = load_tapes([late, early], False)["BTCUSDT"]
    assert [(t.id, t.price) for t in tape.trades(0, 10**9).rows()] == [(1, 10_100), (2, 10_000)]
    assert [tape.last_trade(time_ms).id for time_ms in (1_500_000, 3_000_000)] == [1, 2]
    overlap = a_file(tmp_path, TRADES_HEADER, "1000000,1,1,1", "1500000,1,1,1", name="BTCUSDT-3.csv")
    with pytest.raises(BadFile, match="overlaps"):
        load_tapes([early, overlap], False)


def test_a_pair_that_is_not_built_in_gets_rules_from_its_decimals(tmp_path):
    tape = load_tapes([a_file(tmp_path, TRADES_HEADER, "1000,0.1234,12.5,1", name="DOGEUSDT.csv")], False)["DOGEUSDT"]
    assert (tape.rules.base, tape.rules.price_digits, tape.rules.qty_digits) == ("DOGE", 4, 1)


@pytest.mark.parametrize(
    ("header", "rows", "sentence"),
    [
        ("time,price", ["1,2"], "line 1 is 'time,price'"),
        (TRADES_HEADER, [], "line 2 is missing"),
        (TRADES_HEADER, ["1000,100,1"], "line 2: row is '1000,100,1', but it must have 4 columns"),
        (TRADES_HEADER, ["1000,100,1,1", "999,100,1,1"], "line 3: time_ms is '999', but it must not lie before"),
        (TRADES_HEADER, ["soon,100,1,1"], "line 2: time_ms is 'soon', but it must be UTC milliseconds"),
        (TRADES_HEADER, ["1000,1e5,1,1"], "line 2: price is '1e5', but it must be a plain decimal number"),
        (TRADES_HEADER, ["1000,0,1,1"], "line 2: price is '0', but it must be above 0"),
        (TRADES_HEADER, ["1000,100.001,1,1"], "line 2: price is '100.001', but it must have at most 2 decimals"),
        (TRADES_HEADER, ["1000,100,0,1"], "line 2: qty is '0', but it must be above 0"),
        (TRADES_HEADER, ["1000,100,1,maybe"], "line 2: is_buyer_maker is 'maybe', but it must be 1 or 0"),
        (CANDLES_HEADER, ["1500,1,1,1,1,1,,,,"], "line 2: open_time_ms is '1500', but it must be on a whole second"),
        (CANDLES_HEADER, ["1000,2,1,1,1,1,,,,"], "must have low <= open, close <= high"),
        (CANDLES_HEADER, ["1000,1,1,1,1,1,,,2,"], "line 2: taker_buy_base is '2', but it must not exceed the volume 1"),
        (CANDLES_HEADER, ["1000,1,3,1,2,0.00001,,,,"], "must be at least 3 lots"),
        (CANDLES_HEADER, ["1000,1,1,1,1,0,,,,"], "nothing is traded"),
        (CANDLES_HEADER, ["1000,1,1,1,1,1,,,,"] * 2, "line 3: open_time_ms is '1000', but it must lie after"),
        (CANDLES_HEADER, ["1000,1,1,1,1,1,,1.5,,"], "line 2: trades is '1.5', but it must be a whole number"),
        (CANDLES_HEADER, ["1000,1,1,1,1,999999999999999,,,,"], "volume is '999999999999999', but it must be a smaller"),
        (TRADES_HEADER, ["1000,100,1,1", "", "1000,100,1,1"], "line 3: row is '', but it must have 4 columns"),
        (TRADES_HEADER, ["1000,100.,1,1"], "line 2: price is '100.', but it must be a plain decimal number"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_file_line_value_and_remedy(tmp_path, header, rows, sentence):
    with pytest.raises(BadFile) as error:
        load_tapes([a_file(tmp_path, header, *rows)], False)
    assert str(error.value).startswith("BTCUSDT-x.csv")
    assert sentence in str(error.value)


def test_bytes_that_are_no_csv_are_refused(tmp_path):
    for name, content in (("BTCUSDT-x.csv.gz", b"plain"), ("BTCUSDT-x.csv", b"\xff\xfe\x00"), ("prices.csv", b"a,b\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadFile, match=name):
            load_tapes([tmp_path / name], False)
    with pytest.raises(BadFile, match="No such file"):
        load_tapes([tmp_path / "BTCUSDT-none.csv"], False)


def test_the_command_says_it_in_one_line_and_exits_with_2(tmp_path):
    path = a_file(tmp_path, TRADES_HEADER, "1000,100,0,1")
    command = [sys.executable, "-m", "simulator", "--port", "0", "--replay", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_replay_lists_its_symbols_plays_and_halts(start, tmp_path):
    rows = [f"{1_000_000 + 100 * n},{100 + n % 5},1,{n % 2}" for n in range(200)]  # twenty seconds
    simulator = start("--replay", a_file(tmp_path, TRADES_HEADER, *rows), "--speed", 0, "--history", 5)
    customer = simulator.account(USDT="1000")
    assert [s["symbol"] for s in simulator.get("/api/v3/exchangeInfo").json["symbols"]] == ["BTCUSDT"]
    past = simulator.get("/api/v3/klines?symbol=BTCUSDT&interval=1s&startTime=0").json
    assert [row[0] for row in past[:5]] == [1_000_000 + 1000 * n for n in range(5)]
    order = customer.order(kind="MARKET", quantity="0.1").json
    assert (order["status"], order["transactTime"]) == ("FILLED", 1_005_000)

    clock = simulator.sim("POST", "clock", {"advance_ms": 20_000}).json

    assert clock["halted"]["BTCUSDT"]
    assert customer.order(kind="MARKET", quantity="0.1").json["msg"] == "Market is closed."
    assert len(simulator.get("/api/v3/klines?symbol=BTCUSDT&interval=1s").json) == 20
    assert simulator.get("/api/v3/exchangeInfo").json["symbols"][0]["status"] == "HALT"


def test_a_replay_waits_for_its_clients(start, tmp_path):
    simulator = start("--replay", a_file(tmp_path, TRADES_HEADER, "1000000,100,1,1"), "--start-delay", 3600)

    assert simulator.sim("GET", "clock").json["market_ms"] == 1_000_000


def test_a_rebased_replay_begins_now(start, tmp_path):
    rows = [f"{1_000_000 + 100 * n},100,1,{n % 2}" for n in range(400)]
    began = time.time() * 1000
    simulator = start("--replay", a_file(tmp_path, TRADES_HEADER, *rows), "--rebase", "--loop", "--history", 10)
    clock = simulator.sim("GET", "clock").json
    assert began - 1000 <= clock["market_ms"] <= time.time() * 1000  # at a whole second
    rows = simulator.get("/api/v3/klines?symbol=BTCUSDT&interval=1s").json
    assert len(rows) >= 10


@pytest.mark.parametrize("name", ["BTCUSDT-spot-20240808T2354", "ETHUSDT-spot-20240808T2354"])
def test_recorded_trades_add_up_to_the_recorded_candles(recorded, name):
    tape = load_tapes([recorded / f"{name}-trades.csv.gz"], False)[name[:7]]
    with gzip.open(recorded / f"{name}-1s.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    start = int(rows[0]["open_time_ms"]) // 1000

    candles = tape.seconds(start, start + len(rows)).rows()

    scale = Decimal(1).scaleb(-tape.rules.qty_digits)
    for row, candle in zip(rows, candles, strict=True):
        assert [Decimal(price) / 100 for price in candle[1:5]] == [
            Decimal(row[c]) for c in ("open", "high", "low", "close")
        ]
        assert (candle[5] * scale, candle[7]) == (Decimal(row["volume"]), int(row["trades"]))


def test_recorded_minutes_are_met_exactly(recorded):
    path = recorded / "BTCUSDT-spot-1m-20241130.csv.gz"
    tape = load_tapes([path], False)["BTCUSDT"]
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    some = rows[::97]
    inexact = 0

    for row in some:
        open_s = int(row["open_time_ms"]) // 1000
        seconds = tape.seconds(open_s, open_s + 60)
        minute = roll_up(seconds, seconds.open_s // 60 * 60).rows()[0]
        prices = [Decimal(row[column]).scaleb(2) for column in ("open", "high", "low", "close")]
        assert (list(minute[1:5]), minute[7]) == (prices, int(row["trades"]))
        volume, quote = Decimal(row["volume"]).scaleb(5), round(Decimal(row["quote_volume"]).scaleb(7))
        inexact += (minute[5], minute[6]) != (volume, quote)
        assert minute[5] == int(volume)
    assert inexact == 0  # none of these had lots finer than today's


def test_a_rebased_loop_of_minutes_begins_again(recorded):
    tapes = load_tapes([recorded / "BTCUSDT-spot-1m-20241130.csv.gz"], True)
    tape = rebased(tapes, 1_000_000_000)["BTCUSDT"]
    first, span = tape.first_ms(0), tape.span_ms
    assert (first, span) == (1_733_007_600_000 + 1_000_000_000, 41_761 * 60_000)

    once, again = tape.trades(first, first + 120_000), tape.trades(first + span, first + span + 120_000)

    assert again.price.tolist() == once.price.tolist()
    assert (again.time_ms - once.time_ms).tolist() == [span] * len(once.id)
    assert again.id[0] == tape.last_trade(first + span).id + 1
    assert tape.seconds(first // 1000, first // 1000 + 60).open_s.tolist() == [first // 1000 + n for n in range(60)]
