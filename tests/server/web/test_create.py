"""*Create bot* in four steps: what it shows, what it refuses, and that nothing typed is lost."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from server.market import ExchangeSilent, Market
from server.storage.fleet import place_problems
from server.web.create_view import worst_case
from shared.symbols import SymbolRules

Make = Callable[..., Any]
RULES = SymbolRules(
    symbol="ETHUSDT",
    base="ETH",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.0001"),
    min_quantity=Decimal("0.0001"),
    max_quantity=Decimal("9000"),
    min_notional=Decimal("5"),
)
NASTY = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "🚀 ünïcode",
    "\u202egnp.exe",
    "a\x00b",
    "x" * 10_000,
    "{{ 7 * 7 }}",
    "' OR 1=1 --",
]


@pytest.fixture(autouse=True)
def exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Market, "symbols", lambda self, exchange: (RULES,))
    monkeypatch.setattr(Market, "price", lambda self, exchange, symbol: Decimal("3412.55"))


class Wizard:
    """Somebody at the form."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.path = "/bots/new"

    def token(self) -> str:
        text = self.client.get("/account").text
        return str(text.split('name="csrf_token" value="')[1].split('"')[0])

    def post(self, path: str, **form: Any) -> Any:
        return self.client.post(path, data={"csrf_token": self.token(), **form})

    def begin(self, strategy: str = "rsi", **form: Any) -> Wizard:
        answer = self.post("/bots/new", strategy=strategy, **form)
        assert answer.status_code == 303, answer.text
        self.path = answer.headers["Location"].rsplit("/", 1)[0]
        return self

    def market(self, credential_id: int | str = "", **form: Any) -> Any:
        given = {"name": "eth-rsi", "place": "simulator:trade", "symbol": "ETHUSDT", "interval": "1m"}
        budget = {"capital_per_trade": "200", "max_positions": "2"}
        return self.post(f"{self.path}/market", **{**given, **budget, "credential_id": credential_id, **form})

    def show(self, step: str) -> str:
        return str(self.client.get(f"{self.path}/{step}").text)


@pytest.fixture
def wizard(page: Make) -> Wizard:
    return Wizard(page())


def bots(api: Any) -> list[dict[str, Any]]:
    return list(api.get("/api/bots").json["items"])


# The way through


def test_four_steps_make_a_stopped_bot(wizard: Wizard, api: Any, credential_id: int):
    wizard.begin()
    to_parameters = wizard.market(credential_id, tags="demo, eth , demo", description="Dips")
    to_review = wizard.post(f"{wizard.path}/parameters", stop_loss_pct="0.9", go="next")

    answer = wizard.post(f"{wizard.path}/create")

    assert to_parameters.headers["Location"] == f"{wizard.path}/parameters"
    assert to_review.headers["Location"] == f"{wizard.path}/review"
    (bot,) = bots(api)
    assert answer.headers["Location"] == f"/bots/{bot['id']}"
    assert (bot["name"], bot["status"], bot["desired_state"]) == ("eth-rsi", "stopped", "stopped")
    assert (bot["symbol"], bot["interval"], bot["tags"]) == ("ETHUSDT", "1m", ["demo", "eth"])
    config = api.get(f"/api/trading/bots/{bot['id']}/config").json
    assert (config["capital_per_trade"], config["max_positions"], config["stop_loss_pct"]) == ("200", 2, 0.009)


def test_create_and_start_wants_it_to_run(wizard: Wizard, api: Any, credential_id: int):
    wizard.begin().market(credential_id)

    wizard.post(f"{wizard.path}/create", start="1")

    assert bots(api)[0]["desired_state"] == "running"


def test_a_double_click_makes_one_bot(wizard: Wizard, api: Any):
    wizard.begin().market()

    first, second = wizard.post(f"{wizard.path}/create"), wizard.post(f"{wizard.path}/create")

    assert first.headers["Location"] == second.headers["Location"]
    assert len(bots(api)) == 1


def test_without_keys_it_can_be_created_but_not_started(wizard: Wizard):
    wizard.begin().market()

    text = wizard.show("review")

    assert "without keys it cannot trade" in text
    assert 'name="start"' not in text


def test_the_first_step_shows_each_strategy_in_plain_words_with_its_risk(wizard: Wizard):
    text = wizard.client.get("/bots/new").text

    assert "LightGBM scalper" in text
    assert "Aims at very small gains, many times a day" in text


