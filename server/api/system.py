"""The kill switch: one latch over all bots."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, jsonify
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from server.api.control_schemas import HaltBody, HaltState, ReleaseBody
from server.api.wire import blueprint, caller, engine, keyed
from server.security.roles import Role, needs
from server.settings import Settings
from server.storage import halt_checklist, kill_switch
from server.storage.engine import read
from server.storage.times import now_ms
from shared.halt import HaltOrder

api = blueprint("system", "The kill switch")


@api.get("/api/system/halt", responses={200: HaltState})
@needs(Role.VIEWER)
def get_halt() -> Response:
    """Whether the kill switch is engaged and, if so, how far each bot has got."""
    with read(engine()) as connection:
        return jsonify(halt_checklist.document(connection, _settings().halt_file))


@api.post("/api/system/halt", responses={202: HaltState})
@needs(Role.TRADER)
def halt_all(body: HaltBody) -> tuple[Response, int]:
    """No bot opens a position, entry orders are cancelled, and that stays so until somebody releases it.

    Exits and targets stay, positions stay guarded; with `close_positions` they are sold at market as well. Asked again
    while it is engaged, it can only ask for more. A database that cannot be written does not keep it from working.
    """
    file, author = _settings().halt_file, caller().author

    def engage(connection: Connection) -> tuple[dict[str, Any], int]:
        kill_switch.halt(connection, file, author, body.reason, close_positions=body.close_positions)
        return halt_checklist.document(connection, file), 202

    try:
        document, status = keyed(engage)
    except (OperationalError, PoolTimeout):
        # The file alone halts every bot of this machine; the supervisor writes the row once it can.
        order = HaltOrder(by=author.name, reason=body.reason, at_ms=now_ms(), close_positions=body.close_positions)
        kill_switch.engage_file(file, order)
        raise
    return jsonify(document), status


@api.post("/api/system/release", responses={202: HaltState})
@needs(Role.TRADER)
def release_all(body: ReleaseBody) -> tuple[Response, int]:
    """Lift the kill switch: every bot goes on as it is wanted to. Bots halted singly stay halted."""
    file = _settings().halt_file

    def lift(connection: Connection) -> tuple[dict[str, Any], int]:
        kill_switch.release(connection, file, caller().author, body.reason)
        return halt_checklist.document(connection, file), 202

    document, status = keyed(lift)
    return jsonify(document), status


def _settings() -> Settings:
    found: Settings = current_app.extensions["flotilla"].settings
    return found
