"""`/api/v1`: signing in with a user's name and password, and signing out."""

import logging
import math
import time
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request, Response, status

from vedette.hub import cookie
from vedette.hub.api.access import address_of
from vedette.hub.api.caller import needs, shown_by
from vedette.hub.api.forms import SessionForm, SignIn, moment
from vedette.hub.attempts import TooManyAttempts
from vedette.hub.registry import Registry
from vedette.hub.registry.tokens import Grant, Role
from vedette.hub.registry.users import SESSION_S, User

log = logging.getLogger(__name__)


def router(registry: Registry) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/sessions", tags=["access"])
    viewer = Annotated[Grant, Depends(needs(Role.VIEWER, registry.tokens))]
    users = registry.users

    @routes.post("", status_code=status.HTTP_201_CREATED)
    def sign_in(request: Request, response: Response, wanted: SignIn) -> SessionForm:
        """Begin a session of twelve hours; its token is shown this once, and given as a cookie, too."""
        user = _proven(request, wanted)
        if wanted.new_password is not None:
            users.set_password(user.name, wanted.new_password)
        elif user.must_change:
            raise HTTPException(status.HTTP_403_FORBIDDEN, "choose a password: send new_password, too")
        token = users.open_session(user)
        cookie.give(response, token)
        log.info("API: %s signed in from %s", user.name, address_of(request))
        expires = moment(time.time() + SESSION_S)
        return SessionForm(token=token, user=user.name, role=user.role.name.lower(), expires=expires)  # type: ignore[arg-type]  # the literals are its names

    @routes.delete("/current", status_code=status.HTTP_204_NO_CONTENT)
    def sign_out(request: Request, _: viewer) -> Response:
        """End the session that this request is made with."""
        users.close_session(shown_by(request))
        response = Response(status_code=status.HTTP_204_NO_CONTENT)
        cookie.take_back(response)
        return response

    def _proven(request: Request, wanted: SignIn) -> User:
        """The user whose password it is. Raises HTTPException."""
        try:
            user = users.sign_in(wanted.user, wanted.password, address_of(request))
        except TooManyAttempts as error:
            wait = {"Retry-After": str(math.ceil(error.seconds))}
            raise HTTPException(status.HTTP_429_TOO_MANY_REQUESTS, "too many attempts", wait) from None
        if user is None:
            log.warning("API: refused a sign-in as %r from %s", wanted.user, address_of(request))
            raise HTTPException(status.HTTP_401_UNAUTHORIZED, "name or password is wrong")
        return user

    return routes
