from __future__ import annotations

import stat
from pathlib import Path

import pytest

from server.settings import CHECKOUT, BadSetting, load_settings


def test_without_any_variable_all_state_is_in_var_of_the_checkout():
    settings = load_settings({})

    assert settings.home == CHECKOUT / "var"
    assert settings.database_url == f"sqlite:///{CHECKOUT / 'var' / 'flotilla.db'}"
    assert (settings.host, settings.port, settings.sim_port) == ("127.0.0.1", 5000, 9700)


@pytest.mark.parametrize("port", ["0", "70000", "http", "-1", "5_000", "٥"])
def test_a_port_that_is_none_is_refused_by_name_and_value(port: str):
    with pytest.raises(BadSetting, match="FLOTILLA_PORT") as refusal:
        load_settings({"FLOTILLA_PORT": port})

    assert port in refusal.value.message


@pytest.mark.parametrize("url", ["nonsense", "mysql://h/d", "sqlite://", "sqlite:///:memory:"])
def test_a_database_that_cannot_be_shared_is_refused_by_name(url: str):
    with pytest.raises(BadSetting, match="DATABASE_URL"):
        load_settings({"DATABASE_URL": url})


def test_the_home_folder_is_made_for_its_owner_alone(tmp_path: Path):
    settings = load_settings({"FLOTILLA_HOME": str(tmp_path / "deep" / "home")})

    settings.make_home()

    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700


def test_a_home_that_cannot_be_made_is_refused_by_name(tmp_path: Path):
    (tmp_path / "file").write_text("")

    with pytest.raises(BadSetting, match="FLOTILLA_HOME"):
        load_settings({"FLOTILLA_HOME": str(tmp_path / "file" / "home")}).make_home()
