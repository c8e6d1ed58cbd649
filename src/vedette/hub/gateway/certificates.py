"""Whether a client's certificate proves who it says it is. Pure; time passed in."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from vedette.hub.gateway.auth import Refused
from vedette.hub.registry import Device, Profile
from vedette.wire.packets import ConnectCode

MAX_DEPTH = 5
"""Certificates between a device's own and its authority."""


def check_certificate(
    chain: Sequence[x509.Certificate],
    device: Device | None,
    profile: Profile,
    authorities: Sequence[x509.Certificate],
    now: datetime,
) -> Device:
    """The device, if the client's certificate is its registered one or a registered authority's for it.

    chain: the client's own first. TLS has shown that the client has its key, and nothing else.
    Raises Refused.
    """
    if not chain:
        raise Refused(ConnectCode.BAD_CREDENTIALS, "password: missing, and no certificate")
    if device is None:
        raise Refused(ConnectCode.NOT_AUTHORIZED, "identity: unknown")
    own = chain[0]
    if profile.authentication == "selfSigned":
        proven = _has_thumbprint(own, (profile.primary_thumbprint, profile.secondary_thumbprint))
    elif profile.authentication == "certificateAuthority":
        proven = names(own, device.identity.device_id) and leads(chain, authorities, now)
    else:
        raise Refused(ConnectCode.NOT_AUTHORIZED, "certificate: the identity has a key")
    if not proven:
        why = "thumbprint differs" if profile.authentication == "selfSigned" else "not the identity's"
        raise Refused(ConnectCode.NOT_AUTHORIZED, f"certificate: {why}")
    if not current(own, now):
        raise Refused(ConnectCode.NOT_AUTHORIZED, "certificate: expired")
    if not device.enabled:
        raise Refused(ConnectCode.NOT_AUTHORIZED, "identity: disabled")
    return device


def thumbprints(certificate: x509.Certificate) -> tuple[str, str]:
    """SHA-1 and SHA-256, as the registry keeps them."""
    # SHA-1 names a certificate here, as the real service does; nobody is let in without the key to it.
    return tuple(certificate.fingerprint(kind).hex().upper() for kind in (hashes.SHA1(), hashes.SHA256()))  # type: ignore[return-value]  # noqa: S303


def _has_thumbprint(certificate: x509.Certificate, registered: Sequence[str]) -> bool:
    made = thumbprints(certificate)
    matches = [hmac.compare_digest(one, other) for one in made for other in registered if other]
    return any(matches)


def names(certificate: x509.Certificate, wanted: str) -> bool:
    """True if the common name is this id: a device's, or a registration's."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [name.value for name in found] == [wanted]


def leads(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], now: datetime) -> bool:
    """True if each certificate was issued by the next that fits, up to a registered authority."""
    certificate, others = chain[0], list(chain[1:])
    for _ in range(MAX_DEPTH):
        if any(_issued(certificate, authority, now) for authority in authorities):
            return True
        issuer = next((other for other in others if _issued(certificate, other, now)), None)
        if issuer is None:
            return False
        others.remove(issuer)
        certificate = issuer
    return False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return False
    return constraints.ca and current(issuer, now)


def current(certificate: x509.Certificate, now: datetime) -> bool:
    """True if a certificate is neither expired nor for later."""
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
