"""Exchange keys. They go in and never come out."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, jsonify
from sqlalchemy import Connection, Row, delete, select, update

from server.api.examples import CredentialList
from server.api.schemas import Credential as CredentialOut
from server.api.schemas import CredentialBody, CredentialChanges, RowPath
from server.api.wire import PageQuery, blueprint, caller, engine, keyed, page_of
from server.security.roles import Role, needs
from server.security.secrets import create_credential, reseal_credential
from server.storage import audit
from server.storage.engine import read, write
from server.storage.models import Bot, Credential
from server.storage.times import iso
from shared.errors import Conflict, NotFound

api = blueprint("credentials", "Exchange keys; write-only")


@api.get("/api/credentials", responses={200: CredentialList})
@needs(Role.ADMIN)
def list_credentials(query: PageQuery) -> Response:
    """Stored exchange keys by name, without their secrets, newest first."""
    wanted = select(Credential)
    if query.before is not None:
        wanted = wanted.where(Credential.id < query.before)
    with read(engine()) as connection:
        rows = connection.execute(wanted.order_by(Credential.id.desc()).limit(query.limit + 1)).all()
    return jsonify(page_of(rows, query.limit, credential_document))


@api.post("/api/credentials", responses={201: CredentialOut})
@needs(Role.ADMIN)
def add_credential(body: CredentialBody) -> tuple[Response, int]:
    """Store exchange keys, encrypted."""
    vault = current_app.extensions["flotilla"].vault

    def add(connection: Connection) -> tuple[dict[str, Any], int]:
        _require_free_name(connection, body.name)
        credential_id = create_credential(connection, vault, **body.model_dump())
        row = _row(connection, credential_id)
        audit.note(connection, caller().author, "credential.create", target=f"credential {row.id}", after=_facts(row))
        return credential_document(row), 201

    document, status = keyed(add)
    return jsonify(document), status


@api.put("/api/credentials/<int(max=2147483647):row_id>", responses={200: CredentialOut})
@needs(Role.ADMIN)
def change_credential(path: RowPath, body: CredentialChanges) -> Response:
    """Rename exchange keys, or replace them. A bot takes new keys at its next start."""
    vault = current_app.extensions["flotilla"].vault
    with write(engine()) as connection:
        row = _row(connection, path.row_id)
        if body.name is not None and body.name != row.name:
            _require_free_name(connection, body.name)
            connection.execute(update(Credential).where(Credential.id == row.id).values(name=body.name))
        if body.api_key is not None or body.api_secret is not None:
            reseal_credential(connection, vault, row.id, api_key=body.api_key, api_secret=body.api_secret)
        changed = _row(connection, path.row_id)
        replaced = body.api_key is not None or body.api_secret is not None
        audit.note(
            connection,
            caller().author,
            "credential.change",
            target=f"credential {row.id}",
            before=_facts(row),
            after=_facts(changed) | ({"keys": "replaced"} if replaced else {}),
        )
    return jsonify(credential_document(changed))


@api.delete("/api/credentials/<int(max=2147483647):row_id>", responses={204: None})
@needs(Role.ADMIN)
def delete_credential(path: RowPath) -> tuple[str, int]:
    """Delete exchange keys that no bot uses."""
    with write(engine()) as connection:
        row = _row(connection, path.row_id)
        mine = Bot.credential_id == path.row_id
        users = connection.execute(select(Bot.id).where(mine, Bot.archived_ms.is_(None))).scalars().all()
        if users:
            raise Conflict(f"Used by bot {', '.join(map(str, users))}. Give them another credential first.")
        connection.execute(update(Bot).where(mine).values(credential_id=None))
        connection.execute(delete(Credential).where(Credential.id == path.row_id))
        audit.note(connection, caller().author, "credential.delete", target=f"credential {row.id}", before=_facts(row))
    return "", 204


def _row(connection: Connection, credential_id: int) -> Row[Any]:
    row = connection.execute(select(Credential).where(Credential.id == credential_id)).first()
    if row is None:
        raise NotFound(f"There is no credential {credential_id}.")
    return row


def _require_free_name(connection: Connection, name: str) -> None:
    if connection.execute(select(Credential.id).where(Credential.name == name)).first():
        raise Conflict(f"There is a credential called {name!r} already. Take another name, or delete that one.")


def credential_document(row: Row[Any]) -> dict[str, Any]:
    """A credential as the API shows it: never the secret."""
    return {
        "id": row.id,
        "exchange": row.exchange,
        "name": row.name,
        "api_key_last4": row.api_key_last4,
        "created_at": iso(row.created_ms),
    }


def _facts(row: Row[Any]) -> dict[str, Any]:
    """What the audit log may know of a credential."""
    return {"name": row.name, "exchange": row.exchange, "api_key_last4": row.api_key_last4}
