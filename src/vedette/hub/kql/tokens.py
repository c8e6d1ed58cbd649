"""KQL text to tokens. Facts: the published lexical rules of the Kusto query language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from vedette.hub.kql.tree import KINDS, Kind, KqlError

MICROSECONDS = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "microsecond": 1,
    "tick": 0.1,
}
"""Of one unit of a timespan."""

_UNITS = "microseconds?|milliseconds?|seconds?|minutes?|hours?|days?|ticks?|ms|[dhms]"
_LONG_UNITS = {"millisecond": "ms", "second": "s", "minute": "m", "hour": "h", "day": "d"}

_TOKEN = re.compile(
    rf"""
      (?P<space>\s+|//[^\n]*)
    | (?P<typed>\b(?:datetime|date|timespan|time|guid|int|long|real|double|decimal|bool|boolean)\b
        \s*\(\s*(?![A-Za-z_]+\s*\()(?P<content>[^()]*)\))
    | (?P<span>\d+(?:\.\d+)?(?:{_UNITS})\b)
    | (?P<number>0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<string>[hH]?@"[^"\n]*"|[hH]?@'[^'\n]*'
        |[hH]?"(?:[^"\\\n]|\\.)*"|[hH]?'(?:[^'\\\n]|\\.)*')
    | (?P<word>!?[A-Za-z_$][A-Za-z0-9_]*)
    | (?P<mark>==|=~|!=|!~|<=|>=|<>|=>|\.\.|[-+*/%<>=|()\[\]{{}},;:.~])
    """,
    re.VERBOSE,
)
_LONG_STRING = re.compile(r"```(.*?)```|~~~(.*?)~~~", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_CLOCK = re.compile(r"(-)?(?:(\d+)\.)?(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d{1,7})?))?")


class Token(NamedTuple):
    """type: word, mark, constant, or end. text: as written. A constant has a kind and a value."""

    type: Literal["word", "mark", "constant", "end"]
    text: str
    at: int
    kind: Kind = "string"
    value: Any = None


def tokens(text: str) -> Iterator[Token]:
    """The tokens, the last one being the end. Raises KqlError."""
    at = 0
    while at < len(text):
        if long := _LONG_STRING.match(text, at):
            yield Token("constant", long[0], at, "string", long[1] or long[2] or "")
            at = long.end()
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            what = "a string that does not end" if text[at] in "\"'" else f"{text[at]!r} is not understood"
            raise KqlError(what, at)
        at = match.end()
        if match.lastgroup != "space":
            yield _token(match)
    yield Token("end", "the end", len(text))


def _token(match: re.Match[str]) -> Token:
    text, at = match[0], match.start()
    if match["typed"]:
        kind = KINDS[re.match(r"\w+", text)[0]]  # type: ignore[index]  # begins with one of them
        return Token("constant", text, at, kind, _typed(kind, match["content"].strip().strip("\"'"), at))
    if match["span"]:
        return Token("constant", text, at, "timespan", microseconds(text, at))
    if match["number"]:
        return _number(text, at)
    if match["string"]:
        return Token("constant", text, at, "string", _string(text))
    return Token("word" if match["word"] else "mark", text, at)


def _number(text: str, at: int) -> Token:
    if text[:2] in ("0x", "0X"):
        return Token("constant", text, at, "long", int(text, 16))
    if text.isdigit():
        return Token("constant", text, at, "long", int(text))
    return Token("constant", text, at, "real", float(text))


def _string(text: str) -> str:
    text = text.lstrip("hH")
    if text.startswith("@"):
        return text[2:-1]
    return _ESCAPE.sub(_unescaped, text[1:-1])


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPES.get(code, code)


def _typed(kind: Kind, content: str, at: int) -> Any:
    """The value of `kind(content)`; None for null."""
    if content == "null":
        return None
    try:
        match kind:
            case "datetime":
                return instant(content)
            case "timespan":
                return microseconds(content, at)
            case "bool":
                return {"true": True, "false": False, "1": True, "0": False}[content.lower()]
            case "long":
                return int(content, 0)
            case "real":
                return float(content)
            case _:
                return content
    except (ValueError, KeyError):
        raise KqlError(f"{content!r} is no {kind}", at) from None


def instant(text: str) -> int:
    """Microseconds since 1970 of a date, or a date and time; UTC unless it says otherwise. ValueError."""
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def microseconds(text: str, at: int) -> int:
    """Of a timespan: `1.5h`, `2` (days), or `[d.]hh:mm[:ss[.fffffff]]`. Raises KqlError."""
    if clock := _CLOCK.fullmatch(text):
        sign, days, hours, minutes, seconds = clock.groups()
        whole = (int(days or 0) * 24 + int(hours)) * 60 + int(minutes)
        return round((whole * 60 + float(seconds or 0)) * 1_000_000) * (-1 if sign else 1)
    found = re.fullmatch(rf"(-?\d+(?:\.\d+)?)({_UNITS})?", text)
    if found is None:
        raise KqlError(f"{text!r} is no timespan", at)
    unit = found[2] or "d"
    unit = unit if unit in MICROSECONDS else unit.removesuffix("s")
    return round(float(found[1]) * MICROSECONDS[_LONG_UNITS.get(unit, unit)])
