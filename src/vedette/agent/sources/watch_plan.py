"""Which places of the file system are watched, and which names are left out. Pure: nothing is looked at.

A plan is a tree of names from `/` down to the watched roots. Its inner places are watched only for the
next name on the way, which is how a root that is not there (yet, or any more) is followed.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable


class Place:
    """A place on the way to a root, or a root.

    inside: everything in it is reported. next: the names that lead on to (further) roots.
    """

    __slots__ = ("inside", "next")

    def __init__(self, *, inside: bool = False) -> None:
        self.inside = inside
        self.next: dict[str, Place] = {}


BELOW = Place(inside=True)
"""Every directory below a root that is watched with all that is in it."""


class Plan:
    """The roots, as a tree of places, and the exclusions below them."""

    def __init__(self, roots: Iterable[str], *, recursive: bool, exclude: Iterable[str] = ()) -> None:
        self.recursive = recursive
        self.top = Place()
        for root in roots:
            place = self.top
            for name in filter(None, root.split("/")):
                place = place.next.setdefault(name, Place())
            place.inside = True
        if recursive:
            _spread(self.top, inside=False)
        globs = tuple(exclude)
        self._names = _any_of(glob for glob in globs if "/" not in glob)
        self._paths = _any_of(glob for glob in globs if "/" in glob)
        self.excludes_nothing = not globs

    def below(self, place: Place, name: str) -> Place | None:
        """What a directory of that name is, in a place; None if it is not watched."""
        found = place.next.get(name)
        return BELOW if found is None and self.recursive and place.inside else found

    def concerns(self, path: str) -> bool:
        """True if the path is a root, on the way to one, or watched because it is below one."""
        place: Place | None = self.top
        for name in filter(None, path.split("/")):
            place = self.below(place, name) if place else None
        return place is not None

    def excludes_name(self, name: str) -> bool:
        """True if something of that name inside a root is left out, wherever it is."""
        return self._names is not None and self._names.match(name) is not None

    def excludes_path(self, path: Callable[[], str]) -> bool:
        """True if that path inside a root is left out. It is asked for only if it matters."""
        return self._paths is not None and self._paths.match(path()) is not None


def _spread(place: Place, *, inside: bool) -> None:
    """A root below a recursive root adds nothing: both report all that is in them."""
    place.inside = place.inside or inside
    for further in place.next.values():
        _spread(further, inside=place.inside)


def _any_of(globs: Iterable[str]) -> re.Pattern[str] | None:
    patterns = [fnmatch.translate(glob) for glob in globs]
    return re.compile("|".join(patterns)) if patterns else None
