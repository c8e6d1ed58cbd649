"""Who calls the service API: a shared access policy, proven by a token in the Authorization header."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Annotated
from urllib.parse import unquote

from fastapi import Header, Request

from vedette.hub.api.refusal import unauthorized
from vedette.hub.gateway.auth import MAX_EXPIRY_DIGITS, NOBODY
from vedette.hub.registry import Policies, Policy, Right
from vedette.wire.iothub import DialectError, Token

MAX_TOKEN_CHARACTERS = 4_096
"""Of an Authorization header; a token has about 200."""


def policy_of(header: str, path: str, policies: Policies, host_names: Collection[str], now: float) -> Policy:
    """The policy whose token this is. Raises Refusal.

    The signature is checked first and in any case: what follows tells only the holder of a key.
    """
    try:
        token = Token.parse(header[:MAX_TOKEN_CHARACTERS])
    except DialectError as error:
        raise unauthorized(str(error)) from None
    if len(token.expiry) > MAX_EXPIRY_DIGITS:
        raise unauthorized("token: se is too large")
    policy = policies.get(token.policy)
    signed = token.signed_by((policy.primary_key, policy.secondary_key) if policy else NOBODY)
    if policy is None or not signed:
        raise unauthorized("token: policy or signature is wrong")
    if not _covers(token.resource, path, host_names):
        raise unauthorized("token: made for something else")
    if token.expired(now):
        raise unauthorized("token: expired")
    return policy


def _covers(resource: str, path: str, host_names: Collection[str]) -> bool:
    """True if the resource is this host (its port does not matter) and the path, or a part before it."""
    host, _, below = unquote(resource).partition("/")
    name = host if host.lower() in host_names else host.rpartition(":")[0]
    wanted, asked = below.strip("/").lower().split("/"), path.strip("/").lower().split("/")
    return name.lower() in host_names and (not below.strip("/") or asked[: len(wanted)] == wanted)


def needs(rights: Right, policies: Policies, host_names: Collection[str]) -> Callable[..., None]:
    """A dependency: let pass who has one of these rights."""

    def check(request: Request, authorization: Annotated[str, Header()] = "") -> None:
        policy = policy_of(authorization, request.url.path, policies, host_names, time.time())
        if not policy.rights & rights:
            raise unauthorized(f"policy {policy.name}: may not do this")

    return check
