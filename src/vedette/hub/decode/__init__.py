"""Device-to-cloud messages, understood: ours, the classic agent's JSON, the RTOS agent's FlatBuffers.

Which one it is: `mti` says so where a device sends it; the classic agent does not, and is known by the keys
of its envelope.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vedette.hub.decode import classic, micro, rtos
from vedette.hub.decode.reading import Decoded, Reading, Unreadable
from vedette.wire.message import INTERFACE_ID, MessageError

__all__ = ["Decoded", "Reading", "Unreadable", "decode"]

INTERFACE = "$.ifid"
MESSAGE_TYPE = "mti"

_MTI = re.compile(r"(?P<major>\d+)\.\d+-(?P<encoding>\d+)-(?P<source>\d+)-\d+")
_SOURCES = {"0": "RTOS", "1": "Linux", "2": "Hub"}
_FLAT_MAJOR = "2"
"""The one schema whose field ids we know; minor versions only add fields."""


def decode(properties: Mapping[str, str], body: bytes) -> Decoded:
    """Read a message by its topic's properties. Raises MessageError if it is not one that can be read."""
    mti = properties.get(MESSAGE_TYPE)
    if mti is None:
        if properties.get(INTERFACE) != INTERFACE_ID:
            raise MessageError("not a security message: neither `$.ifid` nor `mti` says so")
        return classic.decode(body) if classic.is_envelope(body) else micro.decode(body, "")
    match = _MTI.fullmatch(mti)
    if match is None:
        raise MessageError(f"mti: {mti[:64]!r} is not <major>.<minor>-<encoding>-<source>-<type>")
    if match["encoding"] == "0":
        return micro.decode(body, _SOURCES.get(match["source"], ""))
    if match["encoding"] != "1":
        raise MessageError(f"mti: encoding {match['encoding'][:8]} is neither 0 (JSON) nor 1 (FlatBuffers)")
    if match["major"] != _FLAT_MAJOR:
        raise MessageError(f"mti: FlatBuffers of schema {match['major'][:8]} cannot be read, only 2")
    return rtos.decode(body)
