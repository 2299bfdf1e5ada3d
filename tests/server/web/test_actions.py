"""Buttons of bots: what they change, what they ask first, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from server.storage.audit import Author, Via
from server.storage.engine import write
from server.storage.times import now_ms
from server.storage.verbs import VERBS
from server.web.actions_view import actions_of, confirmation
from server.web.holdings import Holding, OpenOrder
from shared.errors import Refused

Make = Callable[..., Any]


def a_document(**changes: Any) -> dict[str, Any]:
    return {
        "id": 3,
        "name": "btc-scalper",
        "symbol": "BTCUSDC",
        "exchange": "simulator",
        "mode": "trade",
        "status": "running",
        "desired_state": "running",
        "halted": False,
        "open_positions": 0,
        **changes,
    }


def send(client: Any, path: str, headers: Any = None, **form: Any) -> Any:
    token = client.get("/account").text.split('name="csrf_token" value="')[1].split('"')[0]
    return client.post(path, data={"csrf_token": token, **form}, headers=headers)


# Which buttons there are


def test_a_running_bot_can_be_paused_and_stopped_but_not_started():
    actions = actions_of(a_document(), "trader", is_latched=False)

    assert (actions["start"].why_not, actions["pause"].why_not, actions["stop"].why_not) == (
        "Already started", None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "asks"),
    [({}, False), ({"open_positions": 1}, True), ({"exchange": "binance"}, True), ({"mode": "paper"}, False)],
)
def test_stopping_asks_first_where_a_position_or_real_money_is_at_stake(changes: dict[str, Any], asks: bool):
    stop = actions_of(a_document(**changes), "trader", is_latched=False)["stop"]

    assert (stop.asks, stop.label) == (asks, "Stop…" if asks else "Stop")


LOST = {"status": "error", "status_reason": "No word from host barn for 10 minutes. It may still trade there."}


def test_a_bot_whose_host_is_silent_is_taken_over_with_its_name_and_a_reason_instead_of_started():
    actions = actions_of(a_document(**LOST), "trader", is_latched=False)

    assert (actions["start"].verb, actions["start"].label, actions["start"].asks) == ("take-over", "Take over…", True)
    asked = confirmation(
        {**a_document(**LOST), "name": "btc"}, "take-over", Holding(), on_stop="close", heartbeat_age_ms=None
    )
    assert (asked.name, asked.reason) == ("btc", "required")
    assert "host barn" in asked.lead
    assert "twice" in asked.lead


@pytest.mark.parametrize(
    ("verb", "changes"),
    [("start", {"desired_state": "stopped", "status": "stopped"}), ("resume", {"desired_state": "paused"})],
)
def test_while_the_kill_switch_is_set_nothing_is_offered_that_would_be_refused(verb: str, changes: dict[str, Any]):
    document = a_document(**changes)

    assert actions_of(document, "trader", is_latched=False)[verb].why_not is None
    assert "kill switch is set" in (actions_of(document, "trader", is_latched=True)[verb].why_not or "")


@pytest.mark.parametrize("path", ["/", "/bots/{}"])
def test_both_pages_know_the_kill_switch(page: Make, a_bot: Make, settings: Any, path: str):
    bot_id = a_bot()
    settings.halt_file.touch()

    assert "The kill switch is set: release that first" in page("trader").get(path.format(bot_id)).text


@pytest.mark.parametrize("path", ["/", "/bots/{}"])
def test_a_viewer_is_not_offered_what_they_may_not_do(page: Make, a_bot: Make, path: str):
    bot_id = a_bot()

    assert "Duplicate" in page("trader").get(path.format(bot_id)).text
    assert "Duplicate" not in page("viewer").get(path.format(bot_id)).text


@pytest.mark.parametrize(
    ("columns", "pill"),
    [
        ({"status": "starting"}, "pill-starting"),
        ({"status": "running", "heartbeat_ms": None}, "pill-running"),
        ({"status": "stopped", "desired_state": "stopped"}, "#i-stop"),
    ],
)
def test_both_pages_say_the_same_of_a_bot(page: Make, a_bot: Make, observe: Make, columns: dict[str, Any], pill: str):
    bot_id, client = a_bot(), page()
    observe(bot_id, **{"desired_state": "running", "status_since_ms": now_ms(), **columns})
    fleet = client.get("/").text.split(f'id="bot-{bot_id}"')[1].split("</tr>")[0]
    own = client.get(f"/bots/{bot_id}").text.split('id="bot-state"')[1].split("</div>")[0]

    for html in (fleet, own):
        assert pill in html.split('class="pill')[1].split("</span>")[0] or pill in html
        assert "wanted:" not in html
        assert "Running?" not in html


def test_figures_of_a_bot_that_does_not_run_say_how_old_they_are(
    page: Make, a_bot: Make, observe: Make, a_position: Make
):
    bot_id, client, day_ms = a_bot(), page("trader"), 86_400_000
    a_position(bot_id, document={"activated_ms": 5, "cost": "199.6", "legs": []})
    beat = {"last_price": 3400.5, "unrealised_pnl": "12.50"}
    observe(bot_id, heartbeat=beat, heartbeat_ms=now_ms() - day_ms, status="stopped", status_since_ms=now_ms() - day_ms)

    own, asked = client.get(f"/bots/{bot_id}").text, client.get(f"/bots/{bot_id}/close-positions").text
    fleet, sell = client.get("/").text, client.get("/kill/sell").text

    positions = own.split('id="positions"')[1].split("</section>")[0]
    assert "24 h 0 min old" in positions
    assert 'class="body stale"' in positions
    assert "24 h 0 min old" in asked
    assert 'Unrealised</dt><dd class="stale">' in asked
    assert "24 h 0 min old" in sell
    assert fleet.split('id="fleet-kpis"')[1].split("</section>")[0].count("24 h 0 min old") == 2  # equity and exposure
    assert 'class="num stale" data-l="Position"' in fleet


def test_a_bot_that_gave_up_is_started_again():
    start = actions_of(a_document(status="error"), "trader", is_latched=False)["start"]

    assert (start.label, start.icon, start.why_not) == ("Start again", "restart", None)


def test_a_paused_bot_has_resume_in_the_place_of_pause():
    actions = actions_of(a_document(desired_state="paused", status="paused"), "trader", is_latched=False)

    assert "pause" not in actions
    assert actions["resume"].why_not is None


@pytest.mark.parametrize(
    ("changes", "why_not"),
    [
        ({}, "Stop it first"),
        ({"desired_state": "stopped", "status": "stopping"}, "Stop it first"),
        ({"desired_state": "stopped", "status": "stopped", "open_positions": 1}, "It holds a position: close it first"),
        ({"desired_state": "stopped", "status": "stopped"}, None),
    ],
)
def test_only_a_bot_that_is_stopped_and_flat_can_be_archived(changes: dict[str, Any], why_not: str | None):
    assert actions_of(a_document(**changes), "trader", is_latched=False)["archive"].why_not == why_not


def test_a_viewer_sees_every_button_with_the_reason_why_it_is_not_theirs():
    actions = actions_of(a_document(), "viewer", is_latched=False)

    assert {a.why_not for a in actions.values()} == {"Needs the role trader"}


# What is asked


def test_the_question_states_position_orders_result_and_age():
    holding = Holding(
        quantity=Decimal("0.013"), worth=Decimal("1267.91"), unrealised=Decimal("-4.1"), active=1,
        orders=(OpenOrder(role="target", client_order_id="f1", price=Decimal("97753.24")),),
    )  # fmt: skip

    asked = confirmation(a_document(), "stop", holding, on_stop="hold", heartbeat_age_ms=400)

    facts = {fact.label: fact.text or (fact.amount and fact.amount.text) for fact in asked.facts}
    assert facts == {
        "Position": "long 0.013 BTC, 1,267.91 USDC",
        "Unrealised": "−4.10",
        "Open orders": "1: target 97,753.24",
        "Figures are": "0 s old",
    }
    assert asked.choices[0].label == "Keep it."
    assert asked.name is None


def test_real_money_asks_for_the_bots_name():
    asked = confirmation(a_document(exchange="binance"), "stop", Holding(), on_stop="close", heartbeat_age_ms=None)

    assert (asked.name, asked.place) == ("btc-scalper", "live")


def test_a_position_without_a_stop_is_pointed_out():
    asked = confirmation(a_document(), "stop", Holding(active=2, unguarded=1), on_stop="hold", heartbeat_age_ms=1)

    assert "1 position has no stop price" in asked.warnings[0]


# The pages


def test_the_confirmation_is_a_whole_page_with_figures_that_changes_nothing(
    page: Make, a_bot: Make, a_position: Make, observe: Make, api: Any
):
    bot_id = a_bot(name="<b>eth</b>")
    observe(bot_id, desired_state="running", status="running", heartbeat_ms=now_ms(),
            heartbeat={"last_price": 3400.0, "unrealised_pnl": "0.70"})  # fmt: skip
    a_position(bot_id, quantity=Decimal("0.5"))

    html = page("trader").get(f"/bots/{bot_id}/stop").text

    assert '<dialog open id="dialog"' in html
    assert "long 0.5 ETH, 1,700.00 USDT" in html
    assert "+0.70" in html
    assert "&lt;b&gt;eth&lt;/b&gt;" in html
    assert "<b>eth</b>" not in html
    assert api.get(f"/api/bots/{bot_id}").json["desired_state"] == "running"


def test_confirming_does_it_and_leads_back_to_where_it_was_asked(page: Make, a_bot: Make, observe: Make, api: Any):
    bot_id, client = a_bot(), page("trader")
    observe(bot_id, desired_state="running", status="running")

    answer = send(client, f"/bots/{bot_id}/stop", asked="1", next="/?state=running", key="k1")

    assert (answer.status_code, answer.headers["Location"]) == (303, "/?state=running")
    assert api.get(f"/api/bots/{bot_id}").json["desired_state"] == "stopped"


def test_a_button_leads_back_to_its_own_page_and_never_to_another_site(page: Make, a_bot: Make):
    bot_id, client = a_bot(), page("trader")

    here = send(client, f"/bots/{bot_id}/start", headers={"Referer": "http://localhost/?tag=demo"})
    elsewhere = send(client, f"/bots/{bot_id}/start", headers={"Referer": "http://evil.example/x"})
    asked = send(client, f"/bots/{bot_id}/start", next="//evil.example")

    assert [a.headers["Location"] for a in (here, elsewhere, asked)] == ["/?tag=demo", "/", "/"]


def test_a_plain_stop_of_an_old_page_asks_first_once_the_bot_holds_a_position(
    page: Make, a_bot: Make, a_position: Make, observe: Make, api: Any
):
    bot_id, client = a_bot(), page("trader")
    observe(bot_id, desired_state="running", status="running")
    a_position(bot_id)

    answer = send(client, f"/bots/{bot_id}/stop")

    assert answer.status_code == 409
    assert '<dialog open id="dialog"' in answer.text
    assert api.get(f"/api/bots/{bot_id}").json["desired_state"] == "running"


@pytest.mark.parametrize("verb", ["stop", "close-positions", "restart"])
def test_with_real_money_nothing_is_done_without_the_typed_name(
    verb: str, page: Make, a_bot: Make, a_position: Make, observe: Make, api: Any
):
    bot_id, client = a_bot(), page("trader")
    observe(bot_id, exchange="binance", desired_state="running", status="running")
    a_position(bot_id, exchange="binance")

    without, wrong = send(client, f"/bots/{bot_id}/{verb}"), send(client, f"/bots/{bot_id}/{verb}", asked="1")

    assert (without.status_code, wrong.status_code) == (409, 422)
    assert 'name="name"' in without.text
    done = [entry["action"] for entry in api.get(f"/api/audit?bot_id={bot_id}").json["items"]]
    assert f"bot.{verb}" not in done


def test_a_reason_has_an_end_on_every_way(page: Make, a_bot: Make, api: Any, engine: Any):
    bot_id, client, long = a_bot(), page("trader"), "x" * 501

    sent = send(client, f"/bots/{bot_id}/halt", asked="1", reason=long)
    told = api.post(f"/api/bots/{bot_id}/halt", {"reason": long})
    with write(engine) as connection, pytest.raises(Refused, match="at most 500 characters"):
        VERBS["halt"](connection, bot_id, Author("cli", Via.CLI), long)

    assert (sent.status_code, told.status_code) == (422, 422)
    assert api.get(f"/api/bots/{bot_id}").json["halted"] is False


def test_archiving_takes_the_typed_name_and_keeps_what_was_typed(page: Make, a_bot: Make, api: Any):
    bot_id, client = a_bot(name="eth-rsi"), page("trader")

    wrong = send(client, f"/bots/{bot_id}/archive", asked="1", name="eth", reason="it is <old>")

    assert wrong.status_code == 422
    assert "Type eth-rsi to confirm." in wrong.text
    assert 'value="it is &lt;old&gt;"' in wrong.text
    assert api.get(f"/api/bots/{bot_id}").status_code == 200

    right = send(client, f"/bots/{bot_id}/archive", asked="1", name="eth-rsi", next=f"/bots/{bot_id}")

    assert (right.status_code, right.headers["Location"]) == (303, "/")
    assert api.get(f"/api/bots/{bot_id}").status_code == 404


def test_a_release_takes_a_reason(page: Make, a_bot: Make, api: Any):
    bot_id, client = a_bot(), page("trader")
    send(client, f"/bots/{bot_id}/halt", asked="1", reason="odd prices")
    assert api.get(f"/api/bots/{bot_id}").json["halted"] is True

    without = send(client, f"/bots/{bot_id}/release", asked="1")

    assert without.status_code == 422
    assert "Say why" in without.text
    send(client, f"/bots/{bot_id}/release", asked="1", reason="prices are fine again")
    assert api.get(f"/api/bots/{bot_id}").json["halted"] is False


def test_stopping_may_sell_although_the_policy_is_to_hold(
    page: Make, a_bot: Make, a_position: Make, api: Any, new_bot: Make
):
    bot_id, client = a_bot(config={"capital_per_trade": "200", "on_stop": "hold"}), page("trader")
    a_position(bot_id)
    assert "nobody watches its stop" in client.get(f"/bots/{bot_id}/stop").text

    send(client, f"/bots/{bot_id}/stop", asked="1", positions="close", key="k")

    done = [entry["action"] for entry in api.get(f"/api/audit?bot_id={bot_id}").json["items"]]
    assert done[:2] == ["bot.stop", "bot.close-positions"]


def test_what_is_done_here_is_in_the_audit_log_with_name_reason_and_way(page: Make, a_bot: Make, api: Any):
    bot_id = a_bot()
    send(page("trader"), f"/bots/{bot_id}/halt", asked="1", reason="odd prices")

    entry = api.get(f"/api/audit?bot_id={bot_id}").json["items"][0]

    assert (entry["actor"], entry["via"], entry["reason"]) == ("trader", "web", "odd prices")


def test_a_double_click_is_one_action(page: Make, a_bot: Make, observe: Make, api: Any):
    bot_id, client = a_bot(), page("trader")
    send(client, f"/bots/{bot_id}/stop", asked="1", key="once")
    observe(bot_id, desired_state="running")

    send(client, f"/bots/{bot_id}/stop", asked="1", key="once")

    assert api.get(f"/api/bots/{bot_id}").json["desired_state"] == "running"


def test_a_key_that_is_sent_again_with_another_content_is_refused(page: Make, a_bot: Make, observe: Make, api: Any):
    bot_id, client = a_bot(), page("trader")
    send(client, f"/bots/{bot_id}/halt", asked="1", key="once", reason="odd prices")

    send(client, f"/bots/{bot_id}/halt", asked="1", key="once", reason="and odd fills")

    assert "was used for another request" in client.get("/").text


def test_a_viewer_is_refused_and_nobody_acts_without_the_token(page: Make, a_bot: Make):
    bot_id = a_bot()

    assert page("viewer").get(f"/bots/{bot_id}/stop").status_code == 403
    assert send(page("viewer"), f"/bots/{bot_id}/start").status_code == 403
    assert page("trader").post(f"/bots/{bot_id}/start").status_code == 403


def test_unknown_bots_and_verbs_are_not_there(page: Make, a_bot: Make):
    client = page("trader")

    assert client.get("/bots/99/stop").status_code == 404
    assert send(client, f"/bots/{a_bot()}/explode").status_code == 404


@pytest.mark.parametrize(("before", "verb", "after"), [("running", "pause", "paused"), ("paused", "resume", "running")])
@pytest.mark.parametrize("form", [{}, {"asked": "1"}])
def test_what_costs_nothing_is_done_without_asking(
    page: Make, a_bot: Make, observe: Make, api: Any, before: str, verb: str, after: str, form: dict[str, str]
):
    bot_id = a_bot()
    observe(bot_id, desired_state=before, status=before)

    answer = send(page(), f"/bots/{bot_id}/{verb}", **form)

    assert answer.status_code == 303
    assert api.get(f"/api/bots/{bot_id}").json["desired_state"] == after
