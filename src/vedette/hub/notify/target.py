"""Where a route leads, written as one URL: its scheme says how, as in `syslog+tls://logs.example.net`."""

from __future__ import annotations

from typing import Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import msgspec

from vedette.hub.errors import DomainError
from vedette.hub.registry.records import Veiled

Way = Literal["webhook", "syslog", "mail", "mqtt"]

MAX_URL = 2_048
"""Characters: what servers and proxies take of an address at least."""

MAX_RECIPIENTS = 50


class NotifyError(DomainError, ValueError):
    """What was asked of notifications is not possible; the text names field and reason, and no secret."""


class Unknown(NotifyError):
    """There is no route or message of this name."""


class Taken(NotifyError):
    """There is a route of this name already."""


class Scheme(msgspec.Struct, frozen=True):
    """A way to deliver. tls: `always`, `start` (upgraded before anything is said) or `never`."""

    way: Way
    port: int
    tls: Literal["always", "start", "never"]
    options: frozenset[str] = frozenset()
    udp: bool = False


_MAIL = frozenset({"from", "to"})

SCHEMES = {
    "https": Scheme("webhook", 443, "always"),
    "http": Scheme("webhook", 80, "never"),
    "syslog+tls": Scheme("syslog", 6514, "always"),
    "syslog+tcp": Scheme("syslog", 601, "never"),
    "syslog+udp": Scheme("syslog", 514, "never", udp=True),
    "smtp": Scheme("mail", 587, "start", _MAIL),
    "smtps": Scheme("mail", 465, "always", _MAIL),
    "smtp+plain": Scheme("mail", 25, "never", _MAIL),
    "mqtts": Scheme("mqtt", 8883, "always"),
    "mqtt": Scheme("mqtt", 1883, "never"),
}
"""Ports are those that IANA names for each."""


class Target(Veiled, frozen=True, kw_only=True):
    """A URL in parts. path: with query, for webhooks; the topic, for MQTT."""

    SHOWN = ("shown",)

    scheme: str
    host: str
    port: int
    user: str = ""
    path: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()

    @property
    def kind(self) -> Scheme:
        """What the scheme means."""
        return SCHEMES[self.scheme]

    @property
    def shown(self) -> str:
        """The address without what may be secret: the path of a webhook often is its password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = f"{self.scheme}://{host}:{self.port}"
        match self.kind.way:
            case "webhook":
                return f"{place}/…" if self.path not in ("", "/") else f"{place}/"
            case "mail":
                return f"{place} to {', '.join(self.recipients)}"
            case "mqtt":
                return f"{place}/{self.path}"
        return place


def parse(url: str) -> Target:
    """A URL's parts. Raises NotifyError."""
    parts, port = _split(url)
    scheme = SCHEMES.get(parts.scheme)
    if scheme is None:
        raise NotifyError(f"url: {parts.scheme or 'no'} scheme is none of {', '.join(SCHEMES)}")
    if not parts.hostname:
        raise NotifyError("url: names no host")
    if parts.password is not None:
        raise NotifyError("url: holds a password; give it as the route's secret")
    user = unquote(parts.username or "")
    target = Target(scheme=parts.scheme, host=parts.hostname, port=port or scheme.port, user=user)
    match scheme.way:
        case "webhook":
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            return msgspec.structs.replace(target, path=path)
        case "mail":
            return _mail(target, parts.query)
        case "mqtt":
            return msgspec.structs.replace(target, path=_topic(unquote(parts.path.removeprefix("/"))))
    if parts.path.strip("/") or parts.query:
        raise NotifyError("url: syslog has no path")
    return target


def _split(url: str) -> tuple[SplitResult, int | None]:
    """A URL's parts and its port."""
    if len(url) > MAX_URL:
        raise NotifyError(f"url: longer than {MAX_URL} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise NotifyError("url: only printable ASCII without blanks; percent-encode the rest")
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        raise NotifyError("url: host or port cannot be read") from None


def _mail(target: Target, query: str) -> Target:
    options = parse_qs(query)
    if unknown := options.keys() - target.kind.options:
        raise NotifyError(f"url: unknown option {', '.join(sorted(unknown))}")
    recipients = tuple(one.strip() for text in options.get("to", ()) for one in text.split(","))
    sender = options.get("from", [""])[0]
    for address in (sender, *recipients):
        name, at, domain = address.rpartition("@")
        if not (name and at and domain) or any(c.isspace() or c in "<>,;" for c in address):
            raise NotifyError(f"url: {address!r} is no mail address; write ?from=a@x&to=b@y,c@z")
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise NotifyError(f"url: 1 to {MAX_RECIPIENTS} recipients are needed, as in ?from=a@x&to=b@y,c@z")
    return msgspec.structs.replace(target, sender=sender, recipients=recipients)


def _topic(topic: str) -> str:
    if not topic or "+" in topic or "#" in topic or "\0" in topic:
        raise NotifyError(
            "url: a topic without + and # is needed, as in mqtts://broker.example.net/vedette/alerts"
        )
    return topic
