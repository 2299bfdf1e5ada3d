"""Alembic's entry: runs inside the connection it is given, or, under ``flask db …``, inside the app's own engine."""

from __future__ import annotations

from alembic import context

from server.storage.models import db

connection = context.config.attributes.get("connection")


def run(on) -> None:
    context.configure(connection=on, target_metadata=db.metadata, render_as_batch=True, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


if connection is not None:
    run(connection)
else:
    from flask import current_app

    with current_app.extensions["migrate"].db.engine.begin() as own:
        run(own)
