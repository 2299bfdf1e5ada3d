"""Every form of file that users have: archives, Parquet, folders; and what is said about bad ones."""

from __future__ import annotations

import gzip
import sys
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from simulator.market.replay import CANDLES_HEADER, TRADES_HEADER, BadFile, ReplayTape, load_tapes

DAY_MS = 1_735_689_600_000  # 1 January 2025
KLINES = [
    f"{DAY_MS},100.00000000,101.00000000,99.50000000,100.50000000,2.00000000,{DAY_MS + 59_999},"
    "200.10000000,40,1.20000000,120.05000000,0",
    f"{DAY_MS + 60_000},100.50000000,100.50000000,100.50000000,100.50000000,0.00000000,{DAY_MS + 119_999},"
    "0.00000000,0,0.00000000,0.00000000,0",
    f"{DAY_MS + 120_000},100.50000000,100.60000000,100.50000000,100.60000000,1.00000000,{DAY_MS + 179_999},"
    "100.55000000,9,0.50000000,50.28000000,0",
]
KLINES_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
AGG_TRADES = [
    f"7,100.00000000,0.50000000,11,13,{DAY_MS + 100},True,True",
    f"8,100.01000000,0.25000000,14,14,{DAY_MS + 100},False,True",
    f"9,100.02000000,0.00001000,15,15,{DAY_MS + 1900},False,True",
]
TRADES = [
    f"11,100.00000000,0.50000000,50.00000000,{DAY_MS + 100},True,True",
    f"12,100.01000000,0.25000000,25.00250000,{DAY_MS + 100},False,True",
    f"13,100.02000000,0.00001000,0.00100020,{DAY_MS + 1900},False,True",
]
PLAYED = [
    (1, DAY_MS + 100, 10_000, 50_000, True),
    (2, DAY_MS + 100, 10_001, 25_000, False),
    (3, DAY_MS + 1900, 10_002, 1, False),
]
OWN_TRADES = [f"{time_ms},{price / 100},{qty / 1e5:.5f},{int(maker)}" for _, time_ms, price, qty, maker in PLAYED]


