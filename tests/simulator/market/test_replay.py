"""Recorded files as a market: exact sums, clear refusals, and the clock's switches."""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.market.replay import CANDLES_HEADER, TRADES_HEADER, BadFile, ReplayTape, load_tapes, rebased

ROOT = Path(__file__).parents[2]


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
    assert [(t.time_ms, t.price, t.qty) for t in tape.trades(0, 1_020_000).rows() if t.buyer_maker] == [
        (967_500, 10_000, 50_000), (982_500, 9_900, 50_000), (997_500, 10_200, 50_000), (1_012_500, 10_100, 50_000),
    ]  # fmt: skip


def test_a_volume_finer_than_a_lot_loses_the_rest(tmp_path):
    tape = a_tape(tmp_path, CANDLES_HEADER, "960000,100,100,100,100,0.000129,,,0.000119,")
    assert [(trade.qty, trade.buyer_maker) for trade in tape.trades(0, 10**7).rows()] == [(1, True), (11, False)]


def test_a_looped_tape_begins_again(tmp_path):
    tape = a_tape(tmp_path, TRADES_HEADER, "1000100,100,1,1", "1002900,101,1,0", loop=True)

    assert tape.end_ms() is None
    assert [(t.id, t.time_ms, t.price) for t in tape.trades(1_002_000, 1_007_000).rows()] == [
        (2, 1_002_900, 10_100), (3, 1_003_100, 10_000), (4, 1_005_900, 10_100), (5, 1_006_100, 10_000),
    ]  # fmt: skip
    assert tape.last_trade(1_003_050).id == 2
    assert tape.seconds(1001, 1005).close.tolist() == [10_000, 10_100, 10_000, 10_000]


def test_a_tape_moves_in_time_as_a_whole(tmp_path):
    tapes = load_tapes([a_file(tmp_path, TRADES_HEADER, "1000100,100,1,1")], False)
    moved = rebased(tapes, 5_000)["BTCUSDT"]
    assert (moved.first_ms(0), moved.trades(0, 10**9).time_ms.tolist()) == (1_005_000, [1_005_100])


def test_files_of_one_symbol_are_joined_in_time(tmp_path):
    late = a_file(tmp_path, TRADES_HEADER, "2000100,100,1,1", name="BTCUSDT-2.csv.gz")
    early = a_file(tmp_path, TRADES_HEADER, "1000100,101,1,1", name="BTCUSDT-1.csv")
    assert load_tapes([late, early], False)["BTCUSDT"].recorded.price.tolist() == [10_100, 10_000]
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
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_replay_lists_its_symbols_plays_and_halts(start, tmp_path, eventually):
    rows = [f"{1_000_000 + 100 * n},{100 + n % 5},1,{n % 2}" for n in range(200)]  # twenty seconds
    simulator = start("--replay", a_file(tmp_path, TRADES_HEADER, *rows), "--speed", 10, "--history", 5)
    customer = simulator.account(USDT="1000")
    assert [s["symbol"] for s in simulator.get("/api/v3/exchangeInfo").json["symbols"]] == ["BTCUSDT"]
    past = simulator.get("/api/v3/klines?symbol=BTCUSDT&interval=1s&startTime=0").json
    assert [row[0] for row in past[:5]] == [1_000_000 + 1000 * n for n in range(5)]
    order = customer.order(kind="MARKET", quantity="0.1").json
    assert 1_005_000 <= order["transactTime"] < 1_020_000

    eventually(lambda: simulator.sim("GET", "clock").json["halted"]["BTCUSDT"])

    assert customer.order(kind="MARKET", quantity="0.1").json["msg"] == "Market is closed."
    assert len(simulator.get("/api/v3/klines?symbol=BTCUSDT&interval=1s").json) == 20
    assert simulator.get("/api/v3/exchangeInfo").json["symbols"][0]["status"] == "HALT"


def test_a_rebased_replay_begins_now(start, tmp_path):
    rows = [f"{1_000_000 + 100 * n},100,1,{n % 2}" for n in range(400)]
    simulator = start("--replay", a_file(tmp_path, TRADES_HEADER, *rows), "--rebase", "--loop", "--history", 10)
    clock = simulator.sim("GET", "clock").json
    assert abs(clock["market_ms"] - time.time() * 1000) < 5000
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


def test_recorded_minutes_can_be_replayed(recorded):
    tape = load_tapes([recorded / "BTCUSDT-spot-1m-20241130.csv.gz"], False)["BTCUSDT"]
    assert len(tape.recorded.id) > 100_000
