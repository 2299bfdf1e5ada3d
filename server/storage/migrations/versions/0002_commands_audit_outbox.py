"""Add commands, the kill switch, the audit log and the outbox of notifications."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _integer() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", _integer(), nullable=False),
        sa.Column("ts", _integer(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("bot_id", _integer(), nullable=True),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_bot_id"), "audit_log", ["bot_id"])
    op.create_index(op.f("ix_audit_log_ts"), "audit_log", ["ts"])
    op.create_table(
        "kill_switch",
        sa.Column("id", _integer(), nullable=False),
        sa.Column("number", _integer(), nullable=False),
        sa.Column("engaged", sa.Boolean(), nullable=False),
        sa.Column("close_positions", sa.Boolean(), nullable=False),
        sa.Column("engaged_ms", _integer(), nullable=False),
        sa.Column("engaged_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("released_ms", _integer(), nullable=True),
        sa.Column("released_by", sa.Text(), nullable=True),
        sa.Column("release_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kill_switch")),
    )
    op.create_table(
        "bot_commands",
        sa.Column("id", _integer(), nullable=False),
        sa.Column("bot_id", _integer(), nullable=False),
        sa.Column("number", _integer(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("created_ms", _integer(), nullable=False),
        sa.Column("done_ms", _integer(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name=op.f("fk_bot_commands_bot_id_bots")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bot_commands")),
        sa.UniqueConstraint("bot_id", "number", name=op.f("uq_bot_commands_bot_id_number")),
    )
    op.create_table(
        "notifications",
        sa.Column("id", _integer(), nullable=False),
        sa.Column("created_ms", _integer(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("bot_id", _integer(), nullable=True),
        sa.Column("dedup_key", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", _integer(), nullable=False),
        sa.Column("next_try_ms", _integer(), nullable=False),
        sa.Column("sent_ms", _integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["bot_id"], ["bots.id"], name=op.f("fk_notifications_bot_id_bots")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
        sa.UniqueConstraint("dedup_key", name=op.f("uq_notifications_dedup_key")),
    )
    op.create_index(op.f("ix_notifications_state_next_try_ms"), "notifications", ["state", "next_try_ms"])
    # Columns are added one by one, which touches no row; a rebuilt table could be lost by a kill half-way.
    op.add_column("users", sa.Column("preferences", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("models", sa.Column("card", sa.JSON(), nullable=True))
    op.add_column("bots", sa.Column("halt_reason", sa.Text(), nullable=True))
    op.add_column("bots", sa.Column("restart_requests", _integer(), nullable=False, server_default="0"))
    op.add_column("bot_runs", sa.Column("kind", sa.Text(), nullable=False, server_default="supervised"))
    op.add_column("bot_runs", sa.Column("started_by", sa.Text(), nullable=True))
    op.add_column("bot_runs", sa.Column("host", sa.Text(), nullable=True))
    op.add_column("bot_runs", sa.Column("heard_ms", _integer(), nullable=True))
    op.add_column("bot_runs", sa.Column("restart_requests", _integer(), nullable=False, server_default="0"))
    op.add_column("supervisor", sa.Column("facts", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("supervisor") as table:
        table.drop_column("facts")
    with op.batch_alter_table("bot_runs") as table:
        for name in ("kind", "started_by", "host", "heard_ms", "restart_requests"):
            table.drop_column(name)
    with op.batch_alter_table("bots") as table:
        table.drop_column("halt_reason")
        table.drop_column("restart_requests")
    with op.batch_alter_table("models") as table:
        table.drop_column("card")
    with op.batch_alter_table("users") as table:
        table.drop_column("preferences")
    for name in ("notifications", "bot_commands", "kill_switch", "audit_log"):
        op.drop_table(name)
