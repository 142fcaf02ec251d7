"""The timing of answers."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("messages", sa.Column("timing", sa.JSON))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("messages", "timing")
