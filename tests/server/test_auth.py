from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from server.security.roles import need_of
from server.security.tokens import issue_bot_token
from server.storage.engine import write
from server.storage.models import ApiToken, User

PASSWORD = "correct horse battery staple"


def log_in(api: Any, username: str = "admin", password: str = PASSWORD) -> Any:
    return api.post("/api/auth/login", {"username": username, "password": password})


def test_name_and_password_give_a_token_that_works(api_as: Callable[..., Any]):
    nobody = api_as(None)

    answer = log_in(nobody)

    assert (answer.status_code, answer.json["role"], answer.json["expires_in"]) == (200, "admin", 43_200)
    nobody.token = answer.json["access_token"]
    assert nobody.get("/api/bots").status_code == 200


def test_after_logging_out_the_token_is_worth_nothing(api_as: Callable[..., Any]):
    me = api_as(None)
    me.token = log_in(me).json["access_token"]

    assert me.post("/api/auth/logout").status_code == 204

    assert me.get("/api/bots").status_code == 401


@pytest.mark.parametrize(("username", "password"), [("admin", "wrong"), ("nobody", PASSWORD), ("", ""), ("ädmin", "é")])
def test_wrong_names_and_passwords_look_the_same(api_as: Callable[..., Any], username: str, password: str):
    answer = log_in(api_as(None), username, password)

    assert (answer.status_code, answer.json["error"]["message"]) == (401, "Name and password do not match.")


def test_a_disabled_user_is_out_at_once(api_as: Callable[..., Any], engine: Any):
    me = api_as(None)
    me.token = log_in(me, "trader").json["access_token"]

    with write(engine) as connection:
        connection.execute(update(User).where(User.username == "trader").values(disabled=True))

    assert me.get("/api/bots").status_code == 401
    assert log_in(api_as(None), "trader").status_code == 401


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer x", "Basic YWRtaW46YWRtaW4=", "Bearer a.b.c", "Bearer flà_x", "Bearer fla_" + "x" * 5000],
)
def test_a_claim_that_does_not_hold_is_refused(api_as: Callable[..., Any], header: str):
    answer = api_as(None).get("/api/bots", headers={"Authorization": header})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_token_signed_with_another_key_is_refused(api_as: Callable[..., Any]):
    import jwt

    forged = jwt.encode({"sub": "1", "jti": "x", "exp": 4_000_000_000}, "k" * 32, algorithm="HS256")

    assert api_as(None).get("/api/bots", headers={"Authorization": f"Bearer {forged}"}).status_code == 401


def test_an_expired_token_is_refused(api: Any, api_as: Callable[..., Any], engine: Any):
    with write(engine) as connection:
        connection.execute(update(ApiToken).values(expires_ms=1))

    assert api.get("/api/bots").status_code == 401


def test_roles_include_those_below_and_nothing_above(api_as: Callable[..., Any]):
    body = {"exchange": "simulator", "name": "n", "api_key": "abcd", "api_secret": "abcd"}

    may = {
        role: [
            api_as(role).get("/api/bots").status_code,
            api_as(role).post("/api/bots", {}).status_code,
            api_as(role).post("/api/credentials", {**body, "name": role}).status_code,
        ]
        for role in ("viewer", "trader", "admin")
    }

    assert may == {"viewer": [200, 403, 403], "trader": [200, 422, 403], "admin": [200, 422, 201]}


def test_every_route_says_what_it_takes(app: Any):
    described = {"static", "openapi", "swagger"}
    silent = [
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if rule.endpoint.split(".")[0] not in described and not hasattr(app.view_functions[rule.endpoint], "_need")
    ]

    assert silent == []


def test_only_logging_in_health_and_metrics_are_open_to_all(app: Any):
    rules = app.url_map.iter_rules()
    marked = [r for r in rules if hasattr(app.view_functions[r.endpoint], "_need")]

    assert {r.rule for r in marked if need_of(app.view_functions[r.endpoint]).role is None} == {
        "/health",
        "/health/ready",
        "/metrics",
        "/api/auth/login",
        "/api/docs",
        "/login",
        "/assets/<name>",
    }


def test_a_bots_token_reads_that_bots_config_and_control_and_nothing_else(
    api_as: Callable[..., Any], a_bot: Callable[..., int]
):
    mine, other = a_bot(), a_bot()
    bot = api_as(f"bot:{mine}")

    assert bot.get(f"/api/bots/{mine}/control").status_code == 200
    assert bot.get(f"/api/trading/bots/{mine}/config").status_code == 200
    for path in (f"/api/bots/{other}/control", f"/api/trading/bots/{other}/config", f"/api/bots/{mine}", "/api/bots"):
        assert bot.get(path).status_code == 403
    assert bot.put(f"/api/trading/bots/{mine}/config", {"max_positions": 2}).status_code == 403


def test_a_new_run_ends_the_tokens_of_the_runs_before(
    api_as: Callable[..., Any], a_bot: Callable[..., int], engine: Any
):
    bot_id = a_bot()
    earlier = api_as(f"bot:{bot_id}")

    with write(engine) as connection:
        issue_bot_token(connection, bot_id, f"{bot_id}.2")

    assert earlier.get(f"/api/bots/{bot_id}/control").status_code == 401


