"""STIX 2.0 and 2.1 bundles: their indicators, as far as a pattern says that one thing by itself is bad.

Understood are comparisons with `=` and `IN`, and `ISSUBSET` for ranges, of the object paths in PATHS and of
file hashes, joined by OR within an observation or between observations. What else a pattern may say (AND,
FOLLOWEDBY, NOT, LIKE, MATCHES, qualifiers) has no place in a list, and is refused with its reason.
Source of the grammar: STIX 2.1, OASIS Standard, section 9.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, Any

from vedette.hub.intel.indicators import Indicator, Kind, Refused, indicator

PATHS: dict[str, Kind] = {
    "ipv4-addr:value": "address",
    "ipv6-addr:value": "address",
    "network-traffic:dst_ref.value": "address",
    "network-traffic:src_ref.value": "address",
    "domain-name:value": "name",
    "url:value": "url",
}
"""Object paths that are understood, beside the hashes of files."""

MAX_PATTERN = 65_536
"""Characters of a pattern: one with a thousand addresses has 40,000."""

_TEXT = r"'((?:[^'\\]|\\.)*)'"
_COMPARISON = re.compile(
    rf"(?P<path>[a-z0-9-]+:[A-Za-z0-9_.'\"-]+)\s*(?P<op>=|IN|ISSUBSET)\s*(?P<value>{_TEXT}|\(\s*{_TEXT}(?:\s*,\s*{_TEXT})*\s*\))"
)
_ONE = re.compile(_TEXT)
_HASHES = re.compile(r"file:hashes\.['\"]?(?:MD5|SHA-?(?:1|256|512))['\"]?", re.IGNORECASE)


def read(binary: IO[bytes]) -> Iterator[Indicator | Refused]:
    """The indicators of a bundle; objects of other types are passed over. Raises ijson.JSONError."""
    import ijson

    for found in ijson.items(binary, "objects.item", use_float=True):
        if not isinstance(found, dict) or found.get("type") != "indicator":
            continue
        try:
            yield from _indicators(found)
        except Refused as refused:
            yield refused


def _indicators(found: dict[str, Any]) -> Iterator[Indicator | Refused]:
    if found.get("revoked"):
        raise Refused("revoked")
    if found.get("pattern_type", "stix") != "stix":
        raise Refused(f"pattern of type {str(found['pattern_type'])[:32]}")
    expires, confidence = _time(found.get("valid_until")), found.get("confidence")
    for kind, text in compared(str(found.get("pattern") or "")):
        try:
            yield indicator(
                text,
                kind,
                confidence=confidence if isinstance(confidence, int) else None,
                expires=expires,
                note=str(found.get("name") or found.get("id") or ""),
            )
        except Refused as refused:
            yield refused


def compared(pattern: str) -> list[tuple[Kind, str]]:
    """What a pattern compares with: kinds and values. Raises Refused for what is not understood."""
    if len(pattern) > MAX_PATTERN:
        raise Refused(f"pattern longer than {MAX_PATTERN} characters")
    found: list[tuple[Kind, str]] = []
    for match in _COMPARISON.finditer(pattern):
        kind = PATHS.get(match["path"]) or ("hash" if _HASHES.fullmatch(match["path"]) else None)
        if kind is None:
            raise Refused(f"pattern on {match['path'][:64]}")
        found += [(kind, _plain(one)) for one in _ONE.findall(match["value"])]
    rest = _ONE.sub("", _COMPARISON.sub("", pattern))
    if left := set(re.findall(r"[^\s\[\](),]+", rest)) - {"OR"}:
        raise Refused(f"pattern with {min(left, key=lambda word: (not word.isupper(), word))[:32]}")
    if not found:
        raise Refused("pattern without a comparison")
    return found


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _time(text: Any) -> float | None:
    """A STIX timestamp as Unix seconds."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
