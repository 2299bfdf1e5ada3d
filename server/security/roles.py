"""Roles, and the one place that decides whether a caller may do something.

Each view says with `needs` which role it takes; `allow` holds a caller against it before the view runs. A view that
says nothing is for admins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from server.storage.audit import Author, Via
from shared.errors import Forbidden, Unauthorized

F = TypeVar("F", bound=Callable[..., Any])


class Role(StrEnum):
    """What a person or token may do; each one includes those before it. `BOT` stands apart."""

    VIEWER = "viewer"
    TRADER = "trader"
    ADMIN = "admin"


_RANK = {Role.VIEWER: 1, Role.TRADER: 2, Role.ADMIN: 3}


def lesser(one: str, other: str) -> Role:
    """The role that may do less."""
    return min(Role(one), Role(other), key=_RANK.__getitem__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a request. *bot_id* and *run_id* are set for a bot's token only; logout revokes the row *token_id*."""

    name: str
    role: str
    user_id: int | None = None
    bot_id: int | None = None
    run_id: str | None = None
    token_id: int | None = None
    by_cookie: bool = False
    via: Via = Via.API

    @property
    def author(self) -> Author:
        """Whom the audit log names for what this caller changes."""
        return Author(self.name, self.via)

    @property
    def owner(self) -> str:
        """Whose idempotency keys these are."""
        return f"user:{self.user_id}" if self.user_id is not None else f"token:{self.token_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a view takes: a role (None: anybody), and whether a bot may call it with its own token."""

    role: Role | None
    own_bot: bool = False


def needs(role: Role, *, own_bot: bool = False) -> Callable[[F], F]:
    """Mark a view with the role it takes."""
    return _mark(Need(role=role, own_bot=own_bot))


def public(view: F) -> F:
    """Mark a view that anybody may call."""
    return _mark(Need(role=None))(view)


def need_of(view: Callable[..., Any] | None) -> Need:
    """What was marked on *view*; admins only if nothing was."""
    found: Need = getattr(view, "_need", Need(role=Role.ADMIN))
    return found


def allow(caller: Caller | None, need: Need, bot_id: int | None) -> None:
    """Raises `Unauthorized` for nobody, `Forbidden` for a caller whose role is not enough."""
    if need.role is None:
        return
    if caller is None:
        raise Unauthorized("Log in, or send a token: Authorization: Bearer <token>.")
    if caller.bot_id is not None:
        if not need.own_bot or bot_id not in (None, caller.bot_id):
            raise Forbidden("A bot's token reads that bot's own config, control and model, and nothing else.")
        return
    if _RANK[Role(caller.role)] < _RANK[need.role]:
        raise Forbidden(f"This needs the role {need.role}; {caller.name} has the role {caller.role}.")


def _mark(need: Need) -> Callable[[F], F]:
    def mark(view: F) -> F:
        view._need = need  # type: ignore[attr-defined]
        return view

    return mark
