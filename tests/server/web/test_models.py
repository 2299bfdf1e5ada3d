"""The model pages: uploads with what was checked or what is wrong, cards, comparison, deleting."""

from __future__ import annotations

import hashlib
import html
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from server import bodies
from server.market import Market

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Market, "symbols", lambda self, exchange: ())


@pytest.fixture(scope="module")
def model_text() -> bytes:
    """A small LightGBM model on the bots' own features."""
    import lightgbm
    import numpy

    from bots.core.feature_engineering import FEATURE_NAMES_IN_MODEL as NAMES

    rows = numpy.random.default_rng(1).normal(size=(200, len(NAMES)))
    data = lightgbm.Dataset(rows, label=(rows[:, 0] > 0).astype(int), feature_name=list(NAMES))
    options = {"objective": "binary", "num_leaves": 4, "verbose": -1, "num_threads": 1}
    return str(lightgbm.train(options, data, num_boost_round=3).model_to_string()).encode()


def a_card(text: bytes, **changes: Any) -> bytes:
    card = {
        "symbol": "ETHUSDT",
        "model_sha256": hashlib.sha256(text).hexdigest(),
        "task": {"horizon": 60, "target": 0.0003, "stop": 0.003},
        "split": {"train": {"first_ms": 1_795_189_462_000, "last_ms": 1_795_221_770_000}},
        "scores": {
            "auc": 0.6316,
            "rows": 5325,
            "hit_rates": [{"threshold": 0.5, "decisions": 3977, "share": 0.75, "hit_rate": 0.614}],
        },
        "candles": {"count": 43200},
    }
    return json.dumps(card | changes).encode()


def token(client: Any) -> str:
    return str(client.get("/account").text.split('name="csrf_token" value="')[1].split('"')[0])


def upload(client: Any, content: bytes | None, card: bytes | None = None, **fields: str) -> Any:
    form: dict[str, Any] = {"csrf_token": token(client), "symbol": "ETHUSDT", "name": "eth", **fields}
    form["file"] = (io.BytesIO(content or b""), "" if content is None else "model.txt")
    form["card"] = (io.BytesIO(card or b""), "" if card is None else "model.json")
    return client.post("/models", data=form, content_type="multipart/form-data", headers={"Accept": "text/html"})


def test_an_accepted_model_shows_what_was_checked(page: Make, api: Any, model_text: bytes):
    client = page()

    answer = upload(client, model_text, a_card(model_text))

    shown = client.get(answer.headers["Location"])
    assert (answer.status_code, shown.status_code) == (303, 200)
    assert "it was loaded and asked for a prediction" in shown.text
    for words in ("3 trees", "24 features", hashlib.sha256(model_text).hexdigest(), "0.632", "43,200 candles", "61.4%"):
        assert words in shown.text or words in client.get("/models").text
    assert "+0.03 % within 60 s, before −0.3 %" in shown.text
    assert api.get("/api/models").json["items"][0]["card"]["scores"]["auc"] == 0.6316


def test_the_same_upload_twice_is_one_model(page: Make, api: Any, model_text: bytes):
    client = page()

    answers = [upload(client, model_text, a_card(model_text)) for _ in range(2)]

    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    assert "It is there once." in client.get(answers[1].headers["Location"]).text
    assert len(api.get("/api/models").json["items"]) == 1
    upload(client, model_text, a_card(model_text), name="another name")
    assert len(api.get("/api/models").json["items"]) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "Choose the model’s file."),
        (b"", "The file is empty."),
        (b"PK\x03\x04zipped", "This is a zip file, not a readable LightGBM model"),
        (b"\x80\x04pickled", "This is a pickle"),
        (b"\x89PNG\r\n", "file-e"),
        (b"tree\nversion=v4\n", "odel"),
    ],
)
def test_a_file_that_is_no_model_is_refused_with_what_it_is(
    page: Make, settings: Any, content: bytes | None, words: str
):
    answer = upload(page(), content)

    assert answer.status_code == 422
    assert "Nothing was kept." in answer.text
    assert words in html.unescape(answer.text)
    assert 'value="eth"' in answer.text
    assert not settings.models.exists() or list(settings.models.iterdir()) == []


def test_a_truncated_model_is_refused(page: Make, model_text: bytes):
    answer = upload(page(), model_text[: len(model_text) // 2])

    assert answer.status_code == 422
    assert 'id="file-e"' in answer.text


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (b"not json", "Not JSON"),
        (b"[1]", "No card of a model"),
        (b"{}", "No card of a model"),
        (b"[" * 100_000, "Not JSON"),
        (b'"' + b"x" * 1_000_001, "Longer than 1 MB"),
        (b'{"model_sha256": "abc"}', "Describes another file (abc…"),
    ],
)
def test_a_card_that_does_not_belong_to_the_model_is_refused(page: Make, model_text: bytes, card: bytes, words: str):
    answer = upload(page(), model_text, card)

    assert answer.status_code == 422
    assert words in answer.text
    assert 'id="card-e"' in answer.text


def test_a_card_of_another_market_is_refused_at_the_market(page: Make, model_text: bytes):
    answer = upload(page(), model_text, a_card(model_text), symbol="BTCUSDT")

    assert answer.status_code == 422
    assert "The card says it was trained on ETHUSDT." in answer.text


