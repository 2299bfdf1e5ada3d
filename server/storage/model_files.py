"""The model registry: validated LightGBM files, kept under their SHA-256.

A truncated model file can kill the process inside LightGBM's library, so a file is loaded in a process of its own
first; it gets its final name only after that.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, Row, insert, select, update

from server.settings import CHECKOUT, Settings
from server.storage import audit
from server.storage.audit import Author
from server.storage.models import Bot, Model, TradingConfigVersion
from server.storage.times import iso, now_ms
from shared.errors import Conflict, FlotillaError, NotFound, Refused

MAX_BYTES = 100_000_000
MAX_CARD_BYTES = 1_000_000
CHECK_TIMEOUT_S = 30.0
_CHUNK = 1 << 20
_TAIL = 200_000
_OTHER_KINDS = {b"PK": "a zip file", b"\x80": "a pickle", b"\x89HDF": "an HDF5 file", b"{": "JSON", b"\x1f\x8b": "gzip"}
_UNREADABLE = "not a readable LightGBM model; upload the file that Booster.save_model or `research train` wrote"


class TooLarge(FlotillaError):
    """A file above the limit."""

    code = "too_large"
    http_status = 413


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """An uploaded file that was found good, not yet in its place."""

    path: Path
    sha256: str
    size_bytes: int
    trees: int
    features: list[str]
    schema_version: str


@contextmanager
def checked_upload(settings: Settings, stream: IO[bytes]) -> Iterator[ModelFile]:
    """An uploaded file, checked; gone after the block unless `add_model` took it. Raises `TooLarge`, `Refused`."""
    settings.make_home()
    descriptor, name = tempfile.mkstemp(dir=settings.models, prefix="upload-", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            sha256, size = _copy(stream, file)
        _require_text(temporary)
        found = check_file(temporary)
        yield ModelFile(
            path=temporary,
            sha256=sha256,
            size_bytes=size,
            trees=int(found["trees"]),
            features=list(found["features"]),
            schema_version=str(found["schema_version"]),
        )
    finally:
        temporary.unlink(missing_ok=True)


def check_file(path: Path, *, timeout_s: float = CHECK_TIMEOUT_S) -> dict[str, Any]:
    """Load the model and predict with it in another process; what it is. Raises `Refused` that says what is wrong."""
    command = [sys.executable, "-m", "bots.utils.check_model", str(path)]
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    try:
        answer = subprocess.run(
            command, cwd=CHECKOUT, env=environment, capture_output=True, timeout=timeout_s, check=False
        )
        found = json.loads(answer.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        raise Refused("The model was not accepted.", fields={"file": _UNREADABLE}) from None
    if not found.get("ok"):
        raise Refused("The model was not accepted.", fields={"file": str(found.get("reason") or _UNREADABLE)})
    return dict(found)


def read_card(stream: IO[bytes], file: ModelFile, symbol: str) -> dict[str, Any]:
    """What training wrote beside the model. Raises `Refused` if it is no such card, or another model's."""
    text = stream.read(MAX_CARD_BYTES + 1)
    if len(text) > MAX_CARD_BYTES:
        raise _bad_card(f"longer than {MAX_CARD_BYTES // 1_000_000} MB; send the .json that `research train` wrote")
    try:
        card = json.loads(text)
    except (ValueError, RecursionError):
        raise _bad_card("not JSON; send the .json that `research train` wrote beside the model") from None
    if not isinstance(card, dict) or not isinstance(card.get("model_sha256"), str):
        raise _bad_card("no card of a model; send the .json that `research train` wrote beside it")
    if card["model_sha256"] != file.sha256:
        raise _bad_card(f"describes another file ({card['model_sha256'][:12]}…, this one is {file.sha256[:12]}…)")
    if card.get("symbol") != symbol:
        raise Refused(
            "The card and the form disagree.",
            fields={"symbol": f"the card says it was trained on {card.get('symbol')}"},
        )
    return card


