"""Names that KQL gives to columns that have none: `count_`, `sum_x`, `Column1`."""

from __future__ import annotations

from collections.abc import Iterable

from vedette.hub.kql import aggregates
from vedette.hub.kql.functions import CONVERSIONS
from vedette.hub.kql.tree import Call, Constant, Expression, Member, Name, Target

PRESERVING = frozenset(
    {*CONVERSIONS, "todynamic", "parse_json", "split", "bin", "bin_at", "floor", "round", "abs", "ceiling"}
    | {"startofday", "format_datetime", "sqrt", "log", "exp"}
)
"""Functions whose value is named after their first argument."""


def natural(node: Expression) -> str:
    """The name of an expression; empty where it has none but its position."""
    match node:
        case Name():
            return node.name
        case Member():
            key = str(node.key).replace("-", "_")
            base = natural(node.base)
            return f"{base}_{key}" if base else key
        case Call() if node.name in aggregates.NAMES:
            return _aggregate(node)
        case Call() if node.name in PRESERVING and node.arguments:
            return natural(node.arguments[0])
        case _:
            return ""


def _aggregate(node: Call) -> str:
    prefix = aggregates.prefix(node.name)
    if not node.arguments or node.name in ("count", "countif"):
        return f"{prefix}_"
    inner = natural(node.arguments[0])
    if not prefix:
        return inner
    share = node.arguments[1] if node.name == "percentile" and len(node.arguments) > 1 else None
    return f"{prefix}_{inner}" + (f"_{share.value:g}" if isinstance(share, Constant) else "")


class Names:
    """Gives names, each of them once. taken: names that must not be given."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._position = 0

    def of(self, target: Target) -> str:
        """A target's name: its own, its natural one, or ColumnN."""
        return self.take(target.name or natural(target.value) or self._column())

    def take(self, name: str) -> str:
        """This name; with a number behind if it is taken."""
        found, number = name, 0
        while found in self._taken:
            number += 1
            found = f"{name}{number}"
        self._taken.add(found)
        return found

    def _column(self) -> str:
        self._position += 1
        return f"Column{self._position}"


def matches(name: str, pattern: str) -> bool:
    """Whether a name is meant by a pattern, which may end in `*`."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
