"""The fleet page: key figures that are never added across places or assets, filters that live in the URL, what needs
somebody, and several bots at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, text

from server.storage.engine import read, write
from server.storage.models import Event
from server.storage.times import day_of, now_ms
from server.storage.trouble import fingerprint, load_trouble
from server.web.fleet_filter import FleetQuery, chosen, fleet_query, menus, state_chips
from server.web.fleet_view import Seen, kpis, silent_bots, sort_rows, states
from server.web.holdings import Holding
from server.web.observed import observed
from server.web.selection import impact
from server.web.spark import BUCKET_MS, spark

Make = Callable[..., Any]
NOW = 1_795_000_000_000


def a_document(**changes: Any) -> dict[str, Any]:
    return {
        "id": 1, "name": "btc-scalper", "symbol": "BTCUSDC", "strategy": "rsi", "exchange": "simulator",
        "mode": "trade", "tags": ["demo"], "status": "running", "status_since": NOW - 60_000, "status_reason": None,
        "desired_state": "running", "halted": False, "open_positions": 0, "pnl_today": "0", "pnl_total": "0",
        "restarts_24h": 0, "rss_mib": 70.0, **changes,
    }  # fmt: skip


def seen(**changes: Any) -> Seen:
    beside = {name: changes.pop(name) for name in ("holding", "allocated", "unrealised") if name in changes}
    heartbeat_ms, bot = changes.pop("heartbeat_ms", NOW), a_document(**changes)
    state = observed(bot["status"], bot["desired_state"], bot["status_since"], heartbeat_ms, NOW)
    return Seen(
        bot=bot, strategy="RSI", spark=spark({}, NOW), observed=state, **{"holding": Holding(), **beside},
    )  # fmt: skip


def figures(box: Any) -> list[tuple[str, str, str]]:
    return [(line.place, line.unit, line.amount.text if line.amount else line.text) for line in box.lines]


# Key figures


def test_money_is_listed_per_place_and_asset_real_money_first_and_never_added():
    fleet = [
        seen(pnl_today="-61.20", symbol="ETHUSDT"),
        seen(pnl_today="38.42", exchange="binance"),
        seen(pnl_today="12.06"),
        seen(pnl_today="1", mode="paper"),
    ]

    assert figures(kpis(fleet, NOW)[1]) == [
        ("live", "USDC", "+38.42"),
        ("paper", "USDC", "+1.00"),
        ("simulator", "USDC", "+12.06"),
        ("simulator", "USDT", "−61.20"),
    ]


def test_equity_is_what_was_allocated_with_all_that_was_made_and_is_open():
    bot = seen(allocated=Decimal(400), pnl_total="12.5", unrealised=Decimal("-2.5"))

    assert figures(kpis([bot], NOW)[0]) == [("simulator", "USDC", "410.00")]  # 400 + 12.5 − 2.5


def test_exposure_is_at_the_last_price_with_its_share_of_equity():
    holding = Holding(quantity=Decimal("0.001"), worth=Decimal(100), cost=Decimal(90), active=1)

    box = kpis([seen(allocated=Decimal(400), holding=holding)], NOW)[2]

    assert (figures(box), box.share) == ([("simulator", "USDC", "100.00")], "25.0 %")


def test_states_are_counted_and_drawn_to_scale():
    drawn = states([seen(), seen(status="error"), seen(status="starting"), seen(status="stopping")])

    assert (drawn.running, drawn.total, drawn.words) == (1, 4, (("2 changing", False), ("1 error", True)))
    assert [(x, css) for x, _, css in drawn.bars] == [("0.0", "f-ok"), ("25.0", "f-info"), ("75.0", "f-bad")]


def test_the_line_of_a_day_cumulates_and_ends_at_its_sum():
    half_hour = NOW // BUCKET_MS

    up = spark({half_hour - 3: 2.0, half_hour: -0.5, half_hour - 100: 99.0}, NOW)

    assert (up.css, up.label) == ("up", "PnL over 24 hours, ends +1.50")
    assert up.points.split()[0] == "0.0,25.0"
    assert spark({}, NOW).label == "PnL over 24 hours, ends flat"


# Filters


def test_the_url_names_every_choice_and_unknown_ones_count_as_none():
    query = fleet_query({"state": "attention", "sort": "-today", "place": "moon", "q": "btc"}.get)

    assert query == FleetQuery(state="attention", sort="-today", q="btc")
    assert query.url(state="") == "/?q=btc&sort=-today"
    assert FleetQuery().url() == "/"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (FleetQuery(), ["a", "b", "c"]),
        (FleetQuery(state="running"), ["a"]),
        (FleetQuery(state="attention"), ["b", "c"]),
        (FleetQuery(place="paper"), ["b"]),
        (FleetQuery(tag="x"), ["c"]),
        (FleetQuery(q="eth B"), ["b"]),
        (FleetQuery(q="#3"), ["c"]),
    ],
)
def test_a_filter_leaves_what_it_asks_for(query: FleetQuery, names: list[str]):
    bots = [
        a_document(id=1, name="a"),
        a_document(id=2, name="b", status="error", mode="paper", symbol="ETHUSDT"),
        a_document(id=3, name="c", tags=["x"]),
    ]

    assert [bot["name"] for bot in chosen(bots, query, silent={3})] == names


def test_a_pause_that_nobody_asked_for_needs_attention():
    paused = a_document(status="paused", desired_state="running")
    asked = a_document(id=2, status="paused", desired_state="paused")

    assert chosen([paused, asked], FleetQuery(state="attention"), set()) == [paused]


def test_chips_count_under_the_other_filters():
    bots = [a_document(id=1), a_document(id=2, status="stopped", tags=["x"]), a_document(id=3, tags=["x"])]

    chips = state_chips(bots, FleetQuery(tag="x"), set())

    assert [(chip.label, chip.count) for chip in chips] == [
        ("All", 2), ("Running", 1), ("Needs attention", 0), ("Stopped", 1),
    ]  # fmt: skip
    assert chips[1].url == "/?state=running&tag=x"


def test_a_filter_that_leaves_no_choice_is_not_offered():
    bots = [a_document(), a_document(id=2, tags=["x"])]

    assert [menu.name for menu in menus(bots, FleetQuery(), {})] == ["tag"]


def test_by_itself_real_money_comes_first_then_what_needs_somebody():
    fleet = [
        seen(id=1, name="a", status="stopped"),
        seen(id=2, name="b"),
        seen(id=3, name="c", status="error"),
        seen(id=4, name="d", exchange="binance"),
    ]

    assert [s.bot["name"] for s in sort_rows(fleet, "", set(), NOW)] == ["d", "c", "b", "a"]
    assert [s.bot["name"] for s in sort_rows(fleet, "-name", set(), NOW)] == ["d", "c", "b", "a"]
    assert [s.bot["name"] for s in sort_rows(fleet, "name", set(), NOW)] == ["a", "b", "c", "d"]


def test_results_in_different_assets_are_sorted_apart():
    fleet = [seen(id=1, pnl_today="5"), seen(id=2, pnl_today="9", symbol="BTCUSDT"), seen(id=3, pnl_today="7")]

    assert [s.id for s in sort_rows(fleet, "today", set(), NOW)] == [1, 3, 2]


def test_only_a_bot_that_should_speak_is_silent():
    old = {"heartbeat_ms": NOW - 46_000}
    fleet = [seen(id=1, **old), seen(id=2, status="stopped", **old), seen(id=3)]

    assert silent_bots(fleet) == {1: 46_000}


# What needs somebody


def test_what_differs_in_figures_and_ids_only_has_one_cause():
    one = fingerprint(1, "order_filter", "Order f3k9ab-1-1795184224-e1 (entry BUY 0.012) was not placed: no (-2010)")
    two = fingerprint(1, "order_filter", "Order f3k9ab-1-1795199999-e2 (entry BUY 1.5) was not placed: no (-2010)")

    assert one == two
    assert one != fingerprint(2, "order_filter", "Order f3k9ab-1-1-e2 (entry BUY 1.5) was not placed: no (-2010)")
    assert one != fingerprint(1, "order_filter", "Order f3k9ab-1-1-e2 (entry SELL 1.5) was not placed: no (-2010)")


def an_alert(engine: Engine, bot_id: int, seq: int, ts: int, message: str, kind: str = "order_filter") -> None:
    row = {"bot_id": bot_id, "run_id": f"{bot_id}.1", "seq": seq, "ts": ts, "type": "alert"}
    with write(engine) as connection:
        connection.execute(insert(Event).values(**row, data={"kind": kind, "message": message}))


def test_trouble_is_grouped_with_count_first_and_last(engine: Engine, a_bot: Make):
    bot_id = a_bot()
    for seq, ts in ((1, 1000), (2, 3000), (3, 2000)):
        an_alert(engine, bot_id, seq, ts, f"refused {seq}")

    with read(engine) as connection:
        found = load_trouble(connection, 1500)
        plan = connection.execute(
            text("EXPLAIN QUERY PLAN SELECT id FROM events WHERE type IN ('error', 'alert') AND ts > 5")
        ).all()

    assert [(t.count, t.first_ms, t.last_ms, t.message) for t in found] == [(2, 2000, 3000, "refused 2")]
    assert "ix_events_trouble" in str(plan)


def test_the_page_says_what_it_means_for_money_and_leads_to_the_log(page: Make, engine: Engine, a_bot: Make):
    bot_id, now = a_bot(name="eth-grid"), now_ms()
    for seq in range(1, 15):
        an_alert(engine, bot_id, seq, now - seq, f"Order <{seq}> was not placed")

    html = page().get("/").text

    assert "14×" in html
    assert "nothing was bought or sold by it" in html
    assert "Order &lt;1&gt; was not placed" in html
    assert f'href="/bots/{bot_id}?tab=log"' in html


# The page


def test_figures_say_for_which_bots_they_are(page: Make, a_bot: Make, a_day: Make):
    one, two = a_bot(name="one", tags=["x"]), a_bot(name="two")
    a_day(one, day_of(now_ms()), "5")
    a_day(two, day_of(now_ms()), "7")
    client = page()

    every, narrowed = client.get("/").text, client.get("/?tag=x").text

    assert "2 bots · figures for all of them" in every
    assert "+12.00" in every
    assert "1 of 2 bots · figures for this one only" in narrowed
    assert "+12.00" not in narrowed
    assert ">two<" not in narrowed


def test_a_filter_that_fits_nothing_offers_to_clear_it(page: Make, a_bot: Make):
    a_bot()

    html = page().get("/?q=nothing-like-that&state=running").text

    assert "No bot matches" in html
    assert "Clear filters" in html


def test_columns_are_sorted_by_links_that_keep_the_filter(page: Make, a_bot: Make):
    for name in ("bb", "aa"):
        a_bot(name=name)
    client = page()

    html = client.get("/?sort=name&tag=").text

    assert re.findall(r'class="name" href="[^"]*">(\w+)<', html) == ["aa", "bb"]
    assert 'aria-sort="ascending"' in html
    assert 'href="/?sort=-name"' in html


def test_a_halted_bot_says_so_with_its_reason(page: Make, a_bot: Make, observe: Make):
    observe(a_bot(), halted=True, halt_reason="halted by maria: odd prices")

    html = page().get("/").text

    assert "halted by maria: odd prices" in html
    assert "/release" in html


@pytest.mark.parametrize("path", ["/?sort=--", "/?q=%F0%9F%92%A5" + "x" * 5000, "/?tag[]=1&place=%27"])
def test_odd_queries_are_read_as_no_filter(page: Make, a_bot: Make, path: str):
    a_bot()

    assert page().get(path).status_code == 200


def test_the_number_of_queries_does_not_grow_with_the_fleet(page: Make, a_bot: Make, engine: Engine, a_position: Make):
    client = page()

    def count() -> int:
        statements: list[str] = []
        listener = lambda *args: statements.append(args[2])  # noqa: E731
        event.listen(engine, "before_cursor_execute", listener)
        client.get("/")
        event.remove(engine, "before_cursor_execute", listener)
        return len(statements)

    a_position(a_bot())
    count()
    few = count()
    for _ in range(4):
        a_position(a_bot())

    assert count() == few


# Several bots at once


def test_the_impact_counts_what_changes_and_says_why_the_rest_stays():
    selected = [seen(id=1), seen(id=2, status="paused", desired_state="paused")]

    found = impact(selected, "pause", "trader", is_latched=False)

    assert (found.title, found.words, found.submit) == ("Pause 1 of 2 selected", "1 is paused already", "Pause 1 bot")


def test_starting_many_leaves_out_a_bot_that_its_silent_host_may_still_trade():
    lost = seen(id=1, status="error", status_reason="No word from host barn for 10 minutes. It may still trade there.")

    found = impact([lost, seen(id=2, status="stopped", desired_state="stopped")], "start", "trader", is_latched=False)

    assert found.changing == 1
    assert "silent host may still trade" in found.words


def test_a_selection_of_real_and_simulated_money_is_called_mixed_and_not_added():
    found = impact(
        [seen(id=1, exchange="binance", pnl_today="1"), seen(id=2, pnl_today="2")], "stop", "trader", is_latched=False
    )

    assert (found.is_mixed, found.typed) == (True, "stop")
    assert [(line.place, line.amount.text) for line in found.lines if line.amount] == [
        ("live", "+1.00"), ("simulator", "+2.00"),
    ]  # fmt: skip


def post(client: Any, path: str, **form: Any) -> Any:
    token = client.get("/account").text.split('name="csrf_token" value="')[1].split('"')[0]
    return client.post(path, data={"csrf_token": token, **form})


def test_without_javascript_a_page_states_the_impact_and_does_it(page: Make, a_bot: Make, observe: Make, api: Any):
    one, two = a_bot(name="one"), a_bot(name="two")
    observe(one, desired_state="running", status="running")
    observe(two, desired_state="paused", status="paused")
    client = page("trader")

    html = client.get(f"/fleet/selected?verb=pause&bot={one}&bot={two}").text
    assert "Pause 1 of 2 selected" in html
    assert "1 is paused already" in html
    assert api.get(f"/api/bots/{one}").json["desired_state"] == "running"
    answer = post(client, "/fleet/pause", bot=[one], next="/?state=running", key="k")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/?state=running")
    assert api.get(f"/api/bots/{one}").json["desired_state"] == "paused"


def test_a_bot_that_refuses_is_named_and_the_others_are_done(page: Make, a_bot: Make, api: Any):
    good, keyless = a_bot(name="good"), a_bot(name="keyless", credential_id=None)
    client = page("trader")

    post(client, "/fleet/start", bot=[good, keyless])

    html = client.get("/").text
    assert "1 bot started." in html
    assert "keyless: Bot" in html
    assert api.get(f"/api/bots/{good}").json["desired_state"] == "running"


def test_real_money_in_a_selection_takes_the_typed_verb(page: Make, a_bot: Make, observe: Make, api: Any):
    bot_id, client = a_bot(), page("trader")
    observe(bot_id, exchange="binance", desired_state="running", status="running")

    answer = post(client, "/fleet/stop", bot=[bot_id], typed="")

    assert answer.status_code == 422
    assert "Type stop to confirm" in answer.text
    assert api.get(f"/api/bots/{bot_id}").json["desired_state"] == "running"


def test_a_selection_of_nothing_says_so(page: Make, a_bot: Make):
    client = page("trader")

    assert client.get("/fleet/selected?verb=pause").status_code == 303
    assert "No bot was selected" in client.get("/").text
    assert post(client, "/fleet/stop", bot=["x", "99", "1" * 50]).status_code == 303


def test_a_viewer_selects_nothing(page: Make, a_bot: Make):
    bot_id, client = a_bot(), page("viewer")

    assert client.get(f"/fleet/selected?verb=stop&bot={bot_id}").status_code == 403
    assert post(client, "/fleet/stop", bot=[bot_id]).status_code == 403
    assert 'id="pick"' not in client.get("/").text
