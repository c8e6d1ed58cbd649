"""Who calls the hub's own API, and what it may do.

A program shows a token, `Authorization: Bearer vdt_…`; a person who has signed in, the session's token in the
same way, or a browser does it with a cookie.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Request, status
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from vedette.hub.cookie import cookie_of, same_origin
from vedette.hub.registry.tokens import Grant, Role, Tokens

_bearer = HTTPBearer(auto_error=False, description="A token: `vedette token add NAME --role ROLE`.")
# Only for the OpenAPI document.
Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def actor(caller: Grant) -> str:
    """The caller as the log of changes names it."""
    return f"{'token' if caller.id else 'user'}:{caller.name}"


def shown_by(request: Request) -> str:
    """The token that a request shows; empty if none. A cookie counts only on a page of our own."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    return cookie_of(request.headers) if same_origin(request.headers) else ""


def needs(role: Role, tokens: Tokens) -> Callable[[Request, Shown], Grant]:
    """A dependency: the caller, if it has this role or a higher one; 401 or 403 otherwise."""

    def check(request: Request, _: Shown) -> Grant:
        caller = tokens.check(shown_by(request), time.time())
        if caller is None:
            raise HTTPException(
                status.HTTP_401_UNAUTHORIZED,
                "no valid token: send `Authorization: Bearer …`",
                {"WWW-Authenticate": "Bearer"},
            )
        if caller.role < role:
            raise HTTPException(
                status.HTTP_403_FORBIDDEN,
                f"this needs the role {role.name.lower()}, and the caller has {caller.role.name.lower()}",
            )
        return caller

    return check
