"""Parsing of KQL's expressions: operator precedence over a `Reader`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vedette.hub.kql.tree import (
    Between,
    Binary,
    Call,
    Constant,
    Expression,
    KqlError,
    Member,
    Membership,
    Name,
    Star,
    Table,
    Target,
)

if TYPE_CHECKING:
    from vedette.hub.kql.parser import Parser
    from vedette.hub.kql.reader import Reader

STRING_OPERATORS = frozenset(
    prefix + name + suffix
    for name in ("contains", "startswith", "endswith", "has", "hasprefix", "hassuffix")
    for prefix in ("", "!")
    for suffix in ("", "_cs")
)
"""Operators between texts; `_cs`: in the case as written."""

LIST_OPERATORS = frozenset({"in", "!in", "has_any", "has_all"})
COMPARISONS = frozenset({"==", "!=", "<>", "=~", "!~", "<", "<=", ">", ">="})


class Expressions:
    """Reads one expression at a time. parser: reads queries, which may stand in parentheses."""

    def __init__(self, reader: Reader, parser: Parser) -> None:
        self._reader = reader
        self._parser = parser

    def target(self) -> Target:
        """`name = expression`, or an expression."""
        reader, at = self._reader, self._reader.next.at
        if reader.next.type == "word" and reader.ahead("="):
            name = reader.take().text
            reader.take()
            return Target(at=at, name=name, value=self.expression())
        if reader.sees("[") and reader.ahead("=", 3):
            name = reader.word("a name").text
            reader.take()
            return Target(at=at, name=name, value=self.expression())
        return Target(at=at, name="", value=self.expression())

    def expression(self) -> Expression:
        """The whole of it."""
        return self._reader.within(self._any)

    def _any(self) -> Expression:
        left = self._all()
        while self._reader.sees("or"):
            at = self._reader.take().at
            left = Binary(at=at, op="or", left=left, right=self._all())
        return left

    def _all(self) -> Expression:
        left = self._comparison()
        while self._reader.sees("and"):
            at = self._reader.take().at
            left = Binary(at=at, op="and", left=left, right=self._comparison())
        return left

    def _comparison(self) -> Expression:
        left = self._sum()
        token, reader = self._reader.next, self._reader
        if reader.sees(*LIST_OPERATORS):
            return self._membership(left)
        if reader.sees("between", "!between"):
            return self._between(left)
        if reader.sees("matches"):
            reader.take()
            reader.expect("regex")
            return Binary(at=token.at, op="matches regex", left=left, right=self._sum())
        if reader.sees(*COMPARISONS, *STRING_OPERATORS):
            op = reader.take().text
            return Binary(at=token.at, op="!=" if op == "<>" else op, left=left, right=self._sum())
        return left

    def _membership(self, value: Expression) -> Expression:
        token = self._reader.take()
        op = token.text + ("~" if self._reader.skip("~") else "")
        self._reader.expect("(")
        items = self._reader.listed(self._parser.tabular_or_expression)
        self._reader.expect(")")
        return Membership(at=token.at, op=op, value=value, items=items)

    def _between(self, value: Expression) -> Expression:
        token = self._reader.take()
        self._reader.expect("(")
        low = self._sum()
        self._reader.expect("..")
        high = self._sum()
        self._reader.expect(")")
        return Between(at=token.at, value=value, low=low, high=high, negated=token.text.startswith("!"))

    def _sum(self) -> Expression:
        left = self._product()
        while self._reader.sees("+", "-"):
            token = self._reader.take()
            left = Binary(at=token.at, op=token.text, left=left, right=self._product())
        return left

    def _product(self) -> Expression:
        left = self._unary()
        while self._reader.sees("*", "/", "%"):
            token = self._reader.take()
            left = Binary(at=token.at, op=token.text, left=left, right=self._unary())
        return left

    def _unary(self) -> Expression:
        token = self._reader.next
        if self._reader.skip("+"):
            return self._reader.within(self._unary)
        if not self._reader.skip("-"):
            return self._postfix()
        value = self._reader.within(self._unary)
        if isinstance(value, Constant) and isinstance(value.value, int | float):
            return Constant(at=token.at, kind=value.kind, value=-value.value)
        zero = Constant(at=token.at, kind="long", value=0)
        return Binary(at=token.at, op="-", left=zero, right=value)

    def _postfix(self) -> Expression:
        value = self._primary()
        while self._reader.sees(".", "["):
            token = self._reader.take()
            if token.text == ".":
                value = Member(at=token.at, base=value, key=self._reader.word("a property").text)
            else:
                value = Member(at=token.at, base=value, key=self._key())
                self._reader.expect("]")
        return value

    def _key(self) -> str | int:
        sign = -1 if self._reader.skip("-") else 1
        token = self._reader.take()
        if token.type == "constant" and token.kind == "string":
            return str(token.value)
        if token.type == "constant" and token.kind == "long":
            return sign * int(token.value)
        raise KqlError("expected a name in quotes or a number in the brackets", token.at)

    def _primary(self) -> Expression:
        reader, token = self._reader, self._reader.next
        if token.type == "constant":
            reader.take()
            return Constant(at=token.at, kind=token.kind, value=token.value)
        if reader.skip("("):
            inner = self._parser.tabular_or_expression()
            reader.expect(")")
            return inner
        if reader.skip("*"):
            return Star(at=token.at)
        if reader.sees("true", "false"):
            return Constant(at=token.at, kind="bool", value=reader.take().text == "true")
        name = reader.word("a value")
        if reader.sees("("):
            return self._call(name.text, name.at)
        return Name(at=name.at, name=name.text)

    def _call(self, name: str, at: int) -> Expression:
        reader = self._reader
        reader.expect("(")
        if name == "dynamic":
            value = self._json()
            reader.expect(")")
            text = value if isinstance(value, str) else None if value is None else _compact(value)
            return Constant(at=at, kind="dynamic", value=text)
        if name == "typeof":
            kind = reader.kind()
            reader.expect(")")
            return Constant(at=at, kind="string", value=kind)
        arguments = () if reader.sees(")") else reader.listed(self._parser.tabular_or_expression)
        reader.expect(")")
        if name == "materialize" and len(arguments) == 1 and isinstance(arguments[0], Table | Name):
            return arguments[0]
        return Call(at=at, name=name, arguments=arguments)

    def _json(self) -> Any:
        reader = self._reader
        if reader.skip("["):
            items = () if reader.sees("]") else reader.listed(lambda: reader.within(self._json))
            reader.expect("]")
            return list(items)
        if reader.skip("{"):
            pairs = () if reader.sees("}") else reader.listed(lambda: reader.within(self._pair))
            reader.expect("}")
            return dict(pairs)
        sign = -1 if reader.skip("-") else 1
        token = reader.take()
        if token.type == "constant" and token.kind in ("string", "long", "real", "bool"):
            return sign * token.value if sign < 0 else token.value
        words = {"true": True, "false": False, "null": None}
        if token.text not in words:
            raise KqlError("expected JSON in dynamic()", token.at)
        return words[token.text]

    def _pair(self) -> tuple[str, Any]:
        key = self._reader.constant("string", "a property in quotes").value
        self._reader.expect(":")
        return str(key), self._json()


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
