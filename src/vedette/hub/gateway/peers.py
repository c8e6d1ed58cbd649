"""What passes between the gateways on one registry: who holds which connection, and calls to its clients.

All of it goes through tables that each gateway looks at four times a second. So a connection is closed within
a second of a newer one elsewhere, and a direct method takes up to half a second more than on its own gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, Protocol, TypeVar

import msgspec

from vedette.hub.gateway.downlink import Answer, CallFailed, NotOnline, TooManyCalls
from vedette.hub.gateway.session import HubFault
from vedette.hub.registry import Registry
from vedette.hub.registry.calls import Call, CallsFull, Outcome
from vedette.hub.registry.connections import Holding
from vedette.wire.iothub import Identity

P = ParamSpec("P")
T = TypeVar("T")

RELAY_S = 5.0
"""How much longer than the client's own time-outs a call to another gateway may take: ten times the usual."""

ANSWERED = "answered"
FAILURES: Mapping[str, type[Exception]] = {
    kind.__name__: kind for kind in (NotOnline, TooManyCalls, CallFailed, TimeoutError)
}


class Home(Protocol):
    """What is asked of the gateway itself."""

    registry: Registry

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the registry from a thread. Raises its RegistryError and TwinError, for all else HubFault."""
        ...

    async def call_here(self, call: Call) -> Answer:
        """Have a client of this very gateway run a direct method. Raises CallFailed, TimeoutError."""
        ...

    def held(self, holding: Holding) -> None:
        """A gateway, perhaps this one, holds a connection now."""
        ...


class News(msgspec.Struct, frozen=True):
    """What one look brought."""

    holdings: Sequence[Holding]
    calls: Sequence[tuple[int, Call]]
    answers: Mapping[int, Outcome]


class Peers:
    """One gateway's dealings with the others. `start` before anything else."""

    def __init__(self, home: Home, name: str) -> None:
        self._home = home
        self._name = name
        self._connections = home.registry.connections
        self._calls = home.registry.calls
        self._wanted: set[Identity] = set()
        self._holding: asyncio.Task[Mapping[Identity, int]] | None = None
        self._turn = asyncio.Lock()
        self._asked: dict[int, asyncio.Future[Outcome]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._held = self._called = 0

    async def start(self) -> None:
        """Forget what an earlier life of this gateway held. Raises HubFault."""
        await self._home.ask(self._connections.release, self._name)
        self._held = await self._home.ask(self._connections.last)
        self._called = await self._home.ask(self._calls.last)

    async def close(self) -> None:
        """Give up what is being answered."""
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def hold(self, identity: Identity) -> int:
        """Have it written down that this gateway holds an identity; the number. Raises HubFault.

        Those that come while a batch is being written make up the next one.
        """
        self._wanted.add(identity)
        if self._holding is None:
            self._holding = asyncio.create_task(self._hold())
        return (await asyncio.shield(self._holding))[identity]

    async def _hold(self) -> Mapping[Identity, int]:
        async with self._turn:
            batch, self._wanted, self._holding = self._wanted, set(), None
            return await self._home.ask(self._connections.hold, self._name, batch)

    async def holder(self, identity: Identity) -> str:
        """Name of the other gateway that holds an identity; empty if none does. Raises HubFault."""
        holder = await self._home.ask(self._connections.holder, identity)
        return "" if holder == self._name else holder

    async def call(self, gateway: str, call: Call) -> Answer:
        """Have a client of another gateway run a direct method. Raises CallFailed, TimeoutError."""
        patience = call.connect_timeout + call.timeout + RELAY_S
        try:
            number = await self._home.ask(self._calls.ask, gateway, call, patience)
        except CallsFull as error:
            raise TooManyCalls(str(error)) from None
        self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(patience):
                return _answer(await self._asked[number])
        finally:
            del self._asked[number]

    async def follow(self) -> None:
        """Look at the tables once, and act on what is new."""
        try:
            news = await self._home.ask(self._look, tuple(self._asked))
        except HubFault:
            return  # logged; the next look finds the same
        for holding in news.holdings:
            self._held = holding.seq
            self._home.held(holding)
        for number, call in news.calls:
            self._called = number
            task = asyncio.create_task(self._serve(number, call))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        for number, outcome in news.answers.items():
            if (asked := self._asked.get(number)) and not asked.done():
                asked.set_result(outcome)

    def _look(self, asked: Sequence[int]) -> News:
        return News(
            self._connections.newer(self._held),
            self._calls.waiting(self._name, self._called),
            self._calls.answers(asked) if asked else {},
        )

    async def _serve(self, number: int, call: Call) -> None:
        """Run a call for another gateway, and tell it the outcome."""
        try:
            answer = await self._home.call_here(call)
            outcome = Outcome(ANSWERED, "", answer.status, bytes(answer.payload))
        except (CallFailed, TimeoutError) as error:
            outcome = Outcome(type(error).__name__, str(error))
        try:
            await self._home.ask(self._calls.answer, number, outcome)
        except HubFault:
            return  # logged; the asker's patience ends


def _answer(outcome: Outcome) -> Answer:
    """The answer that an outcome is. Raises the failure that it is instead."""
    if outcome.kind == ANSWERED:
        return Answer(outcome.status, msgspec.Raw(outcome.answer))
    raise FAILURES[outcome.kind](outcome.text)
