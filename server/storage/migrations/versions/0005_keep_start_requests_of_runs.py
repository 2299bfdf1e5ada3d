"""Keep what had been asked for when a run began, so that its end in order undoes nothing that was asked later."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("bot_runs", sa.Column("start_requests", sa.BigInteger().with_variant(sa.Integer(), "sqlite")))


def downgrade() -> None:
    with op.batch_alter_table("bot_runs") as table:
        table.drop_column("start_requests")
