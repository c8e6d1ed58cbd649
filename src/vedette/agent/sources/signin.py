"""What a source says of a sign-in, and how statements of several sources become one fact each.

Pure: no input or output; time is the statements' own. Sources are read in the order of these times
(`collectors.login`), so that a backlog and a live log are merged alike.

The rule: statements of *different* tellers that fit together are about one event; two statements of the
same teller never are. So ten failures in two logs are ten events, not one and not twenty.
"""

from __future__ import annotations

import re
import socket
from collections import OrderedDict
from collections.abc import Iterable
from enum import StrEnum

import msgspec

WINDOW_S = 10.0
"""How far apart two tellers' times of one event may be: classic syslog and btmp tell whole seconds, and
wtmp is written when the terminal is there, after the messages of the day."""

SAME_PROCESS_S = 60.0
"""The same where both name the process: on a slow device the terminal can take this long."""

RECENT = 1_024
"""Events that wait for another teller's statement, at most 1 MB; beyond it the oldest waits no longer."""

SESSIONS = 256
"""Open sessions remembered for the fields of their ends; beyond it the oldest is forgotten."""

CONVERSATIONS = 1_024
CONVERSATION_S = 600.0
"""Programs in the middle of asking for a password: sshd gives up after 120 s, sudo after 15 minutes at most
(what is forgotten then is only that a failure had been told of)."""

TEXT = 256
"""Bound of a name, terminal or address, in characters. A user name has at most 32 bytes in wtmp and at most
256 in practice."""

LOCAL = "0.0.0.0"  # noqa: S104 - a value reported, not an address to bind
"""Remote address of a sign-in that did not come over a network."""

UNKNOWN = "UNKNOWN"
"""Stands for a user name that is withheld; login(1) writes the same word for the same reason."""


class Operation(StrEnum):
    """What happened."""

    LOGIN = "Login"
    LOGOUT = "Logout"
    FAILED = "LoginFailed"


class SignIn(msgspec.Struct, frozen=True, kw_only=True):
    """One statement of one source. What it does not tell is empty, 0 or None.

    teller: which source, and which of its statements; log: whether a program's own words (else a record).
    time: seconds since the Unix epoch. exists: whether there is such an account. port: of the client.
    """

    operation: Operation
    teller: str
    time: float
    program: str = ""
    log: bool = False
    user: str = ""
    terminal: str = ""
    remote: str = ""
    port: int = 0
    process_id: int = 0
    exists: bool | None = None
    attempts: int = 1


def text(raw: bytes | str) -> str:
    """A name from outside, of bounded length; what is not UTF-8 is shown as `\\xNN`."""
    if isinstance(raw, bytes):
        raw = raw.decode(errors="backslashreplace")
    return raw[:TEXT]


def terminal(raw: str) -> str:
    """`/dev/pts/1` → `pts/1`; empty for `ssh` and `ssh:notty`, which are not terminals."""
    name = text(raw).removeprefix("/dev/")
    return "" if name in {"ssh", "none"} or name.endswith(":notty") else name


def address(raw: str) -> str:
    """A remote host as its source has it: an address in its usual spelling, LOCAL, a host name, or empty."""
    name = text(raw).partition("%")[0]
    if name == "localhost":
        return "127.0.0.1"
    if name.startswith((":", "tmux(", "screen")) and not _packed(name):
        return LOCAL  # a display or a terminal multiplexer
    packed = _packed(name)
    return packed_address(packed) if packed else "" if name == UNKNOWN else name


def packed_address(packed: bytes) -> str:
    """The text of 4 or 16 bytes in network order; IPv4 mapped into IPv6 is shown as IPv4."""
    if packed[:12] == b"\0" * 10 + b"\xff\xff":
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _packed(name: str) -> bytes:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, name)
        except (OSError, ValueError):
            continue
    return b""


