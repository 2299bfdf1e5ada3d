from __future__ import annotations

import gzip
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from research.candles import HEADER, CandlesUnusable, load, read

NOON_MS = 1_700_049_600_000


def line(n: int, close: float = 100.0) -> str:
    return f"{NOON_MS + n * 1000},100,101,99,{close},2,200,5,1.5,150"


def a_file(folder, lines, name="candles.csv"):
    path = folder / name
    content = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return path


def silent(step, done, total):
    pass


@pytest.mark.parametrize("name", ["candles.csv", "candles.csv.gz"])
def test_a_file_is_read_plain_or_compressed(tmp_path, name):
    candles = read(a_file(tmp_path, [",".join(HEADER), line(0), line(1, close=100.5)], name))

    assert len(candles) == 2
    assert candles.open_ms.tolist() == [NOON_MS, NOON_MS + 1000]
    last = list(candles)[1]
    assert (last.open_ms, last.close, last.quote_volume, last.trades, last.taker_base) == (
        NOON_MS + 1000, 100.5, 200.0, 5, 1.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["time,price", "1,2"], "line 1: the header is time,price, expected open_time_ms,open"),
        ([], "line 1: the header is empty"),
        ([",".join(HEADER)], "holds no candles"),
        ([",".join(HEADER), "1,2,3"], "line 2: 3 values, expected 10"),
        ([",".join(HEADER), line(0), line(1).replace(",99,", ",abc,")], "line 3: low is 'abc', not a number"),
        ([",".join(HEADER), line(0)[: -len("1.5,150")] + ","], "line 2: taker_buy_base is empty"),
        ([",".join(HEADER), line(0).replace(",101,", ",nan,")], "line 2: high is 'nan', not a number"),
        ([",".join(HEADER), line(0).replace(",101,", ",-3,")], "line 2: high is -3, which no exchange states"),
        ([",".join(HEADER), line(1), line(0)], "candle 2 does not come after the one before it"),
        ([",".join(HEADER), line(0), line(60), line(120)], "60 s apart; training needs one-second candles"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_place_value_and_remedy(tmp_path, lines, sentence):
    path = a_file(tmp_path, lines)

    with pytest.raises(CandlesUnusable) as caught:
        read(path)

    assert str(path) in caught.value.message
    assert sentence in caught.value.message


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(CandlesUnusable, match="No such file"):
        read(tmp_path / "none.csv")
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(b"not gzip")
    with pytest.raises(CandlesUnusable, match="cannot be read"):
        read(broken)


def test_files_are_merged_by_time_and_repeated_candles_count_once(tmp_path):
    early = a_file(tmp_path, [",".join(HEADER), *[line(n) for n in range(5)]], "early.csv")
    late = a_file(tmp_path, [",".join(HEADER), *[line(n) for n in range(3, 8)]], "late.csv")

    candles = load([str(late), str(early)], "BTCUSDT", None, silent)

    assert candles.open_ms.tolist() == [NOON_MS + n * 1000 for n in range(8)]


def test_sources_that_contradict_each_other_are_refused(tmp_path):
    one = a_file(tmp_path, [",".join(HEADER), line(0), line(1)], "one.csv")
    other = a_file(tmp_path, [",".join(HEADER), line(1, close=100.7), line(2)], "other.csv")

    with pytest.raises(CandlesUnusable, match=f"disagree about the candle that opens at {NOON_MS + 1000}"):
        load([str(one), str(other)], "BTCUSDT", None, silent)


def test_the_last_hours_are_counted_from_the_newest_candle(tmp_path):
    path = a_file(tmp_path, [",".join(HEADER), *[line(n) for n in range(100)]])

    candles = load([str(path)], "BTCUSDT", 10 / 3600, silent)

    assert candles.open_ms.tolist() == [NOON_MS + n * 1000 for n in range(90, 100)]


def test_the_digest_names_the_data_and_not_the_file(tmp_path):
    plain = read(a_file(tmp_path, [",".join(HEADER), line(0)]))
    packed = read(a_file(tmp_path, [",".join(HEADER), line(0)], "other.csv.gz"))
    changed = read(a_file(tmp_path, [",".join(HEADER), line(0, close=100.01)], "changed.csv"))

    assert plain.digest == packed.digest != changed.digest


@contextmanager
def an_exchange(seconds: int):
    """Binance's /api/v3/klines over *seconds* candles, of which the newest is still open."""
    rows = [
        [NOON_MS + n * 1000, "100.0", "101.0", "99.0", f"{100 + n % 3}.5", "2.0", NOON_MS + n * 1000 + 999, "200.0", 5,
         "1.5", "150.0", "0"]
        for n in range(seconds)
    ]  # fmt: skip
    asked = []

    class Klines(BaseHTTPRequestHandler):
        def do_GET(self):
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            asked.append(query)
            known = urlsplit(self.path).path == "/api/v3/klines" and query["symbol"] == "BTCUSDT"
            before = [row for row in rows if row[0] <= int(query.get("endTime", 10**15))]
            answer = before[-int(query["limit"]) :] if known else {"code": -1121, "msg": "Invalid symbol."}
            self.send_response(200 if known else 400)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Klines)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_exchange_is_read_backwards_page_by_page_without_the_open_candle():
    with an_exchange(seconds=5000) as (address, asked):
        candles = load([address], "BTCUSDT", 2500 / 3600, silent)

    assert candles.open_ms.tolist() == [NOON_MS + n * 1000 for n in range(5000 - 1 - 2500, 5000 - 1)]
    assert len(asked) == 3  # 999 closed ones, 1000, and 501 of the third page
    assert all(query["interval"] == "1s" and query["limit"] == "1000" for query in asked)


def test_an_exchange_with_a_short_history_gives_what_it_has():
    with an_exchange(seconds=1500) as (address, _):
        candles = load([address], "BTCUSDT", 2.0, silent)

    assert len(candles) == 1499


def test_an_exchange_that_refuses_is_quoted():
    with (
        an_exchange(seconds=10) as (address, _),
        pytest.raises(CandlesUnusable, match=r"answers 400 for NOSUCH: .*Invalid symbol"),
    ):
        load([address], "NOSUCH", None, silent)


def test_an_exchange_that_is_not_there_is_named():
    with an_exchange(seconds=1) as (address, _):
        pass

    with pytest.raises(CandlesUnusable, match=r"does not answer .* Is the exchange running"):
        load([address], "BTCUSDT", None, silent)
