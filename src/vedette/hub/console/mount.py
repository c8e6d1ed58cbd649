"""The console becomes part of the hub's HTTPS application."""

from __future__ import annotations

import os
from pathlib import Path

# The framework keeps state for its own sessions, which are not used here, below the working directory.
os.environ.setdefault("NICEGUI_STORAGE_PATH", os.devnull)

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from nicegui import ui

from vedette.hub.console import (
    admin,
    alerts,
    configure,
    device,
    devices,
    enrol,
    hub_page,
    intelligence,
    investigate,
    notifications,
    overview,
    recommendations,
    rule_editor,
    rules,
    signin,
    suppressions,
    twin,
    vulnerabilities,
)
from vedette.hub.console.backend import Backend
from vedette.hub.console.gate import PATH, Gate
from vedette.hub.console.questions import Questions
from vedette.hub.console.roll import Roll
from vedette.hub.console.rollout import Rollouts
from vedette.hub.detect.alerts import Alerts
from vedette.hub.detect.rulebook import Rulebook
from vedette.hub.detect.schema import Database
from vedette.hub.findings import findings
from vedette.hub.lake import Lake
from vedette.hub.posture import Recommendations
from vedette.hub.registry import Registry
from vedette.hub.registry.history import History
from vedette.hub.registry.shelf import Shelf
from vedette.hub.settings import HubSettings, HubState

_MARK = (Path(__file__).parent / "static/mark.svg").read_text()


def open_backend(state: HubState, settings: HubSettings, registry: Registry) -> Backend:
    """What the pages stand on. Raises RegistryError."""
    database = Database(state.registry_url)
    lake = Lake(state.lake, findings(database))
    return Backend(
        state=state,
        database=database,
        registry=registry,
        lake=lake,
        users=registry.users,
        roll=Roll(database.read),
        questions=Questions(lake),
        alerts=Alerts(database),
        recommendations=Recommendations(database),
        rulebook=Rulebook(database, state.rules),
        shelf=Shelf(database.read, database.write),
        history=History(database.read),
        rollouts=Rollouts(),
        hosts=settings.host_names,
        mqtt_port=settings.mqtt_port,
        http_bytes=settings.limits.http.body_bytes,
    )


def mount(application: FastAPI, backend: Backend) -> None:
    """Add the console below PATH; once in a process, for the framework is one for the whole process."""
    for page in (
        *(overview, devices, device, twin, configure, alerts, suppressions, recommendations),
        *(investigate, rules, rule_editor, intelligence, vulnerabilities, notifications),
        *(enrol, hub_page, admin),
    ):
        page.routes(backend)

    @application.get("/", include_in_schema=False)
    async def home() -> RedirectResponse:
        return RedirectResponse(f"{PATH}/")

    application.include_router(signin.router(backend.users))
    application.add_middleware(Gate, users=backend.users)
    ui.run_with(
        application,
        mount_path=PATH,
        title="Vedette",
        favicon=_MARK,
        tailwind=False,
        show_welcome_message=False,
    )
