"""The log of the PAM hook, and the ends of the sessions that it tells of.

One CSV line a sign-in event, as the retired micro agent's `pam.log`: ISO time, process id of the program
that authenticates, process id of the hook, stage (`open_session`, `close_session`, `auth`), service, user,
remote host, terminal, code (0 login, 1 logout, 2 failed). Names hold no comma and no control character:
the hook replaces them.

Our hook writes no `close_session` lines, and a session ends here with the process that opened it. Two
reasons: a session may end without PAM (SIGKILL); and PAM hands modules run at the end an environment that
the user controls where pam_env reads his own file (`user_readenv=1`, as Debian's sshd comes), so that a
hook there would run the user's LD_PRELOAD as root. Such lines in the log of another hook are understood.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from vedette.agent.losses import Losses
from vedette.agent.sources.procfs import read_stat
from vedette.agent.sources.signin import LOCAL, SESSIONS, Operation, SignIn, address, terminal, text
from vedette.agent.sources.tail import Followed, Position, Tail

PATH = "var/log/vedette/pam.log"

KEEP_BYTES = 1_048_576
"""Size at which the log is set aside as `pam.log.1`, read to its end, and begun anew."""

NOT_A_LINE = "not a line of pam.log"

_OPERATIONS = {
    ("open_session", "0"): Operation.LOGIN,
    ("close_session", "1"): Operation.LOGOUT,
    ("auth", "2"): Operation.FAILED,
}


def parse(line: str) -> SignIn | None:
    """A line of the log; None if it is not one."""
    fields = line.split(",")
    if len(fields) != 9:
        return None
    when, process, hook, stage, service, user, host, line_name, code = fields
    operation = _OPERATIONS.get((stage, code))
    if operation is None or not _number(process) or not _number(hook):
        return None
    try:
        moment = datetime.fromisoformat(when).timestamp()
    except ValueError:
        return None
    return SignIn(
        operation=operation,
        teller="pam",
        time=moment,
        program=text(service).removesuffix("-l"),
        user=text(user),
        terminal=terminal(line_name),
        remote=address(host) or LOCAL,
        process_id=int(process),
    )


def _number(field: str) -> bool:
    return field.isascii() and field.isdigit() and len(field) <= 10


class PamLog(Followed):
    """What the hook appends to its log."""

    def __init__(self, path: Path, position: Position | None, losses: Losses) -> None:
        self.name = path.name
        self._losses = losses
        self.tail = Tail(path, position, losses=losses)

    def facts(self) -> Iterator[SignIn]:
        """What was appended since the last call."""
        while chunk := self.tail.read():
            for line in chunk.removesuffix(b"\n").split(b"\n"):
                fact = parse(line.decode(errors="backslashreplace"))
                if fact:
                    yield fact
                else:
                    self._losses.count(NOT_A_LINE, hits=1)
        self._set_aside()

    def _set_aside(self) -> None:
        """Keep the log from growing for ever. The hook opens it by name for every line."""
        path = self.tail.path
        try:
            if path.stat().st_size > KEEP_BYTES:
                path.rename(path.with_name(path.name + ".1"))
        except OSError as error:
            self.tail.problem = f"cannot be rotated: {error.strerror}"


class Ends:
    """Tells of the end of processes that opened a session, from the kernel (pidfd), without polling.

    ended: called in the event loop with the logout. Bounded like the sessions themselves.
    """

    def __init__(self, ended: Callable[[SignIn], None], clock: Callable[[], float] = time.time) -> None:
        self._ended = ended
        self._clock = clock
        self._watched: dict[int, SignIn] = {}

    def watch(self, login: SignIn) -> None:
        """Report when the process of `login` ends; at once if it has ended already."""
        try:
            if not _is_running(login):
                raise ProcessLookupError
            fd = os.pidfd_open(login.process_id)
        except (ProcessLookupError, ValueError, OverflowError):
            self._report(login)
            return
        if len(self._watched) >= SESSIONS:
            self._drop(next(iter(self._watched)))
        self._watched[fd] = login
        asyncio.get_running_loop().add_reader(fd, self._over, fd)

    def close(self) -> None:
        """Watch nothing any more."""
        for fd in list(self._watched):
            self._drop(fd)

    def _over(self, fd: int) -> None:
        login = self._watched[fd]
        self._drop(fd)
        self._report(login)

    def _drop(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
        del self._watched[fd]

    def _report(self, login: SignIn) -> None:
        self._ended(
            msgspec.structs.replace(
                login, operation=Operation.LOGOUT, teller="process", time=max(login.time, self._clock())
            )
        )


def _is_running(login: SignIn) -> bool:
    """Whether the process is still the one that logged in, and not a later one of the same number."""
    stat = read_stat(login.process_id)
    if stat is None:
        return False
    began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + stat.started / os.sysconf("SC_CLK_TCK")
    return began < login.time + _SLACK_S


_SLACK_S = 2.0
"""The hook's clock tells whole seconds, the kernel's start time hundredths."""
