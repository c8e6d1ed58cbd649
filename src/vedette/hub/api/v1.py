"""The hub's own API, `/api/v1`: an application of its own, with its OpenAPI document and its errors.

Mount it under `PREFIX`. Callers show a token (`caller`); what they change is put down in the audit log.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from vedette import __version__
from vedette.hub.api import v1_admin, v1_devices, v1_events, v1_intel, v1_notify, v1_sessions, v1_twins
from vedette.hub.api.forms import Problem
from vedette.hub.api.v1_events import Queries
from vedette.hub.detect.schema import Database
from vedette.hub.lake import QueryError
from vedette.hub.notify import target
from vedette.hub.registry import AlreadyExists, Outdated, Registry, RegistryError, TwinError, UnknownIdentity
from vedette.hub.registry import query as twin_query
from vedette.hub.tail import Tail

log = logging.getLogger(__name__)

PREFIX = "/api/v1"

MAX_BODY_BYTES = 1_048_576
"""Of a request; the largest, a twin's patch, takes 72 KB."""

_STATUSES: dict[type[Exception], int] = {
    UnknownIdentity: status.HTTP_404_NOT_FOUND,
    AlreadyExists: status.HTTP_409_CONFLICT,
    Outdated: status.HTTP_412_PRECONDITION_FAILED,
    RegistryError: status.HTTP_409_CONFLICT,
    TwinError: status.HTTP_400_BAD_REQUEST,
    target.Unknown: status.HTTP_404_NOT_FOUND,
    target.Taken: status.HTTP_409_CONFLICT,
    QueryError: status.HTTP_400_BAD_REQUEST,
    twin_query.QueryError: status.HTTP_400_BAD_REQUEST,
    ValueError: status.HTTP_400_BAD_REQUEST,
}
"""What the registry and the lake say no with, and its status."""

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The request is wrong in itself; `detail` says where."},
    401: {"model": Problem, "description": "There is no valid token."},
    403: {"model": Problem, "description": "The token's role is too low."},
    404: {"model": Problem, "description": "There is no such thing."},
    409: {"model": Problem, "description": "There is one already, or a limit is reached."},
    413: {"model": Problem, "description": "The body is too long."},
    429: {"model": Problem, "description": "Too many attempts; try again after `Retry-After`."},
    503: {"model": Problem, "description": "Too many are asking; try again after `Retry-After`."},
}


def build(registry: Registry, database: Database, queries: Queries, tail: Tail, host: str) -> FastAPI:
    """The application. host: stands in the connection strings of new devices."""
    app = FastAPI(
        title="Vedette hub",
        version=__version__,
        summary="Devices, events, twins, exports; who may do it and who did.",
        docs_url=None,
        redoc_url=None,
        responses=_PROBLEMS,
        root_path_in_servers=False,
        servers=[{"url": PREFIX}],
        dependencies=[Depends(_known_parameters)],
    )
    app.include_router(v1_sessions.router(registry))
    app.include_router(v1_admin.router(registry.tokens))
    app.include_router(v1_devices.router(registry, host))
    app.include_router(v1_twins.router(registry))
    app.include_router(v1_events.router(registry.tokens, queries, tail))
    app.include_router(v1_intel.router(registry.tokens, database))
    app.include_router(v1_notify.router(registry.tokens, database))
    for error, code in _STATUSES.items():
        app.add_exception_handler(error, _refusal(code))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(BoundedBody)
    return app


async def _known_parameters(request: Request) -> None:
    """Refuse parameters that the route does not have, or has twice: a misspelt filter must not mean "all"."""
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            raise HTTPException(status.HTTP_400_BAD_REQUEST, f"unknown parameter {name[:64]!r}")
        if count > 1:
            raise HTTPException(status.HTTP_400_BAD_REQUEST, f"parameter {name!r} is given {count} times")


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Say what is wrong where, and repeat nothing: it may be a password."""
    assert isinstance(error, RequestValidationError)
    detail = [{name: fault[name] for name in ("loc", "msg", "type")} for fault in error.errors()]
    return JSONResponse({"detail": detail}, status.HTTP_422_UNPROCESSABLE_CONTENT)


def _refusal(code: int) -> Callable[[Request, Exception], Awaitable[JSONResponse]]:
    async def refuse(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, code)

    return refuse


class BoundedBody:
    """Refuses requests whose body is longer than MAX_BODY_BYTES, before it is read into memory."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_BODY_BYTES:
                refusal = JSONResponse({"detail": f"{MAX_BODY_BYTES} bytes are allowed"}, 413)
                await refusal(scope, receive, send)
                return
        await self._app(scope, _replayed(bytes(body), receive), send)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that has been read, then whatever comes (a disconnect)."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message
