"""Bodies about users, their preferences, and the installation's settings, with an example of each for OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from server.api.schemas import Given, Taken, list_of
from server.api.wire import documented
from server.security.accounts import MAX_PASSWORD
from server.storage.installation import SETTABLE

RoleName = Literal["viewer", "trader", "admin"]
Password = Annotated[str, Field(max_length=MAX_PASSWORD, json_schema_extra={"format": "password"})]


class NewUser(Taken):
    username: str = Field(max_length=200, examples=["maria"])
    password: Password = Field(description="See the setting `password_min_length`.", examples=["three blue boats"])
    role: RoleName = Field(examples=["trader"])


class UserChanges(Taken):
    role: RoleName | None = Field(None, examples=["viewer"])
    disabled: bool | None = Field(None, strict=True, examples=[False])
    password: Password | None = Field(None, examples=["three blue boats"])


class User(Given):
    id: int
    username: str
    role: str
    disabled: bool
    created_at: str
    last_seen_at: str | None = Field(description="When they last used a session or token.")


class Preferences(Given):
    theme: Literal["system", "light", "dark"]
    updown: Literal["green-red", "blue-orange", "red-up"] = Field(description="Colours of gain and loss.")
    keyboard: bool = Field(description="Whether the pages take keys.")
    time_zone: Literal["utc", "local"]


class PreferencesBody(Taken):
    theme: Literal["system", "light", "dark"] | None = Field(None, examples=["dark"])
    updown: Literal["green-red", "blue-orange", "red-up"] | None = Field(None, examples=["green-red"])
    keyboard: bool | None = Field(None, strict=True, examples=[True])
    time_zone: Literal["utc", "local"] | None = Field(None, examples=["utc"])


class Me(Given):
    id: int | None = Field(description="Empty for a token that is nobody's.")
    username: str
    role: str
    preferences: Preferences


class OwnPasswordBody(Taken):
    current_password: Password = Field(examples=["three blue boats"])
    password: Password = Field(examples=["four green ships"])


def _setting(name: str) -> Any:
    kind = SETTABLE[name]
    about = f"{kind.help} In {kind.unit}."
    return Field(None, ge=kind.minimum, le=kind.maximum, strict=True, description=about, examples=[kind.default])


class SettingsBody(Taken):
    session_hours: int | None = _setting("session_hours")
    password_min_length: int | None = _setting("password_min_length")


class Settings(Given):
    session_hours: int
    password_min_length: int


_AT = "2026-11-20T14:32:08.000Z"
_USER: dict[str, Any] = {
    "id": 2,
    "username": "maria",
    "role": "trader",
    "disabled": False,
    "created_at": _AT,
    "last_seen_at": _AT,
}
_PREFERENCES: dict[str, Any] = {"theme": "dark", "updown": "green-red", "keyboard": True, "time_zone": "utc"}
_EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    NewUser: {"username": "maria", "password": "three blue boats", "role": "trader"},
    UserChanges: {"role": "viewer"},
    Me: {"id": 2, "username": "maria", "role": "trader", "preferences": _PREFERENCES},
    Preferences: _PREFERENCES,
    PreferencesBody: {"theme": "dark"},
    OwnPasswordBody: {"current_password": "three blue boats", "password": "four green ships"},
    Settings: {name: kind.default for name, kind in SETTABLE.items()},
    SettingsBody: {"session_hours": 8},
}
for _kind, _example in _EXAMPLES.items():
    documented(_kind, _example)

UserList = list_of(User, _USER)