class _Event:
    """An event as far as it has been told."""

    __slots__ = ("fact", "processes", "taken", "tellers")

    def __init__(self, fact: SignIn) -> None:
        self.fact = fact
        self.tellers = {fact.teller}
        self.processes = {fact.process_id} - {0}
        self.taken = False

    def distance(self, other: SignIn) -> float | None:
        """How far `other` is from being about this event; None if it is not. The same process is nearer."""
        if other.teller in self.tellers:
            return None
        apart = abs(other.time - self.fact.time)
        if apart > SAME_PROCESS_S or not self._fits(other):
            return None
        if other.process_id in self.processes:
            return apart
        return None if apart > WINDOW_S or self._another_process(other) else SAME_PROCESS_S + apart

    def _fits(self, other: SignIn) -> bool:
        """No field that both know says something else."""
        mine = self.fact
        pairs = (
            (mine.program, other.program),
            (_comparable(mine.user), _comparable(other.user)),
            (mine.terminal, other.terminal),
            (mine.remote, other.remote),
            (mine.port, other.port),
        )
        return all(a == b or not a or not b for a, b in pairs)

    def _another_process(self, other: SignIn) -> bool:
        """Two processes are two events, unless a log and a record name parent and child of one sign-in,
        which only a common remote address makes believable."""
        mine = self.fact
        if not self.processes or not other.process_id:
            return not (mine.user and other.user) and mine.terminal != other.terminal
        return mine.log == other.log or not mine.remote or mine.remote != other.remote

    def add(self, other: SignIn) -> None:
        """Complete what is known. The log's process, as the same one is named again at the end; the longer
        of two names, as records cut them; an address rather than a host name; the earliest time."""
        mine = self.fact
        self.tellers.add(other.teller)
        self.processes |= {other.process_id} - {0}
        prefer = other.log and not mine.log and other.process_id
        self.fact = msgspec.structs.replace(
            mine,
            time=min(mine.time, other.time),
            log=mine.log or other.log,
            program=mine.program or other.program,
            user=max(mine.user, other.user, key=len),
            terminal=mine.terminal or other.terminal,
            remote=mine.remote or other.remote,
            port=mine.port or other.port,
            process_id=other.process_id if prefer or not mine.process_id else mine.process_id,
            exists=mine.exists if mine.exists is not None else other.exists,
            attempts=max(mine.attempts, other.attempts),
        )


def _comparable(user: str) -> str:
    """The part of a name that all sources write alike: records cut at 32 bytes, logs escape."""
    match = re.match(r"[\w.@-]*", user[:32], re.ASCII)
    return match[0] if match else ""


class Merge:
    """Statements in, events out: each event once, with all that was said of it."""

    def __init__(self, sessions: Iterable[SignIn] = ()) -> None:
        self._recent: dict[Operation, list[_Event]] = {operation: [] for operation in Operation}
        self._open = [_Event(session) for session in sessions]
        self._ready: list[SignIn] = []

    def sessions(self) -> list[SignIn]:
        """The logins whose ends have not been told yet, oldest first."""
        return [session.fact for session in self._open]

    def remember(self, fact: SignIn) -> None:
        """What was before the agent: not an event, but the end of a session that began then will be one."""
        if fact.operation is Operation.LOGIN:
            self._begin(_Event(fact))
        elif fact.operation is Operation.LOGOUT:
            self._session(fact)

    def forget(self) -> list[SignIn]:
        """The device was started anew: no session is open any more. Returns those that were."""
        gone, self._open = self.sessions(), []
        return gone

    def add(self, fact: SignIn) -> None:
        """Take a statement. Statements should come in the order of their times."""
        event = self._told_already(fact)
        if event:
            if not event.taken or event.fact.operation is Operation.LOGIN:
                event.add(fact)
        elif fact.operation is Operation.LOGOUT:
            self._end(fact)
        else:
            event = self._new(fact)
            if fact.operation is Operation.LOGIN:
                self._begin(event)

    def settle(self, now: float) -> list[SignIn]:
        """The events of which nothing more is expected at time `now`, oldest first."""
        for recent in self._recent.values():
            gone = [event for event in recent if now - event.fact.time > SAME_PROCESS_S]
            for event in gone:
                self._take(event)
            recent[:] = [event for event in recent if now - event.fact.time <= SAME_PROCESS_S]
        return self._hand_over()

    def take(self) -> list[SignIn]:
        """All events that have not been taken yet, oldest first. Later statements still find them."""
        for recent in self._recent.values():
            for event in recent:
                self._take(event)
        return self._hand_over()

    def _hand_over(self) -> list[SignIn]:
        taken, self._ready = sorted(self._ready, key=lambda fact: fact.time), []
        return taken

    def _told_already(self, fact: SignIn) -> _Event | None:
        near = [
            (distance, index)
            for index, event in enumerate(self._recent[fact.operation])
            if (distance := event.distance(fact)) is not None
        ]
        return self._recent[fact.operation][min(near)[1]] if near else None

    def _new(self, fact: SignIn) -> _Event:
        event = _Event(fact)
        recent = self._recent[fact.operation]
        if len(recent) >= RECENT:
            self._take(recent.pop(0))
        recent.append(event)
        return event

    def _take(self, event: _Event) -> None:
        if not event.taken:
            event.taken = True
            self._ready.append(event.fact)

    def _begin(self, session: _Event) -> None:
        if len(self._open) >= SESSIONS:
            del self._open[0]
        self._open.append(session)

    def _session(self, logout: SignIn) -> _Event | None:
        """Remove and return the session that this is the end of."""
        session = next((session for session in reversed(self._open) if _ends(logout, session)), None)
        if session:
            self._open.remove(session)
        return session

    def _end(self, fact: SignIn) -> None:
        """A logout, completed by what its login told. One that names nobody, of no session, is not one."""
        session = self._session(fact)
        if session:
            known = session.fact
            event = self._new(
                msgspec.structs.replace(
                    fact,
                    program=fact.program or known.program,
                    user=max(known.user, fact.user, key=len),
                    terminal=known.terminal or fact.terminal,
                    remote=known.remote or fact.remote,
                    port=known.port or fact.port,
                    process_id=known.process_id or fact.process_id,
                )
            )
            event.processes |= session.processes | ({fact.process_id} - {0})
        elif fact.user:
            self._new(fact)


