from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from server.security.secrets import Unsealable, Vault, load_vault, write_private_file
from server.settings import BadSetting, Settings, load_settings


def keys(count: int) -> list[str]:
    return [Fernet.generate_key().decode() for _ in range(count)]


def test_what_was_sealed_is_read_back():
    vault = Vault(keys(1))

    assert vault.open("credentials:3", vault.seal("credentials:3", {"api_key": "k"})) == {"api_key": "k"}


def test_a_sealed_value_moved_to_another_row_does_not_open():
    vault = Vault(keys(1))

    with pytest.raises(Unsealable, match="something else"):
        vault.open("credentials:4", vault.seal("credentials:3", {"api_key": "k"}))


def test_after_a_rotation_the_old_key_still_opens_and_the_new_one_seals():
    old, new = keys(2)
    sealed = Vault([old]).seal("x", {"a": 1})

    rotated = Vault([new, old])

    assert rotated.open("x", sealed) == {"a": 1}
    assert Vault([new]).open("x", rotated.seal("x", {"a": 2})) == {"a": 2}


def test_a_value_sealed_with_a_lost_key_says_what_to_do():
    lost, present = keys(2)

    with pytest.raises(Unsealable, match="FLOTILLA_SECRET_KEYS"):
        Vault([present]).open("x", Vault([lost]).seal("x", {}))


def test_the_generated_key_is_private_and_stays(tmp_path: Path):
    settings = load_settings({"FLOTILLA_HOME": str(tmp_path)})

    sealed = load_vault(settings).seal("x", {"a": 1})

    assert load_vault(settings).open("x", sealed) == {"a": 1}
    assert stat.S_IMODE(settings.key_file.stat().st_mode) == 0o600


def test_a_damaged_key_file_is_never_overwritten(tmp_path: Path):
    settings = load_settings({"FLOTILLA_HOME": str(tmp_path)})
    settings.key_file.write_text("damaged")

    with pytest.raises(BadSetting, match="backup"):
        load_vault(settings)

    assert settings.key_file.read_text() == "damaged"


def test_a_key_that_is_none_is_refused_without_showing_it(tmp_path: Path):
    settings = load_settings({"FLOTILLA_HOME": str(tmp_path), "FLOTILLA_SECRET_KEYS": f"{keys(1)[0]},hunter2"})

    with pytest.raises(BadSetting, match="FLOTILLA_SECRET_KEYS: entry 2") as refusal:
        load_vault(settings)

    assert "hunter2" not in refusal.value.message


def test_a_private_file_that_is_there_is_left_alone(tmp_path: Path):
    assert write_private_file(tmp_path / "f", "one")
    assert not write_private_file(tmp_path / "f", "two")

    assert (tmp_path / "f").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_the_local_tools_token_is_private(settings: Settings):
    assert stat.S_IMODE(settings.cli_token_file.stat().st_mode) == 0o600