def test_a_long_lived_token_is_shown_once_works_and_can_be_ended(api: Any, api_as: Callable[..., Any]):
    made = api.post("/api/tokens", {"name": "script", "role": "viewer", "expires_in": 3600}).json
    script = api_as(None)
    script.token = made["token"]

    assert script.get("/api/bots").status_code == 200
    listed = api.get("/api/tokens").json["items"]
    assert made["id"] in [t["id"] for t in listed]
    assert all("token" not in t and "sha256" not in t for t in listed)

    assert api.delete(f"/api/tokens/{made['id']}").status_code == 204
    assert script.get("/api/bots").status_code == 401
    assert api.delete(f"/api/tokens/{made['id']}").status_code == 404


def test_a_token_has_at_most_its_owners_role(api_as: Callable[..., Any]):
    viewer, trader = api_as("viewer"), api_as("trader")

    assert viewer.post("/api/tokens", {"name": "mine", "role": "viewer"}).status_code == 201
    assert viewer.post("/api/tokens", {"name": "more", "role": "trader"}).status_code == 403
    assert trader.post("/api/tokens", {"name": "more", "role": "admin"}).status_code == 403


def test_who_loses_a_role_loses_it_in_all_tokens(api_as: Callable[..., Any], engine: Any):
    me = api_as(None)
    me.token = log_in(me).json["access_token"]
    script = api_as(None)
    script.token = me.post("/api/tokens", {"name": "script", "role": "admin"}).json["token"]
    assert script.get("/api/credentials").status_code == 200

    with write(engine) as connection:
        connection.execute(update(User).where(User.username == "admin").values(role="viewer"))

    assert script.get("/api/credentials").status_code == 403
    assert script.get("/api/bots").status_code == 200


def test_tokens_and_sessions_are_seen_and_ended_by_their_owner_and_by_admins(api: Any, api_as: Callable[..., Any]):
    trader, viewer = api_as(None), api_as(None)
    trader.token, viewer.token = (
        log_in(trader, "trader").json["access_token"],
        log_in(viewer, "viewer").json["access_token"],
    )
    made = trader.post("/api/tokens", {"name": "mine", "role": "viewer"}).json
    (session,) = trader.get("/api/sessions").json["items"]

    assert [t["owner"] for t in trader.get("/api/tokens").json["items"]] == ["trader"]
    assert viewer.get("/api/tokens").json["items"] == []
    assert viewer.delete(f"/api/tokens/{made['id']}").status_code == 404
    assert viewer.delete(f"/api/sessions/{session['id']}").status_code == 404
    assert {s["username"] for s in api.get("/api/sessions").json["items"]} == {"trader", "viewer"}
    assert (session["kind"], session["is_this"]) == ("login", True)

    assert api.delete(f"/api/tokens/{made['id']}").status_code == 204
    assert trader.delete(f"/api/sessions/{session['id']}").status_code == 204
    assert trader.get("/api/tokens").status_code == 401


def test_a_token_of_nobody_sees_no_tokens_and_no_sessions_of_others(
    api_as: Callable[..., Any], page: Callable[..., Any]
):
    page()
    viewer = api_as("viewer")

    assert viewer.get("/api/tokens").json["items"] == []
    assert viewer.get("/api/sessions").json["items"] == []


def test_logging_in_often_passes_and_guessing_does_not(api_as: Callable[..., Any]):
    me = api_as(None)
    assert [log_in(me).status_code for _ in range(3)] == [200] * 3

    guesses = [log_in(me, "x", "y") for _ in range(31)]

    assert [g.status_code for g in guesses[:30]] == [401] * 30
    assert guesses[-1].status_code == 429
    assert int(guesses[-1].headers["Retry-After"]) > 0


def test_the_local_tools_token_is_an_admins(api_as: Callable[..., Any], settings: Any):
    cli = api_as(None)
    cli.token = settings.cli_token_file.read_text().strip()

    assert cli.get("/api/credentials").status_code == 200


def test_secrets_of_credentials_never_come_out(api: Any, credential_id: int):
    listed = api.get("/api/credentials")

    assert listed.json["items"][0]["api_key_last4"] == "ount"
    assert "its-secret" not in listed.text
    assert "key-of-the-account" not in listed.text


def test_a_credential_in_use_stays(api: Any, a_bot: Callable[..., int], credential_id: int):
    bot_id = a_bot()

    assert api.delete(f"/api/credentials/{credential_id}").status_code == 409

    api.delete(f"/api/bots/{bot_id}")
    assert api.delete(f"/api/credentials/{credential_id}").status_code == 204


def test_two_credentials_cannot_share_a_name(api: Any, credential_id: int):
    body = {"exchange": "simulator", "name": "sim 1", "api_key": "abcd", "api_secret": "abcd"}

    assert api.post("/api/credentials", body).status_code == 409
