"""Owners' consent to training on what they write, and when an answer was judged."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table and the column."""
    op.create_table(
        "training_consents",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("given", sa.Boolean, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_training_consents"),
    )
    op.add_column("messages", sa.Column("judged_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drop the column and the table."""
    with op.batch_alter_table("messages") as messages:
        messages.drop_column("judged_at")
    op.drop_table("training_consents")
