"""What an admin can set for the whole installation."""

from __future__ import annotations

from flask import Response, jsonify

from server.api.account_schemas import Settings, SettingsBody
from server.api.wire import blueprint, caller, engine
from server.security.roles import Role, needs
from server.storage import audit, installation
from server.storage.engine import read, write

api = blueprint("settings", "Settings of the installation")


@api.get("/api/settings", responses={200: Settings})
@needs(Role.ADMIN)
def get_settings() -> Response:
    """All settings; what was never set has its default."""
    with read(engine()) as connection:
        return jsonify(installation.values(connection))


@api.put("/api/settings", responses={200: Settings})
@needs(Role.ADMIN)
def change_settings(body: SettingsBody) -> Response:
    """Change some settings; what is left out stays as it is."""
    wanted = body.model_dump(exclude_none=True)
    with write(engine()) as connection:
        before = installation.values(connection)
        installation.change(connection, wanted)
        changed = {name: value for name, value in wanted.items() if before[name] != value}
        if changed:
            old = {name: before[name] for name in changed}
            audit.note(connection, caller().author, "settings.change", before=old, after=changed)
        return jsonify(installation.values(connection))
