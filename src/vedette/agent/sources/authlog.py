"""What sshd, login, su, sudo and dropbear write to the system log about sign-ins.

The program a line comes from stands in one place, after time and host; a sentence counts only as a whole
and only from its own program. So a user name that spells another program's sentence forges nothing. The
text of a log cannot tell more: whoever may write to it as `sshd` (any local user, through logger(1)) is
believed. journald knows who wrote; see `sources.journal`.

Telnet needs no sentences of its own: telnetd hands over to login.

Source of the sentences: recorded from OpenSSH 9.2, Linux-PAM 1.5, shadow 4.13, util-linux 2.38, sudo 1.9.13,
BusyBox 1.35 and dropbear 2022.83; those of OpenSSH 9.8 (`sshd-session`) and of util-linux login from source.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from vedette.agent.losses import Losses
from vedette.agent.sources.signin import (
    LOCAL,
    UNKNOWN,
    Conversations,
    Operation,
    SignIn,
    address,
    terminal,
    text,
)
from vedette.agent.sources.tail import Followed, Position, Tail

PATHS = ("var/log/auth.log", "var/log/secure")
"""Where syslog daemons put these sentences: Debian and its family, Red Hat and its family."""

LOG_LINE = 2_048
"""Longer lines are no sentence of ours: a bound for the work of matching one."""


class Says(Enum):
    """What a sentence tells."""

    LOGIN = auto()
    LOGOUT = auto()
    REFUSED = auto()
    """A password was wrong."""
    NO_SUCH_USER = auto()
    """An account was named that does not exist."""
    ENDED = auto()
    """It is over without success, after so many failures (`total`, or one)."""
    ASIDE = auto()
    """A detail that the sentences after it leave out."""


class Sentence(NamedTuple):
    """A sentence of a program, matched as a whole.

    elsewhere: written by another process than the one the session is known by.
    """

    says: Says
    pattern: re.Pattern[str]
    elsewhere: bool = False


def _sentence(says: Says, pattern: str, *, elsewhere: bool = False) -> Sentence:
    return Sentence(says, re.compile(pattern), elsewhere)


_OPENED = _sentence(
    Says.LOGIN,
    r"pam_unix\([\w.-]+:session\): session opened for user (?P<user>\S+?)(?:\(uid=\d+\))?"
    r" by (?P<by>.*?)(?:\(uid=\d+\))?",
)
_CLOSED = _sentence(Says.LOGOUT, r"pam_unix\([\w.-]+:session\): session closed for user (?P<user>\S+)")

# In what follows `.*` before an address is greedy on purpose: a user name may hold anything, and the last
# address in the sentence is the one that sshd wrote.
_FROM = r"(?P<remote>\S+) port (?P<port>\d{1,5})"
_SSHD = (
    _sentence(Says.LOGIN, rf"Accepted \S+ for (?P<user>\S+) from {_FROM}(?: ssh2?)?(?:: .*)?"),
    _OPENED,
    _CLOSED,
    _sentence(
        Says.LOGOUT,
        r"(?:Disconnected from|Connection (?:closed|reset) by|Timeout, client not responding from)"
        rf" user (?P<user>\S+) {_FROM}",
        elsewhere=True,
    ),
    _sentence(Says.NO_SUCH_USER, rf"Invalid user (?P<user>.*) from {_FROM}"),
    _sentence(
        Says.REFUSED,
        r"Failed (?!none|publickey|hostbased)\S+ for (?P<invalid>invalid user )?(?P<user>.*)"
        rf" from {_FROM}(?: ssh2?)?",
    ),
    _sentence(
        Says.ENDED,
        r"(?:Connection (?:closed|reset) by|Disconnected from|Disconnecting)"
        rf" (?:authenticating|(?P<invalid>invalid)) user (?P<user>.*) {_FROM}(?:: [^:]*)?(?: \[preauth\])?",
    ),
)
_LOGIN = (
    _OPENED,
    _CLOSED,
    _sentence(
        Says.LOGIN,
        r"(?:(?P<root>ROOT|root) )?(?:LOGIN|login) {1,2}(?:ON|on) '?(?P<terminal>[^' ]+)'?"
        r"(?: BY (?P<user>\S+))?(?: (?:FROM|from) '?(?P<remote>[^' ]+)'?)?",
    ),
    _sentence(
        Says.REFUSED,
        r"FAILED LOGIN \(\d+\) on '(?P<terminal>[^']*)'(?: from '(?P<remote>[^']*)')?"
        r" FOR '(?P<user>.*)', .*",
    ),
    _sentence(
        Says.REFUSED,
        r"(?:FAILED LOGIN \d+|FAILED LOGIN SESSION|TOO MANY LOGIN TRIES \(\d+\))"
        r" FROM (?P<origin>\S+) FOR (?P<user>.*), .*",
    ),
    _sentence(
        Says.REFUSED,
        r"invalid password for '(?P<user>.*)' on '(?P<terminal>[^']*)'(?: from '(?P<remote>[^']*)')?",
    ),
)
_SU = (
    _OPENED,
    _CLOSED,
    _sentence(Says.LOGIN, r"\(to (?P<user>\S+)\) .* on (?P<terminal>\S+)"),
    _sentence(Says.LOGIN, r"Successful su for (?P<user>\S+) by .*"),
    _sentence(Says.REFUSED, r"FAILED SU \(to (?P<user>.*)\) .* on (?P<terminal>\S+)"),
    _sentence(Says.REFUSED, r"FAILED su for (?P<user>.*) by .*"),
)
_SUDO = (
    _OPENED,
    _CLOSED,
    _sentence(
        Says.REFUSED,
        r"pam_unix\(sudo(?:-i)?:auth\): authentication failure; .* tty=(?P<terminal>\S*) ruser=(?P<by>\S*)"
        r" rhost=\S* +user=(?P<user>\S+)",
    ),
    _sentence(
        Says.ENDED,
        r" *(?P<by>\S+) : (?:(?P<total>\d{1,3}) incorrect password attempts?|user NOT in sudoers)"
        r" ; TTY=(?P<terminal>\S+) ; .*",
    ),
    _sentence(Says.ASIDE, r" *(?P<by>\S+) : TTY=(?P<terminal>\S+) ; .*"),
)
_CLIENT = r"(?P<remote>[\da-fA-F.:]+):(?P<port>\d{1,5})"
_DROPBEAR = (
    _sentence(Says.ASIDE, rf"Child connection from {_CLIENT}"),
    _sentence(
        Says.LOGIN, rf"(?:Password|Pubkey|PAM password) auth succeeded for '(?P<user>.*)' .*?from {_CLIENT}"
    ),
    _sentence(Says.LOGOUT, rf"Exit \((?P<user>.*)\) from <{_CLIENT}>: .*"),
    _sentence(Says.REFUSED, rf"(?:Bad|Bad PAM) password attempt for '(?P<user>.*)' from {_CLIENT}"),
    _sentence(Says.ENDED, r"Login attempt for (?P<invalid>nonexistent user)(?: from .*)?"),
)

SENTENCES = {"sshd": _SSHD, "login": _LOGIN, "su": _SU, "sudo": _SUDO, "dropbear": _DROPBEAR}
PROGRAMS = {"sshd-session": "sshd", "sshd-auth": "sshd"} | {name: name for name in SENTENCES}
"""Tags in the log and the program they stand for. OpenSSH is several programs since 9.8."""


class Speech(NamedTuple):
    """One message of a program to the system log. process_id is 0 where the log does not tell it."""

    time: float
    tag: str
    process_id: int
    message: str


class Interpreter:
    """Messages in, statements about sign-ins out. Remembers what programs have said before."""

    def __init__(self) -> None:
        self._talks = Conversations()

    def read(self, speech: Speech) -> SignIn | None:
        """What a message says; None if nothing, or nothing new."""
        program = PROGRAMS.get(speech.tag)
        if program is None:
            return None
        for number, sentence in enumerate(SENTENCES[program]):
            match = sentence.pattern.fullmatch(speech.message)
            if match:
                told = {name: value for name, value in match.groupdict().items() if value is not None}
                return self._statement(program, number, sentence, speech, told)
        return None

    def _statement(
        self, program: str, number: int, sentence: Sentence, speech: Speech, told: dict[str, str]
    ) -> SignIn | None:
        talk = (program, speech.process_id or told.get("by", ""))
        if sentence.says is Says.ASIDE:
            self._talks.hint(talk, speech.time, told)
            return None
        told = self._talks.hints(talk) | told
        operation, attempts = self._judge(sentence.says, talk, speech.time, told)
        if not attempts:
            return None
        # All failures come from one teller, as `_judge` has told them apart already.
        teller = "log" if operation is Operation.FAILED else f"log {program} {number}"
        return SignIn(
            operation=operation,
            teller=teller,
            time=speech.time,
            program=program,
            log=True,
            user=_user(sentence.says, told),
            terminal=terminal(told.get("terminal", "")),
            remote=_remote(program, told),
            port=int(told.get("port", 0)),
            process_id=0 if sentence.elsewhere else speech.process_id,
            exists=_exists(program, sentence.says, told),
            attempts=attempts,
        )

    def _judge(
        self, says: Says, talk: tuple[object, ...], now: float, told: dict[str, str]
    ) -> tuple[Operation, int]:
        """What happened, and how many times that has not been told of before."""
        match says:
            case Says.REFUSED:
                return Operation.FAILED, self._talks.refuse(talk, now)
            case Says.NO_SUCH_USER:
                return Operation.FAILED, self._talks.announce(talk, now)
            case Says.ENDED:
                return Operation.FAILED, self._talks.end(talk, now, int(told.get("total", 1)))
            case Says.LOGIN:
                self._talks.end(talk, now)
                return Operation.LOGIN, 1
            case _:
                return Operation.LOGOUT, 1


def _user(says: Says, told: dict[str, str]) -> str:
    if says is Says.ENDED and "user" not in told:
        return text(told.get("by", UNKNOWN))
    return text(told.get("user", "root" if "root" in told else ""))


def _remote(program: str, told: dict[str, str]) -> str:
    """The client's address; su and sudo have none. util-linux login names host or terminal in one place."""
    if program in {"su", "sudo"}:
        return LOCAL
    origin = told.get("origin", "")
    return address(told.get("remote", "" if origin.startswith(("tty", "pts/", "console")) else origin))


