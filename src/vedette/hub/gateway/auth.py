"""Who connects: what a CONNECT claims, and whether its token proves it. Pure; time and keys passed in.

Reasons are fixed texts: they are counted, logged and never tell the peer more than the CONNACK code does.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Collection
from urllib.parse import unquote

import msgspec

from vedette.hub.gateway.topics import path_of, same
from vedette.hub.registry import Device, Policy, Profile, Right
from vedette.wire.iothub import DialectError, Identity, Token
from vedette.wire.packets import Connect, ConnectCode

NOBODY = (base64.b64encode(secrets.token_bytes(32)).decode(),) * 2
"""Keys that an unknown identity is checked against, so that it takes as long to refuse as a known one."""


MAX_EXPIRY_DIGITS = 12
"""Of a token's expiry in Unix seconds: thirty thousand years."""


class Refused(Exception):
    """A CONNECT that is not let in, with its CONNACK code and the reason for our log.

    device: the registered one that it named, as far as that was looked up.
    """

    device: Identity | None = None

    def __init__(self, code: ConnectCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Claim(msgspec.Struct, frozen=True):
    """What a CONNECT says of itself; nothing is proven yet. token: None where a certificate is the proof."""

    identity: Identity
    token: Token | None


def read_claim(connect: Connect, host_names: Collection[str]) -> Claim:
    """Read a CONNECT. Raises Refused if it names no identity of one of these (lower-case) hosts."""
    try:
        identity = Identity.parse(connect.client_id)
    except DialectError:
        raise Refused(ConnectCode.BAD_CLIENT_ID, "client id: malformed") from None
    host, _, rest = (connect.username or "").partition("/")
    if host.lower() not in host_names:
        raise Refused(ConnectCode.NOT_AUTHORIZED, "user name: names another host")
    if rest != connect.client_id and not rest.startswith(f"{connect.client_id}/"):
        raise Refused(ConnectCode.BAD_CREDENTIALS, "user name: does not name the client id")
    return Claim(identity, None if connect.password is None else read_token(connect.password))


def read_token(password: bytes) -> Token:
    """The token that a password is. Raises Refused."""
    try:
        token = Token.parse(password.decode())
    except (DialectError, UnicodeDecodeError):
        raise Refused(ConnectCode.BAD_CREDENTIALS, "password: not a token") from None
    if len(token.expiry) > MAX_EXPIRY_DIGITS:
        raise Refused(ConnectCode.BAD_CREDENTIALS, "password: not a token")
    return token


def check(
    claim: Claim,
    device: Device | None,
    host_names: Collection[str],
    now: float,
    *,
    profile: Profile = Profile(),  # noqa: B008 - frozen
    policy: Policy | None = None,
) -> Device:
    """The device, if the token is valid at `now` (Unix seconds) for it and this host. Raises Refused.

    policy: the one that the token names, whose holder may speak for any device.
    The signature is checked first and in any case: what follows tells only the holder of a key.
    """
    assert claim.token is not None
    holder = policy if claim.token.policy else device
    signed = claim.token.signed_by((holder.primary_key, holder.secondary_key) if holder else NOBODY)
    if device is None:
        raise Refused(ConnectCode.NOT_AUTHORIZED, "identity: unknown")
    if not signed:
        raise Refused(ConnectCode.NOT_AUTHORIZED, "token: signature is wrong")
    if not device.enabled:
        raise Refused(ConnectCode.NOT_AUTHORIZED, "identity: disabled")
    if policy is None and profile.authentication != "sas":
        raise Refused(ConnectCode.NOT_AUTHORIZED, "token: the identity has a certificate")
    if policy is not None and Right.DEVICE_CONNECT not in policy.rights:
        raise Refused(ConnectCode.NOT_AUTHORIZED, "token: its policy is not for devices")
    if not _covers(claim.token.resource, claim.identity, host_names, whole=policy is not None):
        raise Refused(ConnectCode.NOT_AUTHORIZED, "token: made for something else")
    if claim.token.expired(now):
        raise Refused(ConnectCode.NOT_AUTHORIZED, "token: expired")
    return device


def _covers(resource: str, identity: Identity, host_names: Collection[str], *, whole: bool) -> bool:
    """True if a token's resource is the identity, a path below it, or its device (a prefix, by segments).

    whole: the host alone will do, too. Clients differ in how often they percent-encode it.
    """
    host, *path = unquote(resource).split("/")
    shortest = 0 if whole else len(path_of(Identity(identity.device_id)))
    known = host.lower() in host_names and len(path) >= shortest
    return known and all(map(same, path_of(identity), path))
