"""How devices protect what they send: the cipher suite that a device agreed on with the hub."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.orm import Session

from vedette.hub.detect.taxonomy import Observed
from vedette.hub.posture.assess import Assessment, Weakness

WEAK_TLS = Weakness(
    "IoT_VulnerableTLSCipherSuite",
    "Medium",
    "The device connects with a weak TLS cipher suite",
    "The connection's TLS is older than 1.2, or its cipher suite is without forward secrecy or authenticated"
    " encryption: the hub takes it because some small devices know no other.",
    "Update the TLS library of the device, or enable TLS 1.3 or an ECDHE suite with AES-GCM or ChaCha20.",
)

_FORWARD = ("ECDHE-", "DHE-")
_AUTHENTICATED = ("GCM", "CHACHA20", "CCM")


def cipher_suite(session: Session, event: Observed, now: float) -> Iterator[Assessment]:
    """Whether the suite of a connect that was accepted is a good one."""
    told = str(event.details.get("Tls") or "")
    if told and (event.details.get("Operation"), event.details.get("Outcome")) == ("Connect", "Accepted"):
        version, _, suite = told.partition(" ")
        data = {"Version": version, "CipherSuite": suite, "RemoteAddress": event.details.get("RemoteAddress")}
        yield Assessment(WEAK_TLS, event.device, event.module, strong(version, suite), event.first, data)


def strong(version: str, suite: str) -> bool:
    """RFC 9325, section 4.2: TLS 1.3 has only good suites; of 1.2 those with forward secrecy and AEAD are."""
    if version == "TLSv1.3":
        return True
    return (
        version == "TLSv1.2" and suite.startswith(_FORWARD) and any(name in suite for name in _AUTHENTICATED)
    )
