"""A browser's session: the cookie that console and API share, and whether a request is one's own page's."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response

from vedette.hub.registry.users import SESSION_S

COOKIE = "__Host-vedette"
"""The prefix makes browsers insist on Secure, Path=/ and no domain."""


def cookie_of(headers: Headers) -> str:
    """The session token that a browser sends; empty if none."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def same_origin(headers: Headers) -> bool:
    """True unless a browser says that the request comes from elsewhere; programs say nothing."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host", "")


def give(response: Response, token: str) -> None:
    """Have the browser keep a session."""
    response.set_cookie(
        COOKIE, token, max_age=int(SESSION_S), path="/", secure=True, httponly=True, samesite="strict"
    )


def take_back(response: Response) -> None:
    """Have the browser forget it."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
