"""The settings of a twin as fields of a form, and what desired and reported say of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import EnumMeta
from typing import Any, Literal

import msgspec

from vedette.hub.registry.twins import difference
from vedette.wire.declare import describe
from vedette.wire.twin import LATEST_INVALID_FIELDS, LATEST_STATE, Settings

SHORT = 120
"""Characters of a value that a line of changes shows."""


class Field(msgspec.Struct, frozen=True):
    """A setting. group: what stands before the first `_` of its key. choices: of kind `choice`."""

    key: str
    group: str
    kind: Literal["switch", "number", "choice", "text"]
    help: str
    unit: str
    default: Any
    choices: tuple[Any, ...] = ()
    low: int | None = None
    high: int | None = None


class Difference(msgspec.Struct, frozen=True):
    """A setting that is desired, and what the device says of it.

    state: `in force`, `refused` (with the reason), or `pending`: the device has not said yet.
    """

    key: str
    desired: Any
    reported: Any
    state: Literal["in force", "refused", "pending"]
    reason: str = ""


def _fields() -> tuple[Field, ...]:
    defaults = Settings().document()
    told = {name: (unit, text) for name, _, unit, text in describe(Settings)}
    info = msgspec.inspect.type_info(Settings)
    assert isinstance(info, msgspec.inspect.StructType)
    return tuple(_field(field.encode_name, field.type, defaults, told) for field in info.fields)


def _field(
    key: str, kind: msgspec.inspect.Type, defaults: Mapping[str, Any], told: Mapping[str, tuple[str, str]]
) -> Field:
    while isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    unit, text = told[key]
    common = {
        "key": key,
        "group": key.partition("_")[0],
        "help": text,
        "unit": unit,
        "default": defaults[key],
    }
    if isinstance(kind, msgspec.inspect.BoolType):
        return Field(kind="switch", **common)
    if isinstance(kind, msgspec.inspect.IntType):
        return Field(kind="number", low=kind.ge, high=kind.le, **common)
    if isinstance(kind, msgspec.inspect.LiteralType):
        return Field(kind="choice", choices=tuple(kind.values), **common)
    if isinstance(kind, msgspec.inspect.EnumType):
        assert isinstance(kind.cls, EnumMeta)
        return Field(kind="choice", choices=tuple(member.value for member in kind.cls), **common)
    return Field(kind="text", **common)


FIELDS = _fields()
"""Every setting, in the order of the table."""


def changed(document: Mapping[str, Any], field: Field, value: Any) -> dict[str, Any]:
    """A desired document in which a field of the form was given a value; emptied: back to the default."""
    if field.kind == "number" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if field.kind == "text" and value in (None, ""):
        value = field.default if field.default in (None, "") else value or None
    kept = {key: old for key, old in document.items() if key != field.key}
    if value is None or (value == field.default and field.key not in document):
        return kept
    return kept | {field.key: value}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What leads from one document to another, a line a setting: `Key: old → new`."""
    patch = difference(before, after)
    return [f"{key}: {_short(before.get(key))} → {_short(after.get(key))}" for key in sorted(patch)]


def _short(value: Any) -> str:
    return "default" if value is None else msgspec.json.encode(value).decode()[:SHORT]


def differences(desired: Mapping[str, Any], reported: Mapping[str, Any]) -> Sequence[Difference]:
    """What became of every desired setting."""
    refused = _refused(reported)
    failed = reported.get(LATEST_STATE) == "failed"
    found = []
    for key, value in sorted(desired.items()):
        told = reported.get(key)
        if key in refused and failed:
            found.append(Difference(key, value, told, "refused", refused[key]))
        elif told == value:
            found.append(Difference(key, value, told, "in force"))
        elif failed:
            found.append(
                Difference(key, value, told, "refused", "another setting of the same change is wrong")
            )
        else:
            found.append(Difference(key, value, told, "pending"))
    return found


def _refused(reported: Mapping[str, Any]) -> dict[str, str]:
    """Key → reason, from what a device reports; it may report anything."""
    listed = reported.get(LATEST_INVALID_FIELDS)
    if not isinstance(listed, list):
        return {}
    pairs = (str(entry).partition(": ") for entry in listed)
    return {key: reason for key, _, reason in pairs}
