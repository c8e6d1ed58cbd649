"""What the tables of functions share: how one is written, and arguments that have to be constants."""

from __future__ import annotations

from collections.abc import Callable

from vedette.hub.kql.dialect import Dialect
from vedette.hub.kql.tree import Call, Constant, KqlError
from vedette.hub.kql.values import Value

Special = Callable[[Dialect, Call, list[Value]], Value]
"""Writes a call, given the values of its arguments."""


def constant(call: Call, index: int) -> object:
    """The value of an argument that has to be known before there are rows."""
    argument = call.arguments[index] if index < len(call.arguments) else None
    if not isinstance(argument, Constant):
        raise KqlError(f"argument {index + 1} of {call.name}() has to be a constant", call.at)
    return argument.value
