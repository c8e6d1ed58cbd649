"""The Kusto query language to SQL: text → tokens → tree → one common table expression an operator.

Knows nothing of the hub. What every engine writes alike stands in `functions`, `aggregates` and `emit`; what
differs between engines is a `dialect`. Values of type dynamic are JSON texts, but a string in one is that
string, without quotes: so it is compared, and so it is shown. A timespan is a number of microseconds.
"""

from vedette.hub.kql.dialect import Dialect, DuckDB, Spark
from vedette.hub.kql.emit import Translation, translate
from vedette.hub.kql.tree import Kind, KqlError

__all__ = ["Dialect", "DuckDB", "Kind", "KqlError", "Spark", "Translation", "translate"]
