"""People: their passwords (argon2), and the first admin of a new installation."""

from __future__ import annotations

import secrets
from functools import cache
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Engine, Row, insert, select, update

from server.security.tokens import ensure_cli_token
from server.settings import Settings
from server.storage.engine import make_engine, migrate, read, write
from server.storage.models import User
from server.storage.times import now_ms

FIRST_ADMIN = "admin"
_HASHER = PasswordHasher()


def first_start(settings: Settings) -> str | None:
    """Migrate, create the first admin and the local tools' token where they are missing.

    The generated password if one was needed: the caller shows it once, nobody can read it later.
    """
    migrate(settings)
    engine = make_engine(settings.database_url)
    try:
        with write(engine) as connection:
            password = ensure_admin(connection, settings)
            ensure_cli_token(connection, settings)
    finally:
        engine.dispose()
    return password


def ensure_admin(connection: Connection, settings: Settings) -> str | None:
    """Create the first admin unless there is any user. Returns the password if it had to be generated."""
    if connection.execute(select(User.id).limit(1)).first() is not None:
        return None
    password = settings.admin_password or secrets.token_urlsafe(12)
    create_user(connection, username=FIRST_ADMIN, password=password, role="admin")
    return None if settings.admin_password else password


def is_password_of_admin(settings: Settings) -> bool:
    """Whether the first admin logs in with what FLOTILLA_ADMIN_PASSWORD says; it counts at the first start only."""
    engine = make_engine(settings.database_url)
    try:
        return check_password(engine, FIRST_ADMIN, settings.admin_password or "") is not None
    finally:
        engine.dispose()


def create_user(connection: Connection, *, username: str, password: str, role: str) -> int:
    """Add a user; the id of the row."""
    result = connection.execute(
        insert(User).values(username=username, password_hash=hash_password(password), role=role, created_ms=now_ms())
    )
    return result.inserted_primary_key[0]  # type: ignore[index]


def hash_password(password: str) -> str:
    """What is kept of a password."""
    return _HASHER.hash(password)


def check_password(engine: Engine, username: str, password: str) -> Row[Any] | None:
    """The user whose name and password these are; None if they do not match or the user is disabled."""
    with read(engine) as connection:
        user = connection.execute(select(User).where(User.username == username)).first()
    try:
        _HASHER.verify(user.password_hash if user else _nobody(), password)
    except (VerificationError, InvalidHashError, UnicodeError):
        return None
    if user is None or user.disabled:
        return None
    if _HASHER.check_needs_rehash(user.password_hash):
        with write(engine) as connection:
            fresh, stale = hash_password(password), User.password_hash == user.password_hash
            if connection.execute(update(User).where(User.id == user.id, stale).values(password_hash=fresh)).rowcount:
                user = connection.execute(select(User).where(User.id == user.id)).one()
    return user


@cache
def _nobody() -> str:
    # Checked when the name is unknown, so that an answer's delay does not tell which names exist.
    return _HASHER.hash(secrets.token_urlsafe(16))
