"""Who may pass to the console: every request below its path, WebSockets included, needs a session.

The gate also writes the headers that keep other pages out, and refuses what another site's page sends.
"""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vedette.hub.cookie import cookie_of, same_origin
from vedette.hub.registry.users import User, Users

PATH = "/console"
SIGN_IN = f"{PATH}/sign-in"
PASSWORD = f"{PATH}/password"
STATIC = f"{PATH}/static/"

HEADERS = {
    # The page's own framework compiles its templates in the browser, which needs `unsafe-eval`; what
    # devices send is never part of a template or of a script. Nothing is loaded from elsewhere.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self';"
    " worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self';"
    " frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


class Gate:
    """ASGI middleware over the whole application; it concerns itself with the console's path alone.

    A request that passes finds its user in `request.state.user` and its token in `request.state.token`.
    """

    def __init__(self, application: ASGIApp, users: Users) -> None:
        self._application = application
        self._users = users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        path = scope.get("path", "")
        if scope["type"] == "lifespan" or not (path == PATH or path.startswith(f"{PATH}/")):
            await self._application(scope, receive, send)
            return
        headers = Headers(scope=scope)
        token = cookie_of(headers)
        user = await asyncio.to_thread(self._users.session, token) if token else None
        scope.setdefault("state", {}).update(user=user, token=token)
        refused = _refused(scope, headers, path, user)
        if refused is None:
            await self._application(scope, receive, _hardened(send))
        elif scope["type"] == "websocket":
            await receive()  # the handshake
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refused(scope, receive, _hardened(send))


def _refused(scope: Scope, headers: Headers, path: str, user: User | None) -> ASGIApp | None:
    """The answer to a request that may not pass; None if it may."""
    changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
    if changes and not same_origin(headers):
        return PlainTextResponse("this request came from another site", status_code=403)
    if path == SIGN_IN or path.startswith(STATIC):
        return None
    if user is None:
        if changes or "/_nicegui" in path:
            return PlainTextResponse("sign in first", status_code=401)
        query = scope["query_string"].decode("latin-1")
        return RedirectResponse(
            f"{SIGN_IN}?next={quote(path + ('?' + query if query else ''), safe='')}", 303
        )
    if user.must_change and path != PASSWORD:
        return RedirectResponse(PASSWORD, 303)
    return None


def _hardened(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
