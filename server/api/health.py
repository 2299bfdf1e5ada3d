"""Liveness, readiness and metrics. Open to anybody who reaches the port, as monitoring wants it."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify
from flask_openapi3 import APIBlueprint, Tag
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from server.api.wire import ErrorBody, documented, engine
from server.metrics import metrics_text
from server.security.roles import public
from server.storage.engine import is_migrated, read
from server.storage.models import SupervisorBeat
from server.storage.times import now_ms

api = APIBlueprint(
    "health",
    __name__,
    abp_tags=[Tag(name="health", description="Is it alive, is it ready")],
    abp_responses={405: ErrorBody, 422: ErrorBody},
)

BEAT_LIMIT_MS = 10_000


class Health(BaseModel):
    status: str


class Part(BaseModel):
    state: str
    detail: str | None


class Readiness(BaseModel):
    """*status* is ready or not_ready; each part is ok or failed."""

    status: str
    parts: dict[str, Part]


_OK = {"state": "ok", "detail": None}
documented(Health, {"status": "ok"})
documented(Readiness, {"status": "ready", "parts": {"web": _OK, "database": _OK, "supervisor": _OK}})


@api.get("/health", responses={200: Health})
@public
def health() -> Response:
    """The web server answers."""
    return jsonify({"status": "ok"})


@api.get("/health/ready", responses={200: Readiness, 503: Readiness})
@public
def ready() -> tuple[Response, int] | tuple[Response, int, dict[str, str]]:
    """Whether all parts work: the database is up to date and the supervisor alive."""
    parts = {"web": _OK, **_parts(engine())}
    if all(part["state"] == "ok" for part in parts.values()):
        return jsonify({"status": "ready", "parts": parts}), 200
    return jsonify({"status": "not_ready", "parts": parts}), 503, {"Retry-After": "2"}


_METRICS = {
    "description": "Prometheus text format.",
    "content": {"text/plain": {"schema": {"type": "string"}, "example": 'flotilla_bots{status="running"} 3.0'}},
}


@api.get("/metrics", responses={200: _METRICS, 503: ErrorBody})
@public
def metrics() -> Response:
    """The fleet's figures for Prometheus."""
    return Response(metrics_text(engine()), content_type=CONTENT_TYPE_LATEST)


def _parts(database: Engine) -> dict[str, dict[str, Any]]:
    try:
        with read(database) as connection:
            migrated = is_migrated(connection)
            newest = select(SupervisorBeat.beat_ms).order_by(SupervisorBeat.beat_ms.desc()).limit(1)
            beat_ms = connection.execute(newest).scalar() if migrated else None
    except SQLAlchemyError:
        failed = {"state": "failed", "detail": "the database does not answer"}
        return {"database": failed, "supervisor": {"state": "failed", "detail": "unknown without the database"}}
    return {
        "database": _OK if migrated else {"state": "failed", "detail": "not migrated: start flotilla up once"},
        "supervisor": _supervisor(beat_ms),
    }


def _supervisor(beat_ms: int | None) -> dict[str, Any]:
    if beat_ms is None:
        return {"state": "failed", "detail": "never seen: start flotilla supervisor"}
    age_ms = max(0, now_ms() - beat_ms)
    if age_ms > BEAT_LIMIT_MS:
        return {"state": "failed", "detail": f"no sign of life for {age_ms / 1000:.0f} s"}
    return _OK
