"""How the service API says no: status, code and text in the forms that the SDKs read."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute

from vedette.hub.registry import AlreadyExists, Outdated, TwinError, UnknownIdentity
from vedette.hub.registry.query import QueryError

log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that is not served. code: the real service's name of the error.

    retry_after: whole seconds after which it may be.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def response(self) -> Response:
        """The Node SDK reads code and text from `Message`, the Python SDK the status, people all of it."""
        body = {
            "Message": f"ErrorCode:{self.code};{self.message}",
            "ExceptionMessage": f"Tracking ID:{secrets.token_hex(16).upper()}",
        }
        headers = {"iothub-errorcode": self.code}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return Response(msgspec.json.encode(body), self.status, headers, "application/json")


def unauthorized(reason: str) -> Refusal:
    """The caller has not shown who it is, or may not do this."""
    return Refusal(401, "IotHubUnauthorizedAccess", reason)


def throttled(seconds: float) -> Refusal:
    """The caller asks too often, and may ask again in so many seconds."""
    wait = max(1, math.ceil(seconds))
    reason = f"too many requests; try again in {wait} s"
    return Refusal(429, "ThrottlingException", reason, retry_after=wait)


def argument(reason: str) -> Refusal:
    """The request is wrong in itself."""
    return Refusal(400, "ArgumentInvalid", reason)


def refusal_of(error: Exception, *, module: bool) -> Refusal:
    """What an error of the registry means to the caller; what is none of its errors is ours."""
    what = "Module" if module else "Device"
    match error:
        case Refusal():
            return error
        case UnknownIdentity():
            return Refusal(404, f"{what}NotFound", str(error))
        case AlreadyExists():
            code = "ModuleAlreadyExistsOnDevice" if module else "DeviceAlreadyExists"
            return Refusal(409, code, str(error))
        case Outdated():
            return Refusal(412, "PreconditionFailed", str(error))
        case TwinError() | QueryError() | msgspec.ValidationError() | ValueError():
            return argument(str(error))
    log.error("service API: request failed", exc_info=error)
    return Refusal(500, "ServerError", "the hub could not do it; try again")


class ServiceRoute(APIRoute):
    """A route whose errors have the service's form. `request.state.note`, if there, is told of each."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        serve: Callable[[Request], Awaitable[Response]] = super().get_route_handler()

        async def answer(request: Request) -> Response:
            refusal = None
            try:
                response = await serve(request)
            except Exception as error:  # noqa: BLE001 - logged, unless it is the caller's
                refusal = refusal_of(error, module="module_id" in request.path_params)
                response = refusal.response()
            if note := getattr(request.state, "note", None):
                note(refusal)
            return response

        return answer
