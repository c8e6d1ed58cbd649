"""The event lake: Delta tables on disk, written durably, kept small, and read by queries."""

from vedette.hub.lake.errors import CommitFailed, QueryError
from vedette.hub.lake.maintain import Maintenance
from vedette.hub.lake.query import Cancelled, Lake, Limits, Result, Watch

__all__ = ["Cancelled", "CommitFailed", "Lake", "Limits", "Maintenance", "QueryError", "Result", "Watch"]
