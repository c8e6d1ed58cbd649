"""Command lines as a shell would take them apart: what really runs, past quotes, `sh -c`, `sudo` and busybox.

    >>> [c.program for c in decode("sudo sh -c 'curl -s http://a/x | env A=1 /bin/bash'")]
    ['curl', 'bash']

A rule that judges `Program` and `Operands` is neither fooled by quoting nor set off by a command that only
mentions another. Not a shell: variables, globs and conditions are not evaluated, every branch counts.
The grammar is that of POSIX (Shell Command Language, 2.3 to 2.10) with bash's redirections and `$'…'`.
"""

from __future__ import annotations

import codecs
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_COMMANDS = 64
"""Commands taken from one line; the agent cuts a line at 4,096 characters, which holds few real ones more."""

MAX_DEPTH = 6
"""Shells within shells. `sudo sh -c 'su -c "sh -c …"'` is three deep; beyond that nesting is a way to
hide or to exhaust us. What lies deeper stays an argument."""


class Command(NamedTuple):
    """One simple command of a line.

    program: name without directory; path: as it was called. via: what it was started through, outermost
    first. joint: what stands before it in the line (`|`, `;`, `&&`, `||`, `&`), empty for the first.
    """

    program: str = ""
    path: str = ""
    arguments: tuple[str, ...] = ()
    redirects: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    via: tuple[str, ...] = ()
    joint: str = ""

    @property
    def flags(self) -> tuple[str, ...]:
        """Options before `--`: `-rf` as itself, `-r` and `-f`; of `--max=3` the name."""
        found: dict[str, None] = {}
        for word in self.arguments:
            if word[:1] != "-" or word == "-":
                continue
            if word == "--":
                break
            if word[1] == "-":
                found[word.partition("=")[0]] = None
            elif len(word) == 2:
                found[word] = None
            else:
                found[word] = None
                found.update({f"-{letter}": None for letter in word[1:]})
        return tuple(found)

    @property
    def operands(self) -> tuple[str, ...]:
        """Arguments that are no options."""
        words = self.arguments
        end = words.index("--") if "--" in words else len(words)
        before = [word for word in words[:end] if word[:1] != "-" or word == "-"]
        return (*before, *words[end + 1 :])


def decode(text: str) -> tuple[Command, ...]:
    """The commands that a command line runs, in order; none for a line without any. Never raises."""
    return tuple(_Line(0).read(text)[:MAX_COMMANDS])


def script(commands: Sequence[Command]) -> str:
    """The programs of a line with what stands between them: `curl | sh`."""
    parts: list[str] = []
    for command in commands:
        if parts:
            parts.append(command.joint or ";")
        parts.append(command.program)
    return " ".join(parts)


_PLAIN = re.compile(r"[\w@%+:,./ =?*~^\[\]-]*", re.ASCII)
"""A text that is its words: nothing in it is quoted, ends a command or opens another."""

