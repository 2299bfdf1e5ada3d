"""What all views share: strict JSON, the error shape, pages of lists, ETags, idempotency keys, and who is calling."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import structlog
from flask import Flask, Request, Response, current_app, g, jsonify, make_response, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection, Engine, delete, insert, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException

from server.security.roles import Caller
from server.storage.engine import write
from server.storage.models import IdempotencyKey
from server.storage.times import DAY_MS, now_ms
from shared.errors import Conflict, FlotillaError, PreconditionFailed, Refused

log = structlog.get_logger(__name__)
limiter = Limiter(get_remote_address, storage_uri="memory://", strategy="fixed-window")

MAX_JSON_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_ID = 2**31 - 1
M = TypeVar("M", bound=BaseModel)
_NOT_ASKED = ("csrf_token", "key")
_UNPRINTABLE = re.compile("[\x00\ud800-\udfff]")


class BadJson(FlotillaError):
    """A body that is not JSON."""

    code = "bad_json"
    http_status = 400


class WrongContentType(FlotillaError):
    """A body of another type than the route takes."""

    code = "unsupported_media_type"
    http_status = 415


class StrictRequest(Request):
    """A request whose JSON body is an object of sane depth, free of NaN and of text that no database keeps."""

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        if not self.is_json:
            raise WrongContentType("Send the body as JSON, with the header Content-Type: application/json.")
        try:
            document = json.loads(self.get_data(cache=cache), parse_constant=_refuse_constant)
        except RecursionError:
            raise BadJson(f"The body is nested deeper than {MAX_DEPTH} levels.") from None
        except ValueError as error:
            raise BadJson(f"The body is not JSON: {error}.") from None
        if not isinstance(document, dict):
            raise Refused("The body must be a JSON object.")
        check_text(document)
        return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def check_text(value: Any, path: str = "", depth: int = 0) -> None:
    """Raises for text with NUL or half a surrogate pair anywhere in *value*, and for too many levels."""
    if depth > MAX_DEPTH:
        raise BadJson(f"The body is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, str):
        if _UNPRINTABLE.search(value):
            field = path or "body"
            raise Refused("The body holds text that cannot be stored.", fields={field: "holds NUL or broken Unicode"})
    elif isinstance(value, dict):
        for key, inner in value.items():
            check_text(key, path, depth + 1)
            check_text(inner, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            check_text(inner, path, depth + 1)


def check_query(query: MultiDict[str, str]) -> None:
    """Raises `Refused` for a NUL in a query, which not every database takes."""
    wrong = {
        name.replace("\x00", "?"): "holds NUL" for name, value in query.items(multi=True) if "\x00" in name + value
    }
    if wrong:
        raise Refused("The query holds text that cannot be looked for.", fields=wrong)


# Errors


class ErrorDetail(BaseModel):
    code: str
    message: str
    fields: dict[str, str]


class ErrorBody(BaseModel):
    """What every refusal looks like; *fields* names what is wrong with each field."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"error": {"code": "not_found", "message": "There is no bot 99.", "fields": {}}},
        }
    )
    error: ErrorDetail


def error_response(
    status: int, code: str, message: str, fields: Mapping[str, str] | None = None, **headers: str
) -> Response:
    """The error shape with *status*; header names come with underscores."""
    response = jsonify({"error": {"code": code, "message": message, "fields": dict(fields or {})}})
    response.status_code = status
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


def register_errors(app: Flask, shown: Callable[[Response], Response]) -> None:
    """Turn everything that is raised into the error shape, and that into what *shown* makes of it; nothing of the
    inside shows."""

    def answer(kind: type[Exception], handle: Callable[[Any], Response]) -> None:
        app.register_error_handler(kind, lambda error: shown(handle(error)))

    answer(FlotillaError, _on_flotilla_error)
    answer(HTTPException, _on_http_error)
    answer(OperationalError, _on_database_error)
    answer(PoolTimeout, _on_database_error)
    answer(Exception, _on_bug)


def refuse_invalid(error: ValidationError) -> NoReturn:
    """Raise `Refused` for what pydantic found wrong with a body, query or path."""
    fields = {".".join(map(str, e["loc"])) or "body": _reason(e) for e in error.errors(include_url=False)}
    raise Refused(f"{len(fields)} field(s) cannot be accepted.", fields=fields) from None


def _reason(error: Any) -> str:
    if error["type"] == "missing":
        return "is required"
    if error["type"] == "extra_forbidden":
        return "unknown field"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    message: str = error["msg"]
    return message[0].lower() + message[1:]


def _on_flotilla_error(error: FlotillaError) -> Response:
    if error.http_status >= 500:
        return _on_bug(error)
    headers = {"WWW_Authenticate": "Bearer"} if error.http_status == 401 else {}
    return error_response(error.http_status, error.code, error.message, error.fields, **headers)


_HTTP_MESSAGES = {
    404: "There is nothing at this address. See /api/docs.",
    405: "This address does not take that method. See /api/docs.",
    413: "The request is too large.",
    429: "Too many requests. Wait a minute and try again.",
}


def _on_http_error(error: HTTPException) -> Response:
    if error.response is not None and error.code is None:
        return make_response(error.response)
    status = error.code or 500
    if status < 400:
        return make_response(error.get_response())
    code = "csrf" if type(error).__name__ == "CSRFError" else error.name.lower().replace(" ", "_")
    status = 403 if code == "csrf" else status
    message = _HTTP_MESSAGES.get(status) or str(error.description or error.name)
    response = error_response(status, code, message)
    for name, value in error.get_headers():
        if name in {"Allow", "Retry-After"}:
            response.headers[name] = value
    if status == 429:
        response.headers.setdefault("Retry-After", "60")
    return response


