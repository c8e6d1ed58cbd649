"""`/api/v1`: who the caller is, tokens, and the log of changes."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response, status

from vedette.hub.api.caller import actor, needs
from vedette.hub.api.forms import AuditForm, NewToken, NewTokenForm, TokenForm, audit_form, token_form
from vedette.hub.registry.audit import MAX_ENTRIES, acting_as
from vedette.hub.registry.tokens import Grant, Role, Tokens

DAY_S = 86_400.0

Before = Annotated[int | None, Query(ge=0, lt=2**63, description="Entries older than this one.")]


def router(tokens: Tokens) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["access"])
    viewer = Annotated[Grant, Depends(needs(Role.VIEWER, tokens))]
    admin = Annotated[Grant, Depends(needs(Role.ADMIN, tokens))]

    @routes.get("/me")
    def me(caller: viewer) -> TokenForm:
        """The token that this request was made with."""
        return token_form(caller)

    @routes.get("/tokens")
    def list_tokens(_: admin) -> list[TokenForm]:
        """All tokens, without their secrets."""
        return [token_form(grant) for grant in tokens.list()]

    @routes.post("/tokens", status_code=status.HTTP_201_CREATED)
    def add_token(caller: admin, wanted: NewToken) -> NewTokenForm:
        """Make a token; it is shown this once."""
        days = wanted.expires_in_days
        expires = None if days is None else time.time() + days * DAY_S
        with acting_as(actor(caller)):
            grant, text = tokens.add(wanted.name, Role[wanted.role.upper()], expires=expires)
        return NewTokenForm(**token_form(grant).model_dump(), token=text)

    @routes.delete("/tokens/{name}", status_code=status.HTTP_204_NO_CONTENT)
    def remove_token(caller: admin, name: Annotated[str, Path(max_length=64)]) -> Response:
        """Make a token worthless at once."""
        with acting_as(actor(caller)):
            tokens.remove(name)
        return Response(status_code=status.HTTP_204_NO_CONTENT)

    @routes.get("/audit")
    def audit(
        _: admin,
        limit: Annotated[int, Query(ge=1, le=MAX_ENTRIES)] = 100,
        before: Annotated[int, Query(ge=0, lt=2**63, description="Entries older than this one.")]
        | None = None,
    ) -> list[AuditForm]:
        """Who changed what, the newest first."""
        return [audit_form(entry) for entry in tokens.audit(limit, before)]

    return routes
