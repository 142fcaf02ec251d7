"""Migrations of the database with Alembic."""

from functools import partial
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from serve.storage.tables import Base


def upgrade(connection: Connection) -> None:
    """Run the migrations that a database lacks, in the caller's transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    script = ScriptDirectory.from_config(config)
    environment: Any = partial(EnvironmentContext, config, script)  # its types require more than its documentation
    steps = script._upgrade_revs  # pyright: ignore[reportPrivateUsage]  # Alembic's own commands call it
    with environment(fn=lambda revision, _: steps("head", revision)) as context:
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            context.run_migrations()
