"""What an indicator is, and its one spelling: that of the value in every list, lookup and answer."""

from __future__ import annotations

import ipaddress
import re
from typing import Literal, get_args

import msgspec

Kind = Literal["address", "name", "url", "hash"]
KINDS: tuple[Kind, ...] = get_args(Kind)

WIDEST = {4: 8, 6: 16}
"""Shortest prefix of a range that is taken, by IP version: a wider one is a slip, and would fire on half of
the Internet."""

MAX_VALUE = 2_048
"""Characters of a value: the longest URL that browsers of all makes take."""

MAX_NOTE = 200
"""Characters kept of what a source says about an indicator."""

_NAME = re.compile(r"(?=.{4,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
_URL = re.compile(
    r"(?:[a-z][a-z0-9+.-]*:)?//(?:[^/@?#]*@)?(\[[^\]]*\]|[^/:?#]+)(?::\d*)?([^#]*)(?:#.*)?", re.IGNORECASE
)
_HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128}")
_PORT = re.compile(r"(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:.]+\]):\d+")


class Indicator(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """Something known to be bad. confidence: 0 to 100, as the source has it. expires: Unix seconds.

    value: an address or range in CIDR form; a lower-case name; a URL as `url` spells it; a lower-case
    hexadecimal digest. note: what the source says about it.
    """

    kind: Kind
    value: str
    confidence: int | None = None
    expires: float | None = None
    note: str = ""


class Refused(ValueError):
    """An entry that cannot be used; the text is the reason, the same for all of its sort."""


def indicator(
    text: str,
    kind: Kind | None = None,
    *,
    confidence: int | None = None,
    expires: float | None = None,
    note: str = "",
) -> Indicator:
    """An indicator from its text in any usual spelling; without a kind, of whichever it looks like.

    Raises Refused.
    """
    text = text.strip().replace("[.]", ".").replace("hxxp", "http", 1)
    if len(text) > MAX_VALUE:
        raise Refused(f"longer than {MAX_VALUE} characters")
    for one in (kind,) if kind else KINDS:
        if value := _SPELLINGS[one](text):
            return Indicator(one, value, confidence, expires, note[:MAX_NOTE])
    raise Refused(f"no {kind}" if kind else "no address, name, URL or hash")


def address(text: str) -> str:
    """An address, or a range as CIDR; empty for another text. A port is left out. Raises Refused."""
    if not text[-1:].isalnum() and text[-1:] not in (":", "]"):
        return ""
    if with_port := _PORT.fullmatch(text):
        text = with_port[1]
    try:
        network = ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return ""
    if network.prefixlen < WIDEST[network.version]:
        raise Refused(f"range wider than /{WIDEST[network.version]}")
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def name(text: str) -> str:
    """A DNS name of two labels or more, in ASCII; empty for another text."""
    text = text.removeprefix("*.").strip(".").lower()
    if not text.isascii():
        try:
            text = text.encode("idna").decode()
        except UnicodeError:
            return ""
    return text if _NAME.fullmatch(text) else ""


def url(text: str) -> str:
    """`host/path?query`, as it is the same for all schemes and ports; empty for another text."""
    match = _URL.fullmatch(text)
    if match is None:
        return ""
    host = address(match[1]) or name(match[1])
    path = match[2] if match[2].startswith("/") else f"/{match[2]}"
    return f"{host}{path}" if host else ""


def digest(text: str) -> str:
    """An MD5, SHA-1, SHA-256 or SHA-512 digest; empty for another text."""
    text = text.lower()
    return text if _HASH.fullmatch(text) else ""


_SPELLINGS = {"address": address, "name": name, "url": url, "hash": digest}