def _ends(fact: SignIn, session: _Event) -> bool:
    """Whether a logout is the end of this session: same process, same connection, or same terminal."""
    known = session.fact
    if fact.user and known.user and _comparable(fact.user) != _comparable(known.user):
        return False
    if fact.process_id and fact.process_id in session.processes:
        return True
    if fact.port:
        return (fact.remote, fact.port) == (known.remote, known.port)
    if not fact.log:
        return bool(fact.terminal) and fact.terminal == known.terminal
    # sudo's lines name no process: then it is the last session of this user and program.
    return not session.processes and not fact.process_id and fact.program == known.program


class Conversations:
    """How many failures a program has told of in the conversation that it is in, and what it said before.

    Programs tell of one failure in several words: an unknown user is announced, then his password is
    refused; at the end a sum is drawn. Bounded; conversations that never end are forgotten.
    """

    class _Talk:
        __slots__ = ("announced", "failures", "hints", "since")

        def __init__(self, since: float) -> None:
            self.since = since
            self.failures = 0
            self.announced = False
            self.hints: dict[str, str] = {}

    def __init__(self) -> None:
        self._talks: OrderedDict[tuple[object, ...], Conversations._Talk] = OrderedDict()

    def _talk(self, key: tuple[object, ...], now: float) -> _Talk:
        talk = self._talks.pop(key, None)
        if talk is None or now - talk.since > CONVERSATION_S:
            talk = self._Talk(now)
        self._talks[key] = talk
        if len(self._talks) > CONVERSATIONS:
            self._talks.popitem(last=False)
        return talk

    def hint(self, key: tuple[object, ...], now: float, hints: dict[str, str]) -> None:
        """Remember fields that the next statements of this conversation leave out."""
        self._talk(key, now).hints.update(hints)

    def hints(self, key: tuple[object, ...]) -> dict[str, str]:
        """What was said before."""
        talk = self._talks.get(key)
        return talk.hints if talk else {}

    def announce(self, key: tuple[object, ...], now: float) -> int:
        """An account that does not exist was named: a failure already; the first refusal is the same one."""
        talk = self._talk(key, now)
        if talk.failures:
            return 0
        talk.failures, talk.announced = 1, True
        return 1

    def refuse(self, key: tuple[object, ...], now: float) -> int:
        """A password was wrong. Returns how many failures are new."""
        talk = self._talk(key, now)
        if talk.announced:
            talk.announced = False
            return 0
        talk.failures += 1
        return 1

    def end(self, key: tuple[object, ...], now: float, total: int = 0) -> int:
        """It is over, after `total` failures as the program says. Returns how many are new."""
        talk = self._talks.pop(key, None)
        known = talk.failures if talk and now - talk.since <= CONVERSATION_S else 0
        return max(0, total - known)