def test_a_strategy_must_be_chosen(wizard: Wizard):
    answer = wizard.post("/bots/new", strategy="nonsense")

    assert answer.status_code == 422
    assert "Choose one." in answer.text


# Market and budget


def test_the_markets_steps_and_limits_are_shown(wizard: Wizard):
    wizard.begin().market(go="save")

    text = wizard.show("market")

    assert "3,412.55" in text
    assert ">0.01 <" in text
    assert ">0.0001 <" in text
    assert ">5.00 <" in text


def test_places_that_are_not_there_yet_are_disabled_with_the_servers_reason(wizard: Wizard):
    text = html.unescape(wizard.begin().show("market"))

    reason = place_problems("binance", "trade")["exchange"]
    assert reason in text
    assert re.search(r'value="binance:trade" disabled', text)
    assert not re.search(r'value="simulator:trade" disabled', text)


def test_a_place_that_is_not_there_is_refused_whatever_the_page_says(wizard: Wizard):
    answer = wizard.begin().market(place="binance:trade")

    assert answer.status_code == 422
    assert "not available yet" in answer.text


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("name", " ", "Give it a name"),
        ("name", "x" * 101, "At most 100 characters; these are 101."),
        ("symbol", "", "Choose a market."),
        ("symbol", "ETHUSD", "The exchange lists no ETHUSD. Near: ETHUSDT."),
        ("symbol", "eth usdt", "Write it as the exchange does"),
        ("interval", "7m", "runs on"),
        ("credential_id", "99", "there is no credential 99"),
        ("credential_id", "x", "Choose one of the list."),
        ("tags", ",".join(map(str, range(21))), "At most 20 tags; these are 21."),
        ("tags", "x" * 41, "at most 40 characters"),
        ("description", "x" * 2001, "At most 2,000 characters; these are 2,001."),
        ("capital_per_trade", "4.99", "an order must be worth 5.00 USDT or more"),
        ("capital_per_trade", "a lot", "“a lot” is not a number."),
        ("max_positions", "0", "out of range"),
    ],
)
def test_what_cannot_be_is_refused_beside_its_field_and_kept(wizard: Wizard, field: str, typed: str, words: str):
    answer = wizard.begin().market(**{field: typed})

    text = html.unescape(answer.text)
    assert answer.status_code == 422
    assert words in text
    assert text.count("autofocus") == 1
    kept = html.unescape(wizard.show("market"))
    assert typed in kept or field in ("interval", "credential_id")


def test_a_symbol_may_be_written_small(wizard: Wizard, api: Any):
    wizard.begin().market(symbol=" ethusdt ")
    wizard.post(f"{wizard.path}/create")

    assert bots(api)[0]["symbol"] == "ETHUSDT"


def test_a_silent_exchange_stops_nobody_from_typing_on(wizard: Wizard, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Market, "symbols", silent)

    answer = wizard.begin().market()

    assert answer.status_code == 303
    assert "The exchange does not answer" in wizard.show("market")


def silent(_self: Any, exchange: str) -> None:
    raise ExchangeSilent(exchange, 1, "no connection")


def test_an_account_at_the_simulator_is_one_button_and_one_account(
    wizard: Wizard, api: Any, monkeypatch: pytest.MonkeyPatch
):
    keys = {"api_key": "a-new-key", "api_secret": "its-secret"}
    monkeypatch.setattr("server.web.create.open_account", lambda address, balances: keys)

    wizard.begin().market(go="account")
    wizard.market(go="account")

    (credential,) = api.get("/api/credentials").json["items"]
    assert f'value="{credential["id"]}" selected' in wizard.show("market")


def test_another_market_gets_an_account_in_its_own_quote_asset_and_says_what_it_holds(
    wizard: Wizard, api: Any, monkeypatch: pytest.MonkeyPatch
):
    opened: list[Any] = []

    def open_account(_address: str, balances: Any) -> dict[str, str]:
        opened.append(balances)
        return {"api_key": f"a-new-key-{len(opened)}", "api_secret": "its-secret"}

    monkeypatch.setattr("server.web.create.open_account", open_account)
    wizard.begin().market(go="account", symbol="ETHUSDT")
    wizard.market(go="account", symbol="BTCUSDC")
    assert "10,000 USDC of play money" in wizard.show("market")

    wizard.market(go="account", symbol="ETHUSDT")

    assert opened == [{"USDT": "10000"}, {"USDC": "10000"}]
    names = sorted(item["name"] for item in api.get("/api/credentials").json["items"])
    assert [name.rsplit(" ", 1)[1] for name in names] == ["USDC", "USDT"]
    shown = wizard.show("market")
    assert "It was opened with 10,000 USDT of play money." in shown
    assert f"{names[1]} · key …ey-1</option>" in shown


