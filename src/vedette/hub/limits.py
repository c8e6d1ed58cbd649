"""How much one client may ask of the hub, and the bucket that keeps to it. Pure; time passed in."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Annotated, Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)
Rate = Annotated[float, msgspec.Meta(ge=0.1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Quota = Annotated[int, msgspec.Meta(ge=0)]


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds for one connection to the HTTPS port, and for one address.

    handshake_seconds, head_seconds, body_seconds: for TLS, for a request's head, for its body. read_seconds:
    how long a client may leave an answer unread. head_bytes, body_bytes: of a request; routes allow less.
    connections_per_address: a browser opens six, a service some dozens. MQTT over WebSocket does not count.
    """

    handshake_seconds: Seconds = 10.0
    head_seconds: Seconds = 10.0
    body_seconds: Seconds = 60.0
    read_seconds: Seconds = 60.0
    head_bytes: Count = 32_768
    body_bytes: Count = 16_777_216
    connections_per_address: Count = 256


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds for one identity, and for one address as long as it has not shown who it is.

    A burst is what may come at once; the rate, a second, is what may go on.

    messages_per_second, message_burst: device-to-cloud messages; beyond, the client is read more slowly. An
    agent of ours sends a handful an hour, and after an outage what it kept, up to thousands.
    twin_requests_per_second, twin_request_burst: beyond, they are answered with 429.
    connects_per_second, connect_burst: beyond, CONNECT is answered with "unavailable": come again later.
    strangers_per_address: connections of one address that have not been let in yet. A fleet behind one
    address comes back with hundreds at once after an outage; each takes a second or two.
    requests_per_second, request_burst: of one access policy at the service API; beyond, they are answered
    with 429 and the time to wait. A tool that goes through a whole fleet does well with this.
    refusals_per_second, refusal_burst: requests of one address to the service API that prove no right to it;
    beyond, nothing that comes from there is looked at, and the answer is 429 and the time to wait.
    daily_units, daily_units_per_device: message units of a day (UTC) for the whole hub, and for a device with
    its modules; 0 for no limit. A unit is what the real service bills: 4 KB begun, of messages to the hub,
    twin requests and their answers, and pushed desired properties. Beyond, requests are answered with 403,
    and who sends messages is cut off and let in again on the next day.
    http: see HttpLimits.
    """

    messages_per_second: Rate = 100.0
    message_burst: Count = 5_000
    twin_requests_per_second: Rate = 10.0
    twin_request_burst: Count = 100
    connects_per_second: Rate = 0.5
    connect_burst: Count = 30
    strangers_per_address: Count = 512
    requests_per_second: Rate = 50.0
    request_burst: Count = 1_000
    refusals_per_second: Rate = 1.0
    refusal_burst: Count = 100
    daily_units: Quota = 0
    daily_units_per_device: Quota = 0
    http: HttpLimits = HttpLimits()


class Bucket:
    """Holds `burst` tokens when full, and gains `rate` of them a second. Starts full."""

    __slots__ = ("_burst", "_level", "_rate", "_then")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._then = now

    def owe(self, now: float) -> float:
        """Take a token, on credit if there is none; returns the seconds until the debt is paid."""
        self._fill(now)
        self._level -= 1
        return max(0.0, -self._level / self._rate)

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self._fill(now)
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def wait(self, now: float) -> float:
        """Seconds until there is a token."""
        self._fill(now)
        return max(0.0, (1 - self._level) / self._rate)

    def _fill(self, now: float) -> None:
        self._level = min(self._burst, self._level + (now - self._then) * self._rate)
        self._then = now


class Buckets(Generic[K]):
    """A bucket a key; of more than `most` those that were used least lately are forgotten."""

    def __init__(self, rate: float, burst: float, most: int) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._known: dict[K, Bucket] = {}

    def of(self, key: K, now: float) -> Bucket:
        """The bucket of a key."""
        bucket = self._known.pop(key, None) or Bucket(self._rate, self._burst, now)
        if len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[key] = bucket  # the latest is the last
        return bucket
