"""What somebody sent after their session had ended: carried through the sign-in page, and offered to be sent again.

The browser keeps it, signed, in the sign-in form; nothing is stored here and nothing is done with it until the person,
signed in again, has seen it and presses the button. Files and secrets are not carried.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import current_app, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from server.api.wire import check_text
from shared.errors import FlotillaError

MAX_BYTES = 100_000
_MAX_FIELDS = 200
_LASTS_S = 12 * 3600
_LEFT_OUT = ("csrf_token",)
_SECRET = ("password", "secret", "token")
_QUIET = ("key", "next", "asked", "go", "version")


@dataclass(frozen=True, slots=True)
class Resumed:
    """A form as it was sent: *path* it goes to, *fields* in their order, and whether something was *left_out*."""

    path: str
    fields: list[tuple[str, str]]
    left_out: bool

    @property
    def shown(self) -> list[tuple[str, str]]:
        """What a person typed or chose; the rest is the form's own."""
        return [(name, value) for name, value in self.fields if name not in _QUIET and value]


def pack() -> str | None:
    """This request's form, signed; None if another site sent it, if it is too large, or holds nothing."""
    if request.method != "POST" or not _is_own() or (request.content_length or 0) > MAX_BYTES:
        return None
    fields = [(n, v) for n, v in request.form.items(multi=True) if n not in _LEFT_OUT]
    kept = [(n, v) for n, v in fields if not any(word in n for word in _SECRET)]
    try:
        check_text(dict(kept))
    except FlotillaError:
        return None
    if len(fields) > _MAX_FIELDS:
        return None
    left_out = len(kept) < len(fields) or any(file.filename for file in request.files.values())
    return _signer().dumps([request.path, kept, left_out])


def unpack(text: str | None) -> Resumed | None:
    """What `pack` made; None if it is not ours or too old."""
    try:
        path, fields, left_out = _signer().loads(text or "", max_age=_LASTS_S)
    except BadSignature:
        return None
    return Resumed(path, [(name, value) for name, value in fields], left_out)


def _is_own() -> bool:
    """Whether a page of this site sent the request; browsers name the origin of every POST."""
    return urlsplit(request.headers.get("Origin", "")).netloc == request.host


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_app.config["SECRET_KEY"], salt="typed before signing in")
