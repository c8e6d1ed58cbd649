"""A hub process among others on its registry: it shows that it lives, and cleans up after those that do not.

A process that was killed leaves connections behind that nobody holds. The others notice that its count of
beats stands still, each by its own looks and no clock, and end them. One that was only suspended finds itself
forgotten when it goes on, and starts its connections anew: their devices may have gone elsewhere meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from vedette import __version__
from vedette.hub.gateway.journal import Fault
from vedette.hub.registry import Registry
from vedette.hub.registry.hubs import Role

log = logging.getLogger(__name__)

T = TypeVar("T")

BEAT_S = 5.0
"""Between two signs of life: one small write."""

MISSED = 6
"""Looks in which another's count stood still, after which it is taken for gone: half a minute."""


class Sighting(NamedTuple):
    """The count that another process had when it was last seen to change, and the looks since."""

    beats: int
    missed: int


class Presence:
    """One process's. forgotten: called when the others have taken it for gone."""

    def __init__(self, registry: Registry, name: str, role: Role, forgotten: Callable[[], None]) -> None:
        self._registry = registry
        self._name = name
        self._role = role
        self._forgotten = forgotten
        self._others: dict[str, Sighting] = {}
        self._fault = Fault(log, "sign of life")

    async def start(self) -> None:
        """Enter, and go on showing it."""
        await self._try(self._enter)
        self._beating = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Leave."""
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        await self._try(self._leave)  # where it fails the others will notice by themselves

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            if await self._try(self.beat) is False:
                log.warning("other hubs have taken this one for gone; its connections start anew")
                self._forgotten()

    async def _try(self, call: Callable[[], T]) -> T | None:
        """Ask the registry; None if it fails: the database will be back."""
        try:
            answer = await asyncio.to_thread(call)
        except Exception as error:  # noqa: BLE001 - whatever the database raises
            self._fault.breaks(error)
            return None
        self._fault.works()
        return answer

    def beat(self) -> bool:
        """Show a sign of life and look for those of others; False if these have missed ours. Blocks."""
        alive = self._registry.hubs.beat(self._name)
        if not alive:
            self._enter()
        self._look()
        return alive

    def _enter(self) -> None:
        self._registry.hubs.enter(self._name, self._role, __version__)

    def _leave(self) -> None:
        self._registry.hubs.leave(self._name)

    def _look(self) -> None:
        before, self._others = self._others, {}
        for hub in self._registry.hubs.list():
            known = before.get(hub.name)
            missed = known.missed + 1 if known and known.beats == hub.beats else 0
            self._others[hub.name] = Sighting(hub.beats, missed)
            if missed >= MISSED and hub.name != self._name and self._registry.hubs.leave(hub.name, hub.beats):
                self._registry.connections.release(hub.name)
                log.warning("hub %s shows no sign of life: its connections are free", hub.name)
