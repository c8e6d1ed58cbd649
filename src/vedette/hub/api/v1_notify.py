"""`/api/v1`: routes of notifications, and what became of their messages."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Response, status
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from vedette.hub.api.caller import actor, needs
from vedette.hub.api.forms import Form, moment
from vedette.hub.detect.schema import Database
from vedette.hub.notify import probe
from vedette.hub.notify.deliveries import LISTED, Deliveries, Delivery
from vedette.hub.notify.notifier import deliver
from vedette.hub.notify.routes import (
    MAX_AUTHORITY,
    MAX_SECRET,
    MAX_WINDOW_S,
    WINDOW_S,
    Route,
    Routes,
    RouteState,
    Severity,
)
from vedette.hub.notify.routes import Form as FindingForm
from vedette.hub.notify.target import MAX_URL
from vedette.hub.notify.ways import Undelivered
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.tokens import Grant, Role, Tokens

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Identifier = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


class WantedForm(Form):
    """Which findings a route is told of; an empty part means all.

    severity: the least. types: patterns of alert types, recommendations or rule ids. where: a condition on
    `deviceId` and `tags`. changes: also when a finding is dismissed, resolved or taken up.
    """

    severity: Severity = "Informational"
    types: list[Annotated[str, Field(max_length=200)]] = Field(default_factory=list, max_length=100)
    where: Annotated[str, Field(max_length=4_000)] = ""
    about: Literal["alerts", "recommendations", "all"] = "alerts"
    changes: bool = False


class NewRoute(Form):
    """A route. url: its scheme says how. secret: signs a webhook, or is the password for mail and MQTT."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    url: Annotated[str, Field(max_length=MAX_URL)]
    secret: Annotated[str, Field(max_length=MAX_SECRET)] = ""
    authority: Annotated[str, Field(max_length=MAX_AUTHORITY)] = ""
    form: FindingForm = "json"
    wanted: WantedForm = WantedForm()
    window: Annotated[float, Field(ge=0, le=MAX_WINDOW_S)] = WINDOW_S
    allow_private: bool = False


class RouteChange(Form):
    """enabled: is it told of anything?"""

    enabled: bool


class RouteForm(BaseModel):
    """A route without what is secret. dropped: findings that did not fit into the outbox."""

    name: str
    to: str
    enabled: bool
    form: FindingForm
    wanted: WantedForm
    window: float
    allow_private: bool
    created: datetime
    dropped: int


class NewRouteForm(RouteForm):
    """The same with the signing secret of a webhook, shown this once."""

    signing_secret: str


class RouteStateForm(RouteForm):
    """A route and how it does. error: why the latest unsent message was not."""

    waiting: int
    pending: int
    dead: int
    error: str


class DeliveryForm(BaseModel):
    """A message and what became of it. due: the next attempt, while it is pending."""

    id: str
    route: str
    state: Literal["pending", "sent", "dead"]
    attempts: int
    due: datetime | None
    created: datetime
    finished: datetime | None
    error: str
    findings: int
    title: str
    severity: str


class Tried(BaseModel):
    """Whether a made-up alert arrived, and why not."""

    delivered: bool
    error: str


def router(tokens: Tokens, database: Database) -> APIRouter:
    """The routes."""
    paths = APIRouter(tags=["notifications"])
    operator = Annotated[Grant, Depends(needs(Role.OPERATOR, tokens))]
    admin = Annotated[Grant, Depends(needs(Role.ADMIN, tokens))]
    routes, deliveries = Routes(database.read, database.write), Deliveries(database)

    @paths.get("/notify/routes")
    def list_routes(_: operator) -> list[RouteStateForm]:
        """All routes and how they do."""
        return [_state_form(one) for one in routes.list()]

    @paths.post("/notify/routes", status_code=status.HTTP_201_CREATED)
    def add_route(caller: admin, wanted: NewRoute) -> NewRouteForm:
        """Add a route; a webhook's signing secret is shown this once."""
        with acting_as(actor(caller)):
            route = routes.add(msgspec.convert(wanted.model_dump(), Route))
        own = route.target.kind.way == "webhook" and not wanted.secret
        return NewRouteForm(**_shown(route), signing_secret=route.secret if own else "")

    @paths.patch("/notify/routes/{name}")
    def change_route(caller: admin, name: Name, change: RouteChange) -> RouteForm:
        """Let a route be told, or not; what waits for it is kept."""
        with acting_as(actor(caller)):
            return RouteForm(**_shown(routes.set_enabled(name, change.enabled)))

    @paths.delete("/notify/routes/{name}", status_code=status.HTTP_204_NO_CONTENT)
    def remove_route(caller: admin, name: Name) -> Response:
        """Remove a route and all that waits for it."""
        with acting_as(actor(caller)):
            routes.remove(name)
        return Response(status_code=status.HTTP_204_NO_CONTENT)

    @paths.post("/notify/routes/{name}/test")
    async def try_route(_: admin, name: Name) -> Tried:
        """Send a made-up alert over a route now."""
        route = await run_in_threadpool(routes.get, name)
        try:
            await deliver(route, probe.message(route))
        except Undelivered as error:
            return Tried(delivered=False, error=error.reason)
        return Tried(delivered=True, error="")

    @paths.get("/notify/deliveries")
    def list_deliveries(
        _: operator,
        route: Annotated[str, Query(max_length=64)] = "",
        state: Literal["", "pending", "sent", "dead"] = "",
        limit: Annotated[int, Query(ge=1, le=LISTED)] = 100,
    ) -> list[DeliveryForm]:
        """Messages and what became of them, the newest first."""
        return [_delivery_form(one) for one in deliveries.list(route, state, limit)]

    @paths.post("/notify/deliveries/{identifier}/redeliver", status_code=status.HTTP_202_ACCEPTED)
    def redeliver(_: operator, identifier: Identifier) -> Response:
        """Send a dead message again."""
        deliveries.again(identifier)
        return Response(status_code=status.HTTP_202_ACCEPTED)

    return paths


def _shown(route: Route) -> dict[str, Any]:
    return {
        "name": route.name,
        "to": route.target.shown,
        "enabled": route.enabled,
        "form": route.form,
        "wanted": WantedForm.model_validate(msgspec.to_builtins(route.wanted), strict=False),
        "window": route.window,
        "allow_private": route.allow_private,
        "created": moment(route.created),
        "dropped": route.dropped,
    }


def _state_form(state: RouteState) -> RouteStateForm:
    return RouteStateForm(
        **_shown(state.route),
        waiting=state.waiting,
        pending=state.pending,
        dead=state.dead,
        error=state.error,
    )


def _delivery_form(one: Delivery) -> DeliveryForm:
    return DeliveryForm.model_validate(
        {
            **msgspec.structs.asdict(one),
            "created": moment(one.created),
            "due": moment(one.due) if one.state == "pending" else None,
            "finished": None if one.finished is None else moment(one.finished),
        }
    )