def importances(path: Path) -> dict[str, int]:
    """How often each feature of a model decides a split, from the file's own list; empty if it has none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            tail = file.read().decode("utf-8", "replace")
    except OSError:
        return {}
    _, found, rest = tail.partition("\nfeature_importances:\n")
    pairs = (line.partition("=") for line in rest.partition("\n\n")[0].splitlines()) if found else ()
    return {name: int(count) for name, _, count in pairs if count.isdigit()}


def _bad_card(reason: str) -> Refused:
    return Refused("The card was not accepted.", fields={"card": reason})


def add_model(
    connection: Connection,
    settings: Settings,
    file: ModelFile,
    *,
    name: str,
    symbol: str,
    author: Author,
    card: dict[str, Any] | None = None,
) -> tuple[int, bool]:
    """Register a checked file and move it to its place; the model's id, and whether it is new: the same file under the
    same name, market and card is the same model.

    Both happen under the database's write lock, so that no deletion of the same file comes between.
    """
    known = _same_model(connection, file.sha256, name, symbol, card)
    if known is not None:
        file.path.replace(settings.model_file(file.sha256))
        return known, False
    row = {"name": name, "symbol": symbol, "card": card, "uploaded_by": author.name, "created_ms": now_ms()}
    result = connection.execute(
        insert(Model).values(
            **row,
            sha256=file.sha256,
            size_bytes=file.size_bytes,
            trees=file.trees,
            features=file.features,
            schema_version=file.schema_version,
        )
    )
    file.path.replace(settings.model_file(file.sha256))
    model_id: int = result.inserted_primary_key[0]  # type: ignore[index]
    facts = {"name": name, "symbol": symbol, "sha256": file.sha256}
    audit.note(connection, author, "model.upload", target=f"model {model_id}", after=facts)
    return model_id, True


def _same_model(connection: Connection, sha256: str, name: str, symbol: str, card: dict[str, Any] | None) -> int | None:
    same = (Model.sha256 == sha256, Model.name == name, Model.symbol == symbol, Model.deleted_ms.is_(None))
    rows = connection.execute(select(Model.id, Model.card).where(*same).order_by(Model.id))
    return next((row.id for row in rows if row.card == card), None)


def model_row(connection: Connection, model_id: int) -> Row[Any]:
    """A model's row. Raises `NotFound`, also for a deleted one."""
    row = connection.execute(select(Model).where(Model.id == model_id, Model.deleted_ms.is_(None))).first()
    if row is None:
        raise NotFound(f"There is no model {model_id}. GET /api/models lists those there are.")
    return row


def model_rows(connection: Connection, *, limit: int, before: int | None) -> list[Row[Any]]:
    """Up to *limit* + 1 models, newest first."""
    query = select(Model).where(Model.deleted_ms.is_(None))
    if before is not None:
        query = query.where(Model.id < before)
    return list(connection.execute(query.order_by(Model.id.desc()).limit(limit + 1)))


def delete_model(connection: Connection, settings: Settings, model_id: int, author: Author) -> None:
    """Take a model out of the registry, and its file if no other model has the same. Raises `NotFound`, `Conflict`."""
    model = model_row(connection, model_id)
    users = used_by(connection).get(model_id, [])
    if users:
        names = ", ".join(map(str, users))
        raise Conflict(f"Model {model_id} is in the config of bot {names}. Give those bots another model first.")
    connection.execute(update(Model).where(Model.id == model_id).values(deleted_ms=now_ms()))
    facts = {"name": model.name, "symbol": model.symbol, "sha256": model.sha256}
    audit.note(connection, author, "model.delete", target=f"model {model_id}", before=facts)
    same = select(Model.id).where(Model.sha256 == model.sha256, Model.deleted_ms.is_(None))
    if connection.execute(same).first() is None:
        settings.model_file(model.sha256).unlink(missing_ok=True)


def used_by(connection: Connection) -> dict[int, list[int]]:
    """Which bots' newest configs name each model."""
    users: dict[int, list[int]] = defaultdict(list)
    newest = (TradingConfigVersion.bot_id == Bot.id) & (TradingConfigVersion.version == Bot.config_version)
    rows = connection.execute(
        select(Bot.id, TradingConfigVersion.config).join(TradingConfigVersion, newest).where(Bot.archived_ms.is_(None))
    )
    for row in rows:
        if row.config.get("model_id") is not None:
            users[row.config["model_id"]].append(row.id)
    return users


def model_document(row: Row[Any], users: list[int]) -> dict[str, Any]:
    """A model as the API shows it."""
    return {
        "id": row.id,
        "name": row.name,
        "symbol": row.symbol,
        "sha256": row.sha256,
        "size_bytes": row.size_bytes,
        "trees": row.trees,
        "features": row.features,
        "schema_version": row.schema_version,
        "uploaded_by": row.uploaded_by,
        "created_at": iso(row.created_ms),
        "used_by": users,
        "card": row.card,
    }


def _require_text(path: Path) -> None:
    """Raises `Refused` that says what the file is, if it is plainly no LightGBM text."""
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise Refused("The model was not accepted.", fields={"file": "the file is empty"})
    kind = next((name for magic, name in _OTHER_KINDS.items() if start.startswith(magic)), None)
    if kind:
        raise Refused("The model was not accepted.", fields={"file": f"this is {kind}, {_UNREADABLE}"})


def _copy(stream: IO[bytes], file: IO[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
        if size > MAX_BYTES:
            raise TooLarge(f"A model file may have at most {MAX_BYTES // 1_000_000} MB.")
        digest.update(chunk)
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest(), size