_TOKEN = re.compile(
    r"""
      (?P<blank> [ \t\r]+ | \\\n | \$IFS\b | \$\{IFS\} )
    | (?P<comment> (?<![^\s;&|()]) \#[^\n]* )
    | (?P<inner> [<>$]\( | ` )
    | (?P<redirect> (?: (?<![^\s;&|()]) \d+ )? (?: &>>? | <<<? | <<- | <> | <& | >& | >> | >\| | > | < ) )
    | (?P<joint> && | \|\| | \|& | ;;? | [|&\n()] )
    | \$'(?P<ansi> (?: [^'\\] | \\. )* )'?
    | '(?P<single> [^']* )'?
    | "(?P<double> (?: [^"\\] | \\. )* )"?
    | \\(?P<escaped> .? )
    | (?P<plain> [^\s'"\\`;|&<>()$\#]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_DOUBLE = re.compile(r"\\([$`\"\\\n])")
_INNER = re.compile(r"(?<!\\)\$\(|(?<!\\)`")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_KEYWORDS = frozenset(
    ("if", "then", "elif", "else", "fi", "while", "until", "do", "done", "{", "}", "!", "time")
)
_JOINTS = {"\n": ";", ";;": ";", "|&": "|", "(": "", ")": ""}


@dataclass(slots=True)
class _Simple:
    """Words of a command that is being read."""

    joint: str = ""
    words: list[str] = field(default_factory=list)
    redirects: list[str] = field(default_factory=list)


class _Line:
    """Reads one text into commands. depth: shells around it."""

    def __init__(self, depth: int, via: tuple[str, ...] = ()) -> None:
        self._depth = depth
        self._via = via
        self._commands: list[Command] = []
        self._current = _Simple()
        self._word: str | None = None
        self._redirect = ""

    def read(self, text: str) -> list[Command]:
        """Every command of the text."""
        if _PLAIN.fullmatch(text):
            self._current.words = text.split()
        else:
            position = 0
            while position < len(text) and len(self._commands) < MAX_COMMANDS:
                position = self._token(text, position)
            self._end_word()
        self._end_command("")
        return self._commands

    def _token(self, text: str, position: int) -> int:
        """Take one token; where the next begins."""
        match = _TOKEN.match(text, position)
        assert match is not None, "the last alternative takes any character"
        kind, token = match.lastgroup, match[0]
        if kind == "plain":
            self._word = token if self._word is None else self._word + token
        elif kind in ("blank", "comment"):
            self._end_word()
        elif kind == "inner":
            end = _closing(text, match.end(), token)
            self._add("")
            self._substitute(text[match.end() : end])
            return end + 1
        elif kind == "joint":
            self._end_word()
            self._end_command(_JOINTS.get(token, token))
        elif kind == "redirect":
            self._end_word()
            self._redirect = token
        elif kind is not None:
            self._text(kind, match[kind])
        return match.end()

    def _text(self, kind: str, token: str) -> None:
        if kind == "ansi":
            token = _ansi(token)
        elif kind == "double":
            token = _IN_DOUBLE.sub(lambda match: match[1].replace("\n", ""), self._expand(token))
        self._add(token)

    def _expand(self, text: str) -> str:
        """Text in double quotes, its substitutions read and left out: what they print is not known."""
        kept, position = "", 0
        while start := _INNER.search(text, position):
            end = _closing(text, start.end(), start[0])
            self._substitute(text[start.end() : end])
            kept, position = kept + text[position : start.start()], end + 1
        return kept + text[position:]

    def _add(self, text: str) -> None:
        self._word = (self._word or "") + text

    def _end_word(self) -> None:
        if self._word is None:
            return
        if self._redirect:
            self._current.redirects.append(self._redirect + self._word)
            self._redirect = ""
        elif self._current.words or self._word not in _KEYWORDS:
            self._current.words.append(self._word)
        self._word = None

    def _end_command(self, joint: str) -> None:
        simple = self._current
        if simple.words or simple.redirects:
            self._command(simple)
            self._current = _Simple(joint)
        elif joint:
            self._current.joint = joint

    def _run(self, text: str, via: tuple[str, ...], joint: str) -> bool:
        """Read a text that a shell would run; False if it holds no command."""
        if self._depth >= MAX_DEPTH or len(self._commands) >= MAX_COMMANDS:
            return False
        inner = _Line(self._depth + 1, via).read(text)
        if inner:
            self._commands += inner
            self._commands[-len(inner)] = inner[0]._replace(joint=joint) if joint else inner[0]
        return bool(inner)

    def _substitute(self, text: str) -> None:
        """Read `$(text)`: its output goes into the command around it."""
        if self._run(text, self._via, self._current.joint):
            self._current.joint = "|"

    def _command(self, simple: _Simple) -> None:
        """Set aside what only starts something else, then take the command down."""
        via, environment, words = list(self._via), list[str](), simple.words
        while True:
            while words and "=" in words[0] and _ASSIGNMENT.match(words[0]):
                environment.append(words[0])
                words = words[1:]
            if not words:
                break
            name = words[0].rpartition("/")[2]
            started = _STARTERS[name](words[1:]) if name in _STARTERS else None
            if started is None:
                break
            via.append(name)
            if isinstance(started, str):
                before = len(self._commands)
                ran = self._run(started, tuple(via), simple.joint)
                if ran:
                    self._inherit(before, simple.redirects, environment)
                    return
                via.pop()
                break
            words = started
        path = words[0] if words else ""
        self._commands.append(
            Command(
                path.rpartition("/")[2],
                path,
                tuple(words[1:]),
                tuple(simple.redirects),
                tuple(environment),
                tuple(via),
                simple.joint,
            )
        )
        if path.endswith("find"):
            self._find(words, tuple(via))

    def _inherit(self, first: int, redirects: list[str], environment: list[str]) -> None:
        """Commands of a text get the redirections and variables of the shell that runs it."""
        if not redirects and not environment:
            return
        for index in range(first, len(self._commands)):
            command = self._commands[index]
            self._commands[index] = command._replace(
                redirects=(*redirects, *command.redirects),
                environment=(*environment, *command.environment),
            )

    def _find(self, words: list[str], via: tuple[str, ...]) -> None:
        """`find … -exec` runs another command."""
        for index, word in enumerate(words):
            if word in ("-exec", "-execdir", "-ok", "-okdir"):
                inner = words[index + 1 :]
                end = next((i for i, w in enumerate(inner) if w in (";", "+")), len(inner))
                self._run(shlex.join(inner[:end]), (*via, "find"), "|")


def _closing(text: str, position: int, opening: str) -> int:
    """Where a substitution that began before `position` ends; the end of the text if it does not."""
    if opening == "`":
        end = text.find("`", position)
        return end if end >= 0 else len(text)
    depth = 1
    for index in range(position, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return len(text)


def _ansi(text: str) -> str:
    """`$'…'` with its escapes resolved."""
    try:
        return codecs.decode(text.encode("latin-1", "backslashreplace"), "unicode_escape")
    except UnicodeDecodeError:
        return text


Starter = Callable[[list[str]], "list[str] | str | None"]
"""Arguments → the words or the text that is run by them; None if they run nothing."""


def _plain_starter(with_value: str = "", operands: int = 0, long_with_value: str = "") -> Starter:
    """A starter whose own options, and so many operands, stand before the command.

    with_value: its short options that take a value; long_with_value: the long ones, separated by blanks.
    """
    longs = frozenset(long_with_value.split())

    def started(words: list[str]) -> list[str] | None:
        index, left = 0, operands
        while index < len(words):
            word = words[index]
            if word == "--":
                index += 1
                break
            if word.startswith("--"):
                index += 1 + (word[2:] in longs)
            elif len(word) > 1 and word[0] == "-":
                index += 1 + (word[-1] in with_value)
            else:
                break
        while left and index < len(words):
            index, left = index + 1, left - 1
        return words[index:] or None

    return started


def _env(words: list[str]) -> list[str] | str | None:
    for index, word in enumerate(words):
        if word in ("-S", "--split-string"):
            return " ".join(words[index + 1 :])
        if word.startswith(("-S", "--split-string=")):
            return " ".join([word.removeprefix("-S").removeprefix("--split-string="), *words[index + 1 :]])
        if not word.startswith("-"):
            break
    return _plain_starter("uC", 0, "unset chdir")(words)


def _shell(words: list[str]) -> str | None:
    """The text behind `-c`, which may stand among other letters (`-lc`)."""
    for index, word in enumerate(words):
        if not word.startswith(("-", "+")) or word == "--":
            return None
        if not word.startswith("--") and "c" in word[1:]:
            rest = [w for w in words[index + 1 :] if not w.startswith(("-", "+"))]
            return rest[0] if rest else None
    return None


def _behind(*options: str) -> Starter:
    """A starter that runs the text behind one of these options."""

    def started(words: list[str]) -> str | None:
        for index, word in enumerate(words[:-1]):
            if word in options:
                return words[index + 1]
        return next((w.partition("=")[2] for w in words if w.startswith("--command=")), None)

    return started


def _eval(words: list[str]) -> str:
    return " ".join(words)


def _watch(words: list[str]) -> str | None:
    started = _plain_starter("n", 0, "interval")(words)
    return " ".join(started) if started else None


_STARTERS: dict[str, Starter] = {
    **dict.fromkeys(("sh", "bash", "dash", "ash", "zsh", "ksh", "mksh"), _shell),
    **dict.fromkeys(("nohup", "setsid", "busybox", "toybox", "command", "builtin", "time"), _plain_starter()),
    "chroot": _plain_starter("", 1, "userspec groups"),
    "chrt": _plain_starter("TPD", 1),
    "doas": _plain_starter("uC"),
    "env": _env,
    "eval": _eval,
    "exec": _plain_starter("a"),
    "ionice": _plain_starter("cnpPu", 0, "class classdata"),
    "nice": _plain_starter("n", 0, "adjustment"),
    "nsenter": _plain_starter("tSG", 0, "target"),
    "script": _behind("-c", "--command", "-qc"),
    "stdbuf": _plain_starter("ioe", 0, "input output error"),
    "su": _behind("-c", "--command", "-lc"),
    "runuser": _behind("-c", "--command"),
    "sudo": _plain_starter("ugpCrtTUDRh", 0, "user group prompt chdir role type host"),
    "taskset": _plain_starter("", 1),
    "timeout": _plain_starter("ks", 1, "kill-after signal"),
    "unshare": _plain_starter("SGR"),
    "watch": _watch,
    "xargs": _plain_starter("IanPLdEs", 0, "max-args max-procs replace delimiter arg-file"),
}
"""Programs that start what their arguments name."""
