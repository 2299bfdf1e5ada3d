from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.storage import model_files

Make = Callable[..., Any]


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


def upload(api: Any, content: bytes, **fields: str) -> Any:
    form = {"symbol": "ETHUSDT", "name": "eth", "file": (io.BytesIO(content), "model.txt"), **fields}
    return api("POST", "/api/models/upload", data=form, content_type="multipart/form-data")


def test_a_model_is_checked_kept_and_given_back(api: Any, settings: Any, model_text: bytes):
    answer = upload(api, model_text, name="123")

    assert answer.status_code == 201, answer.json
    model = answer.json
    assert (model["name"], model["trees"], model["size_bytes"], model["used_by"]) == ("123", 3, len(model_text), [])
    assert api.get(f"/api/models/{model['id']}").json == model
    assert api.get("/api/models").json["items"] == [model]
    assert api.get(f"/api/models/{model['id']}/download").data == model_text
    assert settings.model_file(model["sha256"]).read_bytes() == model_text


@pytest.mark.parametrize("cut_at", [b"tree", b"num_leaves", b"Tree=1", b"Tree=2", b"end of trees", None])
def test_a_damaged_file_is_refused_with_a_reason_and_leaves_nothing(
    api: Any, settings: Any, model_text: bytes, cut_at: bytes | None
):
    content = b"this is no model" if cut_at is None else model_text[: model_text.index(cut_at)]

    answer = upload(api, content)

    assert answer.status_code == 422
    assert answer.json["error"]["fields"]["file"]
    assert list(settings.models.iterdir()) == []


def test_a_model_of_other_features_is_refused(api: Any, model_text: bytes):
    from bots.core.feature_engineering import FEATURES

    answer = upload(api, model_text.replace(FEATURES[0].encode(), b"strange"))

    assert answer.status_code == 422


def test_a_check_that_dies_or_hangs_means_the_file_is_not_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "python").write_text(
        f"#!{sys.executable}\nimport os, time\ntime.sleep(float(os.environ['LANG']))\nos.abort()\n"
    )
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(model_files.sys, "executable", str(tmp_path / "python"))

    for seconds in ("0", "60"):
        monkeypatch.setenv("LANG", seconds)
        with pytest.raises(model_files.Refused) as refusal:
            model_files.check_file(tmp_path / "model.txt", timeout_s=0.5)
        assert "not a readable LightGBM model" in refusal.value.fields["file"]


def test_a_file_above_the_limit_is_refused(api: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model_files, "MAX_BYTES", 1000)

    assert upload(api, b"x" * 1001).status_code == 413


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"symbol": "ETHUSDT", "name": "n"}, "file"),
        ({"symbol": "ETHUSDT", "name": "n", "file": "text"}, "file"),
        ({"name": "n", "file": (io.BytesIO(b"x"), "m")}, "symbol"),
        ({"symbol": "eth", "name": "n", "file": (io.BytesIO(b"x"), "m")}, "symbol"),
        ({"symbol": "ETHUSDT", "name": "\0", "file": (io.BytesIO(b"x"), "m")}, "name"),
        ({"symbol": "ETHUSDT", "name": "x" * 101, "file": (io.BytesIO(b"x"), "m")}, "name"),
    ],
)
def test_what_is_missing_or_wrong_in_the_form_is_named(api: Any, form: dict[str, Any], field: str):
    answer = api("POST", "/api/models/upload", data=form, content_type="multipart/form-data")

    assert (answer.status_code, list(answer.json["error"]["fields"])) == (422, [field])


def test_a_model_comes_as_multipart_only(api: Any):
    assert api.post("/api/models/upload", {"file": "x"}).status_code == 415


def test_a_model_in_a_bots_config_stays(api: Any, a_bot: Make, a_model: Make, settings: Any):
    model_id = a_model()
    bot_id = a_bot(strategy="lightgbm_scalper", interval="1s", config={"model_id": model_id})

    assert api.get(f"/api/models/{model_id}").json["used_by"] == [bot_id]
    assert api.delete(f"/api/models/{model_id}").status_code == 409

    api.put(f"/api/trading/bots/{bot_id}/config", {"model_id": None})
    assert api.delete(f"/api/models/{model_id}").status_code == 204
    assert api.get(f"/api/models/{model_id}").status_code == 404
    assert list(settings.models.iterdir()) == []


def test_a_file_that_another_model_has_too_stays(api: Any, a_model: Make, settings: Any):
    first, _second = a_model(), a_model()

    api.delete(f"/api/models/{first}")

    assert len(list(settings.models.iterdir())) == 1


def test_traders_upload_and_only_admins_delete(api_as: Make, a_model: Make):
    model_id = a_model()

    assert api_as("viewer").post("/api/models/upload").status_code == 403
    assert api_as("trader").post("/api/models/upload").status_code == 415
    assert api_as("trader").delete(f"/api/models/{model_id}").status_code == 403


def test_a_bot_downloads_the_model_of_its_config_and_no_other(api_as: Make, a_bot: Make, a_model: Make):
    mine, other = a_model("aa" * 32), a_model("bb" * 32)
    bot = api_as(f"bot:{a_bot(strategy='lightgbm_scalper', interval='1s', config={'model_id': mine})}")

    assert bot.get(f"/api/models/{mine}/download").status_code == 200
    assert bot.get(f"/api/models/{other}/download").status_code == 403


def test_a_download_of_a_lost_file_says_so(api: Any, a_model: Make, settings: Any):
    model_id = a_model()
    settings.model_file("ab" * 32).unlink()

    answer = api.get(f"/api/models/{model_id}/download")

    assert answer.status_code == 404
    assert "Upload it again" in json.dumps(answer.json)
