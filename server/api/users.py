"""Users: who may log in, with which role; and what each can change about themselves."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify
from sqlalchemy import Connection, Row

from server.api.account_schemas import (
    Me,
    NewUser,
    OwnPasswordBody,
    Preferences,
    PreferencesBody,
    User,
    UserChanges,
    UserList,
)
from server.api.auth import FAILED_LOGIN_LIMIT
from server.api.schemas import RowPath
from server.api.wire import PageQuery, blueprint, caller, engine, keyed, limiter, page_of
from server.security import accounts
from server.security.roles import Role, needs
from server.security.users import check_password
from server.storage.engine import read, write
from server.storage.times import iso
from shared.errors import Conflict, Refused

api = blueprint("users", "Who may log in")

USER = "/api/users/<int(max=2147483647):row_id>"


@api.get("/api/users", responses={200: UserList})
@needs(Role.ADMIN)
def list_users(query: PageQuery) -> Response:
    """All users, newest first, disabled ones too."""
    with read(engine()) as connection:
        rows = accounts.user_rows(connection, limit=query.limit, before=query.before)
        seen = accounts.last_seen(connection, [row.id for row in rows])
    return jsonify(page_of(rows, query.limit, lambda row: user_document(row, seen.get(row.id))))


@api.post("/api/users", responses={201: User})
@needs(Role.ADMIN)
def add_user(body: NewUser) -> tuple[Response, int]:
    """Add a user."""

    def add(connection: Connection) -> tuple[dict[str, Any], int]:
        user_id = accounts.add_user(connection, **body.model_dump(), author=caller().author)
        return user_document(accounts.user_row(connection, user_id), None), 201

    document, status = keyed(add)
    return jsonify(document), status


@api.get(USER, responses={200: User})
@needs(Role.ADMIN)
def get_user(path: RowPath) -> Response:
    """One user."""
    with read(engine()) as connection:
        return jsonify(_document(connection, path.row_id))


@api.put(USER, responses={200: User})
@needs(Role.ADMIN)
def change_user(path: RowPath, body: UserChanges) -> Response:
    """Change role or password, disable or enable. A new password and disabling end the user's sessions at once.

    The last enabled admin stays one.
    """
    with write(engine()) as connection:
        user = accounts.user_row(connection, path.row_id)
        accounts.change_user(connection, user, caller().author, **body.model_dump())
        return jsonify(_document(connection, path.row_id))


@api.delete(USER, responses={204: None})
@needs(Role.ADMIN)
def delete_user(path: RowPath) -> tuple[str, int]:
    """Take a user away. One who ever changed something stays listed, disabled, so that history keeps its names."""
    with write(engine()) as connection:
        accounts.remove_user(connection, accounts.user_row(connection, path.row_id), caller().author)
    return "", 204


@api.get("/api/users/me", responses={200: Me})
@needs(Role.VIEWER)
def get_me() -> Response:
    """Who is calling, and how they like the pages."""
    me = caller()
    if me.user_id is None:  # a token that is nobody's has nothing to choose
        chosen = {name: choices[0] for name, choices in accounts.PREFERENCES.items()}
    else:
        with read(engine()) as connection:
            chosen = accounts.preferences_of(accounts.user_row(connection, me.user_id))
    return jsonify({"id": me.user_id, "username": me.name, "role": me.role, "preferences": chosen})


@api.put("/api/users/me/preferences", responses={200: Preferences})
@needs(Role.VIEWER)
def change_preferences(body: PreferencesBody) -> Response:
    """Choose how the pages look; what is left out stays as it is."""
    user_id = _own_id()
    with write(engine()) as connection:
        return jsonify(accounts.change_preferences(connection, user_id, body.model_dump(exclude_none=True)))


def _is_refused(response: Response) -> bool:
    return response.status_code == 422


@api.put("/api/users/me/password", responses={204: None})
@limiter.limit(FAILED_LOGIN_LIMIT, key_func=lambda: f"password {caller().user_id}", deduct_when=_is_refused)
@needs(Role.VIEWER)
def change_own_password(body: OwnPasswordBody) -> tuple[str, int]:
    """A new password for oneself. All one's sessions end at once, except the one that asks."""
    user_id = _own_id()
    with read(engine()) as connection:
        name = accounts.user_row(connection, user_id).username
    if check_password(engine(), name, body.current_password) is None:
        raise Refused("The present password does not match.", fields={"current_password": "does not match"})
    with write(engine()) as connection:
        user = accounts.user_row(connection, user_id)
        accounts.set_password(connection, user, body.password, caller().author, keep_session=caller().token_id)
    return "", 204


def user_document(row: Row[Any], last_seen_ms: int | None) -> dict[str, Any]:
    """A user as the API shows it: never the password."""
    return {
        "id": row.id,
        "username": row.username,
        "role": row.role,
        "disabled": row.disabled,
        "created_at": iso(row.created_ms),
        "last_seen_at": iso(last_seen_ms),
    }


def _document(connection: Connection, user_id: int) -> dict[str, Any]:
    seen = accounts.last_seen(connection, [user_id])
    return user_document(accounts.user_row(connection, user_id), seen.get(user_id))


def _own_id() -> int:
    user_id = caller().user_id
    if user_id is None:
        raise Conflict("This token belongs to no user. Log in as one: POST /api/auth/login.")
    return user_id
