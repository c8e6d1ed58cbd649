"""A cursor over the tokens of a query."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from vedette.hub.kql.tokens import Token, tokens
from vedette.hub.kql.tree import KINDS, Kind, KqlError

MAX_DEPTH = 80
"""Parentheses within each other, twice. A pair takes some 15 of Python's frames, of which there are 1,000."""

T = TypeVar("T")


class Reader:
    """Looks at the next token, takes it, or says what was expected instead."""

    def __init__(self, text: str) -> None:
        self._tokens = list(tokens(text))
        self._index = 0
        self._depth = 0

    @property
    def next(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._index]

    def ahead(self, text: str, steps: int = 1) -> bool:
        """Whether the token after the next is this word or mark."""
        place = min(self._index + steps, len(self._tokens) - 1)
        return self._tokens[place].type != "constant" and self._tokens[place].text == text

    def sees(self, *texts: str) -> bool:
        """Whether one of these words or marks comes next."""
        return self.next.type != "constant" and self.next.text in texts

    def take(self) -> Token:
        """The next token; it is passed."""
        token = self.next
        self._index += token.type != "end"
        return token

    def skip(self, *texts: str) -> bool:
        """Pass one of these words or marks, if it comes next."""
        return self.sees(*texts) and bool(self.take())

    def expect(self, text: str) -> Token:
        """Pass this word or mark."""
        if not self.sees(text):
            raise self.unexpected(repr(text))
        return self.take()

    def word(self, what: str) -> Token:
        """Pass a name; also one in brackets and quotes."""
        if self.sees("[") and self._tokens[self._index + 1].kind == "string" and self.ahead("]", 2):
            self.take()
            quoted = self.take()
            self.take()
            return Token("word", str(quoted.value), quoted.at)
        if self.next.type != "word":
            raise self.unexpected(what)
        return self.take()

    def constant(self, kind: Kind, what: str) -> Token:
        """Pass a literal of this type."""
        if self.next.type != "constant" or self.next.kind != kind:
            raise self.unexpected(what)
        return self.take()

    def kind(self) -> Kind:
        """Pass the name of a type."""
        name = self.word("a type")
        if name.text not in KINDS:
            raise KqlError(f"{name.text!r} is no type; there are {', '.join(sorted(KINDS))}", name.at)
        return KINDS[name.text]

    def option(self, *names: str) -> str:
        """Pass `name=value` if it comes next; the value."""
        if not (self.sees(*names) and self.ahead("=")):
            return ""
        self.take()
        self.take()
        token = self.take()
        return str(token.value if token.type == "constant" else token.text)

    def hints(self) -> None:
        """Pass `hint.name=value`: they are about how, not what."""
        while self.sees("hint") and self.ahead("."):
            for _ in range(5):
                self.take()

    def listed(self, read: Callable[[], T]) -> tuple[T, ...]:
        """One or more, with commas between."""
        found = [read()]
        while self.skip(","):
            found.append(read())
        return tuple(found)

    def pass_by(self) -> None:
        """Pass what is left of an operator."""
        depth = 0
        while self.next.type != "end" and (depth or not self.sees("|", ";", ")", "}")):
            depth += self.sees("(") - self.sees(")")
            self.take()

    def within(self, read: Callable[[], T]) -> T:
        """Read something that may contain itself."""
        if self._depth >= MAX_DEPTH:
            raise KqlError("nested too deeply", self.next.at)
        self._depth += 1
        try:
            return read()
        finally:
            self._depth -= 1

    def unexpected(self, what: str) -> KqlError:
        """What was expected, and what stands there."""
        shown = self.next.text if self.next.type == "end" else repr(self.next.text)
        return KqlError(f"expected {what} instead of {shown}", self.next.at)
