"""Who is let in: what the registry knows of an identity that connects, held against what it shows.

The proofs themselves are judged by `auth` (tokens) and `certificates`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import msgspec
from cryptography import x509

from vedette.hub.gateway.auth import Claim, check
from vedette.hub.gateway.certificates import check_certificate
from vedette.hub.registry import Device, Policy, Profile, Registry


class Known(msgspec.Struct, frozen=True):
    """What the registry knows of an identity that a CONNECT names. policy: the one that its token names."""

    device: Device | None
    profile: Profile
    subscriptions: frozenset[str]
    policy: Policy | None
    authorities: Sequence[x509.Certificate]


def known_of(registry: Registry, claim: Claim) -> Known:
    """Ask the registry all that it takes to let in whoever claims this. Blocks."""
    identity, token = claim.identity, claim.token
    profile = registry.fleet.profile(identity)
    by_authority = token is None and profile.authentication == "certificateAuthority"
    return Known(
        registry.get(identity),
        profile,
        registry.subscriptions(identity),
        registry.policies.get(token.policy) if token and token.policy else None,
        [one.certificate for one in registry.authorities.list()] if by_authority else [],
    )


def admit(
    claim: Claim, known: Known, chain: Sequence[x509.Certificate], host_names: Collection[str], now: float
) -> tuple[Device, float]:
    """The identity that has proven itself at `now`, and until when that holds (Unix seconds). Raises Refused.

    chain: the certificates that the connection shows, its own first.
    """
    if claim.token:
        device = check(claim, known.device, host_names, now, profile=known.profile, policy=known.policy)
        return device, int(claim.token.expiry)
    when = datetime.fromtimestamp(now, UTC)
    device = check_certificate(chain, known.device, known.profile, known.authorities, when)
    return device, chain[0].not_valid_after_utc.timestamp()
