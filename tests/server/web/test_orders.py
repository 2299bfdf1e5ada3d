"""Orders and fills: found by what people know of them, page by page, and as a CSV of exactly the same filter."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, insert

from server.storage.engine import read, write
from server.storage.market_time import events_within
from server.storage.models import Event, ExchangeOrder, Fill
from server.web.csv_lines import cell
from server.web.orders_view import list_query

Make = Callable[..., Any]
DAY = 86_400_000
NOON = 1_795_262_400_000  # 2026-11-21 12:00 UTC


@pytest.fixture
def a_fill(engine: Engine) -> Make:
    def add(bot_id: int, **columns: Any) -> None:
        row: dict[str, Any] = {
            "bot_id": bot_id, "trade_id": 913, "order_id": 4829, "client_order_id": f"fabc-{bot_id}-{NOON}-e1",
            "position_key": NOON, "symbol": "ETHUSDT", "side": "BUY", "price": Decimal("3388.10"),
            "quantity": Decimal("0.05890"), "fee": Decimal("0.0000589"), "fee_asset": "ETH",
            "fee_quote": Decimal("0.19955909"), "is_maker": True, "time_ms": NOON + 200,
        }  # fmt: skip
        with write(engine) as connection:
            connection.execute(insert(Fill).values(**{**row, **columns}))

    return add


@pytest.fixture
def positions(a_bot: Make, a_position: Make) -> tuple[int, int]:
    """Two bots: one with a closed and an active position, one with a cancelled one a day earlier."""
    one, two = a_bot(name="eth-rsi"), a_bot(name="btc-scalper", symbol="BTCUSDT")
    done = {"status": "closed", "closed_ms": NOON + 60_000, "exit_price": Decimal("3400"), "exit_reason": "target"}
    a_position(one, position_key=NOON, pnl=Decimal("0.70"), **done)
    a_position(one, position_key=NOON + 1)
    a_position(
        two, position_key=NOON - DAY, symbol="BTCUSDT", status="cancelled", quantity=Decimal(0), entry_price=None
    )
    return one, two


def ids(html: str) -> list[int]:
    return [int(i) for i in re.findall(r'class="name" href="/orders/(\d+)"', html)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [3, 2, 1]),
        ("?status=closed", [1]),
        ("?symbol=BTCUSDT", [3]),
        ("?bot=1", [2, 1]),
        ("?reason=target", [1]),
        ("?since=2026-11-21", [2, 1]),
        ("?until=2026-11-20", [3]),
        ("?since=2026-11-20&until=2026-11-20", [3]),
        ("?q=scalp", [3]),
        ("?q=eth+%232", [2]),
        (f"?q=fabc-1-{NOON}-e1", [1]),
        (f"?q={NOON}", [1]),
        ("?q=nothing", []),
        ("?status=odd&side=x&bot=-1&since=yesterday&before=x", [3, 2, 1]),
    ],
)
def test_orders_are_found_by_what_people_know_of_them(
    page: Make, positions: tuple[int, int], query: str, found: list[int]
):
    assert ids(page().get(f"/orders{query}").text) == found


def test_an_order_is_found_by_the_exchanges_number(page: Make, positions: tuple[int, int], engine: Engine):
    an_order(engine, positions[0], exchange_order_id=48291773106)

    assert ids(page().get("/orders?q=48291773106").text) == [1]


def test_a_line_shows_result_reason_and_prices(page: Make, positions: tuple[int, int]):
    html = page().get("/orders?status=closed").text

    for text in ("+0.70", "target", "3,388.10", "3,400.00", "held 60 s", "2026-11-21 12:00:00 UTC", "eth-rsi"):
        assert text in html


def test_a_position_that_bought_nothing_shows_what_it_wanted_and_how_long_it_waited(
    page: Make, a_bot: Make, a_position: Make
):
    leg = {"role": "entry", "quantity": "0.0595", "price": "3357.77"}
    a_position(
        a_bot(), position_key=NOON, status="cancelled", quantity=Decimal(0), fees=Decimal(0), entry_price=None,
        closed_ms=NOON + 10_000, exit_reason="entry_timeout", document={"legs": [leg]},
    )  # fmt: skip

    html = page().get("/orders").text

    assert "waited 10 s" in html
    assert re.search(r'class="num muted[^>]*>0\.0595<', html)
    assert re.search(r'data-l="Wanted at"[^>]*>3,357\.77<', html)
    assert ">0.00<" not in html
    assert "held 10 s" not in html


def test_pages_go_on_after_the_last_row_whatever_came_meanwhile(page: Make, a_bot: Make, a_position: Make):
    bot_id = a_bot()
    for n in range(60):
        a_position(bot_id, position_key=NOON + n)
    client = page()

    first = client.get("/orders?symbol=ETHUSDT").text
    a_position(bot_id, position_key=NOON + 100)
    older = re.search(r'href="([^"]*before=[^"]*)"', first)
    assert older
    second = client.get(older[1].replace("&amp;", "&")).text

    assert ids(first) == list(range(60, 10, -1))
    assert ids(second) == list(range(10, 0, -1))
    assert "before=" not in second
    assert "symbol=ETHUSDT" in older[1]


def test_what_fits_no_filter_says_so_and_offers_to_clear_it(page: Make, positions: tuple[int, int]):
    client = page()

    assert "No order matches" in client.get("/orders?q=nothing").text
    assert "Clear filters" in client.get("/fills?q=nothing").text


def test_before_the_first_order_the_page_says_what_will_be_here(page: Make):
    assert "No order yet" in page().get("/orders").text
    assert "No fill yet" in page().get("/fills").text


def test_fills_show_maker_fee_and_the_position_they_belong_to(page: Make, positions: tuple[int, int], a_fill: Make):
    one, _ = positions
    a_fill(one)
    a_fill(one, trade_id=914, side="SELL", is_maker=False, client_order_id=f"fabc-{one}-{NOON}-x1")
    client = page()

    html = client.get("/fills").text

    for text in ("taker", "0.0000589 ETH; in USDT: 0.20", 'href="/orders/1"', "+0.70", "target"):
        assert text in html
    assert "x1" not in client.get("/fills?maker=maker").text
    assert "-e1<" not in client.get("/fills?side=sell").text
    assert "x1" in client.get("/fills?q=914").text


# CSV


def lines(answer: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_the_csv_holds_exactly_what_the_filter_finds_with_every_digit(
    page: Make, positions: tuple[int, int], a_fill: Make
):
    a_fill(positions[0])
    client = page()

    closed, fills = client.get("/orders.csv?status=closed"), client.get("/fills.csv")

    assert [row["id"] for row in lines(closed)] == ["1"]
    assert lines(closed)[0] | {"opened_at": "2026-11-21T12:00:00.000Z", "pnl": "0.7"} == lines(closed)[0]
    assert (lines(fills)[0]["fee"], lines(fills)[0]["fee_quote"]) == ("0.0000589", "0.19955909")
    assert lines(fills)[0]["time"] == "2026-11-21T12:00:00.200Z"
    assert closed.headers["Content-Disposition"].startswith("attachment")
    assert closed.mimetype == "text/csv"


def test_whoever_reads_a_csv_slowly_holds_no_transaction(
    page: Make, a_bot: Make, a_fill: Make, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("server.storage.search.BATCH", 3)
    bot_id = a_bot()
    for n in range(7):
        a_fill(bot_id, trade_id=n)

    reader = page().get("/fills.csv", buffered=False).iter_encoded()
    next(reader), next(reader)

    assert engine.pool.checkedout() == 0


def test_the_csv_goes_on_over_all_batches(page: Make, a_bot: Make, a_fill: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("server.storage.search.BATCH", 3)
    bot_id = a_bot()
    for n in range(7):
        a_fill(bot_id, trade_id=n)

    answer = page().get("/fills.csv")

    assert [row["trade_id"] for row in lines(answer)] == ["6", "5", "4", "3", "2", "1", "0"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2", "-2"),
        (Decimal("-0.10"), "-0.1"),
        (Decimal("1E-8"), "0.00000001"),
        ("\t=1", "'\t=1"),
        (None, ""),
        (True, "true"),
        ("a,b", "a,b"),
    ],
)
def test_no_cell_is_a_formula_and_no_number_is_changed(value: Any, text: str):
    assert cell(value) == text


def test_a_bots_name_is_harmless_in_page_and_csv(page: Make, a_bot: Make, a_position: Make):
    a_position(a_bot(name="=HYPERLINK(<b>)"))
    client = page()

    assert "<b>)" not in client.get("/orders").text
    assert lines(client.get("/orders.csv"))[0]["bot"] == "'=HYPERLINK(<b>)"


# One order


def an_order(engine: Engine, bot_id: int, **columns: Any) -> None:
    row: dict[str, Any] = {
        "bot_id": bot_id, "client_order_id": f"fabc-{bot_id}-{NOON}-e1", "position_key": NOON, "symbol": "ETHUSDT",
        "role": "entry", "side": "BUY", "order_type": "LIMIT_MAKER", "status": "filled", "quantity": Decimal("0.0589"),
        "price": Decimal("3388.1"), "executed_quantity": Decimal("0.0589"), "executed_quote": Decimal("199.55909"),
        "exchange_order_id": 4829, "created_ms": NOON, "updated_ms": NOON + 300,
    }  # fmt: skip
    with write(engine) as connection:
        connection.execute(insert(ExchangeOrder).values(**{**row, **columns}))


def test_an_order_shows_its_life_from_intent_to_fill_with_the_raw_events(
    page: Make, positions: tuple[int, int], engine: Engine, a_fill: Make
):
    one, _ = positions
    an_order(engine, one)
    a_fill(one)
    coid = f"fabc-{one}-{NOON}-e1"
    with write(engine) as connection:
        for seq, (type_, data) in enumerate(
            [
                ("order.intent", {"time_ms": NOON, "quantity": "0.0589"}),
                ("order", {"time_ms": NOON + 41, "status": "new", "exchange_order_id": 4829}),
                ("order", {"time_ms": NOON + 300, "status": "filled", "reason": "<i>odd</i>"}),
            ],
            start=1,
        ):
            known = {"client_order_id": coid, "position_key": NOON}
            row = {"bot_id": one, "run_id": f"{one}.1", "seq": seq, "ts": NOON + seq, "type": type_}
            connection.execute(insert(Event).values(**row, data={**known, **data}))

    html = page().get("/orders/1").text

    titles = re.findall(r"<li class=\"\w+\"><b>([^<]+)</b><time[^>]*>([^<]+)</time>", html)
    assert titles == [
        ("Intent, then sent", "12:00:00.000"), ("Acked", "+0.041 s"), ("Fill 0.0589", "+0.200 s"),
        ("Filled in full", "+0.300 s"),
    ]  # fmt: skip
    assert "&#34;order.intent&#34;" in html
    assert "<i>odd" not in html


def test_an_orders_events_are_read_from_its_own_time_alone(
    page: Make, positions: tuple[int, int], engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    one, coid = positions[0], f"fabc-{positions[0]}-{NOON}-e1"
    an_order(engine, one)
    others = [(NOON + n * 60_000, "another") for n in range(-500, 500) if n]
    told = sorted([*others, (NOON, coid)])
    rows = [
        {"bot_id": one, "run_id": f"{one}.1", "seq": seq, "ts": at, "type": "order.intent",
         "data": {"client_order_id": order, "position_key": NOON if order == coid else 1, "time_ms": at}}
        for seq, (at, order) in enumerate(told)
    ]  # fmt: skip
    with write(engine) as connection:
        connection.execute(insert(Event), rows)
    read_events: list[int] = []

    with read(engine) as connection:
        found = events_within(connection, one, "order.intent", NOON, NOON + 120_000, most=10)
        read_events += [event.data["time_ms"] - NOON for event in found]

    assert read_events == [-60_000, 0, 60_000, 120_000]
    assert "&#34;order.intent&#34;" in page().get("/orders/1").text


def test_an_order_without_kept_events_still_shows_what_its_rows_say(
    page: Make, positions: tuple[int, int], engine: Engine
):
    an_order(engine, positions[0], status="new", executed_quantity=Decimal(0), executed_quote=Decimal(0))

    html = page().get("/orders/1").text

    assert "Intent, then sent" in html
    assert "Resting" in html


def test_an_order_that_is_not_there_is_a_404(page: Make):
    assert page().get("/orders/77").status_code == 404
    assert page().get("/orders/99999999999999999999").status_code == 404


def test_people_who_are_not_signed_in_see_nothing(app: Any):
    for path in ("/orders", "/fills", "/orders.csv", "/fills.csv", "/orders/1"):
        assert app.test_client().get(path).status_code == 303


def test_the_filter_survives_its_own_url():
    query = list_query({"q": "a b&c", "side": "buy", "since": "2026-11-20"}.get)

    assert query.url("/fills") == "/fills?q=a+b%26c&side=BUY&since=2026-11-20"
    assert query.url("/fills", side="", before="7") == "/fills?q=a+b%26c&since=2026-11-20&before=7"
