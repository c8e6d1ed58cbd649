"""The hub that a command works on, running or not: its state directory and what is in its registry."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from vedette.commands import UsageError

if TYPE_CHECKING:
    from vedette.hub.detect.schema import Database
    from vedette.hub.registry import Registry
    from vedette.hub.settings import HubSettings, HubState


def state_of(options: argparse.Namespace) -> HubState:
    """The hub state directory that was asked for."""
    from vedette.hub.settings import HubState, default_state

    return HubState(options.state or default_state())


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[tuple[HubSettings, Registry]]:
    """A hub's settings and its registry."""
    from vedette.hub.registry import Registry

    with _working_on(options) as (state, settings), closing(Registry(state.registry_url)) as registry:
        yield settings, registry


@contextmanager
def opened_database(options: argparse.Namespace) -> Iterator[Database]:
    """The same database, for what stands beside identities and twins: alerts, rules, routes, intelligence."""
    from vedette.hub.detect.schema import Database

    with _working_on(options) as (state, _), closing(Database(state.registry_url)) as database:
        yield database


@contextmanager
def _working_on(options: argparse.Namespace) -> Iterator[tuple[HubState, HubSettings]]:
    """Changes are put down to the user; what the hub refuses is for the person at the terminal."""
    from vedette.hub.errors import DomainError
    from vedette.hub.registry.audit import acting_as
    from vedette.hub.settings import HubError

    state = state_of(options)
    try:
        with acting_as(f"command:{os.getuid()}"):
            yield state, state.load()
    except (HubError, DomainError) as error:
        raise UsageError(str(error)) from None
