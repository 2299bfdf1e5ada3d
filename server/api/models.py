"""The model registry."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, jsonify, request, send_file
from pydantic import BaseModel, ValidationError
from werkzeug.datastructures import FileStorage

from server.api.examples import ModelList
from server.api.schemas import Model, ModelPath, Name, Symbol
from server.api.wire import (
    PageQuery,
    WrongContentType,
    blueprint,
    caller,
    check_text,
    engine,
    page_of,
    refuse_invalid,
)
from server.security.roles import Role, needs
from server.settings import Settings
from server.storage import model_files
from server.storage.engine import read, write
from server.storage.queries import control_document
from shared.errors import Forbidden, NotFound, Refused

api = blueprint("models", "LightGBM models")

MODEL = "/api/models/<int(max=2147483647):model_id>"
_UPLOAD = {
    "type": "object",
    "required": ["file", "symbol", "name"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "LightGBM text model, at most 100 MB."},
        "symbol": {"type": "string", "pattern": "^[A-Z0-9]{5,20}$"},
        "name": {"type": "string", "minLength": 1, "maxLength": 100},
        "card": {
            "type": "string",
            "format": "binary",
            "description": "The .json that training wrote; may be left out.",
        },
    },
}
_UPLOAD_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": _UPLOAD,
            "example": {"file": "tree\nversion=v4\n…", "symbol": "ETHUSDT", "name": "eth 2026-11"},
        }
    },
}
_FILE = {
    "description": "The model as LightGBM text.",
    "content": {"text/plain": {"schema": {"type": "string"}, "example": "tree\nversion=v4\n…"}},
}


class UploadFields(BaseModel):
    """The text fields beside the file."""

    symbol: Symbol
    name: Name


@api.get("/api/models", responses={200: ModelList})
@needs(Role.VIEWER)
def list_models(query: PageQuery) -> Response:
    """All models, newest first."""
    with read(engine()) as connection:
        rows = model_files.model_rows(connection, limit=query.limit, before=query.before)
        users = model_files.used_by(connection)
    return jsonify(page_of(rows, query.limit, lambda row: model_files.model_document(row, users.get(row.id, []))))


@api.post("/api/models/upload", responses={200: Model, 201: Model}, openapi_extensions={"requestBody": _UPLOAD_BODY})
@needs(Role.TRADER)
def upload_model() -> tuple[Response, int]:
    """Add a model. It is loaded and asked for a prediction before it is accepted.

    The same file with the same name, symbol and card is the model that is there already: 200.
    """
    model_id, is_new = take_upload()
    with read(engine()) as connection:
        row, users = model_files.model_row(connection, model_id), model_files.used_by(connection)
    return jsonify(model_files.model_document(row, users.get(row.id, []))), 201 if is_new else 200


@api.get(MODEL, responses={200: Model})
@needs(Role.VIEWER)
def get_model(path: ModelPath) -> Response:
    """One model."""
    with read(engine()) as connection:
        row = model_files.model_row(connection, path.model_id)
        users = model_files.used_by(connection)
    return jsonify(model_files.model_document(row, users.get(row.id, [])))


@api.get(f"{MODEL}/download", responses={200: _FILE})
@needs(Role.VIEWER, own_bot=True)
def download_model(path: ModelPath) -> Response:
    """The model's file. A bot gets the one that its config names."""
    with read(engine()) as connection:
        bot_id = caller().bot_id
        if bot_id is not None and control_document(connection, bot_id).config.get("model_id") != path.model_id:
            raise Forbidden("A bot's token reads the model of that bot's config, and no other.")
        row = model_files.model_row(connection, path.model_id)
    file = _settings().model_file(row.sha256)
    if not file.exists():
        raise NotFound(f"The file of model {path.model_id} is gone from {file.parent.name}/. Upload it again.")
    return send_file(file, mimetype="text/plain", as_attachment=True, download_name=f"model-{row.id}.txt")


@api.delete(MODEL, responses={204: None})
@needs(Role.ADMIN)
def delete_model(path: ModelPath) -> tuple[str, int]:
    """Delete a model that no config uses."""
    with write(engine()) as connection:
        model_files.delete_model(connection, _settings(), path.model_id, caller().author)
    return "", 204


def take_upload() -> tuple[int, bool]:
    """Check and register the model that this request holds; its id, and whether it is new. Raises `FlotillaError`."""
    upload, fields = _upload()
    settings, card_file = _settings(), request.files.get("card")
    with model_files.checked_upload(settings, upload.stream) as file:
        card = (
            model_files.read_card(card_file.stream, file, fields.symbol) if card_file and card_file.filename else None
        )
        with write(engine()) as connection:
            return model_files.add_model(
                connection, settings, file, name=fields.name, symbol=fields.symbol, author=caller().author, card=card
            )


def _upload() -> tuple[FileStorage, UploadFields]:
    if request.mimetype != "multipart/form-data":
        raise WrongContentType("Send the model as multipart/form-data with the fields file, symbol and name.")
    given: dict[str, Any] = request.form.to_dict()
    check_text(given)
    file = request.files.get("file")
    if file is None or not file.filename:
        raise Refused("The model is missing.", fields={"file": "send it as a file, not as text"})
    try:
        return file, UploadFields.model_validate(given)
    except ValidationError as error:
        refuse_invalid(error)


def _settings() -> Settings:
    found: Settings = current_app.extensions["flotilla"].settings
    return found
