"""What people do with accounts: add, change, disable and remove users, set passwords and preferences; all audited.

At least one enabled admin always remains.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from server.security.roles import Role
from server.security.sessions import end_sessions
from server.security.users import create_user, hash_password
from server.storage import audit
from server.storage.audit import Author
from server.storage.installation import values
from server.storage.models import ApiToken, AuditEntry, Model, TradingConfigVersion, User
from server.storage.times import now_ms
from shared.errors import Conflict, NotFound, Refused

MAX_PASSWORD = 1000
_USERNAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RESERVED = {"me", "cli", "bot", "system", "supervisor", "flotilla", "telegram"}
_GUESSED_FIRST = ("password", "passwort", "qwerty", "qwertz", "letmein", "iloveyou", "welcome", "changeme", "123456")

THEMES = ("system", "light", "dark")
UP_DOWN = ("green-red", "blue-orange", "red-up")
PREFERENCES: Mapping[str, tuple[object, ...]] = {
    "theme": THEMES,
    "updown": UP_DOWN,
    "keyboard": (True, False),
    "time_zone": ("utc", "local"),
}
"""What a person can choose for the pages; the first of each is the default."""


def user_rows(connection: Connection, *, limit: int, before: int | None = None) -> Sequence[Row[Any]]:
    """Up to *limit* + 1 users, newest first, disabled ones too."""
    wanted = select(User)
    if before is not None:
        wanted = wanted.where(User.id < before)
    return connection.execute(wanted.order_by(User.id.desc()).limit(limit + 1)).all()


def user_row(connection: Connection, user_id: int) -> Row[Any]:
    """One user. Raises `NotFound`."""
    row = connection.execute(select(User).where(User.id == user_id)).first()
    if row is None:
        raise NotFound(f"There is no user {user_id}. GET /api/users lists those there are.")
    return row


def user_named(connection: Connection, username: str) -> Row[Any]:
    """One user by name. Raises `NotFound`."""
    row = connection.execute(select(User).where(User.username == username)).first()
    if row is None:
        raise NotFound(f"There is no user {username!r}.")
    return row


def last_seen(connection: Connection, user_ids: Sequence[int]) -> dict[int, int]:
    """When each user last used a session or token, in UTC ms."""
    newest = func.max(ApiToken.last_used_ms)
    seen = connection.execute(
        select(ApiToken.user_id, newest).where(ApiToken.user_id.in_(user_ids)).group_by(ApiToken.user_id)
    )
    return {user_id: ms for user_id, ms in seen if user_id is not None and ms is not None}


def add_user(connection: Connection, *, username: str, password: str, role: str, author: Author) -> int:
    """A new user; the id. Raises `Refused`, and `Conflict` for a name that is taken."""
    if not _USERNAME.fullmatch(username) or username in _RESERVED:
        reason = "1 to 64 small letters, digits, dots, dashes and underscores, a letter or digit first"
        raise Refused(
            "The name cannot be accepted.", fields={"username": f"{reason}; not {', '.join(sorted(_RESERVED))}"}
        )
    if connection.execute(select(User.id).where(User.username == username)).first():
        raise Conflict(f"There is a user {username!r} already, maybe disabled. Take another name, or enable that one.")
    _check_password(connection, username, password)
    user_id = create_user(connection, username=username, password=password, role=Role(role))
    audit.note(connection, author, "user.create", target=f"user {username}", after={"role": role})
    return user_id


def change_user(
    connection: Connection,
    user: Row[Any],
    author: Author,
    *,
    role: str | None = None,
    disabled: bool | None = None,
    password: str | None = None,
) -> None:
    """Change what is not None. A new password and disabling end the user's sessions at once.

    Raises `Refused`, and `Conflict` where the last enabled admin would be lost.
    """
    after = {"role": user.role if role is None else Role(role).value}
    after["disabled"] = user.disabled if disabled is None else disabled
    before = {"role": user.role, "disabled": user.disabled}
    if after != before:
        if after["role"] != Role.ADMIN or after["disabled"]:
            _require_another_admin(connection, user)
        connection.execute(update(User).where(User.id == user.id).values(**after))
        changed = [name for name in after if after[name] != before[name]]
        audit.note(
            connection,
            author,
            "user.change",
            target=f"user {user.username}",
            before={name: before[name] for name in changed},
            after={name: after[name] for name in changed},
        )
    if after["disabled"]:
        end_sessions(connection, user.id)
    if password is not None:
        set_password(connection, user, password, author)


def set_password(
    connection: Connection, user: Row[Any], password: str, author: Author, *, keep_session: int | None = None
) -> None:
    """A new password; all sessions of the user end at once, except *keep_session*. Raises `Refused`."""
    _check_password(connection, user.username, password)
    connection.execute(update(User).where(User.id == user.id).values(password_hash=hash_password(password)))
    end_sessions(connection, user.id, but=keep_session)
    audit.note(connection, author, "user.password", target=f"user {user.username}")


def remove_user(connection: Connection, user: Row[Any], author: Author) -> None:
    """Take a user away: the row too if nothing names them, else they stay disabled, and so does their name.

    Raises `Conflict` for the last enabled admin.
    """
    _require_another_admin(connection, user)
    tokens = ApiToken.user_id == user.id
    connection.execute(update(ApiToken).where(tokens, ApiToken.revoked_ms.is_(None)).values(revoked_ms=now_ms()))
    if _has_history(connection, user):
        connection.execute(update(User).where(User.id == user.id).values(disabled=True))
    else:
        connection.execute(delete(ApiToken).where(tokens))
        connection.execute(delete(User).where(User.id == user.id))
    audit.note(connection, author, "user.delete", target=f"user {user.username}", before={"role": user.role})


def change_preferences(connection: Connection, user_id: int, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what a person chose for the pages; all their preferences. Raises `Refused` for what cannot be chosen."""
    wrong = {}
    for name, value in wanted.items():
        if name not in PREFERENCES:
            wrong[name] = f"unknown; there are {', '.join(PREFERENCES)}"
        elif value not in PREFERENCES[name] or type(value) is not type(PREFERENCES[name][0]):
            wrong[name] = f"allowed: {', '.join(_shown(choice) for choice in PREFERENCES[name])}"
    if wrong:
        raise Refused(f"{len(wrong)} preference(s) cannot be accepted.", fields=wrong)
    chosen = preferences_of(user_row(connection, user_id)) | dict(wanted)
    connection.execute(update(User).where(User.id == user_id).values(preferences=chosen))
    return chosen


