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


TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"


def telegram(**given: str):
    return load_settings({f"FLOTILLA_TELEGRAM_{name}": value for name, value in given.items()}).telegram


def test_without_its_variables_there_is_no_telegram():
    assert telegram() is None
    assert telegram(TOKEN="", CHAT_ID=" ") is None


def test_telegram_takes_one_chat_or_several_and_another_server():
    assert telegram(TOKEN=TOKEN, CHAT_ID="4711").chat_ids == (4711,)
    assert telegram(TOKEN=TOKEN, CHAT_ID="4711, -100815,4711").chat_ids == (4711, -100815)
    assert telegram(TOKEN=TOKEN).chat_ids == ()
    assert telegram(TOKEN=TOKEN).url == "https://api.telegram.org"
    assert telegram(TOKEN=TOKEN, URL="http://127.0.0.1:8081/").url == "http://127.0.0.1:8081"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"CHAT_ID": "4711"}, "FLOTILLA_TELEGRAM_TOKEN is not"),
        ({"TOKEN": "my secret"}, "FLOTILLA_TELEGRAM_TOKEN is no token"),
        ({"TOKEN": TOKEN, "CHAT_ID": "@ada"}, "'@ada'"),
        ({"TOKEN": TOKEN, "CHAT_ID": "1,two"}, "'two'"),
        ({"TOKEN": TOKEN, "URL": "api.telegram.org"}, "FLOTILLA_TELEGRAM_URL"),
        ({"TOKEN": TOKEN, "URL": "ftp://api.telegram.org"}, "FLOTILLA_TELEGRAM_URL"),
        ({"TOKEN": TOKEN, "URL": "http://host:port"}, "FLOTILLA_TELEGRAM_URL"),
        ({"TOKEN": TOKEN, "URL": f"https://api.telegram.org/bot{TOKEN}"}, "without the token"),
    ],
)
def test_a_telegram_setting_that_makes_no_sense_is_refused_without_showing_the_token(given, named):
    with pytest.raises(BadSetting) as refusal:
        telegram(**given)

    assert named in refusal.value.message
    assert "my secret" not in refusal.value.message
    assert TOKEN not in refusal.value.message


def test_the_token_does_not_show_when_settings_are_printed():
    assert TOKEN not in repr(load_settings({"FLOTILLA_TELEGRAM_TOKEN": TOKEN}))
