"""Candles, prices and symbols through the API, with the simulator as the exchange, and with one that fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
import requests

from server.app import create_app
from server.market import ExchangeSilent, Market
from server.security.tokens import issue_api_token
from server.settings import Settings
from server.storage.engine import write
from tests.waiting import DEADLINE_S, wait_for


@pytest.fixture
def ask(settings: Settings, sim_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """GET as a trader, of an app whose simulator runs, however slowly."""
    monkeypatch.setattr("server.market.TIMEOUT_S", DEADLINE_S)
    app = create_app(Settings(home=settings.home, database_url=settings.database_url, sim_port=sim_port))
    engine = app.extensions["flotilla"].engine
    with write(engine) as connection:
        token = issue_api_token(connection, name="reader", role="trader")[1]
    client = app.test_client(use_cookies=False)
    yield lambda path: client.get(path, headers={"Authorization": f"Bearer {token}"})
    engine.dispose()


def test_candles_are_exact_in_order_and_without_a_hole(ask: Any):
    items = ask("/api/market/candles?symbol=BTCUSDC&interval=1m&limit=1500").json["items"]

    times = [item["open_ms"] for item in items]
    assert times == list(range(times[0], times[0] + 1500 * 60_000, 60_000))
    assert all(isinstance(item["close"], str) for item in items)
    assert [item["closed"] for item in items[-2:]] == [True, False]


def test_older_candles_come_before_a_time_and_join_the_newer_ones(ask: Any):
    newest = ask("/api/market/candles?symbol=BTCUSDC&interval=1s&limit=5").json["items"]

    older = ask(f"/api/market/candles?symbol=BTCUSDC&interval=1s&limit=3&before={newest[0]['open_ms']}").json["items"]

    assert older[-1]["open_ms"] == newest[0]["open_ms"] - 1_000
    assert all(item["closed"] for item in older)


def test_price_and_symbols(ask: Any):
    symbols = {s["symbol"]: s for s in ask("/api/market/symbols").json["items"]}

    assert symbols["BTCUSDC"]["quote"] == "USDC"
    assert float(symbols["BTCUSDC"]["tick_size"]) > 0
    assert float(ask("/api/market/price?symbol=BTCUSDC").json["price"]) > 0


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("symbol=NOSUCHCOIN", 404),
        ("symbol=BTCUSDC&interval=7m", 422),
        ("symbol=BTCUSDC&limit=1501", 422),
        ("symbol=BTCUSDC&exchange=kraken", 422),
        ("symbol=b%27;--", 422),
        ("", 422),
    ],
)
def test_what_is_not_there_is_said(ask: Any, query: str, status: int):
    assert ask(f"/api/market/candles?{query}").status_code == status


def test_balances_are_those_of_each_account_and_a_problem_names_its_reason(
    ask: Any, api: Any, sim_port: int, settings: Settings
):
    account = requests.post(
        f"http://127.0.0.1:{sim_port}/sim/accounts", json={"balances": {"USDC": "1000.50"}}, timeout=10
    ).json()
    keys = {"api_key": account["api_key"], "api_secret": account["api_secret"]}
    api.post("/api/credentials", {"exchange": "simulator", "name": "real", **keys})
    api.post(
        "/api/credentials", {"exchange": "simulator", "name": "wrong", "api_key": "k" * 20, "api_secret": "s" * 20}
    )

    items = {item["name"]: item for item in ask("/api/balances").json["items"]}

    assert items["real"]["balances"] == [{"asset": "USDC", "free": "1000.5", "locked": "0"}]
    assert items["real"]["problem"] is None
    assert "refuses these keys" in items["wrong"]["problem"]
    assert account["api_secret"] not in ask("/api/balances").text
    assert api.get("/api/balances").json["items"][0]["problem"]  # this app's exchange does not answer


def test_an_exchange_that_does_not_answer_is_a_503_that_says_since_when(api: Any):
    answer = api.get("/api/market/candles?symbol=BTCUSDC")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert "does not answer" in answer.json["error"]["message"]
    assert int(answer.json["error"]["fields"]["silent_since"]) > 0


class Fake(BaseHTTPRequestHandler):
    """An exchange that counts what it is asked, and answers what the test wants."""

    asked: ClassVar[list[str]] = []
    status = 200
    retry_after = ""
    body = '[[60000,"1","2","0.5","1.5","10"]]'

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        self.send_response(type(self).status)
        if type(self).retry_after:
            self.send_header("Retry-After", type(self).retry_after)
        self.end_headers()
        self.wfile.write(type(self).body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def exchange() -> Iterator[tuple[type[Fake], Market]]:
    kind = type("ThisFake", (Fake,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kind, Market(lambda _: f"http://127.0.0.1:{server.server_port}/api")
    server.shutdown()
    server.server_close()


def test_many_who_ask_the_same_at_once_are_one_request(exchange: tuple[type[Fake], Market]):
    kind, market = exchange
    threads = [threading.Thread(target=market.price, args=("x", "BTCUSDC")) for _ in range(8)]
    kind.body = '{"price":"1.50"}'

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)

    assert len(kind.asked) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, "{}"), (429, "{}"), (200, "<html>"), (200, "{}"), (200, "[[1]]"), (200, "[[1,2,3,4,5,null]]")],
)  # fmt: skip
def test_whatever_cannot_be_read_is_silence_and_it_is_left_alone_for_a_while(
    exchange: tuple[type[Fake], Market], status: int, body: str
):
    kind, market = exchange
    kind.status, kind.body = status, body

    for _ in range(3):
        with pytest.raises(ExchangeSilent):
            market.candles("x", "BTCUSDC", "1m", limit=5)

    assert len(kind.asked) == 1
    assert market.silent_since("x") is not None


@pytest.mark.parametrize("status", [429, 418])
def test_an_exchange_that_wants_no_more_requests_gets_none_for_as_long_as_it_says(
    exchange: tuple[type[Fake], Market], status: int
):
    kind, market = exchange
    kind.status, kind.retry_after = status, "77"

    with pytest.raises(ExchangeSilent) as first:
        market.price("x", "BTCUSDC")
    with pytest.raises(ExchangeSilent) as second:
        market.candles("x", "ETHUSDC", "1m", limit=5)

    assert (first.value.retry_s, len(kind.asked)) == (77, 1)
    assert 70 < second.value.retry_s <= 77


def test_times_of_any_kind_are_few_questions_to_the_exchange(exchange: tuple[type[Fake], Market]):
    kind, market = exchange
    end, began = 999 * 60_000, time.monotonic()
    rows = [f'[{open_ms},"1","2","0.5","1.5","10"]' for open_ms in range(0, end + 60_000, 60_000)]
    kind.body = f"[{','.join(rows)}]"

    found = [market.candles("x", "BTCUSDC", "1m", limit=5, before_ms=before) for before in range(end - 9, end)]
    for limit in range(1, 100):
        market.candles("x", "BTCUSDC", "1m", limit=limit)

    assert {tuple(bar.open_ms // 60_000 for bar in bars) for bars in found} == {(994, 995, 996, 997, 998)}
    assert all(bar.is_closed for bars in found for bar in bars)
    seconds = int(time.monotonic() - began)
    assert len(kind.asked) <= 2 + seconds  # one page of older ones; the newest, once a second


def test_a_viewer_reads_balances(api_as: Any):
    assert api_as("viewer").get("/api/balances").status_code == 200


def test_an_exchange_where_no_bot_trades_is_not_asked(api: Any, a_bot: Any, observe: Any):
    path = "/api/market/price?symbol=BTCUSDC&exchange=binance"

    answer = api.get(path)

    assert answer.status_code == 422
    assert "not available" in answer.json["error"]["fields"]["exchange"]


def test_one_person_can_ask_only_so_often(api_as: Any):
    viewer, other = api_as("viewer"), api_as("trader")

    answers = {viewer.get("/api/market/price?symbol=BTCUSDC").status_code for _ in range(121)}

    assert 429 in answers
    assert other.get("/api/market/price?symbol=BTCUSDC").status_code == 503


def test_the_latest_candles_never_wait_for_the_exchange(exchange: tuple[type[Fake], Market]):
    _, market = exchange

    assert market.latest("x", "BTCUSDC", "1m", limit=2) == ()

    wait_for(lambda: market.latest("x", "BTCUSDC", "1m", limit=2))
