"""What flows are called: the host behind an address, the server that TLS asked for, the protocol spoken.

All of it was on the wire; nothing is looked up. Bounded, oldest forgotten first.
"""

from __future__ import annotations

from typing import NamedTuple

from vedette.agent.sources import app_protocols, tlshello
from vedette.agent.sources.dnswire import Answer
from vedette.agent.sources.flow import Flow, Identity

HOSTS_MAX = 2_048
"""Addresses whose names are remembered: several times what a device talks to in a day."""

FLOWS_MAX = 4_096
"""Flows whose first bytes are remembered, so that a long one keeps its name from cycle to cycle."""

TTL_MIN = 60.0
TTL_MAX = 86_400.0
"""Seconds for which a name stands for an address. Servers say 0 for names that are used at once all the same,
and a week for what may be another host tomorrow."""


class Named(NamedTuple):
    """What the first bytes of a flow said. application: empty if they were none that is known."""

    application: str
    server_name: str


class HostNames:
    """Names by address, as DNS servers told them."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, float, float]] = {}

    def learn(self, answer: Answer, at: float) -> None:
        """Remember an answer that came at `at` (Unix seconds)."""
        for address in answer.addresses:
            known, since, _ = self._names.pop(address.text, ("", at, at))
            if len(self._names) >= HOSTS_MAX:
                del self._names[next(iter(self._names))]
            lasts = min(max(float(address.ttl), TTL_MIN), TTL_MAX)
            self._names[address.text] = answer.name, since if known == answer.name else at, at + lasts

    def name(self, address: str, at: float) -> str:
        """The name that was asked for and led to an address, if it still stood at `at`; else empty."""
        name, since, until = self._names.get(address, ("", 0.0, 0.0))
        return name if since <= at <= until else ""


class FlowNames:
    """What the first bytes of flows said."""

    def __init__(self) -> None:
        self._named: dict[Identity, Named] = {}

    def learn(self, identity: Identity, data: bytes) -> None:
        """Remember the first bytes of one direction; what the other direction said stays if it said more."""
        hello = tlshello.parse(data)
        application = app_protocols.by_first_bytes(identity, data, hello)
        before = self._named.pop(identity, Named("", ""))
        if len(self._named) >= FLOWS_MAX:
            del self._named[next(iter(self._named))]
        server_name = hello.server_name if hello else before.server_name
        self._named[identity] = Named(before.application or application, server_name)

    def named(self, flow: Flow) -> Named:
        """What is known of a flow: by its first bytes, else by its port."""
        known = self._named.get(flow.identity)
        if known and known.application:
            return known
        application = app_protocols.by_port(flow.identity, flow.accepted, contradicted=known is not None)
        return Named(application, known.server_name if known else "")
