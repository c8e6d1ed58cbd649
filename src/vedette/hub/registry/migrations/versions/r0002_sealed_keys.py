"""Keys are sealed; a probe tells whether the key file at hand is the right one."""

import sqlalchemy as sa
from alembic import op

from vedette.hub.registry.vault import PROBE, vault_of

revision = "0002"
down_revision = "0001"

SEALED = {"identities": ("device_id", "module_id"), "policies": ("name",)}
"""Table → its key; both keep two secrets. Not every registry has come to have policies."""


def upgrade() -> None:
    """Make the step."""
    connection = op.get_bind()
    vault = vault_of(connection.dialect)
    for table, key in SEALED.items():
        if sa.inspect(connection).has_table(table):
            _seal(connection, table, key)
    op.drop_table("meta")
    sealing = op.create_table("sealing", sa.Column("probe", sa.String(), primary_key=True))
    op.bulk_insert(sealing, [{"probe": vault.seal(PROBE)}])


def _seal(connection: sa.Connection, name: str, key: tuple[str, ...]) -> None:
    vault = vault_of(connection.dialect)
    table = sa.table(name, *map(sa.column, (*key, "primary_key", "secondary_key")))
    for row in connection.execute(sa.select(table)).mappings().all():
        same = [table.c[column] == row[column] for column in key]
        sealed = {column: vault.seal(row[column]) for column in ("primary_key", "secondary_key")}
        connection.execute(sa.update(table).where(*same).values(sealed))
