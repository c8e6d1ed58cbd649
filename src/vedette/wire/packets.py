"""MQTT 3.1.1 control packets as values. How they look on the wire is said in `mqtt`."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import msgspec

FAILURE = 0x80
"""Return code of SUBACK for a filter that is not granted."""


class ConnectCode(IntEnum):
    """Return codes of CONNACK [3.2.2.3]."""

    ACCEPTED = 0
    BAD_PROTOCOL = 1
    BAD_CLIENT_ID = 2
    UNAVAILABLE = 3
    BAD_CREDENTIALS = 4
    NOT_AUTHORIZED = 5


class Connect(msgspec.Struct, frozen=True):
    """CONNECT. keep_alive: seconds, 0 for none."""

    client_id: str
    username: str | None = None
    password: bytes | None = None
    keep_alive: int = 0
    clean_session: bool = True

    def __repr__(self) -> str:
        """Without the password."""
        return f"Connect(client_id={self.client_id!r}, username={self.username!r})"


class Connack(msgspec.Struct, frozen=True):
    """CONNACK."""

    code: ConnectCode
    session_present: bool = False


class Publish(msgspec.Struct, frozen=True):
    """PUBLISH. packet_id is 0 exactly when qos is 0."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    packet_id: int = 0
    dup: bool = False
    retain: bool = False


class Puback(msgspec.Struct, frozen=True):
    """PUBACK."""

    packet_id: int


class Subscribe(msgspec.Struct, frozen=True):
    """SUBSCRIBE: (filter, requested QoS) pairs."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


class Suback(msgspec.Struct, frozen=True):
    """SUBACK: the granted QoS, or FAILURE, of each filter in order."""

    packet_id: int
    codes: tuple[int, ...]


class Unsubscribe(msgspec.Struct, frozen=True):
    """UNSUBSCRIBE."""

    packet_id: int
    filters: tuple[str, ...]


class Unsuback(msgspec.Struct, frozen=True):
    """UNSUBACK."""

    packet_id: int


class Pingreq(msgspec.Struct, frozen=True):
    """PINGREQ."""


class Pingresp(msgspec.Struct, frozen=True):
    """PINGRESP."""


class Disconnect(msgspec.Struct, frozen=True):
    """DISCONNECT."""


Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Puback
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
)
