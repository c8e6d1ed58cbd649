"""Twin documents: what may stand in one, and how a patch changes it. Pure.

Limits are those of the real service, so that a twin that lives here can live there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from vedette.hub.errors import DomainError
from vedette.wire.iothub import Identity

MAX_SECTION_BYTES = 32_768
"""The desired or the reported part, as compact JSON."""

MAX_STRING_BYTES = 4_096
MAX_KEY_BYTES = 1_024
MAX_DEPTH = 10
"""Objects and arrays inside each other."""

_RESERVED = frozenset({"$version", "$metadata"})
"""Keys at the top that tools send back as they read them; they are ours to write and are ignored."""

_FIELD_SHOWN = 256
"""Characters of a field's path that an error repeats."""


class TwinError(DomainError, ValueError):
    """A twin document that is refused: `field` is the path to what is wrong, `reason` says why."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field[:_FIELD_SHOWN]
        self.reason = reason
        super().__init__(f"{self.field}: {reason}" if field else reason)


class Twin(msgspec.Struct, frozen=True):
    """The twin of a device or module: what is wanted of it, and what it says of itself."""

    identity: Identity
    desired: dict[str, Any]
    desired_version: int
    reported: dict[str, Any]
    reported_version: int

    def document(self) -> dict[str, Any]:
        """As a device reads it."""
        return {
            "desired": {**self.desired, "$version": self.desired_version},
            "reported": {**self.reported, "$version": self.reported_version},
        }


def decode_patch(body: bytes) -> dict[str, Any]:
    """A patch from JSON. Raises TwinError."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TwinError("", f"not a JSON object: {error}") from None


def checked(patch: Mapping[str, Any], limit: int = MAX_SECTION_BYTES) -> dict[str, Any]:
    """A patch without reserved keys. Raises TwinError if anything in it may not stand in a twin."""
    kept = {key: value for key, value in patch.items() if key not in _RESERVED}
    for field, reason in _faults(kept, "", 1):
        raise TwinError(field, reason)
    encode_section(kept, limit)
    return kept


def encode_section(section: Mapping[str, Any], limit: int = MAX_SECTION_BYTES) -> str:
    """A section as compact JSON. Raises TwinError if it is larger than `limit` bytes."""
    text = msgspec.json.encode(section)
    if len(text) > limit:
        raise TwinError("", f"{len(text)} bytes as JSON, {limit} allowed")
    return text.decode()


def merge(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch (RFC 7396): null deletes, an object changes an object, all else replaces."""
    merged = dict(target)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch that leads from one document to another; neither holds null."""
    patch: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if below := difference(old, value):
                patch[key] = below
        elif key not in before or msgspec.json.encode(old) != msgspec.json.encode(value):
            patch[key] = value
    return patch


def _faults(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """(field, reason) of everything that may not be."""
    if isinstance(value, Mapping | list) and depth > MAX_DEPTH:
        yield path, f"deeper than {MAX_DEPTH} levels"
    elif isinstance(value, Mapping):
        for key, below in value.items():
            field = f"{path}.{key}" if path else str(key)
            if reason := _key_fault(key):
                yield field, reason
            yield from _faults(below, field, depth + 1)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _faults(below, f"{path}[{index}]", depth + 1)
    elif isinstance(value, str):
        if len(value.encode(errors="surrogatepass")) > MAX_STRING_BYTES:
            yield path, f"text longer than {MAX_STRING_BYTES} bytes"
        if "\0" in value:  # PostgreSQL cannot hand it out again
            yield path, "text holds the character U+0000"


def _key_fault(key: object) -> str | None:
    if not isinstance(key, str):
        return "key is not text"
    if not key or len(key.encode(errors="surrogatepass")) > MAX_KEY_BYTES:
        return f"key is empty or longer than {MAX_KEY_BYTES} bytes"
    if any(char in ".$ " or ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in key):
        return "key holds `.`, `$`, a space or a control character"
    return None
