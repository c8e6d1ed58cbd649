"""All regular expressions on one field at once: RE2 finds in one pass which of them match a text.

RE2 takes time linear in the text whatever the expression, so that a rule cannot stall the hub; and one pass
for all costs about what a single expression does. Expressions that RE2 does not have (look-around, references
back) are tried one by one with Python's `re`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

MEMORY = 64 * 1024 * 1024
"""What RE2 may spend on the automaton of one field; it is slower beyond, not wrong. Its default of 8 MB is
meant for single expressions."""


class BadPattern(ValueError):
    """Neither RE2 nor Python can read the expression."""


def mark(pattern: str) -> str:
    """What stands for a pattern in the result of `Patterns.matching`: the same wherever it is used."""
    return f",{blake2b(pattern.encode(), digest_size=6).hexdigest()},"


def check(pattern: str) -> None:
    """Raise BadPattern if the pattern cannot be used."""
    Patterns([pattern])


TEXTS = 4_096
"""Texts of a field whose result is kept: names of programs and users, options, are few."""


class Patterns:
    """A set of patterns to search texts for.

    matching: a text → the marks of the patterns that are found in it, one after the other.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        import re2

        options = re2.Options()
        options.max_mem = MEMORY
        options.log_errors = False
        self._set = re2.Set.SearchSet(options)
        self._marks: list[str] = []
        self._slow: list[tuple[str, re.Pattern[str]]] = []
        for pattern in patterns:
            try:
                self._set.Add(pattern)
                self._marks.append(mark(pattern))
            except re2.error:
                self._slow.append((mark(pattern), _compiled(pattern)))
        if self._marks:
            self._set.Compile()
        self.matching = lru_cache(maxsize=TEXTS)(self._matching)

    def _matching(self, text: str) -> str:
        found = [self._marks[index] for index in self._set.Match(text) or ()] if self._marks else []
        found += [name for name, pattern in self._slow if pattern.search(text)]
        return "".join(found)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise BadPattern(f"regular expression {pattern[:80]!r}: {error}") from None
