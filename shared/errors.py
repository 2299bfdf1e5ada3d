"""The errors raised on purpose, each with a code and the HTTP status it becomes at the API's edge."""

from __future__ import annotations

from collections.abc import Mapping


class FlotillaError(Exception):
    """Something a person can act on. Anything else that escapes is a bug."""

    code = "internal"
    http_status = 500

    def __init__(self, message: str, *, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields: dict[str, str] = dict(fields or {})


class Refused(FlotillaError):
    """Input that cannot be accepted; *fields* maps each path to its reason and remedy."""

    code = "invalid"
    http_status = 422


class NotFound(FlotillaError):
    """The thing asked for does not exist."""

    code = "not_found"
    http_status = 404


class Conflict(FlotillaError):
    """The request contradicts the present state; the message says which state would allow it."""

    code = "conflict"
    http_status = 409


class Unauthorized(FlotillaError):
    """No credentials, or wrong ones."""

    code = "unauthorized"
    http_status = 401


class Forbidden(FlotillaError):
    """Known caller, missing right."""

    code = "forbidden"
    http_status = 403


class PreconditionFailed(FlotillaError):
    """The version the caller edited is no longer the newest."""

    code = "stale_version"
    http_status = 412