def a_file(folder: Path, name: str, *lines: str) -> Path:
    path, text = folder / name, "".join(f"{line}\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.stem + ".csv", text)
    else:
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def a_tape(path: Path, symbol: str = "BTCUSDT") -> ReplayTape:
    return load_tapes([path], False)[symbol]


def played(path: Path) -> list[tuple[int, ...]]:
    return [tuple(trade) for trade in a_tape(path).trades(0, 10**15).rows()]


def in_microseconds(lines: list[str], *columns: int) -> list[str]:
    rows = [line.split(",") for line in lines]
    for row in rows:
        for column in columns:
            row[column] += "999" if row[column].endswith("999") else "000"
    return [",".join(row) for row in rows]


@pytest.mark.parametrize("ending", ["zip", "csv", "csv.gz"])
@pytest.mark.parametrize("head", [[], ["agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,"
                                       "is_buyer_maker,is_best_match"]])  # fmt: skip
def test_archived_aggregate_trades_are_played_one_by_one(tmp_path, ending, head):
    assert played(a_file(tmp_path, f"BTCUSDT-aggTrades-2025-01-01.{ending}", *head, *AGG_TRADES)) == PLAYED


@pytest.mark.parametrize("head", [[], ["id,price,qty,quote_qty,time,is_buyer_maker,is_best_match"]])
def test_archived_trades_are_played_as_they_are(tmp_path, head):
    assert played(a_file(tmp_path, "BTCUSDT-trades-2025-01-01.zip", *head, *TRADES)) == PLAYED


def test_archives_of_futures_have_a_column_less(tmp_path):
    shorter = [line.rpartition(",")[0] for line in AGG_TRADES]
    assert played(a_file(tmp_path, "BTCUSDT-aggTrades-2025-01-01.csv", *shorter)) == PLAYED
    shorter = [line.rpartition(",")[0] for line in TRADES]
    assert played(a_file(tmp_path, "BTCUSDT-trades-2025-01-01.csv", *shorter)) == PLAYED


def test_microseconds_are_told_from_milliseconds(tmp_path):
    assert played(a_file(tmp_path, "BTCUSDT-aggTrades-a.zip", *in_microseconds(AGG_TRADES, 5))) == PLAYED
    assert played(a_file(tmp_path, "BTCUSDT-trades-a.zip", *in_microseconds(TRADES, 4))) == PLAYED
    candles = a_file(tmp_path, "BTCUSDT-1m-a.zip", *in_microseconds(KLINES, 0, 6))
    assert played(candles) == played(a_file(tmp_path, "BTCUSDT-1m-b.zip", *KLINES))


@pytest.mark.parametrize("head", [[], [KLINES_HEADER]])
def test_archived_candles_are_met_exactly(tmp_path, head):
    tape = a_tape(a_file(tmp_path, "BTCUSDT-1m-2025-01.zip", *head, *KLINES))

    minutes = [tape.trades(DAY_MS + start, DAY_MS + start + 60_000) for start in (0, 60_000, 120_000)]

    assert [len(trades.id) for trades in minutes] == [40, 0, 9]
    first = minutes[0]
    bought = ~first.buyer_maker
    assert (first.price[0], first.price.max(), first.price.min(), first.price[-1]) == (10_000, 10_100, 9_950, 10_050)
    assert (first.qty.sum(), (first.qty * first.price).sum()) == (200_000, 2_001_000_000)
    assert (first.qty[bought].sum(), (first.qty * first.price)[bought].sum()) == (120_000, 1_200_500_000)
    assert tape.end_ms() == DAY_MS + 180_000


def test_a_single_candle_is_as_long_as_it_says(tmp_path):
    archived = KLINES[0].replace(str(DAY_MS + 59_999), str(DAY_MS + 3_599_999))
    assert a_tape(a_file(tmp_path, "BTCUSDT-x.csv", archived)).end_ms() == DAY_MS + 3_600_000
    own = a_file(tmp_path, "BTCUSDT-5m-a.csv", CANDLES_HEADER, f"{DAY_MS},100,100,100,100,1,,,,")
    assert a_tape(own).end_ms() == DAY_MS + 300_000
    own = a_file(tmp_path, "BTCUSDT-a.csv", CANDLES_HEADER, f"{DAY_MS},100,100,100,100,1,,,,")
    assert a_tape(own).end_ms() == DAY_MS + 1000


def test_several_forms_make_one_market(tmp_path):
    later = [line.replace(str(DAY_MS)[:7], str(DAY_MS + 10**6)[:7]) for line in AGG_TRADES]
    paths = [
        a_file(tmp_path, "BTCUSDT-aggTrades-2025-01-02.zip", *later),
        a_file(tmp_path, "BTCUSDT-1m-2025-01-01.csv", *KLINES),
        a_file(tmp_path, "ETHUSDT-trades.csv", TRADES_HEADER, f"{DAY_MS},100,1,0"),
    ]
    tapes = load_tapes(paths, False)
    trades = tapes["BTCUSDT"].trades(0, 10**15)

    assert trades.id.tolist() == list(range(1, 40 + 9 + 3 + 1))
    assert trades.price[-3:].tolist() == [10_000, 10_001, 10_002]
    assert list(tapes) == ["BTCUSDT", "ETHUSDT"]
    folder = load_tapes([tmp_path], False)
    assert folder["BTCUSDT"].trades(0, 10**15).price.tolist() == trades.price.tolist()


def test_files_whose_candles_overlap_are_refused(tmp_path):
    minutes = a_file(tmp_path, "BTCUSDT-1m-a.csv", *KLINES)
    inside = a_file(tmp_path, "BTCUSDT-trades-b.csv", TRADES_HEADER, f"{DAY_MS + 179_000},100,1,0")
    after = a_file(tmp_path, "BTCUSDT-trades-c.csv", TRADES_HEADER, f"{DAY_MS + 180_000},100,1,0")
    with pytest.raises(BadFile, match=r"BTCUSDT-trades-b\.csv overlaps BTCUSDT-1m-a\.csv in time"):
        load_tapes([inside, minutes], False)
    assert load_tapes([after, minutes], False)["BTCUSDT"].end_ms() == DAY_MS + 181_000


def test_files_with_other_decimals_share_the_finer_rules(tmp_path):
    a_file(tmp_path, "DOGEUSDT-1.csv", TRADES_HEADER, f"{DAY_MS},0.1,1.5,0")
    a_file(tmp_path, "DOGEUSDT-2.csv", TRADES_HEADER, f"{DAY_MS + 1000},0.1234,1,0")
    tape = load_tapes([tmp_path], False)["DOGEUSDT"]
    assert (tape.rules.price_digits, tape.rules.qty_digits) == (4, 1)
    assert [(t.price, t.qty) for t in tape.trades(0, 10**15).rows()] == [(1000, 15), (1234, 10)]


@pytest.mark.parametrize(
    ("name", "lines", "sentence"),
    [
        ("BTCUSDT-trades-a.csv", [*TRADES[:2], *in_microseconds(TRADES[2:], 4)],
         f"line 3: time is '{DAY_MS + 1900}000', but it must be UTC milliseconds like the first row's"),
        ("BTCUSDT-trades-a.zip", [*in_microseconds(TRADES[:1], 4), *TRADES[1:]],
         f"line 2: time is '{DAY_MS + 100}', but it must be UTC microseconds like the first row's"),
        ("BTCUSDT-1m-a.csv", [KLINES_HEADER, KLINES[0].replace(",40,", ",many,")], "line 2: count is 'many'"),
        ("BTCUSDT-1m-a.csv", [KLINES[0].replace("59999", "59998")], "close_time is '1735689659998', but it must end"),
        ("BTCUSDT-1m-a.csv", [KLINES[0], *KLINES[:0:-1]], f"line 3: open_time is '{DAY_MS + 60_000}', but it must not"),
        ("BTCUSDT-1m-a.csv", [KLINES[0].replace("659999", "719999"), KLINES[1]], "must lie before the row below"),
        ("BTCUSDT-1m-a.csv", [KLINES[0].replace(",1.2", ",2.2")], "taker_buy_volume is '2.20000000', but it must not"),
        ("BTCUSDT-x.csv", ["1,2,3"], "or the file one of Binance's archive"),
        ("BTCUSDT-x.csv", ["1,2,3,4,5,6,7,8"], "or the file one of Binance's archive"),
    ],
)  # fmt: skip
def test_a_bad_archive_is_refused_with_line_value_and_remedy(tmp_path, name, lines, sentence):
    with pytest.raises(BadFile) as error:
        load_tapes([a_file(tmp_path, name, *lines)], False)
    assert sentence in str(error.value)


def test_an_archive_that_is_none_is_refused(tmp_path):
    broken = tmp_path / "BTCUSDT-trades-a.zip"
    broken.write_bytes(b"not a zip")
    with pytest.raises(BadFile, match=r"BTCUSDT-trades-a\.zip is not a whole zip file"):
        load_tapes([broken], False)
    whole = a_file(tmp_path, "BTCUSDT-trades-b.zip", *TRADES * 99).read_bytes()
    broken.write_bytes(whole.replace(whole[60:90], bytes(30)))
    with pytest.raises(BadFile, match=r"BTCUSDT-trades-a\.zip is not a whole zip file"):
        load_tapes([broken], False)
    locked = bytearray(whole)
    locked[locked.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory that says "encrypted"
    broken.write_bytes(locked)
    with pytest.raises(BadFile, match=r"BTCUSDT-trades-a\.zip cannot be unpacked"):
        load_tapes([broken], False)
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("README", "")
    with pytest.raises(BadFile, match="holds 0 CSV files"):
        load_tapes([broken], False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFile, match="empty is a folder without"):
        load_tapes([tmp_path / "empty"], False)


def test_a_long_file_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("simulator.market.replay.files.BATCH_BYTES", 100)
    rows = [f"{DAY_MS + n},{100 + n % 7},1,{n % 2}" for n in range(500)]
    path = a_file(tmp_path, "BTCUSDT-trades.csv.gz", "\ufeff" + TRADES_HEADER, *rows)
    assert [t.price for t in a_tape(path).trades(0, 10**15).rows()] == [(100 + n % 7) * 100 for n in range(500)]
    path = a_file(tmp_path, "BTCUSDT-trades.csv.gz", TRADES_HEADER, *rows, f"{DAY_MS + 500},0,1,0")
    with pytest.raises(BadFile, match="line 502: price is '0'"):
        load_tapes([path], False)


def test_parquet_without_pyarrow_names_the_command_that_helps(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    path = a_file(tmp_path, "BTCUSDT-a.parquet", "PAR1")
    with pytest.raises(BadFile, match="run 'python -m pip install pyarrow'"):
        load_tapes([path], False)


def a_parquet(path: Path, **columns: list[object]) -> Path:
    arrow = pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), path)
    return path


def own_trades(kind: str) -> dict[str, list[object]]:
    """The trades' columns with values of one kind."""
    time_ms, price, qty, maker = (list(column) for column in zip(*(row[1:] for row in PLAYED), strict=True))
    prices, amounts = [Decimal(p).scaleb(-2) for p in price], [Decimal(q).scaleb(-5) for q in qty]
    numbers = {"decimal": lambda v: v, "float": float, "string": str}[kind]
    times = [datetime.fromtimestamp(t / 1000, UTC) for t in time_ms] if kind == "decimal" else time_ms
    return {
        "is_buyer_maker": maker if kind != "string" else [str(m) for m in maker],
        "qty": [f"{q:f}" if kind == "string" else numbers(q) for q in amounts],
        "price": [numbers(p) for p in prices],
        "time_ms": times,
        "note": ["" for _ in price],
    }


@pytest.mark.parametrize("kind", ["decimal", "float", "string"])
def test_parquet_trades_may_be_numbers_decimals_or_text(tmp_path, kind):
    assert played(a_parquet(tmp_path / "BTCUSDT-a.parquet", **own_trades(kind))) == PLAYED


def test_parquet_candles_are_the_candles_of_the_csv(tmp_path):
    rows = [(DAY_MS, 100.0, 101.0, 99.5, 100.5, 2.0, 200.1, 40, 1.2, 120.05),
            (DAY_MS + 60_000, 100.5, 100.6, 100.5, 100.6, 1.0, None, None, None, None)]  # fmt: skip
    names = CANDLES_HEADER.split(",")
    parquet = a_parquet(
        tmp_path / "BTCUSDT-a.parquet", **{name: [row[n] for row in rows] for n, name in enumerate(names)}
    )
    texts = [",".join("" if value is None else str(value) for value in row) for row in rows]
    assert played(parquet) == played(a_file(tmp_path, "BTCUSDT-b.csv", CANDLES_HEADER, *texts))


def test_a_partition_belongs_to_its_folder(tmp_path):
    for folder in ("BTCUSDT/2025", "symbol=BTCUSDC"):
        a_parquet(tmp_path / folder / "2025-01-01.parquet", **own_trades("float"))
    assert set(load_tapes([tmp_path], False)) == {"BTCUSDT", "BTCUSDC"}
    alone = a_parquet(tmp_path / "alone" / "part-0.parquet", **own_trades("float"))
    with pytest.raises(BadFile, match="the name must begin with the symbol"):
        load_tapes([alone], False)


def test_a_bad_parquet_file_is_refused_with_row_value_and_remedy(tmp_path):
    good = own_trades("float")
    for change, sentence in (
        ({"price": [1.0, float("nan"), 1.0]}, "row 2: price is 'nan', but it must be a plain decimal number"),
        ({"price": [1.0, 1.0, None]}, "row 3: price is '', but it must be a plain decimal number"),
        ({"qty": [1.0, 0.0, 1.0]}, "row 2: qty is '0.00000000', but it must be above 0"),
    ):
        path = a_parquet(tmp_path / "BTCUSDT-a.parquet", **(good | change))
        with pytest.raises(BadFile) as error:
            load_tapes([path], False)
        assert str(error.value).startswith(f"BTCUSDT-a.parquet {sentence}")
    del good["qty"]
    with pytest.raises(BadFile, match="has the columns 'is_buyer_maker,note,price,time_ms': it must have"):
        load_tapes([a_parquet(tmp_path / "BTCUSDT-a.parquet", **good)], False)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(BadFile, match="not a whole Parquet file"):
        load_tapes([path], False)


def test_own_rows_of_the_forms_agree(tmp_path):
    assert played(a_file(tmp_path, "BTCUSDT-a.csv", TRADES_HEADER, *OWN_TRADES)) == PLAYED