def test_a_trader_cannot_add_keys_but_is_told_who_can(page: Make, api: Any):
    api.post("/api/users", {"username": "tom", "password": "correct horse battery staple", "role": "trader"})
    wizard = Wizard(page("tom")).begin()

    assert "An admin can make one." in wizard.show("market")
    wizard.market(go="account")
    assert api.get("/api/credentials").json["items"] == []


# Parameters and review


def test_a_scalper_needs_a_model_and_is_warned_of_another_market(wizard: Wizard, a_model: Make):
    model_id = a_model()
    wizard.begin("lightgbm_scalper").market(interval="1s", symbol="ETHUSDT")
    missing = wizard.post(f"{wizard.path}/parameters", model_id="")
    wizard.market(interval="1s", symbol="ETHUSDT")

    chosen = wizard.post(f"{wizard.path}/parameters", model_id=str(model_id))

    assert (missing.status_code, chosen.status_code) == (422, 303)
    assert "Choose the model that decides." in missing.text
    assert "The model was trained on" not in wizard.show("review")


def test_a_model_of_another_market_is_a_warning(wizard: Wizard, a_model: Make, monkeypatch: pytest.MonkeyPatch):
    other = SymbolRules(**{n: getattr(RULES, n) for n in SymbolRules.__slots__} | {"symbol": "BTCUSDT", "base": "BTC"})
    monkeypatch.setattr(Market, "symbols", lambda self, exchange: (RULES, other))
    model_id = a_model()
    wizard.begin("lightgbm_scalper").market(interval="1s", symbol="BTCUSDT")

    wizard.post(f"{wizard.path}/parameters", model_id=str(model_id))

    for step in ("parameters", "review"):
        assert "The model was trained on ETHUSDT, this bot trades BTCUSDT." in wizard.show(step)


def test_the_worst_case_is_told_in_figures():
    config = {
        "capital_per_trade": "200",
        "max_positions": 3,
        "max_position_size": None,
        "stop_loss_pct": 0.01,
        "max_daily_loss": "25",
        "profit_target_pct": 0.003,
        "on_stop": "close",
        "holding_time": 3600,
    }

    worst = worst_case(config, "USDC")

    # 3 × 200; each: 200 × 1 % + 200 × 0.1 % + 198 × 0.1 % = 2.398
    assert (worst.tied_up, worst.sum) == ("600.00", "3 positions × 200.00 USDC")
    assert worst.loss is not None
    assert (worst.loss.exact, worst.loss_pct, worst.daily) == ("−7.194", "1.20 %", "25.00 USDC")
    assert worst.warnings == ()
    assert "sells what it holds at market" in worst.stop


def test_without_stop_or_daily_limit_the_review_says_so(wizard: Wizard):
    wizard.begin().market()
    wizard.post(f"{wizard.path}/parameters", stop_loss_pct="", on_stop="hold")

    text = wizard.show("review")

    assert "There is no stop loss: a position can lose all of its size." in text
    assert "There is no daily loss limit" in text
    assert "they have no stop until it runs again" in text


def test_the_review_of_a_draft_that_is_not_right_leads_to_the_field(wizard: Wizard, api: Any):
    wizard.begin().market(name="")

    text = wizard.show("review")
    wizard.post(f"{wizard.path}/create")

    assert "Give it a name" in text
    assert f'href="{wizard.path}/market"' in text
    assert bots(api) == []


# Nothing typed is lost


def test_every_button_keeps_what_was_typed_right_or_wrong(wizard: Wizard):
    wizard.begin()
    for go in ("strategy", "save", "market", "review", "nonsense"):
        wizard.market(name=f"half a name {go}", capital_per_trade="12,5", go=go)

        text = wizard.show("market")

        assert f'value="half a name {go}"' in text
        assert 'value="12,5"' in text


def test_another_strategy_keeps_the_fields_both_know(wizard: Wizard):
    wizard.begin().market()
    wizard.post(f"{wizard.path}/parameters", stop_loss_pct="0.77")

    wizard.post(f"{wizard.path}/strategy", strategy="lightgbm_scalper")

    assert 'value="0.77"' in wizard.show("parameters")
    assert 'value="eth-rsi"' in wizard.show("market")


