"""Logins, logouts and failed logins, each once, whichever of the device's records tell of it.

The sources are looked at every second rather than watched: looking at them costs 23 µs, where inotify
through a library costs 2 MB of memory, and a file that is rotated, replaced or not there yet needs no
special case. Looking only when events are sent would cost less still, but who breaks in wipes the records
before that.

Places in the sources are kept in a state file, written when events are handed over: what happened while
the agent was down is reported once, and what an agent held that was killed is read again.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Callable, Iterator
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Protocol

import msgspec

from vedette.agent.aggregate import EventCache
from vedette.agent.collectors import Collected
from vedette.agent.losses import Losses
from vedette.agent.settings import write_private
from vedette.agent.sources import Unavailable
from vedette.agent.sources.authlog import PATHS, AuthLog
from vedette.agent.sources.files import attribute
from vedette.agent.sources.journal import Journal
from vedette.agent.sources.pam import PATH as PAM_PATH
from vedette.agent.sources.pam import Ends, PamLog
from vedette.agent.sources.passwd import Accounts
from vedette.agent.sources.signin import LOCAL, UNKNOWN, Merge, Operation, SignIn
from vedette.agent.sources.tail import Position
from vedette.agent.sources.utmp import Btmp, Utmp, Wtmp
from vedette.agent.sources.wtmpdb import PATH as WTMPDB_PATH
from vedette.agent.sources.wtmpdb import Place, Wtmpdb
from vedette.wire.events import Login, type_of
from vedette.wire.twin import Priority, Settings

log = logging.getLogger(__name__)

POLL_S = 1.0
"""Between two looks: well below the time in which somebody who broke in finds and wipes the records."""

BATCH = 256
"""Statements read in a thread at once; between batches the event loop serves the other collectors."""

CAPACITY = 256
"""Events of each kind kept between two sends, as the other collectors' default."""

STATE_BYTES = 1_048_576
"""Of the state file: 256 sessions take about 60 KB."""

_SSH = {"sshd", "dropbear"}


class Source(Protocol):
    """What the collector asks of a source. `facts` is called in a thread; calls never overlap."""

    name: str

    @property
    def problem(self) -> str:
        """Why it cannot be read now; empty if it can."""
        ...

    def changed(self) -> bool:
        """Whether there may be something new."""
        ...

    def facts(self) -> Iterator[SignIn]:
        """What is new."""
        ...

    def position(self) -> Position | Place | str | None:
        """Where reading would go on."""
        ...

    def close(self) -> None:
        """Release what is held."""
        ...


class State(msgspec.Struct):
    """What is remembered from one run of the agent to the next."""

    boot: str = ""
    files: dict[str, Position] = {}
    wtmpdb: Place | None = None
    journal: str | None = None
    sessions: list[SignIn] = []


