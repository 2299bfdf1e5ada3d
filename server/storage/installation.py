"""What an admin can set for the whole installation: name, range and default of each value.

Values lie in the table ``settings``; one that was never set has its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from server.storage.models import Setting
from shared.errors import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A whole number that can be set."""

    default: int
    minimum: int
    maximum: int
    unit: str
    help: str


SETTABLE = {
    "session_hours": Whole(
        default=12, minimum=1, maximum=720, unit="h", help="How long new logins and page sessions last."
    ),
    "password_min_length": Whole(
        default=10, minimum=8, maximum=64, unit="characters", help="Shorter new passwords are refused."
    ),
}


def values(connection: Connection) -> dict[str, int]:
    """Every settable value."""
    stored = {row.name: row.value for row in connection.execute(select(Setting).where(Setting.name.in_(SETTABLE)))}
    return {name: int(stored.get(name, kind.default)) for name, kind in SETTABLE.items()}


def change(connection: Connection, wanted: Mapping[str, int]) -> None:
    """Set some values. Raises `Refused` that names each one out of range."""
    wrong = {}
    for name, value in wanted.items():
        kind = SETTABLE[name]
        if not kind.minimum <= value <= kind.maximum:
            wrong[name] = f"must be from {kind.minimum} to {kind.maximum} {kind.unit}"
    if wrong:
        raise Refused(f"{len(wrong)} setting(s) cannot be accepted.", fields=wrong)
    for name, value in wanted.items():
        connection.execute(delete(Setting).where(Setting.name == name))
        connection.execute(insert(Setting).values(name=name, value=str(value)))


def session_lasts_s(connection: Connection) -> int:
    """How long a login or page session lasts."""
    return values(connection)["session_hours"] * 3600
