"""Messages become rows: decode, validate, drop duplicates, and wait until the lake has them."""

from __future__ import annotations

import msgspec

from vedette.wire.iothub import Identity


class Inbound(msgspec.Struct, frozen=True):
    """A device-to-cloud message as the gateway received it.

    properties: the decoded property bag of its topic (`$.mid`, `$.ifid`, `mti`, …).
    received: Unix seconds.
    """

    identity: Identity
    properties: dict[str, str]
    body: bytes
    received: float
