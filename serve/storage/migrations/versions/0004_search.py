"""Titles and messages in lower case for search, with an index of the messages' trigrams."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
BATCH = 500
FOLDED = {"conversations": ("title", "folded_title"), "messages": ("content", "folded_content")}

SQLITE_INDEX = (
    "CREATE VIRTUAL TABLE folded_trigrams USING fts5(folded_content, content='messages', content_rowid='search_id', "
    "detail=none, tokenize='trigram case_sensitive 1')",
    "UPDATE messages SET search_id = rowid",
    "INSERT INTO folded_trigrams(rowid, folded_content) SELECT search_id, folded_content FROM messages",
    "CREATE TRIGGER messages_indexed AFTER INSERT ON messages BEGIN "
    "UPDATE messages SET search_id = (SELECT coalesce(max(search_id), 0) + 1 FROM messages) "
    "WHERE owner = new.owner AND id = new.id; "
    "INSERT INTO folded_trigrams(rowid, folded_content) SELECT search_id, folded_content FROM messages "
    "WHERE owner = new.owner AND id = new.id; END",
    "CREATE TRIGGER messages_not_indexed AFTER DELETE ON messages BEGIN "
    "INSERT INTO folded_trigrams(folded_trigrams, rowid, folded_content) "
    "VALUES ('delete', old.search_id, old.folded_content); END",
)


def upgrade() -> None:
    """Add the columns and the index, and fill them."""
    connection = op.get_bind()
    for name, (text, folded) in FOLDED.items():
        op.add_column(name, sa.Column(folded, sa.Text, nullable=False, server_default=""))
        _fold(connection, name, text, folded)
    op.add_column("messages", sa.Column("search_id", sa.BigInteger))
    op.create_index("ix_messages_search_id", "messages", ["search_id"], unique=True)
    if connection.dialect.name == "sqlite":
        for statement in SQLITE_INDEX:
            op.execute(statement)
    elif _can_index_trigrams(connection):
        op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        op.execute("CREATE INDEX folded_trigrams ON messages USING gin (folded_content gin_trgm_ops)")


def downgrade() -> None:
    """Drop the index and the columns."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER messages_indexed")
        op.execute("DROP TRIGGER messages_not_indexed")
        op.drop_table("folded_trigrams")
    op.drop_index("ix_messages_search_id", "messages")
    op.drop_column("messages", "search_id")
    op.drop_column("messages", "folded_content")
    op.drop_column("conversations", "folded_title")


def _fold(connection: sa.Connection, name: str, text: str, folded: str) -> None:
    """Fill a column with another in lower case, some rows at a time."""
    table = sa.table(name, *map(sa.column, ("owner", "id", text, folded)))
    key = sa.tuple_(table.c.owner, table.c.id)
    in_order = sa.select(table.c.owner, table.c.id, table.c[text]).order_by(table.c.owner, table.c.id).limit(BATCH)
    filled = (
        sa.update(table)
        .where(table.c.owner == sa.bindparam("of_owner"), table.c.id == sa.bindparam("of_id"))
        .values({folded: sa.bindparam("lower_case")})
    )
    rows: Sequence[sa.Row[str, str, str]] = connection.execute(in_order).all()
    while rows:
        values = [{"of_owner": owner, "of_id": id, "lower_case": written.lower()} for owner, id, written in rows]
        connection.execute(filled, values)
        last = sa.tuple_(sa.literal(rows[-1][0]), sa.literal(rows[-1][1]))
        rows = connection.execute(in_order.where(key > last)).all()


def _can_index_trigrams(connection: sa.Connection) -> bool:
    """Whether PostgreSQL has pg_trgm and permits its use; without it, searches scan every message."""
    usable = (  # a trusted extension needs no more than the right to create in the database
        "SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm') OR EXISTS ("
        "SELECT 1 FROM pg_available_extension_versions WHERE name = 'pg_trgm' AND ("
        "trusted AND has_database_privilege(current_database(), 'CREATE') "
        "OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)))"
    )
    return bool(connection.scalar(sa.text(usable)))