@pytest.mark.parametrize(
    "card",
    [
        {"scores": None, "split": [], "task": "x", "candles": 7},
        {"scores": {"auc": "<script>alert(1)</script>", "hit_rates": [None, 1, {"threshold": "x"}]}},
        {"split": {"train": {"first_ms": -5, "last_ms": 10**30}}, "task": {"horizon": True}},
    ],
)
def test_a_strange_card_breaks_no_page(page: Make, model_text: bytes, card: dict[str, Any]):
    client = page()

    location = upload(client, model_text, a_card(model_text, **card)).headers["Location"]

    for path in (location, "/models"):
        shown = client.get(path)
        assert shown.status_code == 200
        assert "<script>alert" not in shown.text


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("name", ""),
        ("name", "x" * 10_000),
        ("name", "a\x00b"),
        ("symbol", "<script>alert(1)</script>"),
        ("symbol", ""),
    ],
)
def test_bad_names_and_markets_are_refused_beside_their_field(page: Make, model_text: bytes, field: str, typed: str):
    answer = upload(page(), model_text, **{field: typed})

    assert answer.status_code == 422
    assert f'id="{field}-e"' in answer.text
    assert "<script>alert" not in answer.text


def test_what_people_call_their_models_is_escaped(page: Make, model_text: bytes):
    client = page()

    location = upload(client, model_text, name="<script>alert(1)</script> \u202e🚀").headers["Location"]

    for path in (location, "/models", f"{location}/delete"):
        assert "<script>alert" not in client.get(path).text


def test_another_kind_of_body_is_told_what_to_send(page: Make):
    client = page()

    answer = client.post("/models", data={"csrf_token": token(client), "name": "eth"}, headers={"Accept": "text/html"})

    assert answer.status_code == 415
    assert "multipart/form-data" in answer.text


def test_a_file_above_the_limit_is_a_413_page(page: Make, monkeypatch: pytest.MonkeyPatch):
    client = page()
    monkeypatch.setattr(bodies, "UPLOAD_BYTES", 1000)

    answer = upload(client, b"x" * 2000)

    assert (answer.status_code, answer.mimetype) == (413, "text/html")
    assert "A model file may have 100 MB" in answer.text
    assert "Back shows the form with what you typed" in answer.text
    assert 'href="/models#upload"' in answer.text


def test_an_upload_without_the_forms_token_is_not_looked_at(page: Make, api: Any, model_text: bytes):
    form = {"symbol": "ETHUSDT", "name": "eth", "file": (io.BytesIO(model_text), "model.txt")}

    answer = page().post("/models", data=form, content_type="multipart/form-data")

    assert answer.status_code == 403
    assert api.get("/api/models").json["items"] == []


def test_two_models_stand_side_by_side(page: Make, model_text: bytes):
    client = page()
    better = a_card(model_text, scores={"auc": 0.64})
    first = upload(client, model_text, a_card(model_text)).headers["Location"].rsplit("/", 1)[1]
    second = upload(client, model_text, better).headers["Location"].rsplit("/", 1)[1]

    text = client.get(f"/models?compare={second}&compare={first}").text

    assert f"#{second} against #{first}" in text
    assert "+0.008 better" in text
    assert "What #" in text  # the file's own importances


def test_of_models_of_two_markets_neither_is_called_better(page: Make, model_text: bytes):
    client = page()
    upload(client, model_text, a_card(model_text))
    upload(client, model_text, a_card(model_text, symbol="BTCUSDT", scores={"auc": 0.64}), symbol="BTCUSDT")

    text = client.get("/models?compare=2&compare=1").text

    assert "different markets, the figures do not compare" in text
    assert "better" not in text


def test_no_query_breaks_the_list(page: Make, a_model: Make):
    a_model()
    client = page()

    for query in (
        "compare=x",
        "compare=1&compare=1",
        "compare=-1",
        "compare=99999999999",
        "symbol=%01%3Cb%3E",
        "compare=²",
    ):
        assert client.get(f"/models?{query}").status_code == 200


def test_a_model_in_use_stays_and_says_who_uses_it(page: Make, a_bot: Make, a_model: Make):
    model_id = a_model()
    a_bot(name="the-scalper", strategy="lightgbm_scalper", interval="1s", config={"model_id": model_id})
    client = page()

    asked = client.get(f"/models/{model_id}/delete")
    answer = client.post(f"/models/{model_id}/delete", data={"csrf_token": token(client)})

    assert "the-scalper" in asked.text
    assert "another model first" in asked.text
    assert answer.status_code == 303
    assert "is in the config of bot" in client.get(f"/models/{model_id}").text


def test_a_model_is_deleted_after_asking(page: Make, a_model: Make):
    model_id = a_model()
    client = page()

    assert "This cannot be undone" in client.get(f"/models/{model_id}/delete").text
    client.post(f"/models/{model_id}/delete", data={"csrf_token": token(client)})

    assert client.get(f"/models/{model_id}").status_code == 404
    assert "No models yet" in client.get("/models").text


def test_a_trader_cannot_delete_and_a_viewer_cannot_upload(page: Make, api: Any, a_model: Make, model_text: bytes):
    model_id = a_model()
    for name, role in (("tom", "trader"), ("vera", "viewer")):
        api.post("/api/users", {"username": name, "password": "correct horse battery staple", "role": role})
    tom, vera = page("tom"), page("vera")

    assert "Needs the role admin" in tom.get(f"/models/{model_id}").text
    assert tom.post(f"/models/{model_id}/delete", data={"csrf_token": token(tom)}).status_code == 403
    assert "Uploading needs the role trader." in vera.get("/models").text
    assert upload(vera, model_text).status_code == 403


def test_the_strategies_page_tells_parameters_and_users(page: Make, a_bot: Make):
    bot_id = a_bot(name="<b>one</b>")

    text = page().get("/strategies").text

    assert f'href="/bots/{bot_id}">&lt;b&gt;one&lt;/b&gt;</a>' in text
    assert "rsi_period" in text
    assert "LightGBM scalper" in text
