"""KQL to DuckDB's SQL, by the `duckdb-kql` package; what it cannot translate is an error that says where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vedette.hub.lake.errors import QueryError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def translate(connection: DuckDBPyConnection, text: str) -> tuple[str, dict[str, Any]]:
    """SQL and its parameters for a KQL query over the connection's views. Raises QueryError."""
    import duckdb_kql
    from duckdb_kql.engine import schema

    try:
        result = duckdb_kql.to_sql(text, schema=schema(connection), allow_write=False)
    except duckdb_kql.KqlSyntaxError as error:
        first = error.diagnostics[0] if error.diagnostics else None
        if first is None:
            raise QueryError(str(error)) from None
        raise QueryError(first.message, line=first.span.line, column=first.span.column + 1) from None
    except duckdb_kql.KqlUnsupportedError as error:
        line, column = (error.span.line, error.span.column + 1) if error.span else (0, 0)
        hint = f" ({error.hint})" if error.hint else ""
        raise QueryError(f"not supported: {error.construct}{hint}", line=line, column=column) from None
    except duckdb_kql.KqlError as error:
        raise QueryError(str(error)) from None
    except RecursionError:
        raise QueryError("nested too deeply") from None
    if result.unbound:
        raise QueryError(f"no value for the declared parameter {', '.join(result.unbound)}")
    return str(result), dict(result.parameters)
