"""MISP events: an event file, an answer of the REST interface, a file of a feed.

Attributes that MISP marks for detection (`to_ids`) and that are not deleted are taken, those of objects, too.
Source of the format: the MISP core format, draft-00, section 2.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from vedette.hub.intel.indicators import Indicator, Kind, Refused, indicator

TYPES: dict[str, tuple[Kind | None, ...]] = {
    **dict.fromkeys(("ip-dst", "ip-src"), ("address",)),
    **dict.fromkeys(("ip-dst|port", "ip-src|port"), ("address", None)),
    **dict.fromkeys(("domain", "hostname"), ("name",)),
    "hostname|port": ("name", None),
    "domain|ip": ("name", "address"),
    "url": ("url",),
    **dict.fromkeys(("md5", "sha1", "sha256", "sha512"), ("hash",)),
    **dict.fromkeys(("filename|md5", "filename|sha1", "filename|sha256", "filename|sha512"), (None, "hash")),
}
"""Attribute types → the kinds of their parts, which `|` separates; None for a part that is no indicator."""


def read(binary: IO[bytes]) -> Iterator[Indicator | Refused]:
    """The attributes of all events in a file. Raises ijson.JSONError."""
    import ijson

    building: Any = None
    inside = ""
    for prefix, event, value in ijson.parse(binary, use_float=True):
        if building is None and event == "start_map" and prefix.endswith("Attribute.item"):
            building, inside = ijson.ObjectBuilder(), prefix
        if building is None:
            continue
        building.event(event, value)
        if event == "end_map" and prefix == inside:
            yield from _indicators(building.value)
            building = None


def _indicators(attribute: dict[str, Any]) -> Iterator[Indicator | Refused]:
    kind = str(attribute.get("type"))
    if attribute.get("deleted"):
        yield Refused("deleted")
    elif kind not in TYPES:
        yield Refused(f"attribute of type {kind[:32]}")
    elif not attribute.get("to_ids"):
        yield Refused("not marked for detection (to_ids)")
    else:
        note = str(attribute.get("comment") or attribute.get("category") or "")
        texts = str(attribute.get("value") or "").split("|")
        for part, text in zip(TYPES[kind], texts, strict=False):
            if part is not None:
                yield _one(text, part, note)


def _one(text: str, kind: Kind, note: str) -> Indicator | Refused:
    try:
        return indicator(text, kind, note=note)
    except Refused as refused:
        return refused
