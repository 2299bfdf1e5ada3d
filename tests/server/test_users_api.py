from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., Any]
PASSWORD = "correct horse battery staple"
NEW = {"username": "maria", "password": "three blue boats", "role": "trader"}


def logged_in(api_as: Make, username: str, password: str = PASSWORD) -> Any:
    me = api_as(None)
    answer = me.post("/api/auth/login", {"username": username, "password": password})
    assert answer.status_code == 200, answer.json
    me.token = answer.json["access_token"]
    return me


def id_of(api: Any, username: str) -> int:
    (found,) = [u["id"] for u in api.get("/api/users").json["items"] if u["username"] == username]
    return int(found)


def actions(api: Any) -> list[tuple[str, str]]:
    return [(e["action"], e["target"]) for e in api.get("/api/audit").json["items"]]


def test_a_new_user_can_log_in_and_is_listed_without_the_password(api: Any, api_as: Make):
    answer = api.post("/api/users", NEW)

    assert (answer.status_code, answer.json["role"], answer.json["disabled"]) == (201, "trader", False)
    assert logged_in(api_as, "maria", NEW["password"]).get("/api/bots").status_code == 200
    listed = api.get("/api/users")
    assert [u["username"] for u in listed.json["items"]] == ["maria", "trader", "viewer", "admin"]
    assert "argon2" not in listed.text
    assert actions(api)[0] == ("user.create", "user maria")


@pytest.mark.parametrize("role", ["viewer", "trader"])
def test_only_admins_see_and_change_users(api_as: Make, role: str):
    caller = api_as(role)

    answers = [
        caller.get("/api/users"),
        caller.post("/api/users", NEW),
        caller.get("/api/users/1"),
        caller.put("/api/users/1", {"role": "viewer"}),
        caller.delete("/api/users/1"),
        caller.get("/api/settings"),
        caller.put("/api/settings", {}),
    ]

    assert [a.status_code for a in answers] == [403] * 7


@pytest.mark.parametrize("username", ["", "Maria", "a b", "me", "-a", "x" * 65, "ä", "a/b"])
def test_a_name_that_would_confuse_is_refused(api: Any, username: str):
    answer = api.post("/api/users", {**NEW, "username": username})

    assert (answer.status_code, list(answer.json["error"]["fields"])) == (422, ["username"])


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("short", "must have 10 to 1000 characters"),
        ("aaaaaaaaaaaa", "must have at least 4 different characters"),
        ("maria-maria", "must not be made of the user's name"),
        ("Password123", "is among the first that are guessed"),
    ],
)
def test_a_password_that_is_easily_guessed_is_refused(api: Any, password: str, reason: str):
    answer = api.post("/api/users", {**NEW, "password": password})

    assert (answer.status_code, answer.json["error"]["fields"]) == (422, {"password": reason})
    assert password not in answer.text


def test_two_users_cannot_share_a_name(api: Any):
    assert api.post("/api/users", {**NEW, "username": "trader"}).status_code == 409


@pytest.mark.parametrize("change", [{"role": "viewer"}, {"disabled": True}, None])
def test_the_last_enabled_admin_stays_one(api: Any, change: dict[str, Any] | None):
    admin = id_of(api, "admin")
    other = api.post("/api/users", {**NEW, "role": "admin"}).json["id"]
    api.put(f"/api/users/{other}", {"disabled": True})

    answer = api.put(f"/api/users/{admin}", change) if change else api.delete(f"/api/users/{admin}")

    assert answer.status_code == 409
    assert "last enabled admin" in answer.json["error"]["message"]
    api.put(f"/api/users/{other}", {"disabled": False})
    answer = api.put(f"/api/users/{admin}", change) if change else api.delete(f"/api/users/{admin}")
    assert answer.status_code in (200, 204)


def test_disabling_a_user_ends_page_login_and_token_at_once_and_enabling_revives_only_the_token(
    api: Any, api_as: Make, page: Make
):
    client, login = page("trader"), logged_in(api_as, "trader")
    script = api_as(None)
    script.token = login.post("/api/tokens", {"name": "s", "role": "viewer"}).json["token"]
    trader = id_of(api, "trader")

    assert api.put(f"/api/users/{trader}", {"disabled": True}).json["disabled"] is True
    assert (client.get("/").status_code, login.get("/api/bots").status_code) == (303, 401)
    assert script.get("/api/bots").status_code == 401

    api.put(f"/api/users/{trader}", {"disabled": False})
    assert (client.get("/").status_code, login.get("/api/bots").status_code) == (303, 401)
    assert script.get("/api/bots").status_code == 200


def test_a_new_password_ends_all_sessions_and_the_old_password(api: Any, api_as: Make, page: Make):
    client = page("trader")
    trader = id_of(api, "trader")

    assert api.put(f"/api/users/{trader}", {"password": "three blue boats"}).status_code == 200

    assert client.get("/").status_code == 303
    nobody = api_as(None)
    assert nobody.post("/api/auth/login", {"username": "trader", "password": PASSWORD}).status_code == 401
    logged_in(api_as, "trader", "three blue boats")
    assert actions(api)[0] == ("user.password", "user trader")


def test_everybody_can_change_their_own_password_and_keeps_the_session_they_ask_in(api_as: Make, page: Make):
    client, me = page("viewer"), logged_in(api_as, "viewer")
    wrong = me.put("/api/users/me/password", {"current_password": "guess", "password": "three blue boats"})
    assert (wrong.status_code, list(wrong.json["error"]["fields"])) == (422, ["current_password"])

    right = me.put("/api/users/me/password", {"current_password": PASSWORD, "password": "three blue boats"})

    assert right.status_code == 204
    assert me.get("/api/bots").status_code == 200
    assert client.get("/").status_code == 303


