"""Conditions on twin documents: what the query language's WHERE means. Pure.

A condition is a tree. Here it is put to one document, as the service API shows it; `registry.sql` puts it to
all rows of a database at once, with the same answers. A path that is not there is undefined, and a comparison
with something undefined, or of two types, is false, as in the real service.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

Document: TypeAlias = Mapping[str, Any]
Path: TypeAlias = tuple[str, ...]
Sign: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">="]


class Undefined:
    """The value of a path that is not there."""


UNDEFINED = Undefined()


class Compare(msgspec.Struct, frozen=True):
    """A value stands to a constant as the sign says."""

    path: Path
    sign: Sign
    wanted: Any


class Among(msgspec.Struct, frozen=True):
    """A value is one of these."""

    path: Path
    values: tuple[Any, ...]


class Defined(msgspec.Struct, frozen=True):
    """A path is there."""

    path: Path


class Starts(msgspec.Struct, frozen=True):
    """A value is text that begins with this one."""

    path: Path
    start: str


class Not(msgspec.Struct, frozen=True):
    """The contrary."""

    inner: Condition


class All(msgspec.Struct, frozen=True):
    """Each of them holds; without any, always."""

    parts: tuple[Condition, ...] = ()


class Some(msgspec.Struct, frozen=True):
    """At least one of them holds."""

    parts: tuple[Condition, ...]


Leaf: TypeAlias = Compare | Among | Defined | Starts
Condition: TypeAlias = Leaf | Not | All | Some
ALWAYS = All()

OPERATORS: Mapping[Sign, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def lookup(document: Document, path: Path) -> Any:
    """The value at a path; UNDEFINED if there is none."""
    value: Any = document
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return UNDEFINED
        value = value[name]
    return value


def holds(condition: Condition, document: Document) -> bool:
    """Whether a condition holds for a document."""
    match condition:
        case All(parts):
            return all(holds(part, document) for part in parts)
        case Some(parts):
            return any(holds(part, document) for part in parts)
        case Not(inner):
            return not holds(inner, document)
        case _:
            return true_of(condition, lookup(document, condition.path))


def true_of(leaf: Leaf, value: Any) -> bool:
    """Whether a condition on one path holds for the value there."""
    match leaf:
        case Defined():
            return value is not UNDEFINED
        case Starts(_, start):
            return isinstance(value, str) and value.startswith(start)
        case Among(_, values):
            return value is not UNDEFINED and any(_compared(value, "=", wanted) for wanted in values)
        case Compare(_, sign, wanted):
            return value is not UNDEFINED and _compared(value, sign, wanted)


def _compared(value: Any, sign: Sign, wanted: Any) -> bool:
    if _type(value) is not _type(wanted):
        return sign == "!="
    if wanted is None or isinstance(wanted, bool):
        return sign in ("=", "!=") and bool(OPERATORS[sign](value, wanted))
    return bool(OPERATORS[sign](value, wanted))


def _type(value: Any) -> type:
    """Numbers are one type; truth values are none of them."""
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
