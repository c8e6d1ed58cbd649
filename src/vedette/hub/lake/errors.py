"""What can go wrong with the lake, as the rest of the hub sees it."""

from __future__ import annotations

import re

_DRAWING = re.compile(r"\x1b\[[0-9;]*m|↳")
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?: .*\n)*(?:[\w.]+: )?(?P<said>.*)")


def reason(error: Exception) -> str:
    """An error in one line: delta-rs draws its causes over several, in colour."""
    return " ".join(_DRAWING.sub("", told(str(error))).split()) or type(error).__name__


def told(text: str) -> str:
    """DuckDB's message. Where it asked us for a file and we failed: just what we said."""
    match = _TRACEBACK.search(text)
    return match["said"] if match else text


class LakeFault(Exception):
    """The lake cannot be used; the text says where it is and why not."""


class CommitFailed(Exception):
    """Rows are certainly not in the lake; the text says why. Storing them again is safe."""


class CommitInDoubt(Exception):
    """The log could not be read back after a failure: the rows may be in the lake or not."""


class QueryError(ValueError):
    """A query was refused or could not be answered; the text is meant for whoever wrote it.

    line, column: where in the query, from 1; 0 where that is not known.
    """

    def __init__(self, message: str, *, line: int = 0, column: int = 0) -> None:
        self.line, self.column = line, column
        super().__init__(f"line {line}, column {column}: {message}" if line else message)
