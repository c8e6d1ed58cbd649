"""All indicators in memory, for the questions that rules ask: a hash look-up each, however many there are.

An address is looked for in the ranges of each length that occurs, a name with its parents, a URL with the
directories above it. Expired indicators are left out when a lookup is made.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from vedette.hub.intel import indicators
from vedette.hub.intel.indicators import Indicator, Kind

MAX_DIRECTORIES = 16
"""Directories of a URL that are looked at, and labels of a name: deeper ones are not indicators' depth."""

REMEMBERED = 16_384
"""Answers kept: devices talk to the same few peers."""

_BETWEEN = re.compile(r"[\s'\"]+")
_TARGET = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://)?(?:[^\s/@]*@)?(\[[0-9a-f:.]+\]|[^\s/:@\[\]]+)(.*)", re.IGNORECASE
)


class Lookup:
    """Answers whether something is listed."""

    def __init__(self, listed: Iterable[Indicator] = ()) -> None:
        self._ranges: dict[tuple[int, int], set[int]] = {}
        self._values: dict[Kind, set[str]] = {"name": set(), "url": set(), "hash": set()}
        for one in listed:
            if one.kind == "address":
                self._add_range(one.value)
            else:
                self._values[one.kind].add(one.value)
        self._hosts = {value.partition("/")[0] for value in self._values["url"]}
        self.holds = lru_cache(maxsize=REMEMBERED)(self._holds) if len(self) else _nothing

    def __len__(self) -> int:
        """How many indicators are looked for."""
        return sum(map(len, self._ranges.values())) + sum(map(len, self._values.values()))

    def _add_range(self, value: str) -> None:
        text, _, length = value.partition("/")
        number, bits = _number(text)
        prefix = int(length or bits)
        self._ranges.setdefault((bits, bits - prefix), set()).add(number >> (bits - prefix))

    def _holds(self, question: str, text: str) -> bool:
        """Whether a list of QUESTIONS holds what a field says."""
        return QUESTIONS[question](self, text)

    def address(self, text: str) -> bool:
        """Whether an address is listed, or is in a range that is."""
        if not (text[:1].isdigit() or ":" in text):
            return False  # names are asked about, too, and an exception costs more than all the rest
        try:
            number, bits = _number(text)
        except OSError:
            return False
        return any(
            number >> shift in ranges for (width, shift), ranges in self._ranges.items() if width == bits
        )

    def name(self, text: str) -> bool:
        """Whether a name is listed, or one that it is below."""
        listed = self._values["name"]
        return any(parent in listed for parent in parents(text.lower().rstrip(".")))

    def url(self, value: str) -> bool:
        """Whether a URL in our spelling is listed, with or without its query, or a directory above it."""
        listed = self._values["url"]
        return any(above in listed for above in directories(value))

    def digest(self, text: str) -> bool:
        """Whether a file's digest is listed."""
        return text.lower() in self._values["hash"]

    def source(self, text: str) -> bool:
        """Whether arguments of a command name a host or URL that is listed."""
        return any(self._target(word) for word in _BETWEEN.split(text) if "." in word or ":" in word)

    def _target(self, word: str) -> bool:
        if word.startswith("-"):
            word = word.partition("=")[2]
        target = _TARGET.fullmatch(word)
        if target is None:
            return False
        host = target[1].strip("[]").lower()
        if self.address(host) or self.name(host):
            return True
        if host not in self._hosts:
            return False
        # `host:port/path` and scp's `host:path`
        path = re.sub(r"^:\d*(?=/|$)|^:(?=\D)", "", target[2]).partition("#")[0]
        return self.url(f"{host}/{path.removeprefix('/')}")


def _nothing(question: str, text: str) -> bool:
    """What a lookup without indicators holds."""
    return False


QUESTIONS: dict[str, Callable[[Lookup, str], bool]] = {
    "bad_addresses": Lookup.address,
    "bad_names": Lookup.name,
    "bad_sources": Lookup.source,
    "bad_hashes": Lookup.digest,
}
"""What rules may ask for, as `Field|expand: '%bad_names%'`."""


def covering(found: Indicator) -> Iterator[tuple[Kind, str]]:
    """Every indicator that would match this one's value: (kind, value)."""
    if found.kind == "address":
        network = ipaddress.ip_network(found.value)
        yield found.kind, found.value
        for length in range(indicators.WIDEST[network.version], network.prefixlen):
            yield found.kind, str(network.supernet(new_prefix=length))
    elif found.kind == "name":
        yield from (("name", parent) for parent in parents(found.value))
    elif found.kind == "url":
        yield from (("url", above) for above in directories(found.value))
        host = indicators.indicator(found.value.partition("/")[0])
        yield from covering(host)
    else:
        yield found.kind, found.value


def parents(name: str) -> Iterator[str]:
    """A name and those above it, the top one left out."""
    for _ in range(MAX_DIRECTORIES):
        if "." not in name:
            return
        yield name
        name = name.partition(".")[2]


def directories(url: str) -> Iterator[str]:
    """A URL in our spelling, without its query, and the directories above it down to `host/`."""
    yield url
    path = url.partition("?")[0]
    for _ in range(MAX_DIRECTORIES):
        yield path
        path = path.removesuffix("/").rpartition("/")[0]
        if not path:
            return
        path += "/"


def _number(text: str) -> tuple[int, int]:
    """An address as a number, and its bits. Raises OSError for another text."""
    if ":" in text:
        number = int.from_bytes(socket.inet_pton(socket.AF_INET6, text))
        return (number & 0xFFFF_FFFF, 32) if number >> 32 == 0xFFFF else (number, 128)
    return int.from_bytes(socket.inet_pton(socket.AF_INET, text)), 32
