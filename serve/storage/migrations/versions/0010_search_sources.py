"""A conversation's choice of sources: web, documents, both or off."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column."""
    op.add_column("conversations", sa.Column("search_sources", sa.Text, nullable=True))


def downgrade() -> None:
    """Drop the column."""
    with op.batch_alter_table("conversations") as conversations:
        conversations.drop_column("search_sources")
