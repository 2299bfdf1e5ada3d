"""Who makes a request: a bearer token (opaque, or the JWT of a login) or a page's session cookie.

Where an Authorization header is sent, the cookie is not looked at. A JWT is signed with a key derived from the
installation's; like a page session it has a row, so that logging out ends it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jwt
from flask import Request, session
from flask_login import current_user
from sqlalchemy import Connection, Engine, Row, update

from server.security.roles import Caller
from server.security.secrets import Vault
from server.security.sessions import add_row, find_session
from server.security.tokens import API, LOGIN, find_token, note_use
from server.storage.audit import Via
from server.storage.engine import read
from server.storage.models import ApiToken
from server.storage.times import now_ms
from shared.errors import Unauthorized

VIA_HEADER = "X-Flotilla-Via"
"""With ``cli`` the audit log says that a change came from the command line; the right to make it is the token's."""
_ALGORITHM = "HS256"
_PURPOSE = "login tokens"


def identify(request: Request, engine: Engine, vault: Vault) -> Caller | None:
    """The caller, or None if the request claims nothing. Raises `Unauthorized` for a claim that does not hold."""
    header = request.headers.get("Authorization")
    if header is not None:
        bearer = _bearer(header, engine, vault)
        is_cli = request.headers.get(VIA_HEADER, "").strip().lower() == Via.CLI
        return replace(bearer, via=Via.CLI) if is_cli else bearer
    if session and current_user.is_authenticated:
        row, session_id = current_user.row, current_user.session_id
        note_use(engine, session_id, current_user.last_used_ms)
        return Caller(
            name=row.username, role=row.role, user_id=row.id, token_id=session_id, by_cookie=True, via=Via.WEB
        )
    return None


def issue_login(connection: Connection, vault: Vault, user: Row[Any], program: str) -> tuple[str, int]:
    """A JWT for *user* and how many seconds it lasts; *program* is how the caller names itself."""
    row = add_row(connection, LOGIN, user, program)
    claims = {"sub": str(user.id), "jti": row.prefix, "role": user.role, "exp": row.expires_ms // 1000}
    lasts_s = (row.expires_ms - row.created_ms) // 1000
    return jwt.encode(claims, vault.derived(_PURPOSE)[0], algorithm=_ALGORITHM), lasts_s


def revoke(connection: Connection, token_id: int) -> None:
    """End a token, of whatever kind."""
    connection.execute(update(ApiToken).where(ApiToken.id == token_id).values(revoked_ms=now_ms()))


def _bearer(header: str, engine: Engine, vault: Vault) -> Caller:
    scheme, _, secret = header.strip().partition(" ")
    secret = secret.strip()
    if scheme.lower() == "bearer" and secret:
        caller = _opaque(secret, engine) if "." not in secret else _login(secret, engine, vault)
        if caller is not None:
            return caller
    raise Unauthorized("The token is unknown, expired or revoked. Log in again: POST /api/auth/login.")


def _opaque(secret: str, engine: Engine) -> Caller | None:
    with read(engine) as connection:
        token = find_token(connection, secret)
    if token is None:
        return None
    if token.kind == API:
        note_use(engine, token.id, token.last_used_ms)
    return Caller(
        name=token.username or token.name,
        role=token.role,
        user_id=token.user_id,
        bot_id=token.bot_id,
        run_id=token.run_id,
        token_id=token.id,
    )


def _login(encoded: str, engine: Engine, vault: Vault) -> Caller | None:
    claims = _claims(encoded, vault)
    if claims is None:
        return None
    with read(engine) as connection:
        row = find_session(connection, LOGIN, str(claims.get("jti")))
    if row is None:
        return None
    note_use(engine, row.id, row.last_used_ms)
    return Caller(name=row.username, role=row.user_role, user_id=row.user_id, token_id=row.id)


def _claims(encoded: str, vault: Vault) -> dict[str, Any] | None:
    for key in vault.derived(_PURPOSE):
        try:
            claims: dict[str, Any] = jwt.decode(
                encoded, key, algorithms=[_ALGORITHM], options={"require": ["exp", "jti", "sub"]}
            )
        except (jwt.InvalidTokenError, ValueError):
            continue
        return claims
    return None
