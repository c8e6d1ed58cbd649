"""Where registries start that were made before revisions were counted: their tables are there."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Nothing is left to do."""