def preferences_of(user: Row[Any]) -> dict[str, Any]:
    """Everything a person can choose, with the default for what they did not."""
    chosen = user.preferences or {}
    return {name: chosen[name] if chosen.get(name) in choices else choices[0] for name, choices in PREFERENCES.items()}


def _shown(choice: object) -> str:
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


def _check_password(connection: Connection, username: str, password: str) -> None:
    least = values(connection)["password_min_length"]
    low = password.lower()
    reason = None
    if not least <= len(password) <= MAX_PASSWORD:
        reason = f"must have {least} to {MAX_PASSWORD} characters"
    elif len(set(password)) < 4:
        reason = "must have at least 4 different characters"
    elif username in low and len(password) < len(username) + least:
        reason = "must not be made of the user's name"
    elif any(low.startswith(word) and len(password) < len(word) + least for word in _GUESSED_FIRST):
        reason = "is among the first that are guessed"
    if reason:
        raise Refused("The password cannot be accepted.", fields={"password": reason})


def _require_another_admin(connection: Connection, user: Row[Any]) -> None:
    if user.role != Role.ADMIN or user.disabled:
        return
    others = select(User.id).where(User.role == Role.ADMIN.value, User.disabled.is_(False), User.id != user.id)
    if connection.execute(others.limit(1)).first() is None:
        raise Conflict(f"{user.username} is the last enabled admin. Make somebody else admin first.")


def _has_history(connection: Connection, user: Row[Any]) -> bool:
    name = user.username
    traces = (
        select(AuditEntry.id).where(AuditEntry.actor == name),
        select(TradingConfigVersion.id).where(TradingConfigVersion.author == name),
        select(Model.id).where(Model.uploaded_by == name),
        select(ApiToken.id).where(ApiToken.user_id == user.id, ApiToken.last_used_ms.is_not(None)),
    )
    return any(connection.execute(trace.limit(1)).first() is not None for trace in traces)
