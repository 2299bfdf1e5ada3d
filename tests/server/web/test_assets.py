"""The files that pages load: an allow-list, addresses with a hash, and compressed answers."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.web import assets

Make = Callable[..., Any]
GZIP = {"Accept-Encoding": "gzip"}


def addresses(html: str) -> list[str]:
    return re.findall(r'(?:href|src)="(/assets/[^"]+)"', html)


def test_a_pages_files_have_a_hash_in_their_address_and_are_cached_for_ever(page: Make):
    client = page()
    found = addresses(client.get("/").text)

    assert {address.split("?")[0] for address in found} >= {"/assets/app.css", "/assets/app.js"}
    for address in found:
        answer = client.get(address)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.mimetype in {"text/css", "text/javascript", "application/javascript"}


def test_a_file_under_an_old_address_is_asked_for_again_each_time(app: Any):
    assert app.test_client().get("/assets/app.css?v=old").headers["Cache-Control"] == "no-cache"


def test_the_sign_in_page_gets_its_looks_without_signing_in(app: Any):
    client = app.test_client()

    (sheet,) = addresses(client.get("/login").text)

    assert client.get(sheet).status_code == 200


@pytest.mark.parametrize(
    "name",
    ["../app.py", "..%2f..%2fapp.py", "%2e%2e/templates/base.html", "/etc/passwd", "package.json", ".npmrc", ""],
)  # fmt: skip
def test_nothing_else_is_served(app: Any, name: str):
    assert app.test_client().get(f"/assets/{name}").status_code in {404, 308}


@pytest.mark.parametrize("encoding", ["gzip", "gzip, deflate, br", "*"])
def test_files_and_pages_are_compressed_for_those_who_take_it(page: Make, a_bot: Make, encoding: str):
    a_bot()
    client = page()
    for path in ("/assets/app.css", "/"):
        plain = client.get(path, headers={"Accept-Encoding": "identity"})
        packed = client.get(path, headers={"Accept-Encoding": encoding})

        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in packed.headers["Vary"]
        assert len(packed.data) < len(plain.data) / 2
        assert gzip.decompress(packed.data)[:200] == plain.data[:200]


def test_who_refuses_gzip_gets_none(page: Make):
    assert "Content-Encoding" not in page().get("/", headers={"Accept-Encoding": "gzip;q=0"}).headers


def test_answers_of_the_api_keep_their_etag_and_are_not_compressed(api: Any, a_bot: Make):
    bot_id = a_bot()

    answer = api.get(f"/api/bots/{bot_id}/control", headers=GZIP)

    assert "ETag" in answer.headers
    assert "Content-Encoding" not in answer.headers


def test_without_the_packages_the_page_is_whole_and_says_what_to_do(
    page: Make, a_bot: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    a_bot(name="eth-rsi")
    missing = dict.fromkeys(assets.FROM_PACKAGES, tmp_path / "none.js")
    monkeypatch.setattr(assets, "_FILES", {**assets._FILES, **missing})
    client = page()

    html = client.get("/").text

    assert "eth-rsi" in html
    assert "flotilla assets" in html
    assert "idiomorph" not in html
    assert "app.js" in html
    assert client.get("/assets/idiomorph.js").status_code == 404


def test_the_lock_file_names_exact_versions_with_hashes_and_no_host():
    folder = Path(assets.__file__).parent
    text = (folder / "package-lock.json").read_text()
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}

    assert "://" not in text
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    assert wanted == {name: packages[f"node_modules/{name}"]["version"] for name in wanted}
    assert "omit-lockfile-registry-resolved=true" in (folder / ".npmrc").read_text()
