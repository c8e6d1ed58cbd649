"""What the console's pages stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from fastapi import Request

from vedette.hub.console.questions import Questions
from vedette.hub.console.roll import Roll
from vedette.hub.console.rollout import Rollouts
from vedette.hub.detect.alerts import Alerts
from vedette.hub.detect.rulebook import Rulebook
from vedette.hub.detect.schema import Database
from vedette.hub.lake import Lake
from vedette.hub.posture import Recommendations
from vedette.hub.registry import Registry
from vedette.hub.registry.history import History
from vedette.hub.registry.shelf import Shelf
from vedette.hub.registry.users import Role, User, Users
from vedette.hub.settings import HubState

_T = TypeVar("_T")


class Forbidden(Exception):
    """The user may not do this, or is signed in no more; the text says which."""


class Backend(msgspec.Struct, frozen=True):
    """Everything that a page may ask.

    hosts: names by which devices call the hub. http_bytes: longest request that the hub takes.
    """

    state: HubState
    database: Database
    registry: Registry
    lake: Lake
    users: Users
    roll: Roll
    questions: Questions
    alerts: Alerts
    recommendations: Recommendations
    rulebook: Rulebook
    shelf: Shelf
    history: History
    rollouts: Rollouts
    hosts: Sequence[str]
    mqtt_port: int
    http_bytes: int

    def close(self) -> None:
        """Close its connections to the database."""
        self.database.close()

    async def demand(self, request: Request, role: Role) -> User:
        """The user behind a page, as of now, if the role suffices. Raises Forbidden.

        A page stays open for hours: what it was opened with may have been taken away.
        """
        user = await call(lambda: self.users.session(request.state.token))
        if user is None:
            raise Forbidden("You are not signed in any more.")
        if user.role < role:
            raise Forbidden(f"This needs the role {role.name.lower()}; you are {user.role.name.lower()}.")
        return user


async def call(function: Callable[[], _T]) -> _T:
    """Run what blocks, the registry mostly, beside the event loop."""
    return await asyncio.to_thread(function)
