"""What the file system settings may say, and the words for what happens to a file.

Pure: nothing here looks at a file system. The numbers are those of inotify(7).
"""

from __future__ import annotations

from enum import IntFlag
from typing import Literal

Word = Literal["Access", "Modified", "Metadata changed", "Closed", "Opened", "Moved", "Created", "Deleted"]
"""The kinds of change, in the words of the micro agent."""

MAX_PATHS = 64
"""Paths and exclusions a twin may name. Every path costs a watch for each of its parents."""

MAX_PATH = 4_096
"""Characters of one path or exclusion: the kernel's PATH_MAX."""


class Change(IntFlag):
    """The inotify bits of each kind of change that `FileSystem_Events` can name."""

    ACCESSED = 0x1
    MODIFIED = 0x2
    METADATA = 0x4
    CLOSED = 0x8 | 0x10
    OPENED = 0x20
    MOVED = 0x40 | 0x80
    CREATED = 0x100
    DELETED = 0x200


_WORDS: tuple[tuple[int, Word], ...] = (
    (int(Change.MODIFIED), "Modified"),
    (int(Change.CREATED), "Created"),
    (int(Change.DELETED), "Deleted"),
    (int(Change.MOVED), "Moved"),
    (int(Change.METADATA), "Metadata changed"),
    (int(Change.CLOSED), "Closed"),
    (int(Change.OPENED), "Opened"),
    (int(Change.ACCESSED), "Access"),
)
"""Plain numbers: this is asked for every change."""


def word(mask: int) -> Word:
    """The word for an inotify mask. Raises ValueError if it is none of a change."""
    for change, name in _WORDS:
        if mask & change:
            return name
    raise ValueError(f"inotify mask {mask:#x} is no change")


def listed(text: str | None) -> tuple[str, ...]:
    """The parts of a comma list, without the blanks around them and without empty ones."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def watched_paths(text: str | None) -> tuple[str, ...]:
    """`FileSystem_Paths` as paths. Raises ValueError if one cannot be watched."""
    paths = _few(listed(text))
    for path in paths:
        if not path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"{path!r} is not an absolute path without `..`")
    return paths


def excluded_globs(text: str | None) -> tuple[str, ...]:
    """`FileSystem_Exclude` as globs. Raises ValueError if there are too many or one is too long."""
    return _few(listed(text))


def chosen_changes(text: str) -> Change:
    """`FileSystem_Events` as bits. Raises ValueError if a word is unknown or none is left."""
    chosen = Change(0)
    for name in listed(text):
        try:
            chosen |= Change[name.upper()]
        except KeyError:
            known = ", ".join(member.lower() for member in Change.__members__)
            raise ValueError(f"{name!r} is none of {known}") from None
    if not chosen:
        raise ValueError("at least one kind of change is needed")
    return chosen


def _few(parts: tuple[str, ...]) -> tuple[str, ...]:
    if len(parts) > MAX_PATHS:
        raise ValueError(f"{len(parts)} parts are more than {MAX_PATHS}")
    for part in parts:
        if len(part) > MAX_PATH or "\0" in part:
            raise ValueError(f"{part[:32]!r}… is longer than {MAX_PATH} characters or holds a NUL")
    return parts