def _on_database_error(error: Exception) -> Response:
    log.warning("database_unavailable", path=request.path, error=str(error))
    return error_response(503, "busy", "The database is busy. Try again in a second.", Retry_After="1")


def _on_bug(error: Exception) -> Response:
    correlation_id = secrets.token_hex(6)
    log.error("request_failed", correlation_id=correlation_id, method=request.method, path=request.path, exc_info=error)
    return error_response(500, "internal", f"Something went wrong here. The server's log has it as {correlation_id}.")


def optional_body(kind: type[M]) -> M:
    """The JSON body as *kind*; where there is none, what *kind* is by default. Raises `Refused`."""
    given = request.get_json() if request.get_data(cache=True) else {}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        refuse_invalid(error)


# Who and where


def engine() -> Engine:
    """The app's database."""
    found: Engine = current_app.extensions["flotilla"].engine
    return found


def caller() -> Caller:
    """Who makes this request; views that took a role always have one."""
    found: Caller = g.caller
    return found


def blueprint(name: str, description: str, *, is_open: bool = False) -> APIBlueprint:
    """A group of routes; all need a caller, unless *is_open*."""
    refusals: dict[Any, Any] = dict.fromkeys((400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 429, 503), ErrorBody)
    return APIBlueprint(
        name,
        __name__,
        abp_tags=[Tag(name=name, description=description)],
        abp_security=[] if is_open else [{"bearer": []}, {"session": []}],
        abp_responses=refusals,
    )


def documented(kind: type[BaseModel], example: Mapping[str, Any], **extra: Any) -> type[BaseModel]:
    """*kind* with an example, as OpenAPI shows it."""
    kind.model_config["openapi_extra"] = {"example": dict(example), **extra}  # type: ignore[typeddict-unknown-key]
    return kind


# Answers


def with_etag(document: Mapping[str, Any], etag: str | None = None) -> Response:
    """*document* with its ETag; 304 without a body if the caller has it already."""
    response = jsonify(document)
    response.set_etag(etag or hashlib.sha256(response.get_data()).hexdigest()[:32])
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


def check_if_match(etag: str) -> None:
    """Raises `PreconditionFailed` if the caller edited another version than *etag*."""
    if request.if_match and not request.if_match.contains(etag):
        raise PreconditionFailed(
            f"The newest version is {etag}, and the request was made for another one. Read it again and repeat."
        )


class PageQuery(BaseModel):
    """Which part of a list."""

    limit: int = Field(100, ge=1, le=500, description="How many items at most.", json_schema_extra={"example": 100})
    cursor: str | None = Field(
        None, max_length=64, description="`next_cursor` of the page before.", json_schema_extra={"example": "MTIzNA"}
    )

    @property
    def before(self) -> int | None:
        """The id that the page's items are below; None for the first page."""
        return None if self.cursor is None else _from_cursor(self.cursor)


def page_of(rows: Sequence[Any], limit: int, to_document: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """A page from up to *limit* + 1 *rows*, newest first; the one too many says that there is another page."""
    more = len(rows) > limit
    shown = rows[:limit]
    return {
        "items": [to_document(row) for row in shown],
        "next_cursor": to_cursor(shown[-1].id) if more else None,
    }


def to_cursor(row_id: int) -> str:
    """What a caller sends back to go on below *row_id*."""
    return base64.urlsafe_b64encode(str(row_id).encode()).decode().rstrip("=")


def _from_cursor(text: str) -> int:
    try:
        number = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
        row_id = int(number) if number.isdigit() else -1
    except (ValueError, binascii.Error):
        row_id = -1
    if not 0 <= row_id < 2**63:
        raise Refused("The cursor is not one of ours.", fields={"cursor": "use next_cursor of the page before"})
    return row_id


def keyed(
    action: Callable[[Connection], tuple[dict[str, Any], int]], key: str | None = None
) -> tuple[dict[str, Any], int]:
    """Run *action* in one transaction. With an Idempotency-Key, a repeat gets the first answer and changes nothing.

    A page's form hands in *key*, the one-time key that it carries, in place of the header.
    """
    key = request.headers.get("Idempotency-Key") if key is None else key
    if key is not None and not 1 <= len(key) <= 200:
        raise Refused("The Idempotency-Key must have 1 to 200 characters.", fields={"Idempotency-Key": "1 to 200"})
    with write(engine()) as connection:
        if key is None:
            return action(connection)
        return _once(connection, key.encode("latin-1", "replace").hex(), action)


def _once(
    connection: Connection, key: str, action: Callable[[Connection], tuple[dict[str, Any], int]]
) -> tuple[dict[str, Any], int]:
    owner = caller().owner
    asked = hashlib.sha256(b"\0".join([request.method.encode(), request.path.encode(), _content()])).hexdigest()
    connection.execute(delete(IdempotencyKey).where(IdempotencyKey.created_ms < now_ms() - DAY_MS))
    known = connection.execute(
        select(IdempotencyKey).where(IdempotencyKey.owner == owner, IdempotencyKey.key == key)
    ).first()
    if known is None:
        document, status = action(connection)
        row = {"owner": owner, "key": key, "request_sha256": asked, "status": status, "answer": document}
        connection.execute(insert(IdempotencyKey).values(**row, created_ms=now_ms()))
        return document, status
    if known.request_sha256 != asked:
        raise Conflict("This Idempotency-Key was used for another request. Take a new key for a new request.")
    return known.answer, known.status


def _content() -> bytes:
    """What is asked: the body, or the fields of a form without the keys that only say who sends it, and which time."""
    if not request.form:
        return request.get_data()
    fields = sorted(item for item in request.form.items(multi=True) if item[0] not in _NOT_ASKED)
    return json.dumps(fields).encode()
