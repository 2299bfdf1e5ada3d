"""Index errors and alerts by time, so that the last day's are found without a look at all other events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op


revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TROUBLE = sa.text("type IN ('error', 'alert')")


def upgrade() -> None:
    op.create_index("ix_events_trouble", "events", ["ts"], sqlite_where=_TROUBLE, postgresql_where=_TROUBLE)


def downgrade() -> None:
    op.drop_index("ix_events_trouble", table_name="events")
