"""Page sessions and logins as rows, so that they end on the server whatever becomes of copied cookies.

A page's cookie holds nothing but the session's random key, signed; the row says whose it is and until when it works.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from typing import Any

from flask_login import UserMixin
from sqlalchemy import Connection, Engine, Row, Select, delete, insert, or_, select, update

from server.security.roles import lesser
from server.security.tokens import LOGIN, PAGE
from server.storage.engine import read
from server.storage.installation import session_lasts_s
from server.storage.models import ApiToken, User
from server.storage.times import DAY_MS, now_ms
from shared.errors import Unauthorized

_KINDS = (LOGIN, PAGE)
_ENDED_KEPT_MS = 30 * DAY_MS
_MAX_NAME = 200


class PageUser(UserMixin):
    """A person with a page open, as Flask-Login wants it: *row* is the user's, the rest the session's."""

    def __init__(self, row: Row[Any], key: str, session_id: int, last_used_ms: int | None = None) -> None:
        self.row = row
        self.session_id = session_id
        self.last_used_ms = last_used_ms
        self._key = key

    def get_id(self) -> str:
        """What the cookie holds."""
        return self._key


def open_session(connection: Connection, user: Row[Any], browser: str) -> PageUser:
    """A new page session of *user*; *browser* is how it names itself."""
    row = add_row(connection, PAGE, user, browser)
    return PageUser(user, row.prefix, row.id)


def add_row(connection: Connection, kind: str, user: Row[Any], name: str) -> Row[Any]:
    """A new session of *user*, its key in ``prefix``. Rows of sessions long ended are cleared away.

    Raises `Unauthorized` if the password that *user* came with was changed meanwhile.
    """
    known = connection.execute(select(User.password_hash).where(User.id == user.id)).scalar_one_or_none()
    if known != user.password_hash:
        raise Unauthorized("The password was changed just now. Log in with the new one.")
    now = now_ms()
    long_ended = ApiToken.kind.in_(_KINDS) & (ApiToken.expires_ms < now - _ENDED_KEPT_MS)
    connection.execute(delete(ApiToken).where(long_ended))
    values = {
        "kind": kind,
        "name": name[:_MAX_NAME] or kind,
        "prefix": secrets.token_urlsafe(16),
        "sha256": "",
        "role": user.role,
        "user_id": user.id,
        "created_ms": now,
        "expires_ms": now + session_lasts_s(connection) * 1000,
    }
    made: int = connection.execute(insert(ApiToken).values(**values)).inserted_primary_key[0]  # type: ignore[index]
    return connection.execute(select(ApiToken).where(ApiToken.id == made)).one()


def load_page_user(engine: Engine, key: str) -> PageUser | None:
    """The user behind a session cookie, unless the session ended or the user is disabled."""
    with read(engine) as connection:
        session = find_session(connection, PAGE, key)
        if session is None:
            return None
        user = connection.execute(select(User).where(User.id == session.user_id)).one()
    return PageUser(user, key, session.id, session.last_used_ms)


def find_session(connection: Connection, kind: str, key: str) -> Row[Any] | None:
    """The session with this *key* if it still works, with its user's *username* and present *user_role*."""
    mine = _living().where(ApiToken.kind == kind, ApiToken.prefix == key, User.disabled.is_(False))
    return connection.execute(mine).first()


def session_rows(
    connection: Connection,
    user_id: int | None,
    *,
    limit: int,
    before: int | None = None,
    only: int | None = None,
) -> Sequence[Row[Any]]:
    """Up to *limit* + 1 sessions that still work, newest first; everybody's if *user_id* is None, or just *only*."""
    wanted = _living().where(ApiToken.kind.in_(_KINDS))
    if user_id is not None:
        wanted = wanted.where(ApiToken.user_id == user_id)
    if before is not None:
        wanted = wanted.where(ApiToken.id < before)
    if only is not None:
        wanted = wanted.where(ApiToken.id == only)
    return connection.execute(wanted.order_by(ApiToken.id.desc()).limit(limit + 1)).all()


def end_sessions(connection: Connection, user_id: int, *, but: int | None = None) -> None:
    """End a user's page sessions and logins at once, except *but* (a row's id)."""
    mine = ApiToken.kind.in_(_KINDS) & (ApiToken.user_id == user_id) & ApiToken.revoked_ms.is_(None)
    if but is not None:
        mine &= ApiToken.id != but
    connection.execute(update(ApiToken).where(mine).values(revoked_ms=now_ms()))


def _living() -> Select[*tuple[Any, ...]]:
    return (
        select(ApiToken, User.username, User.role.label("user_role"))
        .join(User, User.id == ApiToken.user_id)
        .where(ApiToken.revoked_ms.is_(None), ApiToken.expires_ms > now_ms())
    )


def still_allowed(connection: Connection, token_ids: Collection[int]) -> dict[int, str]:
    """Those of *token_ids*, of whatever kind, that still work, each with its present role."""
    rows = connection.execute(
        select(ApiToken.id, ApiToken.kind, ApiToken.role, User.role.label("user_role"))
        .join(User, User.id == ApiToken.user_id, isouter=True)
        .where(
            ApiToken.id.in_(token_ids),
            ApiToken.revoked_ms.is_(None),
            or_(ApiToken.expires_ms.is_(None), ApiToken.expires_ms > now_ms()),
            or_(ApiToken.user_id.is_(None), User.disabled.is_(False)),
        )
    )
    return {row.id: _present_role(row.kind, row.role, row.user_role) for row in rows}


def _present_role(kind: str, role: str, user_role: str | None) -> str:
    if user_role is None:
        return role
    return user_role if kind in _KINDS else lesser(role, user_role)
