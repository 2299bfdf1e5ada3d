"""The page of one bot, as somebody without JavaScript gets it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, update

from server.market import Bar, Market
from server.storage.engine import write
from server.storage.models import Bot, BotRun, Event, Fill
from server.storage.times import day_of, now_ms
from server.web import chart
from server.web.bot import TABS
from server.web.bot_log import marked
from server.web.formats import price

Make = Callable[..., Any]
LEG = {
    "client_order_id": "fabc-1-1-e1", "role": "entry", "side": "BUY", "order_type": "LIMIT_MAKER", "status": "filled",
    "quantity": "0.013", "price": "97412.3", "executed_quantity": "0.013", "executed_quote": "1266.3599",
}  # fmt: skip
TARGET = LEG | {"client_order_id": "fabc-1-1-t1", "role": "target", "side": "SELL", "status": "new"}
TARGET |= {"price": "97753.24", "executed_quantity": "0", "executed_quote": "0"}
HELD = {"cost": "1266.36", "target_price": "97753.24", "stop_price": "97168.77", "legs": [LEG, TARGET]}


def csrf_token(html: str) -> str:
    return html.split('name="csrf_token" value="')[1].split('"')[0]


def beat(**changes: Any) -> dict[str, Any]:
    found = {
        "last_candle_ms": now_ms(), "last_price": 97531.6, "loop_lag_ms": 2.5, "latency_p50_us": 266.0,
        "latency_p99_us": 2494.0, "decisions": 214, "above_threshold": 5, "blocked": {"max_positions": 3},
        "best_score": 0.71, "last_decision_ms": now_ms(), "cpu_s": 18.2, "unrealised_pnl": "1.55", "rss_mib": 71.4,
        "errors": {"order_rejected": 2}, "streams": {"market": "live", "user": "reconnecting"}, "open_orders": 1,
        "positions": 1,
    }  # fmt: skip
    return {**found, **changes}


@pytest.fixture
def a_running_bot(a_bot: Make, observe: Make, engine: Engine) -> Make:
    """A bot that has run for a while; its id."""

    def make(beats: dict[str, Any] | None = None, columns: dict[str, Any] | None = None, **body: Any) -> int:
        bot_id, now = int(a_bot(**body)), now_ms()
        seen = {"status": "running", "desired_state": "running", "status_since_ms": now, "run_id": f"{bot_id}.1"}
        seen |= {"heartbeat": beat(**(beats or {})), "heartbeat_ms": now, "market_ms": now, "last_decision_ms": now}
        observe(bot_id, **{**seen, "rss_mib": 71.4, "applied_config_version": 1, **(columns or {})})
        with write(engine) as connection:
            connection.execute(
                insert(BotRun).values(
                    bot_id=bot_id, generation=1, state="running", created_ms=now - 60_000, started_by="maria"
                )
            )
        return bot_id

    return make


@pytest.fixture
def an_event(engine: Engine) -> Make:
    """Add an event of a bot."""

    def add(bot_id: int, seq: int, type_: str, **data: Any) -> None:
        row = {"bot_id": bot_id, "run_id": f"{bot_id}.1", "seq": seq, "ts": now_ms(), "type": type_, "data": data}
        with write(engine) as connection:
            connection.execute(insert(Event).values(**row))

    return add


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_of_a_bot_that_never_ran_says_why_it_is_empty(page: Make, a_bot: Make, tab: str):
    answer = page().get(f"/bots/{a_bot(name='btc-scalper')}?tab={tab}")

    assert answer.status_code == 200
    assert "btc-scalper" in answer.text
    assert "style=" not in answer.text
    assert "<script>" not in answer.text


@pytest.mark.parametrize("path", ["/bots/99", "/bots/99?tab=config", "/bots/99/chart", "/bots/99/log.txt"])
def test_a_bot_that_never_was_is_not_found(page: Make, path: str):
    assert page().get(path).status_code == 404


def test_the_head_says_state_why_wish_place_and_who_started_it(page: Make, a_running_bot: Make):
    bot_id = a_running_bot(columns={"status": "paused", "status_reason": "10 errors in a row"}, name="eth-rsi")

    html = page().get(f"/bots/{bot_id}").text

    for text in ("eth-rsi", "Paused", "10 errors in a row", "wanted: running", "SIM", "ETHUSDT · RSI · simulator",
                 "decides on each 1m bar", "started by maria", "no real money"):  # fmt: skip
        assert text in html, text


def test_a_live_bots_page_says_so_in_word_and_ribbon(page: Make, a_running_bot: Make, observe: Make):
    bot_id = a_running_bot()
    observe(bot_id, exchange="binance")

    html = page().get(f"/bots/{bot_id}?tab=runs").text

    assert "ribbon-live" in html
    assert "tag-live" in html
    assert "real money" in html


def test_a_silent_bot_is_running_with_a_question_mark_and_its_figures_are_old(page: Make, a_running_bot: Make):
    past = {"heartbeat_ms": now_ms() - 46_000, "status_since_ms": now_ms() - 60_000}
    html = page().get(f"/bots/{a_running_bot(columns=past)}").text

    assert "Running?" in html
    assert 'class="kpi-v stale"' in html


def test_buttons_that_make_no_sense_are_disabled_and_say_why(page: Make, a_running_bot: Make):
    html = (
        page("trader")
        .get(f"/bots/{a_running_bot(columns={'halted': True, 'halt_reason': 'halted by maria: news'})}")
        .text
    )

    assert "Halted by maria: news" in html
    assert "Release…" in html
    assert 'title="Halted: release it first, with a reason"' in html


def test_a_viewer_sees_buttons_and_form_but_cannot_use_them(page: Make, a_running_bot: Make):
    bot_id, client = a_running_bot(), page("viewer")
    html = client.get(f"/bots/{bot_id}?tab=config").text

    assert f'formaction="/bots/{bot_id}/' not in html
    assert '<fieldset class="group" disabled>' in html
    token = csrf_token(html)
    assert client.post(f"/bots/{bot_id}/config", data={"csrf_token": token, "version": "1"}).status_code == 403


def test_the_strip_has_money_drawdown_loss_left_and_signs_of_life(
    page: Make, a_running_bot: Make, a_day: Make, a_position: Make
):
    config = {"capital_per_trade": "100", "max_daily_loss": "50"}
    bot_id = a_running_bot(config=config, columns={}, beats={"unrealised_pnl": "-5"})
    a_day(bot_id, day_of(now_ms()), "-20", trades=4, wins=1)
    a_day(bot_id, day_of(now_ms()) - 1, "30", trades=2, wins=2)
    now = now_ms()
    for key, result in ((1, "30"), (2, "-26")):
        a_position(bot_id, position_key=key, status="closed", closed_ms=now + key, pnl=Decimal(result))
    a_position(bot_id)

    html = page().get(f"/bots/{bot_id}?tab=runs").text

    for text in ("−20.00", "+10.00", "4 trades · 25 % won", "6 trades", "20.00", "26.00 USDT below the peak",
                 "25.00", "of 50.00 · resets 00:00 UTC", "71 MiB", "214 taken, 5 to enter"):  # fmt: skip
        assert text in html, text


def test_an_open_position_shows_value_gain_levels_and_the_life_of_its_order(
    page: Make, a_running_bot: Make, a_position: Make, an_event: Make, engine: Engine
):
    bot_id, key = a_running_bot(symbol="BTCUSDC"), now_ms()
    a_position(
        bot_id, position_key=key, symbol="BTCUSDC", quantity=Decimal("0.013"), entry_price=Decimal("97412.3"),
        document=HELD | {"exit_deadline_ms": key + 1_200_000},
    )  # fmt: skip
    order = {k: LEG[k] for k in ("client_order_id", "role", "side", "order_type", "quantity", "price")}
    an_event(bot_id, 1, "order.intent", **order, position_key=key, time_ms=key)
    an_event(bot_id, 2, "order", **order, position_key=key, status="new", exchange_order_id=4829, time_ms=key + 41)
    with write(engine) as connection:
        connection.execute(
            insert(Fill).values(
                bot_id=bot_id, trade_id=913, order_id=4829, client_order_id=LEG["client_order_id"], position_key=key,
                symbol="BTCUSDC", side="BUY", price=Decimal("97412.3"), quantity=Decimal("0.013"), fee=Decimal(0),
                fee_asset="BTC", fee_quote=Decimal(0), is_maker=True, time_ms=key + 3107,
            )
        )  # fmt: skip

    html = page().get(f"/bots/{bot_id}").text

    for text in ("0.013 BTC", "1,267.91 USDC", "97,412.30", "97,531.60", "+1.55", "97,753.24", "97,168.77", "in 19 min",
                 "Intent", "fabc-1-1-e1", "Acked", "+0.041 s", "exchange order 4829", "Fill 0.013", "+3.107 s",
                 "maker", "Guarded", "resting", "Close now…"):  # fmt: skip
        assert text in html, text


def test_twenty_positions_are_all_there_with_their_sum(page: Make, a_running_bot: Make, a_position: Make):
    bot_id = a_running_bot(config={"max_positions": 20})
    for number in range(20):
        a_position(bot_id, position_key=number + 1, document=HELD, quantity=Decimal("0.013"))

    html = page().get(f"/bots/{bot_id}").text

    assert "20 open positions" in html
    assert html.count('class="more one"') == 20
    assert "Close all now…" in html


def test_closed_positions_come_in_pages_and_sums_say_what_they_cover(
    page: Make, a_running_bot: Make, a_position: Make, a_day: Make
):
    bot_id = a_running_bot()
    for number in range(51):
        a_position(
            bot_id, position_key=number + 1, status="closed", opened_ms=1_000_000, closed_ms=1_090_000 + number,
            exit_price=Decimal(3400), pnl=Decimal(1), exit_reason="profit_target",
        )  # fmt: skip
    a_day(bot_id, day_of(now_ms()), "51", trades=51)
    client = page()

    html = client.get(f"/bots/{bot_id}?tab=closed").text

    assert "These 50" in html
    assert "+50.00" in html
    assert "All 51 since the bot was made" in html
    assert "profit target" in html
    older = html.split('href="?tab=closed&amp;before=')[1].split('"')[0]
    assert "These 1" in client.get(f"/bots/{bot_id}?tab=closed&before={older}").text


def test_an_empty_tab_says_in_figures_why_it_is_empty(page: Make, a_running_bot: Make, engine: Engine):
    bot_id = a_running_bot(beats={"above_threshold": 0})

    assert "214 decisions, 0 to enter." in page().get(f"/bots/{bot_id}?tab=decisions").text


def test_decisions_show_inputs_score_and_what_held_them_back(page: Make, a_running_bot: Make, an_event: Make):
    bot_id = a_running_bot()
    an_event(
        bot_id, 1, "signal", decision_ms=1, action="enter", price=3400.5, score=0.71, threshold=0.62,
        values={"rsi": 21.33333333, "tiny": 0.0000012}, feature_digest="9c41e07b",
    )  # fmt: skip
    an_event(bot_id, 2, "risk", code="max_positions", message="1 of 1 positions are open", time_ms=1)

    html = page().get(f"/bots/{bot_id}?tab=decisions").text

    for text in (
        "0.71",
        "0.62",
        "rsi 21.333333",
        "tiny 0.000001",
        "9c41e07b",
        "max positions",
        "3×",
        "1 of 1 positions",
    ):
        assert text in html, text


def test_runs_say_how_each_ended(page: Make, a_running_bot: Make, engine: Engine):
    bot_id, now = a_running_bot(), now_ms()
    with write(engine) as connection:
        connection.execute(
            insert(BotRun).values(
                bot_id=bot_id, generation=2, state="ended", created_ms=now - 90_000, ended_ms=now, exit_code=70,
                exit_reason="FileNotFoundError: <model>", wanted=False, kind="manual", host="desk",
            )
        )  # fmt: skip

    html = page().get(f"/bots/{bot_id}?tab=runs").text

    for text in (
        f"{bot_id}.2",
        "ended unwanted",
        "70",
        "FileNotFoundError: &lt;model&gt;",
        "90 s",
        "by hand here, desk",
    ):
        assert text in html, text


def test_health_marks_what_is_past_its_limit(page: Make, a_running_bot: Make):
    html = page().get(f"/bots/{a_running_bot(beats={'loop_lag_ms': 1500.0})}?tab=health").text

    for text in ("266 µs", "2.49 ms", "1500.0 ms", "past the limit", "order rejected", "2×", "reconnecting"):
        assert text in html, text


def test_what_people_and_bots_write_is_never_markup(page: Make, a_running_bot: Make, an_event: Make):
    bot_id = a_running_bot(
        name="<script>alert(1)</script>", description="<i>x</i>", columns={"status_reason": "<b>y</b>"}
    )
    an_event(bot_id, 1, "alert", kind="<u>", message='"><img src=x>')
    client = page()

    for tab in TABS:
        html = client.get(f"/bots/{bot_id}?tab={tab}&q=<img").text
        for markup in ("<script>alert", "<i>x", "<b>y", "<u>", "<img"):
            assert markup not in html, tab


def test_the_log_filters_by_level_marks_what_is_searched_and_can_be_taken_along(
    page: Make, a_running_bot: Make, an_event: Make
):
    bot_id, client = a_running_bot(), page("viewer")
    an_event(bot_id, 1, "log", level="info", message="reconnected after 2 s")
    an_event(bot_id, 2, "error", kind="exchange_unreachable", message="no answer", correlation_id="c-81fa")

    html = client.get(f"/bots/{bot_id}?tab=log&q=RECONNECT").text
    assert "<mark>reconnect</mark>ed after 2 s" in html
    assert "1 line found" in html
    html = client.get(f"/bots/{bot_id}?tab=log&level=error").text
    assert "c-81fa" in html
    assert "reconnected" not in html
    text = client.get(f"/bots/{bot_id}/log.txt?level=info")
    assert text.mimetype == "text/plain"
    assert "attachment" in text.headers["Content-Disposition"]
    assert [line.split()[2] for line in text.text.splitlines()] == ["ERROR", "INFO"]


@pytest.mark.parametrize(
    ("text", "search", "parts"),
    [
        ("a fill", "", (("a fill", False),)),
        ("Fill, refill", "fill", (("Fill", True), (", re", False), ("fill", True))),
        ("straße x", "X", (("straße x", False),)),
        ("none", "zz", (("none", False),)),
    ],
)
def test_what_a_search_found_is_marked(text: str, search: str, parts: tuple[tuple[str, bool], ...]):
    assert marked(text, search) == parts


def test_an_archived_bot_stays_readable_and_nothing_can_be_done_with_it(
    page: Make, a_running_bot: Make, a_position: Make, engine: Engine
):
    bot_id, client = a_running_bot(name="old-one"), page()
    a_position(bot_id, status="closed", closed_ms=now_ms(), pnl=Decimal("-3"), exit_price=Decimal(1))
    with write(engine) as connection:
        connection.execute(update(Bot).where(Bot.id == bot_id).values(archived_ms=now_ms(), status="stopped"))

    for tab in TABS:
        html = client.get(f"/bots/{bot_id}?tab={tab}").text
        assert "Archived on" in html
        assert "formaction=" not in html.replace('formaction="/logout"', "")
    assert "−3.00" in client.get(f"/bots/{bot_id}?tab=closed").text
    assert client.get("/").text.count("old-one") == 0
    token = csrf_token(html)
    assert client.post(f"/bots/{bot_id}/config", data={"csrf_token": token, "version": "1"}).status_code == 404


def test_the_page_takes_as_many_queries_with_much_history_as_with_none(
    page: Make, a_running_bot: Make, a_position: Make, engine: Engine
):
    bot_id, client = a_running_bot(), page()
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *seen: asked.append(seen[2]))

    def queries() -> int:
        asked.clear()
        client.get(f"/bots/{bot_id}")
        return len(asked)

    before = queries()
    for number in range(30):
        a_position(bot_id, position_key=number + 1, document=HELD, status="active" if number % 2 else "pending")

    assert before < 40
    assert queries() <= before + 2  # the events and fills of what is held


def test_going_back_in_the_chart_finds_the_scores_of_that_time_behind_any_number_of_newer_ones(
    a_bot: Make, engine: Engine
):
    bot_id = a_bot()
    rows = [
        {"bot_id": bot_id, "run_id": f"{bot_id}.1", "seq": n, "ts": n, "type": "signal",
         "data": {"decision_ms": n * 60_000, "score": n / 10_000, "threshold": 0.5}}
        for n in range(3_000)
    ]  # fmt: skip
    with write(engine) as connection:
        connection.execute(insert(Event), rows)
        found = chart.scores_of(connection, bot_id, 600_000, 780_000)

    assert found == [[600_000, 0.001, 0.5], [660_000, 0.0011, 0.5], [720_000, 0.0012, 0.5]]


def test_while_the_exchange_is_silent_the_chart_says_so_and_the_rest_is_there(page: Make, a_running_bot: Make):
    bot_id, client = a_running_bot(), page()

    answer = client.get(f"/bots/{bot_id}/chart")

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")
    assert "No candles: the exchange does not answer since" in answer.json["message"]
    html = client.get(f"/bots/{bot_id}?view=table").text
    assert "No candles: the exchange does not answer since" in html
    assert "Open position" in html


def test_the_table_says_how_much_it_shows_and_goes_on_to_older_candles_scores_and_lines(
    page: Make, a_running_bot: Make, a_position: Make, an_event: Make, monkeypatch: pytest.MonkeyPatch
):
    bot_id, client = a_running_bot(), page()
    a_position(bot_id, entry_price=Decimal("0.38127"), document={"target_price": "0.38131", "legs": []})
    an_event(bot_id, 1, "signal", decision_ms=90_000_000 + 30_000, score=0.71, threshold=0.6)

    def candles(_self: Any, _exchange: str, _symbol: str, _interval: str, *, limit: int, before_ms: int | None) -> Any:
        first = (before_ms or 97_200_000) - limit * 60_000
        one = Decimal("0.38127")
        return tuple(
            Bar(open_ms=first + n * 60_000, open=one, high=one, low=one, close=one, volume=one, is_closed=True)
            for n in range(limit)
        )

    monkeypatch.setattr(Market, "candles", candles)
    newest = client.get(f"/bots/{bot_id}?view=table&r=1d").text
    older = client.get(f"/bots/{bot_id}?view=table&r=1d&until={97_200_000 - 120 * 60_000}").text

    assert "The newest 120 of 1,440 candles in 1 d." in newest
    assert "target +0.01 % 0.38131" in newest
    assert "until=90000000" in newest
    assert "01-02 00:59" in older
    assert "01-02 01:00" not in older
    assert "0.71 of 0.6" in client.get(f"/bots/{bot_id}?view=table&until={90_000_000 + 60_000}").text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("97288", "97,288.00"), ("0.38127", "0.38127"), ("0.38131", "0.38131"), ("0.7123", "0.7123"),
        ("0.00001234", "0.00001234"), ("3388.105", "3,388.105"), ("0.381293333333333333", "0.381293"),
        ("67300.1266666666666", "67,300.13"), ("0", "0.00000000"),
    ],
)  # fmt: skip
def test_a_price_keeps_the_digits_that_its_exchange_has(amount: str, text: str):
    assert price(Decimal(amount)) == text


def test_unknown_values_in_the_address_are_the_usual_page(page: Make, a_running_bot: Make):
    client, bot_id = page(), a_running_bot()

    for query in ("tab=nonsense", "i=7m&r=9y", "tab=closed&before=-5", "tab=closed&before=99999999999999999999999",
                  "tab=config&from=x&to=9", "tab=log&level=loud&before=abc"):  # fmt: skip
        assert client.get(f"/bots/{bot_id}?{query}").status_code == 200, query


def test_one_position_of_many_can_be_closed_after_its_figures_were_shown(
    page: Make, a_running_bot: Make, a_position: Make, api: Any
):
    bot_id, client = a_running_bot(config={"max_positions": 2}), page("trader")
    for key in (1, 2):
        a_position(bot_id, position_key=key, document=HELD, quantity=Decimal("0.013"))
    first = api.get(f"/api/bots/{bot_id}/positions").json["items"][0]["id"]
    path = f"/bots/{bot_id}/positions/{first}/close"
    assert f'href="{path}"' in client.get(f"/bots/{bot_id}").text

    asked = client.get(path).text
    for text in ("0.013 ETH", "Unrealised", "sold at market", "Cancel"):
        assert text in asked, text
    form = {"csrf_token": csrf_token(asked), "key": asked.split('name="key" value="')[1].split('"')[0]}
    answers = [client.post(path, data=form).status_code for _ in range(2)]

    assert answers == [303, 303]
    commands = api.get(f"/api/bots/{bot_id}/control").json["commands"]
    assert [command["verb"] for command in commands] == ["close_position"]
    assert page("viewer").get(path).status_code == 403
    assert client.get(f"/bots/{bot_id}/positions/999/close").status_code == 404


def test_closing_a_live_position_asks_for_the_bots_name(
    page: Make, a_running_bot: Make, a_position: Make, observe: Make
):
    bot_id, client = a_running_bot(name="live-one"), page("trader")
    a_position(bot_id, position_key=1, document=HELD)
    observe(bot_id, exchange="binance")
    path = f"/bots/{bot_id}/positions/1/close"
    token = csrf_token(client.get(path).text)

    assert client.post(path, data={"csrf_token": token, "name": "x"}).status_code == 422
    assert client.post(path, data={"csrf_token": token, "name": "live-one"}).status_code == 303