def test_a_draft_is_offered_again_and_can_be_thrown_away(wizard: Wizard):
    wizard.begin().market()

    assert "eth-rsi · RSI" in wizard.client.get("/bots/new").text
    wizard.post(f"{wizard.path}/discard")
    assert "eth-rsi · RSI" not in wizard.client.get("/bots/new").text


def test_a_draft_is_its_owners(wizard: Wizard, page: Make, api: Any):
    wizard.begin().market()
    api.post("/api/users", {"username": "tom", "password": "correct horse battery staple", "role": "trader"})

    assert page("tom").get(f"{wizard.path}/market").status_code == 404
    assert "eth-rsi" not in page("tom").get("/bots/new").text


def test_a_copy_has_all_settings_of_the_bot_but_its_name(wizard: Wizard, api: Any, a_bot: Make):
    bot_id = a_bot(name="one", tags=["demo"], config={"capital_per_trade": "77.5", "rsi_period": 9})
    assert "a copy of one" in wizard.client.get(f"/bots/new?from={bot_id}").text

    wizard.begin(**{"from": str(bot_id)})
    wizard.post(f"{wizard.path}/create")

    copy, original = bots(api)
    assert copy["name"] == "one copy"
    same = ("strategy", "symbol", "interval", "tags", "credential_id", "exchange", "mode")
    assert [copy[n] for n in same] == [original[n] for n in same]
    configs = [api.get(f"/api/trading/bots/{bot['id']}/config").json for bot in (copy, original)]
    assert configs[0] == configs[1]


# Bad input


@pytest.mark.parametrize(
    "field", ["name", "symbol", "tags", "description", "interval", "credential_id", "place", "capital_per_trade"]
)
def test_nothing_typed_is_run_or_breaks_a_page(wizard: Wizard, field: str):
    wizard.begin()
    for typed in NASTY:
        answer = wizard.market(**{field: typed})
        assert answer.status_code in (303, 422)

        for text in [wizard.show("market"), wizard.show("review"), wizard.client.get("/bots/new").text]:
            assert "<h1>Create bot</h1>" in text
            assert "<script>alert" not in text
            assert "<img src=x" not in text
            assert "\x00" not in text


def test_nothing_typed_as_a_parameter_is_run_or_breaks_a_page(wizard: Wizard):
    wizard.begin().market()
    for typed in NASTY:
        answer = wizard.post(f"{wizard.path}/parameters", stop_loss_pct=typed, rsi_period=typed, on_stop=typed)

        assert answer.status_code == 422
        assert "<script>alert" not in answer.text
        assert wizard.client.get(f"{wizard.path}/review").status_code == 200


def test_no_query_breaks_the_first_step(wizard: Wizard):
    for query in ("from=99", "from=x", "from=-1", "from=9999999999999999", "from=%01", "strategy=%3Cb%3E", "from=²"):
        assert wizard.client.get(f"/bots/new?{query}").status_code in (200, 404)


def test_a_draft_that_is_not_there_is_a_404(wizard: Wizard):
    for path in ("/bots/new/nothing/market", f"/bots/new/{'x' * 3000}/market", "/bots/new/%00/market"):
        assert wizard.client.get(path).status_code == 404
        assert wizard.post(path).status_code == 404


@pytest.mark.parametrize("token", [None, "stolen"])
def test_without_the_forms_own_token_nothing_happens(wizard: Wizard, api: Any, token: str | None):
    wizard.begin().market()
    form = {} if token is None else {"csrf_token": token}

    answers = [
        wizard.client.post(path, data={"strategy": "rsi", **form}, headers={"Accept": "text/html"})
        for path in ("/bots/new", f"{wizard.path}/market", f"{wizard.path}/create", f"{wizard.path}/discard")
    ]

    assert [answer.status_code for answer in answers] == [403] * 4
    assert "Nothing was changed." in answers[0].text
    assert bots(api) == []
    assert 'value="eth-rsi"' in wizard.show("market")


def test_a_token_of_another_session_is_refused(wizard: Wizard, page: Make, api: Any):
    wizard.begin().market()
    stolen = Wizard(page()).token()

    answer = wizard.client.post(f"{wizard.path}/create", data={"csrf_token": stolen})

    assert answer.status_code == 403
    assert bots(api) == []


def test_a_viewer_may_not(page: Make, api: Any):
    api.post("/api/users", {"username": "vera", "password": "correct horse battery staple", "role": "viewer"})
    vera = page("vera")

    assert vera.get("/bots/new", headers={"Accept": "text/html"}).status_code == 403
    assert Wizard(vera).post("/bots/new", strategy="rsi").status_code == 403