def test_guessing_ones_own_password_comes_to_an_end(api_as: Make):
    me = logged_in(api_as, "viewer")
    guess = {"current_password": "guess", "password": "three blue boats"}

    answers = [me.put("/api/users/me/password", guess).status_code for _ in range(31)]

    assert answers == [422] * 30 + [429]


def test_a_user_without_history_goes_and_one_with_history_stays_disabled(api: Any, api_as: Make, new_bot: Make):
    gone = api.post("/api/users", NEW).json["id"]
    trader = id_of(api, "trader")
    assert logged_in(api_as, "trader").post("/api/bots", new_bot()).status_code == 201

    assert api.delete(f"/api/users/{gone}").status_code == 204
    assert api.delete(f"/api/users/{trader}").status_code == 204

    assert api.get(f"/api/users/{gone}").status_code == 404
    assert api.get(f"/api/users/{trader}").json["disabled"] is True
    assert api.post("/api/users", NEW).status_code == 201


def test_what_a_person_chose_for_the_pages_is_kept_and_shown_in_them(api_as: Make, page: Make):
    me = logged_in(api_as, "viewer")

    assert me.get("/api/users/me").json["preferences"] == {
        "theme": "system",
        "updown": "green-red",
        "keyboard": True,
        "time_zone": "utc",
    }
    me.put("/api/users/me/preferences", {"theme": "dark"})
    answer = me.put("/api/users/me/preferences", {"time_zone": "local", "keyboard": False})

    assert answer.json == {"theme": "dark", "updown": "green-red", "keyboard": False, "time_zone": "local"}
    assert 'data-theme="dark"' in page("viewer").get("/").text


@pytest.mark.parametrize("body", [{"theme": "pink"}, {"keyboard": 1}, {"colour": "red"}, {"time_zone": 3}])
def test_what_cannot_be_chosen_is_refused(api_as: Make, body: dict[str, Any]):
    answer = logged_in(api_as, "viewer").put("/api/users/me/preferences", body)

    assert (answer.status_code, list(answer.json["error"]["fields"])) == (422, list(body))


def test_the_account_page_and_the_api_keep_the_same_choices(api_as: Make, page: Make):
    me, client = logged_in(api_as, "viewer"), page("viewer")
    token = client.get("/account").text.split('name="csrf_token" value="')[1].split('"')[0]
    form = {"theme": "light", "updown": "red-up", "local_time": "on", "csrf_token": token}

    assert client.post("/account", data=form).status_code == 303

    chosen = {"theme": "light", "updown": "red-up", "keyboard": False, "time_zone": "local"}
    assert me.get("/api/users/me").json["preferences"] == chosen
    html = client.get("/account").text
    assert 'data-theme="light"' in html
    assert "data-local-time" in html
    assert me.put("/api/users/me/preferences", {"time_zone": "utc"}).status_code == 200
    assert "data-local-time" not in client.get("/account").text


def test_a_token_that_is_nobodys_says_so(api: Any):
    assert api.get("/api/users/me").json["id"] is None
    assert api.put("/api/users/me/preferences", {"theme": "dark"}).status_code == 409


def test_settings_have_defaults_ranges_and_an_audit_entry(api: Any):
    assert api.get("/api/settings").json == {"session_hours": 12, "password_min_length": 10}

    assert api.put("/api/settings", {"session_hours": 0}).status_code == 422
    assert api.put("/api/settings", {"session_hours": 8, "password_min_length": None}).json["session_hours"] == 8

    assert api.get("/api/settings").json == {"session_hours": 8, "password_min_length": 10}
    entry = api.get("/api/audit").json["items"][0]
    assert (entry["action"], entry["before"], entry["after"]) == (
        "settings.change",
        {"session_hours": 12},
        {"session_hours": 8},
    )


def test_the_shortest_password_follows_the_setting(api: Any):
    api.put("/api/settings", {"password_min_length": 20})

    assert api.post("/api/users", NEW).status_code == 422


def test_exchange_keys_can_be_renamed_and_replaced_but_never_read(api: Any, credential_id: int, app: Any, engine: Any):
    from server.security.secrets import open_credential
    from server.storage.engine import read

    path = f"/api/credentials/{credential_id}"
    renamed = api.put(path, {"name": "sim 2"})
    replaced = api.put(path, {"api_secret": "another-secret"})

    assert (renamed.json["name"], renamed.json["api_key_last4"]) == ("sim 2", "ount")
    assert "another-secret" not in replaced.text
    with read(engine) as connection:
        keys = open_credential(connection, app.extensions["flotilla"].vault, credential_id)
    assert keys == ("key-of-the-account", "another-secret")
    assert "another-secret" not in api.get("/api/audit").text
    assert actions(api)[0] == ("credential.change", f"credential {credential_id}")


def test_a_credential_cannot_take_the_name_of_another(api: Any, credential_id: int):
    body = {"exchange": "simulator", "name": "other", "api_key": "abcd", "api_secret": "abcd"}
    assert api.post("/api/credentials", body).status_code == 201

    assert api.put(f"/api/credentials/{credential_id}", {"name": "other"}).status_code == 409
    assert api.put("/api/credentials/99", {"name": "x"}).status_code == 404


def test_the_api_takes_every_setting_there_is(api: Any):
    from server.api.account_schemas import Settings, SettingsBody
    from server.storage.installation import SETTABLE

    assert list(Settings.model_fields) == list(SettingsBody.model_fields) == list(SETTABLE)
