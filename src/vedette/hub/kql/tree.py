"""What a KQL query says, as values. `at` is where a part begins in the text: an index from 0."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

Kind = Literal["bool", "long", "real", "string", "datetime", "timespan", "dynamic"]
"""Types of values. `int` is a long here and `decimal` a real."""

KINDS: dict[str, Kind] = {
    "bool": "bool",
    "boolean": "bool",
    "int": "long",
    "long": "long",
    "real": "real",
    "double": "real",
    "decimal": "real",
    "string": "string",
    "guid": "string",
    "datetime": "datetime",
    "date": "datetime",
    "timespan": "timespan",
    "time": "timespan",
    "dynamic": "dynamic",
}
"""Type names as queries write them."""


class KqlError(Exception):
    """A query that cannot be read or is not supported. at: where in the text."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


class Node(Struct, frozen=True, kw_only=True):
    """A part of a query."""

    at: int


# -- expressions


class Constant(Node, frozen=True, kw_only=True):
    """A literal. A datetime is microseconds since 1970 (UTC), a timespan microseconds, a dynamic JSON."""

    kind: Kind
    value: Any


class Name(Node, frozen=True, kw_only=True):
    """A column, a name that `let` bound, or a table."""

    name: str


class Star(Node, frozen=True, kw_only=True):
    """`*`: all columns."""


class Call(Node, frozen=True, kw_only=True):
    """A function or an aggregate of its arguments."""

    name: str
    arguments: tuple[Expression, ...]


class Binary(Node, frozen=True, kw_only=True):
    """An operator between two values, in KQL's spelling."""

    op: str
    left: Expression
    right: Expression


class Membership(Node, frozen=True, kw_only=True):
    """`in`, `!in`, `in~`, `!in~`, `has_any`, `has_all`: a value against a list."""

    op: str
    value: Expression
    items: tuple[Expression, ...]


class Between(Node, frozen=True, kw_only=True):
    """`between (low .. high)`."""

    value: Expression
    low: Expression
    high: Expression
    negated: bool


class Member(Node, frozen=True, kw_only=True):
    """A property (name) or an element (number) of a dynamic value."""

    base: Expression
    key: str | int


class Table(Node, frozen=True, kw_only=True):
    """A query in parentheses where a value or a table is expected."""

    query: Query


Expression = Constant | Name | Star | Call | Binary | Membership | Between | Member | Table


class Target(Node, frozen=True, kw_only=True):
    """An entry of a list of columns; name: empty if the query gives none."""

    name: str
    value: Expression


# -- sources and operators


class DataTable(Node, frozen=True, kw_only=True):
    """`datatable (a:long, …) [ … ]`."""

    columns: tuple[tuple[str, Kind], ...]
    values: tuple[Expression, ...]


class Print(Node, frozen=True, kw_only=True):
    """`print`: one row."""

    targets: tuple[Target, ...]


class Range(Node, frozen=True, kw_only=True):
    """`range name from first to last step step`."""

    name: str
    first: Expression
    last: Expression
    step: Expression


class Where(Node, frozen=True, kw_only=True):
    """`where`."""

    condition: Expression


class Columns(Node, frozen=True, kw_only=True):
    """`project`, `extend`, `distinct`."""

    op: str
    targets: tuple[Target, ...]


class Selection(Node, frozen=True, kw_only=True):
    """`project-away`, `project-keep`, `project-reorder`: names, which may end in `*`."""

    op: str
    patterns: tuple[str, ...]


class Rename(Node, frozen=True, kw_only=True):
    """`project-rename`: new name → old name."""

    names: tuple[tuple[str, str], ...]


class Take(Node, frozen=True, kw_only=True):
    """`take`, `limit`, `sample`."""

    rows: int


class Key(Node, frozen=True, kw_only=True):
    """A key to sort by."""

    value: Expression
    ascending: bool
    nulls_first: bool


class Sort(Node, frozen=True, kw_only=True):
    """`sort`, `order`, `top`. rows: None for all."""

    keys: tuple[Key, ...]
    rows: int | None = None


class Count(Node, frozen=True, kw_only=True):
    """`count`."""


class Schema(Node, frozen=True, kw_only=True):
    """`getschema`."""


class Summarize(Node, frozen=True, kw_only=True):
    """`summarize`."""

    aggregates: tuple[Target, ...]
    by: tuple[Target, ...]


class Join(Node, frozen=True, kw_only=True):
    """`join`, `lookup`. on: pairs of columns, left and right."""

    op: str
    kind: str
    right: Query
    on: tuple[tuple[str, str], ...]


class Union(Node, frozen=True, kw_only=True):
    """`union`. source_column: empty for none. fuzzy: tables that do not exist are left out."""

    tables: tuple[Query, ...]
    inner: bool
    source_column: str
    fuzzy: bool


class Expansion(Node, frozen=True, kw_only=True):
    """`mv-expand` of one column. index: name of a column for the position, or empty. limit: rows of each."""

    target: Target
    kind: Kind
    index: str
    limit: int | None


class Piece(Struct, frozen=True):
    """Of a `parse` pattern: a text to skip to (star: from anywhere), then a column; its name may be empty."""

    star: bool
    text: str
    name: str
    kind: Kind


class Parse(Node, frozen=True, kw_only=True):
    """`parse`, `parse-where`. regex: the texts are regular expressions."""

    value: Expression
    pieces: tuple[Piece, ...]
    regex: bool
    matching: bool


Source = Name | Call | DataTable | Print | Range | Union | Table
Operator = (
    Where
    | Columns
    | Selection
    | Rename
    | Take
    | Sort
    | Count
    | Schema
    | Summarize
    | Join
    | Union
    | Expansion
    | Parse
)


class Function(Node, frozen=True, kw_only=True):
    """A function that a query declares. parameters: name → default, if there is one."""

    parameters: tuple[tuple[str, Expression | None], ...]
    lets: tuple[Let, ...]
    body: Expression


class Let(Node, frozen=True, kw_only=True):
    """`let name = …;`."""

    name: str
    value: Expression | Function


class Query(Node, frozen=True, kw_only=True):
    """A source and what its rows pass through."""

    source: Source
    operators: tuple[Operator, ...] = ()


class Statements(Struct, frozen=True):
    """A whole query text."""

    lets: tuple[Let, ...]
    query: Query
