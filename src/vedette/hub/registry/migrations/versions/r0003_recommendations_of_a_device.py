"""Recommendations are found by their device, also among those of a large fleet."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the step, where the table is older than its index."""
    inspector = sa.inspect(op.get_bind())
    if inspector.has_table("recommendations"):
        known = {index["name"] for index in inspector.get_indexes("recommendations")}
        if "recommendations_device" not in known:
            op.create_index("recommendations_device", "recommendations", ["device_id"])
