"""Who calls the service API: a shared access policy, proven by a token in the Authorization header."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from typing import Annotated, Literal
from urllib.parse import unquote

from fastapi import Header, Request
from fastapi.concurrency import run_in_threadpool

from vedette.hub.api.refusal import Refusal, throttled, unauthorized
from vedette.hub.gateway.auth import MAX_EXPIRY_DIGITS, NOBODY
from vedette.hub.gateway.journal import Warnings
from vedette.hub.limits import Bucket, Buckets, Limits
from vedette.hub.operations import HUB, Operations
from vedette.hub.registry import Policies, Policy, Right
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.policies import RIGHTS
from vedette.wire.events import HubOperation
from vedette.wire.iothub import DialectError, Identity, Token

MAX_TOKEN_CHARACTERS = 4_096
"""Of an Authorization header; a token has about 200."""

MAX_ID_CHARACTERS = 257
"""Of a device and a module id, as far as an event repeats what a request says."""

MAX_ADDRESSES = 10_000
"""Addresses whose refusals are remembered; those that were refused least lately are forgotten first."""

NO_RIGHT = "no token that gives the right"
TOO_MANY_REFUSALS = "address is refused too often"
TOO_MANY_REQUESTS = "policy asks too often"

_warnings = Warnings(logging.getLogger(__name__))

Operation = Literal["TwinUpdate", "MethodInvoke"]


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


class Access:
    """The way in to the service API of a hub with these names. operations: where its use is counted.

    refused: requests that were not let in, by reason.
    """

    def __init__(
        self,
        policies: Policies,
        host_names: Collection[str],
        limits: Limits = Limits(),  # noqa: B008 - frozen
        operations: Operations | None = None,
    ) -> None:
        self.limits = limits
        self.refused: Counter[str] = Counter()
        self._operations = operations or Operations()
        self._policies = policies
        self._host_names = frozenset(name.lower() for name in host_names)
        self._buckets = {
            name: Bucket(limits.requests_per_second, limits.request_burst, time.monotonic())
            for name in RIGHTS
        }
        self._refusals: Buckets[str] = Buckets(
            limits.refusals_per_second, limits.refusal_burst, MAX_ADDRESSES
        )

    def needs(self, rights: Right) -> Callable[..., AsyncIterator[None]]:
        """A dependency: let pass who has one of these rights; changes are put down to the caller."""

        async def check(
            request: Request, authorization: Annotated[str, Header()] = ""
        ) -> AsyncIterator[None]:
            policy = await self._proven(request, authorization, rights)
            self._pace(policy.name)
            # Set on the event loop, this holds in the thread that does the work, too.
            with acting_as(f"policy:{policy.name}@{address_of(request)}"):
                yield

        return check

    def notes(self, operation: Operation) -> Callable[[Request], None]:
        """A dependency: have the request, which is for a device, counted with what becomes of it."""

        def note(request: Request) -> None:
            request.state.note = partial(self._note, request, operation)

        return note

    def _note(self, request: Request, operation: Operation, refusal: Refusal | None) -> None:
        given = request.path_params
        identity = Identity(given["device_id"], given.get("module_id", ""))
        unknown = refusal is not None and (refusal.status == 401 or refusal.code.endswith("NotFound"))
        done = HubOperation(
            operation=operation,
            outcome="Refused" if refusal else "Accepted",
            reason=refusal.code if refusal else "",
            protocol="HTTPS",
            remote_address=address_of(request),
            identity=identity.client_id[:MAX_ID_CHARACTERS],
        )
        self._operations.note(HUB if unknown else identity, done)

    async def _proven(self, request: Request, authorization: str, rights: Right) -> Policy:
        """The caller's policy, if it has one of these rights. Raises Refusal."""
        address = address_of(request)
        refusals = self._refusals.of(address, time.monotonic())
        if wait := refusals.wait(time.monotonic()):
            self.refused[TOO_MANY_REFUSALS] += 1
            raise throttled(wait)
        asked = (authorization, request.url.path, self._policies, self._host_names, time.time())
        try:
            policy = await run_in_threadpool(policy_of, *asked)
            if not policy.rights & rights:
                raise unauthorized(f"policy {policy.name}: may not do this")
        except Refusal as refusal:
            refusals.take(time.monotonic())
            self.refused[NO_RIGHT] += 1
            _warnings.write("%s: refused: %s", address, refusal.message)
            raise
        return policy

    def _pace(self, policy: str) -> None:
        """Raises Refusal if the policy's holders ask too often."""
        bucket, now = self._buckets[policy], time.monotonic()
        if not bucket.take(now):
            self.refused[TOO_MANY_REQUESTS] += 1
            raise throttled(bucket.wait(now))


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""
