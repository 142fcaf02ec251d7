"""The calls of functions in answers, and which call a tool's message is the result of."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("messages", sa.Column("tool_calls", sa.JSON))
    op.add_column("messages", sa.Column("tool_call_id", sa.Text))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("messages", "tool_call_id")
    op.drop_column("messages", "tool_calls")