class LoginCollector:
    """Signs-in and signs-out of people and programs. state: the file that places are kept in."""

    name = "Login"

    def __init__(self, state: Path, root: Path = Path("/"), clock: Callable[[], float] = time.time) -> None:
        self.source = ""
        self._state = state
        self._root = root
        self._clock = clock
        self._accounts = Accounts(root / "etc/passwd")
        self._losses = Losses()
        kind, setting = type_of(Login), "Login_MessageFrequency"
        # Apart, so that a flood of failures cannot push out the one login that succeeded.
        self._failures = EventCache(kind, CAPACITY, setting=setting)
        self._sessions = EventCache(kind, CAPACITY, setting=setting)
        self._merge = Merge()
        self._sources: list[Source] = []
        self._ends: Ends | None = None
        self._settings = Settings()
        self._looking = asyncio.Lock()
        self._poll: asyncio.Task[None] | None = None
        self._saved = b""

    def enabled(self, settings: Settings) -> bool:
        """`Login_Disabled`."""
        return not settings.login_disabled

    def priority(self, settings: Settings) -> Priority:
        """`Login_MessageFrequency`."""
        return settings.login_frequency

    async def start(self, settings: Settings) -> None:
        """Find the sources, where the last run left them. Raises Unavailable if there is none."""
        state = await asyncio.to_thread(self._load)
        if state.boot != self._boot() and not settings.login_use_pam:
            state.sessions = []  # the device was started anew: nobody is logged in any more
        self._merge = Merge(state.sessions)
        await self._open(settings, state)

    async def collect(self) -> Collected:
        """Everything that the sources tell until now."""
        if self._poll and self._poll.done():
            self._poll.result()  # raises what went wrong in it
        await self._look()
        self._keep(self._merge.take())
        failures, lost_failures = self._failures.drain()
        sessions, lost_sessions = self._sessions.drain()
        self._losses.merge(lost_failures + lost_sessions)
        await asyncio.to_thread(self._save)
        return Collected(sorted(failures + sessions, key=attrgetter("first_seen")), self._losses.take())

    async def apply(self, settings: Settings) -> None:
        """Change between PAM and the system's own records where that is asked for."""
        if settings.login_use_pam == self._settings.login_use_pam:
            self._settings = settings
            return
        await self._look()
        await self._close()
        # Places are not kept: what the other sources tell until now has been told by these.
        await self._open(settings, State())

    async def stop(self) -> Collected:
        """Hand over the rest, remember the places, release the sources."""
        collected = await self.collect()
        await self._close()
        return collected

    async def _open(self, settings: Settings, state: State) -> None:
        self._settings = settings
        if settings.login_use_pam:
            self._open_pam(state)
        else:
            await asyncio.to_thread(self._open_records, state)
        problems = [f"{source.name}: {source.problem}" for source in self._sources if source.problem]
        self.source = "; ".join([", ".join(source.name for source in self._sources), *problems])
        self._poll = asyncio.create_task(self._keep_looking(), name="logins")

    def _open_pam(self, state: State) -> None:
        path = self._root / PAM_PATH
        if not path.exists():
            raise Unavailable(f"no {path}", remedy="install the PAM hook: packaging/pam/install.py")
        self._sources = [PamLog(path, state.files.get(path.name), self._losses)]
        self._ends = Ends(self._merge.add, self._clock)
        for session in self._merge.sessions():
            self._ends.watch(session)

    def _open_records(self, state: State) -> None:
        """The records of utmp's family, and the system log."""
        logs = self._root / "var/log"
        wtmp = Wtmp(logs / "wtmp", state.files.get("wtmp"), self._losses)
        btmp = Btmp(logs / "btmp", state.files.get("btmp"), self._losses, self._accounts.__contains__)
        self._sources = [wtmp, btmp]
        before = [] if "wtmp" in state.files else [wtmp.before()]
        database, utmp = self._root / WTMPDB_PATH, self._root / "run/utmp"
        if database.exists():
            self._sources.append(Wtmpdb(database, state.wtmpdb))
        elif utmp.exists() and not wtmp.tail.following:
            self._sources.append(now := Utmp(utmp, self._losses, self._clock))
            before.append(now.before())
        for fact in (fact for facts in before for fact in facts):
            self._merge.remember(fact)
        self._sources.append(self._system_log(state))

    def _system_log(self, state: State) -> Source:
        """The file of a syslog daemon, else the journal; if there are records at least, a file to come."""
        paths = [self._root / name for name in PATHS]
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            try:
                return Journal(self._root, state.journal, self._clock)
            except Unavailable as reason:
                if not any((self._root / "var/log" / name).exists() for name in ("wtmp", "btmp")):
                    raise Unavailable(
                        f"no wtmp, btmp or {paths[0].name}, and {reason.reason}", remedy=reason.remedy
                    ) from None
                path = paths[0]
        return AuthLog(path, state.files.get(path.name), self._losses, self._clock)

    async def _close(self) -> None:
        if self._poll:
            async with self._looking:  # not in the middle of a look: a thread reads the sources then
                self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
            self._poll = None
        if self._ends:
            self._ends.close()
            self._ends = None
        for source in self._sources:
            await asyncio.to_thread(source.close)
        self._sources = []

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self._look()

    async def _look(self) -> None:
        """Read what is new in all sources, in the order of the statements' times."""
        async with self._looking:
            changed = [source for source in self._sources if source.changed()]
            if changed:
                facts = heapq.merge(*(source.facts() for source in changed), key=attrgetter("time"))
                while batch := await asyncio.to_thread(list, islice(facts, BATCH)):
                    for fact in batch:
                        self._add(fact)
                    self._keep(self._merge.settle(batch[-1].time))
            self._keep(self._merge.settle(self._clock()))

    def _add(self, fact: SignIn) -> None:
        self._merge.add(fact)
        if self._ends and fact.operation is Operation.LOGIN:
            self._ends.watch(fact)

    def _keep(self, facts: list[SignIn]) -> None:
        for fact in facts:
            cache = self._failures if fact.operation is Operation.FAILED else self._sessions
            cache.add(self._event(fact), fact.attempts, now=fact.time)

    def _event(self, fact: SignIn) -> Login:
        return Login(
            operation=fact.operation.value,
            process_id=fact.process_id,
            user_name=UNKNOWN if self._is_secret(fact) else fact.user,
            executable=fact.terminal or ("ssh:notty" if fact.program in _SSH else ""),
            remote_address=fact.remote or LOCAL,
        )

    def _is_secret(self, fact: SignIn) -> bool:
        """A name that is no account's may be a password, typed where the name was asked for."""
        if fact.operation is not Operation.FAILED or not self._settings.login_redact_unknown:
            return False
        return fact.user not in self._accounts if fact.exists is None else not fact.exists

    def _boot(self) -> str:
        return attribute(self._root / "proc/sys/kernel/random/boot_id")

    def _load(self) -> State:
        try:
            with self._state.open("rb") as file:
                return msgspec.json.decode(file.read(STATE_BYTES), type=State)
        except FileNotFoundError:
            return State()
        except msgspec.DecodeError as error:
            log.warning("%s is damaged; logins are reported from now on: %s", self._state, error)
            return State()

    def _save(self) -> None:
        """Write the state if it is another one. Readable by the agent alone: it names users."""
        state = State(boot=self._boot(), sessions=self._merge.sessions())
        for source in self._sources:
            position = source.position()
            if isinstance(position, Position):
                state.files[source.name] = position
            elif isinstance(position, Place):
                state.wtmpdb = position
            elif position is not None:
                state.journal = position
        encoded = msgspec.json.encode(state)
        if encoded == self._saved:
            return
        self._state.parent.mkdir(parents=True, exist_ok=True)
        write_private(self._state, encoded)
        self._saved = encoded
