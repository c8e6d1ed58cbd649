"""Conditions on twins, put to the registry's rows by the database: SQLite and PostgreSQL.

Each path of a twin document (`api.documents`) is a column, an expression over columns, a place in a column of
JSON, or a constant. `registry.conditions` says what conditions mean; here they mean the same, which a test
proves on made-up fleets. Whatever a caller wrote reaches the database as a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import (
    String,
    and_,
    case,
    cast,
    collate,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    true,
)

from vedette.hub.registry.conditions import (
    OPERATORS,
    UNDEFINED,
    All,
    Among,
    Compare,
    Condition,
    Defined,
    Leaf,
    Not,
    Path,
    Sign,
    Some,
    Starts,
    true_of,
)
from vedette.hub.registry.jsons import Column, Place, Truth, database
from vedette.hub.registry.messages import MessageRow
from vedette.hub.registry.metadata import SHORT, MetadataRow
from vedette.hub.registry.profiles import ProfileRow
from vedette.hub.registry.query import QueryError
from vedette.hub.registry.schema import IdentityRow, TwinRow
from vedette.hub.registry.times import LONG_AGO, NEVER, time_text

TICK_S = 0.001
"""What documents show of a time."""

WAITING: Column = (
    select(func.count())
    .where(MessageRow.device_id == IdentityRow.device_id, MessageRow.module_id == IdentityRow.module_id)
    .scalar_subquery()
)
"""Messages that wait for the identity."""

_TAGS_VERSION = func.coalesce(ProfileRow.tags_version, 1)


class Constant(msgspec.Struct, frozen=True):
    """The same for every twin; UNDEFINED: never there. Of an object only that it is one matters."""

    value: Any


class Text(msgspec.Struct, frozen=True):
    """Text, or null where the column is."""

    column: Column


class Number(msgspec.Struct, frozen=True):
    """A number, always there."""

    column: Column


class Time(msgspec.Struct, frozen=True):
    """A time: Unix seconds."""

    column: Column


class Inside(msgspec.Struct, frozen=True):
    """A place in a column of JSON: a path that is not empty."""

    column: Column
    path: Path


Value: TypeAlias = Constant | Text | Number | Time | Inside

_VALUES: dict[Path, Value] = {
    ("deviceId",): Text(IdentityRow.device_id),
    ("etag",): Text(
        literal("t") + cast(_TAGS_VERSION, String) + literal("d") + cast(TwinRow.desired_version, String)
    ),
    ("deviceEtag",): Text(IdentityRow.etag),
    ("status",): Text(case((IdentityRow.enabled, "enabled"), else_="disabled")),
    ("statusReason",): Text(func.nullif(ProfileRow.status_reason, "")),
    ("statusUpdateTime",): Constant(NEVER),
    ("connectionState",): Text(case((IdentityRow.gateway != "", "Connected"), else_="Disconnected")),
    ("lastActivityTime",): Time(func.coalesce(IdentityRow.last_activity, LONG_AGO)),
    ("cloudToDeviceMessageCount",): Number(WAITING),
    ("authenticationType",): Text(func.coalesce(ProfileRow.authentication, "sas")),
    ("x509Thumbprint", "primaryThumbprint"): Text(func.nullif(ProfileRow.primary_thumbprint, "")),
    ("x509Thumbprint", "secondaryThumbprint"): Text(func.nullif(ProfileRow.secondary_thumbprint, "")),
    ("modelId",): Constant(""),
    ("version",): Number(
        _TAGS_VERSION + TwinRow.desired_version + TwinRow.reported_version - 2,
    ),
    ("capabilities", "iotEdge"): Constant(False),
    ("properties", "desired", "$version"): Number(TwinRow.desired_version),
    ("properties", "reported", "$version"): Number(TwinRow.reported_version),
    **dict.fromkeys(
        (
            *(("tags",), ("properties",), ("properties", "desired"), ("properties", "reported")),
            *(("x509Thumbprint",), ("capabilities",)),
        ),
        Constant({}),
    ),
}
_METADATA: dict[str, Column] = {
    "desired": func.coalesce(MetadataRow.desired, "{}"),
    "reported": func.coalesce(MetadataRow.reported, "{}"),
}
_JSON: dict[Path, Column] = {
    ("tags",): func.coalesce(ProfileRow.tags, "{}"),
    ("properties", "desired"): TwinRow.desired,
    ("properties", "reported"): TwinRow.reported,
}


_PLAIN = {"null": None, "true": True, "false": False}


class Translation:
    """Conditions and values on one kind of database. modules: of modules, which have an id of their own."""

    def __init__(self, dialect: str, *, modules: bool) -> None:
        self._database = database(dialect)
        self._modules = modules

    def condition(self, condition: Condition) -> Truth:
        """The condition as an expression that is true or false, never null."""
        match condition:
            case All(parts):
                return and_(true(), *map(self.condition, parts))
            case Some(parts):
                return or_(false(), *map(self.condition, parts))
            case Not(inner):
                return not_(self.condition(inner))
        match self._value(condition.path):
            case Constant(known):
                return true() if true_of(condition, known) else false()
            case Inside(column, path):
                return self._of_json(condition, self._database.at(column, path))
            case Time(column):
                return _of_time(condition, column)
            case Number(column):
                return self._of_plain(condition, column, float)
            case Text(column):
                return self._of_plain(condition, column, str)

    def group(self, path: Path) -> Column:
        """The value at a path; that of a place in JSON as JSON text. Raises QueryError."""
        match self._value(path):
            case Inside(column, below):
                return func.coalesce(self._database.at(column, below).text, "null")
            case Text(column) | Number(column) | Time(column):
                return column
            case Constant(value):
                if value == {}:
                    raise QueryError(
                        f"query: GROUP BY {'.'.join(path)}: a value is needed, this is an object"
                    )
                return null() if value is UNDEFINED else literal(value)

    def grouped(self, path: Path, found: Any) -> str:
        """What the database found for `group`, as JSON text."""
        value = self._value(path)
        if isinstance(value, Inside):
            return str(found)
        if isinstance(value, Time):
            found = NEVER if found <= LONG_AGO else time_text(datetime.fromtimestamp(found, UTC))
        return msgspec.json.encode(found).decode()

    def _value(self, path: Path) -> Value:
        if path == ("moduleId",) and self._modules:
            return Text(IdentityRow.module_id)
        if path in _VALUES:
            return _VALUES[path]
        if path[:1] + path[2:3] == ("properties", "$metadata") and path[1] in _METADATA:
            short = tuple(SHORT.get(name, name) for name in path[3:])
            return Inside(_METADATA[path[1]], short) if short else Constant({})
        for length in (1, 2):
            column = _JSON.get(path[:length])
            if column is not None:
                return Inside(column, path[length:])
        return Constant(UNDEFINED)

    def _of_plain(self, leaf: Leaf, column: Column, kind: type) -> Truth:
        """A condition on a column, in which null is a value like others."""
        match leaf:
            case Defined():
                return true()
            case Starts(_, start):
                return _never_null(_begins(column, start)) if kind is str else false()
            case Among(_, values):
                fitting = [value for value in values if _kind(value) is kind]
                found = _never_null(column.in_(fitting)) if fitting else false()
                return or_(found, column.is_(None)) if None in values else found
            case Compare(_, sign, None):
                return {"=": column.is_(None), "!=": column.is_not(None)}.get(sign, false())
            case Compare(_, sign, wanted) if _kind(wanted) is kind:
                return _never_null(self._compared(column, sign, wanted), otherwise=sign == "!=")
            case Compare(_, sign, _):
                return true() if sign == "!=" else false()

    def _of_json(self, leaf: Leaf, value: Place) -> Truth:
        match leaf:
            case Defined():
                return value.text.is_not(None)
            case Starts(_, start):
                return _where(value.is_text, _begins(value.string, start))
            case Among(_, values):
                return self._among(values, value)
            case Compare(_, "=", wanted):
                return self._among((wanted,), value)
            case Compare(_, "!=", wanted):
                return and_(value.text.is_not(None), not_(self._among((wanted,), value)))
            case Compare(_, sign, wanted):
                if _kind(wanted) is str:
                    return _where(value.is_text, self._compared(value.string, sign, wanted))
                if _kind(wanted) is float:
                    constant = self._database.constant(wanted)
                    return _where(value.is_number, self._compared(value.number, sign, constant))
                return false()

    def _among(self, values: Sequence[Any], value: Place) -> Truth:
        """A place in JSON is one of these: an expression for each kind that there is among them."""
        texts = [one for one in values if _kind(one) is str]
        numbers = [self._database.constant(one) for one in values if _kind(one) is float]
        plain = [word for word, known in _PLAIN.items() if any(one is known for one in values)]
        return or_(
            false(),
            *([_where(value.is_text, value.string.in_(texts))] if texts else []),
            *([_where(value.is_number, value.number.in_(numbers))] if numbers else []),
            *([_never_null(value.plain.in_(plain))] if plain else []),
        )

    def _compared(self, column: Column, sign: Sign, wanted: Any) -> Truth:
        """A comparison; which of two texts comes first is told by code points, in any language."""
        if isinstance(wanted, str) and sign not in ("=", "!="):
            column = collate(column, self._database.collation)
        truth: Truth = OPERATORS[sign](column, wanted)
        return truth


def _of_time(leaf: Leaf, column: Column) -> Truth:
    """A condition on a time, which documents show cut to milliseconds; constants are in their form."""
    match leaf:
        case Among(path, values):
            return or_(false(), *(_of_time(Compare(path, "=", value), column) for value in values))
        case Compare(_, sign, str(wanted)):
            begin = LONG_AGO if wanted == NEVER else datetime.fromisoformat(wanted).timestamp()
            end = begin + TICK_S
            conditions: dict[Sign, Truth] = {
                "=": and_(column >= begin, column < end),
                "!=": or_(column < begin, column >= end),
                "<": column < begin,
                "<=": column < end,
                ">": column >= end,
                ">=": column >= begin,
            }
            return conditions[sign]
        case Starts():
            raise QueryError("query: STARTS_WITH: compare a time with < and >= instead")
        case _:
            return true() if true_of(leaf, NEVER) else false()


def _where(guard: Truth, truth: Truth) -> Truth:
    """False unless the guard is true; only then the rest is evaluated."""
    return case((guard, truth), else_=false())


def _begins(column: Column, start: str) -> Truth:
    return func.substr(column, 1, len(start)) == start


def _never_null(truth: Truth, *, otherwise: bool = False) -> Truth:
    return func.coalesce(truth, true() if otherwise else false())


def _kind(value: Any) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
