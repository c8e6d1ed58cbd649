"""A strict check of events against the OCSF schema that the package pydantic-ocsf carries.

Its own models accept attributes that the schema does not have; here an unknown attribute is an error, as are
a missing required one, a value that is not of its type or enumeration, and a broken constraint.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from vedette.hub.formats.ocsf import VERSION

SCHEMA = json.loads((files("ocsf") / f"schemas/v{VERSION.replace('.', '_')}.json").read_text())
DICTIONARY = SCHEMA["dictionary"]["attributes"]
TYPES = SCHEMA["dictionary"]["types"]["attributes"]
HOST_PROFILE = {"actor": {"requirement": "optional"}, "device": {"requirement": "recommended"}}
"""What the profile `host` adds to every class; the package carries no profiles."""

PYTHON = {"string_t": str, "integer_t": int, "long_t": int, "boolean_t": bool, "float_t": float}


@cache
def attributes(kind: str, name: str) -> dict[str, Any]:
    """The attributes of a class or object with what it inherits."""
    entry = SCHEMA[kind][name]
    found = dict(attributes(kind, entry["extends"])) if "extends" in entry else {}
    for key, told in entry.get("attributes", {}).items():
        if not key.startswith("$"):
            before = found.get(key, {})
            found[key] = {**before, **told, "enum": {**before.get("enum", {}), **told.get("enum", {})}}
    return found


@cache
def constraints(kind: str, name: str) -> dict[str, list[str]]:
    entry = SCHEMA[kind][name]
    if "constraints" in entry or "extends" not in entry:
        return entry.get("constraints", {})
    return constraints(kind, entry["extends"])


@cache
def classes() -> dict[int, str]:
    """The number of each class by its name: 1000 for each category, and its own."""
    categories = {name: told["uid"] for name, told in SCHEMA["categories_meta"]["attributes"].items()}

    def category(name: str) -> int:
        entry = SCHEMA["events"][name]
        if "category" in entry:
            return categories.get(entry["category"], 0)
        return category(entry["extends"]) if "extends" in entry else 0

    return {category(name) * 1000 + entry.get("uid", 0): name for name, entry in SCHEMA["events"].items()}


def problems(event: dict[str, Any]) -> list[str]:
    """What is wrong with an event; empty if nothing is."""
    number = event.get("class_uid")
    name = classes().get(number) if number else "base_event"
    if name is None:
        return [f"class_uid {number}: no such class"]
    found = list(_object("events", name, event, ""))
    if event["category_uid"] != number // 1000:
        found.append(f"category_uid {event['category_uid']} is not that of {number}")
    if event["type_uid"] != number * 100 + event["activity_id"]:
        found.append(f"type_uid {event['type_uid']} is not that of the activity")
    return found


def _object(kind: str, name: str, value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: not an object"
        return
    declared = attributes(kind, name)
    if kind == "events":
        declared = {**HOST_PROFILE, **declared}
    for key in value.keys() - declared.keys():
        yield f"{where}.{key}: not an attribute of {name}"
    for key, told in declared.items():
        if told.get("requirement") == "required" and key not in value:
            yield f"{where}.{key}: required"
    needed = constraints(kind, name).get("at_least_one")
    if needed and not any(key in value for key in needed):
        yield f"{where}: one of {needed} is required"
    for key in value.keys() & declared.keys():
        yield from _attribute(key, declared[key], value[key], f"{where}.{key}")


def _attribute(key: str, told: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    declared = DICTIONARY[key]
    if declared.get("is_array"):
        if not isinstance(value, list):
            yield f"{where}: not a list"
            return
        for index, item in enumerate(value):
            yield from _value(key, told, item, f"{where}[{index}]")
    else:
        yield from _value(key, told, value, where)


def _value(key: str, told: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    declared = DICTIONARY[key]
    kind = declared["type"]
    enumeration = {**declared.get("enum", {}), **told.get("enum", {})}
    if kind in SCHEMA["objects"] and kind != "object":
        yield from _object("objects", kind, value, where)
    elif kind in TYPES:
        if enumeration and key not in ("class_uid", "category_uid") and str(value) not in enumeration:
            yield f"{where}: {value!r} is not in the enumeration"
        yield from _simple(kind, value, where)


def _simple(kind: str, value: Any, where: str) -> Iterator[str]:
    rule = TYPES[kind]
    python = PYTHON.get(kind) or PYTHON.get(rule.get("type", ""))
    if python and (not isinstance(value, python) or (isinstance(value, bool) and python is not bool)):
        yield f"{where}: {value!r} is not a {kind}"
        return
    if "regex" in rule and not re.search(rule["regex"], value):
        yield f"{where}: {value!r} is not a {kind}"
    if "max_len" in rule and len(value) > rule["max_len"]:
        yield f"{where}: longer than {rule['max_len']}"
    if "range" in rule and not rule["range"][0] <= value <= rule["range"][1]:
        yield f"{where}: {value} is out of range"
