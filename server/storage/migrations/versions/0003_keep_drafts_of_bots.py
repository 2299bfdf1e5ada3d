"""Keep drafts of bots that somebody is about to create."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _integer() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "bot_drafts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("bot_id", _integer(), nullable=True),
        sa.Column("created_ms", _integer(), nullable=False),
        sa.Column("updated_ms", _integer(), nullable=False),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name=op.f("fk_bot_drafts_bot_id_bots")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bot_drafts")),
    )
    op.create_index(op.f("ix_bot_drafts_owner"), "bot_drafts", ["owner"])


def downgrade() -> None:
    op.drop_index(op.f("ix_bot_drafts_owner"), table_name="bot_drafts")
    op.drop_table("bot_drafts")
