"""Who changed what."""

from __future__ import annotations

from flask import Response, jsonify

from server.api.examples import AuditList
from server.api.schemas import AuditQuery
from server.api.wire import blueprint, engine, page_of
from server.security.roles import Role, needs
from server.storage import audit
from server.storage.engine import read

api = blueprint("audit", "Who changed what, from where and why")


@api.get("/api/audit", responses={200: AuditList})
@needs(Role.ADMIN)
def list_changes(query: AuditQuery) -> Response:
    """The audit log, newest first."""
    with read(engine()) as connection:
        rows = audit.entries(
            connection,
            limit=query.limit,
            before=query.before,
            bot_id=query.bot_id,
            actor=query.actor,
            action=query.action,
        )
    return jsonify(page_of(rows, query.limit, audit.entry_document))
