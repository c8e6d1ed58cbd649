"""Bringing a database to this program's schema, from whatever version it has.

A table that is not there is made as it is declared. A change of one that is there is a step of Alembic's, a
file each in `migrations/versions`; a step on a table that not every registry has come to have yet asks first
whether it is there. Alembic is loaded only when there is something to do.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, MetaData, inspect, text

from vedette.hub.registry.records import RegistryError

log = logging.getLogger(__name__)

HEAD = "0003"
"""The latest step; a test holds it against the files."""

SEALED_SINCE = "0002"
"""The step since which keys are sealed, so that the key file must be there."""

MIGRATIONS = Path(__file__).parent / "migrations"

_FIRST = "0001"


def revision(connection: Connection) -> str:
    """The latest step that was made on the database; empty if it is new."""
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" in tables:
        return connection.scalar(text("SELECT version_num FROM alembic_version")) or ""
    return _FIRST if "meta" in tables else ""


def migrate(connection: Connection, metadata: MetaData) -> None:
    """Make the missing steps and tables, all or none. Raises RegistryError if a newer program was here."""
    present = revision(connection)
    if present > HEAD:
        raise RegistryError(
            f"registry: schema version {present}, this program knows {HEAD}; use the newer one"
        )
    if present and present != HEAD:
        _steps(connection, present)
    metadata.create_all(connection)
    if not present:
        _steps(connection, HEAD)


def _steps(connection: Connection, present: str) -> None:
    """From a revision to HEAD, on this connection and in its transaction."""
    # Its steps are told of here in one line; it would tell of itself in twelve.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic import command
    from alembic.config import Config

    if present != HEAD:
        log.info("registry: schema goes from version %s to %s", present, HEAD)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.stamp(config, present)
    if present != HEAD:
        command.upgrade(config, HEAD)
