"""Who calls the hub's own API: a token, shown as `Authorization: Bearer vdt_…`, and what it may do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, HTTPException, status
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from vedette.hub.registry.tokens import Grant, Role, Tokens

_bearer = HTTPBearer(auto_error=False, description="A token: `vedette token add NAME --role ROLE`.")
Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def actor(caller: Grant) -> str:
    """The caller as the log of changes names it."""
    return f"token:{caller.name}"


def needs(role: Role, tokens: Tokens) -> Callable[[Shown], Grant]:
    """A dependency: the caller, if it has this role or a higher one; 401 or 403 otherwise."""

    def check(shown: Shown) -> Grant:
        caller = tokens.check(shown.credentials, time.time()) if shown else None
        if caller is None:
            raise HTTPException(
                status.HTTP_401_UNAUTHORIZED,
                "no valid token: send `Authorization: Bearer …`",
                {"WWW-Authenticate": "Bearer"},
            )
        if caller.role < role:
            raise HTTPException(
                status.HTTP_403_FORBIDDEN,
                f"this needs the role {role.name.lower()}, and the token has {caller.role.name.lower()}",
            )
        return caller

    return check
