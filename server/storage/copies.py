"""Copies of bots: cloned here, or carried from one installation to another as a document. A copy is always stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection

from server.storage import audit, fleet
from server.storage.audit import Author
from server.storage.bot_documents import read_document, write_document
from server.storage.queries import bot_row, config_of
from shared.errors import Refused

_CLONED = ("description", "strategy", "symbol", "exchange", "mode", "interval", "credential_id")


def clone(connection: Connection, bot_id: int, author: Author, name: str | None = None) -> int:
    """A stopped copy with the newest config; its id. Raises `NotFound`, `Refused`."""
    bot = bot_row(connection, bot_id)
    fields = {column: getattr(bot, column) for column in _CLONED}
    wanted = fields | {"name": name or _copied_name(bot.name), "tags": list(bot.tags)}
    copy_id = fleet.create_bot(
        connection, wanted | {"config": config_of(connection, bot_id, bot.config_version)}, author
    )
    audit.note(connection, author, "bot.clone", bot_id=copy_id, target=f"from bot {bot_id}")
    return copy_id


def export_bot(connection: Connection, bot_id: int) -> dict[str, Any]:
    """The bot as a nested document: no secret, no history. Raises `NotFound`."""
    bot = bot_row(connection, bot_id)
    fields = {c: getattr(bot, c) for c in (*_CLONED, "name", "tags")}
    return write_document(fields, config_of(connection, bot_id, bot.config_version))


def import_bot(connection: Connection, document: Mapping[str, Any], author: Author, kind: type[BaseModel]) -> int:
    """A stopped bot from a nested document; its id. *kind* checks its fields. Raises `Refused` by the document's paths.

    Keys do not travel: the bot has no credential until it is given one.
    """
    reading = read_document(document)
    try:
        fields = kind.model_validate(reading.fields).model_dump()
        bot_id = fleet.create_bot(connection, fields | {"config": reading.config}, author)
    except ValidationError as error:
        named = {str(e["loc"][0]): e["msg"] for e in error.errors(include_url=False)}
        wrong = {reading.path_of(name): reason for name, reason in named.items()}
        raise Refused(f"The document has {len(wrong)} field(s) that cannot be taken.", fields=wrong) from None
    except Refused as refusal:
        wrong = {reading.path_of(name): reason for name, reason in refusal.fields.items()}
        raise Refused(refusal.message, fields=wrong) from None
    audit.note(connection, author, "bot.import", bot_id=bot_id, target=fields["name"])
    return bot_id


def _copied_name(name: str) -> str:
    return f"{name[:95]} copy"
