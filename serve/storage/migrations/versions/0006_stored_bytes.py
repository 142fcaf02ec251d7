"""The bytes that each owner has stored."""

from functools import reduce
from operator import add
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

SIZED = {
    "messages": (256, ("content", "sources", "usage", "timing", "comment", "correction")),
    "votes": (256, ("prompt", "a", "b")),
    "conversations": (512, ()),
}
"""The constant bytes of a row, and its columns of text."""


def upgrade() -> None:
    """Make the table and fill it."""
    connection = op.get_bind()
    stored = op.create_table(
        "stored_bytes",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_stored_bytes"),
    )
    sizes = [_sizes(connection, name, base, columns) for name, (base, columns) in SIZED.items()]
    every = sa.union_all(*sizes).subquery()
    sums = sa.select(every.c.owner, sa.cast(sa.func.sum(every.c.bytes), sa.BigInteger)).group_by(every.c.owner)
    connection.execute(sa.insert(stored).from_select(["owner", "bytes"], sums))


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("stored_bytes")


def _sizes(connection: sa.Connection, name: str, base: int, columns: tuple[str, ...]) -> sa.Select[Any, int]:
    table = sa.table(name, sa.column("owner"), *map(sa.column, columns))
    octets = [sa.func.coalesce(_octets(connection, table.c[column]), 0) for column in columns]
    return sa.select(table.c.owner, reduce(add, octets, sa.literal(base)).label("bytes"))


def _octets(connection: sa.Connection, column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    if connection.dialect.name == "sqlite":
        return sa.func.length(sa.cast(column, sa.LargeBinary))
    return sa.func.octet_length(sa.cast(column, sa.Text))
