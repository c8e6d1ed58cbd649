"""All patterns that rules look for in one field, at once: RE2 finds in one pass which of them a text matches.

RE2 takes time linear in the text whatever the expression, so that a rule cannot stall the hub; and one pass
for all costs about what a single expression does. What it does not have (look-around, references back) is
refused by pySigma when it reads a rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

import re2

MEMORY = 64 * 1024 * 1024
"""What RE2 may spend on the automaton of one field; it is slower beyond, not wrong. Its default of 8 MB is
meant for single expressions."""

TEXTS = 4_096
"""Texts of a field whose result is kept: names of programs and users, options, are few."""


class BadPattern(ValueError):
    """RE2 cannot read the expression."""


def mark(pattern: str) -> str:
    """What stands for a pattern in the result of `Patterns.matching`: the same wherever it is used."""
    return f",{blake2b(pattern.encode(), digest_size=6).hexdigest()},"


def check(pattern: str) -> None:
    """Raise BadPattern if the pattern cannot be used."""
    Patterns([pattern])


class Patterns:
    """A set of patterns to search texts for.

    matching: a text → the marks of the patterns that are found in it, one after the other.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        options = re2.Options()
        options.max_mem = MEMORY
        options.log_errors = False
        self._set = re2.Set.SearchSet(options)
        self._marks: list[str] = []
        for pattern in patterns:
            try:
                self._set.Add(pattern)
            except re2.error as error:
                raise BadPattern(f"regular expression {pattern[:80]!r}: {error}") from None
            self._marks.append(mark(pattern))
        self._set.Compile()
        self.matching = lru_cache(maxsize=TEXTS)(self._matching)

    def _matching(self, text: str) -> str:
        found = self._set.Match(text.encode(errors="replace"))
        return "".join([self._marks[index] for index in found]) if found else ""
