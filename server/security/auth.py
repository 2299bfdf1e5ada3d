"""Who makes a request: a bearer token (opaque, or the JWT of a login) or a page's session cookie.

Where an Authorization header is sent, the cookie is not looked at. A JWT is signed with a key derived from the
installation's, and has a row, so that logging out ends it.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import jwt
from flask import Request, session
from flask_login import UserMixin, current_user
from sqlalchemy import Connection, Engine, Row, insert, select, update

from server.security.roles import Caller
from server.security.secrets import Vault
from server.security.tokens import LOGIN, find_token, note_use
from server.storage.engine import read
from server.storage.models import ApiToken, User
from server.storage.times import now_ms
from shared.errors import Unauthorized

LOGIN_LASTS_S = 12 * 3600
_ALGORITHM = "HS256"
_PURPOSE = "login tokens"


class PageUser(UserMixin):
    """A person with a page open, as Flask-Login wants it."""

    def __init__(self, row: Row[Any]) -> None:
        self.row = row

    def get_id(self) -> str:
        """The user and a part of the password's hash: a changed password ends the sessions."""
        return f"{self.row.id}:{_fingerprint(self.row)}"


def load_page_user(engine: Engine, page_id: str) -> PageUser | None:
    """The user behind a session cookie, unless disabled, or the password was changed since."""
    user_id, _, fingerprint = page_id.partition(":")
    with read(engine) as connection:
        row = connection.execute(select(User).where(User.id == int(user_id), User.disabled.is_(False))).first()
    if row is None or not secrets.compare_digest(fingerprint, _fingerprint(row)):
        return None
    return PageUser(row)


def identify(request: Request, engine: Engine, vault: Vault) -> Caller | None:
    """The caller, or None if the request claims nothing. Raises `Unauthorized` for a claim that does not hold."""
    header = request.headers.get("Authorization")
    if header is not None:
        return _bearer(header, engine, vault)
    if session and current_user.is_authenticated:
        row = current_user.row
        return Caller(name=row.username, role=row.role, user_id=row.id, by_cookie=True)
    return None


def issue_login(connection: Connection, vault: Vault, user: Row[Any]) -> tuple[str, int]:
    """A JWT for *user* and when it expires, in UTC ms."""
    jti = secrets.token_urlsafe(16)
    expires_ms = now_ms() + LOGIN_LASTS_S * 1000
    connection.execute(
        insert(ApiToken).values(
            kind=LOGIN,
            name="login",
            prefix=jti,
            sha256="",
            role=user.role,
            user_id=user.id,
            created_ms=now_ms(),
            expires_ms=expires_ms,
        )
    )
    claims = {"sub": str(user.id), "jti": jti, "role": user.role, "exp": expires_ms // 1000}
    return jwt.encode(claims, vault.derived(_PURPOSE)[0], algorithm=_ALGORITHM), expires_ms


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
    note_use(engine, token)
    return Caller(
        name=token.username or token.name,
        role=token.role,
        user_id=token.user_id,
        bot_id=token.bot_id,
        token_id=token.id,
    )


def _login(encoded: str, engine: Engine, vault: Vault) -> Caller | None:
    claims = _claims(encoded, vault)
    if claims is None:
        return None
    with read(engine) as connection:
        row = connection.execute(
            select(ApiToken.id, User.username, User.role, ApiToken.user_id)
            .join(User, User.id == ApiToken.user_id)
            .where(
                ApiToken.kind == LOGIN,
                ApiToken.prefix == str(claims.get("jti")),
                ApiToken.revoked_ms.is_(None),
                User.disabled.is_(False),
            )
        ).first()
    return row and Caller(name=row.username, role=row.role, user_id=row.user_id, token_id=row.id)


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


def _fingerprint(user: Row[Any]) -> str:
    return hashlib.sha256(user.password_hash.encode()).hexdigest()[:16]
