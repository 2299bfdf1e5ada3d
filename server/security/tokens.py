"""Opaque tokens: random secrets of which only a prefix and a SHA-256 are kept. All of them can be revoked.

Four kinds of rows share the table: ``api`` (long-lived, for scripts and the local tools), ``bot`` (one run's own), and
those of `server.security.sessions`: ``login`` (a JWT, known by its jti) and ``page`` (a browser's session).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.exc import DBAPIError

from server.security.roles import lesser
from server.security.secrets import write_private_file
from server.settings import Settings
from server.storage.engine import write_if_free
from server.storage.models import ApiToken, User
from server.storage.times import now_ms

log = structlog.get_logger(__name__)

API, BOT, LOGIN, PAGE = "api", "bot", "login", "page"
BOT_ROLE = "bot"
_RUN = "run "
_PREFIX_LENGTH = 12
_USE_NOTED_EVERY_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundToken:
    """A valid token's row. *username* is whose it is; tokens made at first start belong to nobody.

    *role* is at most its user's present one: who loses a role loses it in all tokens.
    """

    id: int
    kind: str
    name: str
    role: str
    user_id: int | None
    username: str | None
    bot_id: int | None
    last_used_ms: int | None

    @property
    def run_id(self) -> str | None:
        """Whose own it is; None for all but a run's."""
        return self.name.removeprefix(_RUN) if self.kind == BOT else None


def issue_api_token(
    connection: Connection, *, name: str, role: str, user_id: int | None = None, expires_ms: int | None = None
) -> tuple[int, str]:
    """A new long-lived token: its row's id, and the secret, which nobody can read again."""
    return _issue(connection, kind=API, name=name, role=role, user_id=user_id, bot_id=None, expires_ms=expires_ms)


def issue_bot_token(connection: Connection, bot_id: int, run_id: str, *, keep: Collection[str] = ()) -> str:
    """A token for one run of one bot; those of its earlier runs stop working, except for the runs in *keep*."""
    revoke_bot_tokens(connection, bot_id, keep=keep)
    issued = _issue(
        connection, kind=BOT, name=_name(run_id), role=BOT_ROLE, user_id=None, bot_id=bot_id, expires_ms=None
    )
    return issued[1]


def revoke_bot_tokens(connection: Connection, bot_id: int, *, keep: Collection[str] = ()) -> None:
    """End all tokens of a bot's runs, except for the runs in *keep*."""
    mine = (ApiToken.kind == BOT) & (ApiToken.bot_id == bot_id) & ApiToken.revoked_ms.is_(None)
    if keep:
        mine &= ApiToken.name.not_in([_name(run_id) for run_id in keep])
    connection.execute(update(ApiToken).where(mine).values(revoked_ms=now_ms()))


def _name(run_id: str) -> str:
    return f"{_RUN}{run_id}"


def find_token(connection: Connection, secret: str) -> FoundToken | None:
    """The token with this *secret*, unless it is unknown, revoked, expired, or its user disabled."""
    if not secret.startswith("fl"):
        return None
    rows = connection.execute(
        select(ApiToken, User.username, User.disabled, User.role.label("user_role"))
        .join(User, User.id == ApiToken.user_id, isouter=True)
        .where(ApiToken.prefix == secret[:_PREFIX_LENGTH], ApiToken.kind.in_([API, BOT]))
    )
    for row in rows:
        expired = row.expires_ms is not None and row.expires_ms <= now_ms()
        if hmac.compare_digest(row.sha256, _digest(secret)) and not (expired or row.revoked_ms or row.disabled):
            return FoundToken(
                id=row.id,
                kind=row.kind,
                name=row.name,
                role=row.role if row.user_role is None else lesser(row.role, row.user_role),
                user_id=row.user_id,
                username=row.username,
                bot_id=row.bot_id,
                last_used_ms=row.last_used_ms,
            )
    return None


def note_use(engine: Engine, token_id: int, last_used_ms: int | None) -> None:
    """Remember when a token or session was last used, to the minute, if the database can be written right now."""
    if now_ms() - (last_used_ms or 0) <= _USE_NOTED_EVERY_MS:
        return
    try:
        with write_if_free(engine) as connection:
            connection.execute(update(ApiToken).where(ApiToken.id == token_id).values(last_used_ms=now_ms()))
    except DBAPIError as error:
        log.debug("token_use_not_noted", token_id=token_id, error=str(error.orig))


def ensure_cli_token(connection: Connection, settings: Settings) -> None:
    """Write the local tools' admin token if its file is missing, or holds one that no longer works."""
    try:
        present = settings.cli_token_file.read_text().strip()
    except FileNotFoundError:
        present = ""
    if present and find_token(connection, present) is not None:
        return
    settings.cli_token_file.unlink(missing_ok=True)
    _, secret = issue_api_token(connection, name="cli", role="admin")
    write_private_file(settings.cli_token_file, secret + "\n")


def _issue(
    connection: Connection,
    *,
    kind: str,
    name: str,
    role: str,
    user_id: int | None,
    bot_id: int | None,
    expires_ms: int | None,
) -> tuple[int, str]:
    secret = f"fl{kind[0]}_{secrets.token_urlsafe(32)}"
    result = connection.execute(
        insert(ApiToken).values(
            kind=kind,
            name=name,
            prefix=secret[:_PREFIX_LENGTH],
            sha256=_digest(secret),
            role=role,
            user_id=user_id,
            bot_id=bot_id,
            created_ms=now_ms(),
            expires_ms=expires_ms,
        )
    )
    return result.inserted_primary_key[0], secret  # type: ignore[index]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
