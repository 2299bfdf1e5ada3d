"""Logging in and out, the sessions that makes, and long-lived API tokens."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, jsonify, request
from flask_limiter.util import get_remote_address
from sqlalchemy import Row, Select, select

from server.api.examples import SessionList, TokenList
from server.api.schemas import Login, LoginBody, NewToken, RowPath, TokenBody
from server.api.wire import PageQuery, blueprint, caller, engine, limiter, page_of
from server.security.auth import issue_login, revoke
from server.security.roles import Role, lesser, needs, public
from server.security.sessions import session_rows
from server.security.tokens import API, issue_api_token
from server.security.users import check_password
from server.storage import audit
from server.storage.engine import read, write
from server.storage.models import ApiToken, User
from server.storage.times import iso, now_ms
from shared.errors import Forbidden, NotFound, Unauthorized

api = blueprint("auth", "Logging out, sessions, and tokens for scripts")
login_api = blueprint("login", "Logging in", is_open=True)

LOGIN_LIMIT = "240/minute"
FAILED_LOGIN_LIMIT = "30/minute;200/hour"


def is_failed_login(response: Response) -> bool:
    """Whether a login was refused; only those count towards the tighter limit."""
    return response.status_code == 401


def login_key() -> str:
    """Whose failures are counted together."""
    return f"login {get_remote_address()}"


@login_api.post("/api/auth/login", responses={200: Login})
@limiter.limit(LOGIN_LIMIT, key_func=login_key)
@limiter.limit(FAILED_LOGIN_LIMIT, key_func=login_key, deduct_when=is_failed_login)
@public
def login(body: LoginBody) -> Response:
    """Exchange a name and a password for a token that lasts as long as the setting `session_hours` says."""
    user = check_password(engine(), body.username, body.password)
    if user is None:
        raise Unauthorized("Name and password do not match.")
    with write(engine()) as connection:
        vault = current_app.extensions["flotilla"].vault
        token, lasts_s = issue_login(connection, vault, user, request.user_agent.string)
    answer = {"access_token": token, "expires_in": lasts_s, "role": user.role, "token_type": "Bearer"}
    return jsonify(answer)


@api.post("/api/auth/logout", responses={204: None})
@needs(Role.VIEWER)
def logout() -> tuple[str, int]:
    """End the token that this request was made with."""
    token_id = caller().token_id
    if token_id is not None:
        with write(engine()) as connection:
            revoke(connection, token_id)
    return "", 204


@api.get("/api/tokens", responses={200: TokenList})
@needs(Role.VIEWER)
def list_tokens(query: PageQuery) -> Response:
    """Long-lived tokens that still work, newest first: one's own; an admin sees everybody's."""
    wanted = _visible_tokens()
    if query.before is not None:
        wanted = wanted.where(ApiToken.id < query.before)
    with read(engine()) as connection:
        rows = connection.execute(wanted.order_by(ApiToken.id.desc()).limit(query.limit + 1)).all()
    return jsonify(page_of(rows, query.limit, token_document))


@api.post("/api/tokens", responses={201: NewToken})
@needs(Role.VIEWER)
def create_token(body: TokenBody) -> tuple[Response, int]:
    """Make a long-lived token of one's own, with at most one's own role.

    Its secret is in this answer and can never be read again.
    """
    if lesser(body.role, caller().role) != body.role:
        raise Forbidden(f"A token can have at most the role of its owner, which is {caller().role}.")
    expires_ms = None if body.expires_in is None else now_ms() + body.expires_in * 1000
    with write(engine()) as connection:
        token_id, secret = issue_api_token(
            connection, name=body.name, role=body.role, user_id=caller().user_id, expires_ms=expires_ms
        )
        row = connection.execute(_tokens().where(ApiToken.id == token_id)).one()
        facts = {"name": row.name, "role": row.role}
        audit.note(connection, caller().author, "token.create", target=f"token {row.prefix}", after=facts)
    return jsonify(token_document(row) | {"token": secret}), 201


@api.delete("/api/tokens/<int(max=2147483647):row_id>", responses={204: None})
@needs(Role.VIEWER)
def delete_token(path: RowPath) -> tuple[str, int]:
    """End a token at once: one's own, or as an admin anybody's."""
    with write(engine()) as connection:
        row = connection.execute(_visible_tokens().where(ApiToken.id == path.row_id)).first()
        if row is None:
            raise NotFound(f"There is no token {path.row_id}.")
        revoke(connection, path.row_id)
        facts = {"name": row.name, "role": row.role, "owner": row.username}
        audit.note(connection, caller().author, "token.revoke", target=f"token {row.prefix}", before=facts)
    return "", 204


@api.get("/api/sessions", responses={200: SessionList})
@needs(Role.VIEWER)
def list_sessions(query: PageQuery) -> Response:
    """Logins and page sessions that still work, newest first: one's own; an admin sees everybody's."""
    with read(engine()) as connection:
        rows = session_rows(connection, _whose(), limit=query.limit, before=query.before)
    return jsonify(page_of(rows, query.limit, _session_document))


@api.delete("/api/sessions/<int(max=2147483647):row_id>", responses={204: None})
@needs(Role.VIEWER)
def delete_session(path: RowPath) -> tuple[str, int]:
    """End a login or page session at once: one's own, or as an admin anybody's."""
    with write(engine()) as connection:
        found = session_rows(connection, _whose(), limit=0, only=path.row_id)
        if not found:
            raise NotFound(f"There is no session {path.row_id}.")
        revoke(connection, path.row_id)
        target = f"session {path.row_id} of {found[0].username}"
        audit.note(connection, caller().author, "session.revoke", target=target)
    return "", 204


def _whose() -> int | None:
    """Whose rows the caller sees: None for everybody's. A token that is nobody's sees none."""
    return None if caller().role == Role.ADMIN else caller().user_id or 0


def _visible_tokens() -> Select[*tuple[Any, ...]]:
    wanted = (
        _tokens()
        .where(ApiToken.kind == API, ApiToken.revoked_ms.is_(None))
        .where(ApiToken.expires_ms.is_(None) | (ApiToken.expires_ms > now_ms()))
    )
    return wanted if _whose() is None else wanted.where(ApiToken.user_id == _whose())


def _tokens() -> Select[*tuple[Any, ...]]:
    return select(ApiToken, User.username).join(User, User.id == ApiToken.user_id, isouter=True)


def _session_document(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "username": row.username,
        "program": row.name,
        "is_this": row.id == caller().token_id,
        "created_at": iso(row.created_ms),
        "expires_at": iso(row.expires_ms),
        "last_used_at": iso(row.last_used_ms),
    }


def token_document(row: Row[Any]) -> dict[str, Any]:
    """A token as the API shows it: never the secret."""
    return {
        "id": row.id,
        "name": row.name,
        "owner": row.username,
        "role": row.role,
        "prefix": row.prefix,
        "created_at": iso(row.created_ms),
        "expires_at": iso(row.expires_ms),
        "last_used_at": iso(row.last_used_ms),
    }
