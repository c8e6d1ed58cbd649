"""Device provisioning (DPS) over HTTPS, for devices that speak no MQTT before they know their hub.

Paths, status codes and bodies are those of the real service's runtime API. A client certificate cannot be
shown here: the HTTPS port asks for none, so such devices register over MQTT.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.routing import APIRoute

from vedette.hub.gateway.auth import Refused
from vedette.hub.gateway.journal import Warnings
from vedette.hub.gateway.registrar import (
    RETRY_AFTER_S,
    Answer,
    Applicant,
    admit,
    applicant_of,
    outcome,
    register,
)
from vedette.hub.limits import Bucket, Limits
from vedette.hub.registry import Registry
from vedette.hub.registry.enrollments import Enrollment

REGISTRATION = "/{scope}/registrations/{registration_id}"

MAX_TOKEN_CHARACTERS = 4_096
"""Of an Authorization header; a token has about 200."""

_warnings = Warnings(logging.getLogger(__name__))


class _Busy(Exception):
    """More registrations than the hub takes at a time; the device is to come again."""


class _Admitted(NamedTuple):
    applicant: Applicant
    enrollment: Enrollment


def router(registry: Registry, host: str, limits: Limits = Limits()) -> APIRouter:  # noqa: B008 - frozen
    """The routes. host: the hub that devices are assigned to. limits: of requests, all devices together.

    Who registers is known only after every enrollment was tried, so that strangers are paced as well.
    """
    routes = APIRouter(route_class=_Route, include_in_schema=False)
    bucket = Bucket(limits.requests_per_second, limits.request_burst, time.monotonic())

    def admitted(scope: str, registration_id: str, authorization: Annotated[str, Header()] = "") -> _Admitted:
        if not bucket.take(time.monotonic()):
            raise _Busy
        token = authorization[:MAX_TOKEN_CHARACTERS].encode()
        applicant = applicant_of(scope, registration_id, token)
        candidates = registry.enrollments.candidates(registration_id)
        return _Admitted(applicant, admit(applicant, candidates, time.time()))

    knows = Depends(admitted)

    @routes.put(f"{REGISTRATION}/register")
    def put(known: _Admitted = knows) -> Response:
        return _json(register(registry, known.enrollment, known.applicant))

    @routes.get(f"{REGISTRATION}/operations/{{operation_id}}")
    def operation(known: _Admitted = knows) -> Response:
        return _json(outcome(registry, known.applicant.registration_id, host))

    @routes.post(REGISTRATION)
    def state(known: _Admitted = knows) -> Response:
        status, body = outcome(registry, known.applicant.registration_id, host)
        return _json((status, body.get("registrationState", body)))

    return routes


class _Route(APIRoute):
    """A route that says no in the service's form; why stands in our log."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        serve: Callable[[Request], Awaitable[Response]] = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await serve(request)
            except Refused as refused:
                peer = request.client.host if request.client else "?"
                _warnings.write("%s: refused: %s", peer, refused.reason)
                return _json((401, {"errorCode": 401_002, "message": "Unauthorized"}))
            except _Busy:
                return _json((429, {"errorCode": 429_001, "message": "Too many registrations at a time"}))

        return answer


def _json(answer: Answer) -> Response:
    status, body = answer
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (202, 429) else {}
    if "errorCode" in body:
        body = body | {"trackingId": secrets.token_hex(16)}
    return Response(msgspec.json.encode(body), status, headers, "application/json; charset=utf-8")
