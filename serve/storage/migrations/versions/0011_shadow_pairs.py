"""Pairs of a served and a shadow's answer, and the conversations that votes on them come from."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the table and the column."""
    op.create_table(
        "shadow_pairs",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("conversation_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("prompt", sa.JSON, nullable=False),
        sa.Column("a", sa.JSON, nullable=False),
        sa.Column("b", sa.JSON, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("owner", "id", name="pk_shadow_pairs"),
    )
    op.create_index("ix_shadow_pairs_recent", "shadow_pairs", ["owner", "created_at"])
    op.add_column("votes", sa.Column("conversation_id", sa.Text, nullable=True))


def downgrade() -> None:
    """Drop the column and the table."""
    with op.batch_alter_table("votes") as votes:
        votes.drop_column("conversation_id")
    op.drop_table("shadow_pairs")