def _exists(program: str, says: Says, told: dict[str, str]) -> bool | None:
    """Whether the program says that there is such an account; only sshd and dropbear do."""
    if says is Says.NO_SUCH_USER or "invalid" in told:
        return False
    return True if program in {"sshd", "dropbear"} else None


_LINE = re.compile(
    r"(?:(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?)"
    r"|(?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]\d) (?P<clock>\d\d:\d\d:\d\d))"
    r" \S+ (?:[a-z0-9]+\.[a-z]+ )?"  # host; BusyBox puts facility and priority here
    r"(?P<tag>[\w.-]+)(?:\[(?P<process_id>\d{1,10})\])?: (?P<message>.*)"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def parse(line: str, now: float) -> Speech | None:
    """A line of a log file; None if it is not one. `now` settles the year that classic times leave out."""
    match = _LINE.fullmatch(line) if len(line) <= LOG_LINE else None
    if not match or match["tag"] not in PROGRAMS:
        return None
    try:
        when = datetime.fromisoformat(match["iso"]) if match["iso"] else _classic(match, now)
    except ValueError:
        return None
    return Speech(when.timestamp(), match["tag"], int(match["process_id"] or 0), match["message"])


def _classic(match: re.Match[str], now: float) -> datetime:
    """A time without year and zone: the device's zone, and the latest year that is not in the future."""
    today = datetime.fromtimestamp(now, UTC).astimezone().replace(tzinfo=None)
    month, day = _MONTHS.index(match["month"]) + 1, int(match["day"])
    hour, minute, second = (int(part) for part in match["clock"].split(":"))
    for year in (today.year + 1, today.year, today.year - 1):
        try:
            when = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001
        except ValueError:  # 29 February
            continue
        if when <= today + timedelta(days=1):
            return when
    raise ValueError(f"no such day: {match['month']} {match['day']}")


class AuthLog(Followed):
    """The lines that a syslog daemon appends to its file."""

    def __init__(
        self,
        path: Path,
        position: Position | None,
        losses: Losses,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = path.name
        self._clock = clock
        self._interpreter = Interpreter()
        self.tail = Tail(path, position, losses=losses)

    def facts(self) -> Iterator[SignIn]:
        """What was appended since the last call."""
        while chunk := self.tail.read():
            for line in chunk.split(b"\n"):  # and at nothing else: names may hold other line ends
                speech = parse(line.decode(errors="backslashreplace"), self._clock())
                fact = speech and self._interpreter.read(speech)
                if fact:
                    yield fact
