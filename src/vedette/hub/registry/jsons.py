"""Values inside JSON columns, as the databases see them; whatever is asked for goes there as a parameter."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import ColumnElement, Numeric, SQLColumnExpression, String, cast, func, literal, text
from sqlalchemy.dialects.postgresql import JSON

from vedette.hub.registry.conditions import Path

Truth: TypeAlias = ColumnElement[bool]
Column: TypeAlias = SQLColumnExpression[Any]


class Place(msgspec.Struct, frozen=True):
    """How a database sees a place in JSON.

    text: the JSON there, null if there is nothing. is_text, is_number: what it is; string, number: its value
    if it is that. plain: `null`, `true` or `false` if it is one of these.
    """

    text: Column
    is_text: Truth
    is_number: Truth
    string: Column
    number: Column
    plain: Column


class Sqlite:
    """JSON functions of SQLite; texts compare by code points anyway."""

    collation = "BINARY"

    @staticmethod
    def at(column: Column, path: Path) -> Place:
        """A place: a path that is not empty."""
        # Quotes and backslashes do not come here: the parser refuses them in keys.
        place = "$" + "".join(f'."{key}"' for key in path)
        kind, value = func.json_type(column, place), func.json_extract(column, place)
        return Place(
            text=column.op("->")(place),
            is_text=kind == "text",
            is_number=kind.in_(("integer", "real")),
            string=value,
            number=value,
            plain=kind,
        )

    @staticmethod
    def constant(number: float) -> Any:
        """A number to compare with."""
        return number


class Postgres:
    """JSON operators of PostgreSQL, on `json`: unlike `jsonb` it leaves texts as they are written."""

    collation = "C"

    @staticmethod
    def at(column: Column, path: Path) -> Place:
        """A place: a path that is not empty."""
        value: Column = cast(column, JSON)
        for key in path:
            # As text it is a key, never an index of an array.
            value = value.op("->", return_type=JSON())(cast(key, String))
        kind, string = func.json_typeof(value), value.op("#>>", return_type=String())(_WHOLE)
        return Place(
            text=cast(value, String),
            is_text=kind == "string",
            is_number=kind == "number",
            string=string,
            number=cast(string, Numeric),
            plain=cast(value, String),
        )

    @staticmethod
    def constant(number: float) -> Any:
        """A number to compare with."""
        return literal(Decimal(repr(number)), Numeric)


_WHOLE = text("'{}'")
"""The empty path."""


Database: TypeAlias = type[Sqlite | Postgres]


def database(dialect: str) -> Database:
    """The one that SQLAlchemy calls by this name."""
    return Postgres if dialect == "postgresql" else Sqlite
