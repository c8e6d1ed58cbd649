"""Routes: who is told of what, where, and how. An owner makes them; secrets are sealed and never shown."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import re
import secrets
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, sessionmaker

from vedette.hub.notify.schema import NotifyDeliveryRow, NotifyItemRow, NotifyRouteRow
from vedette.hub.notify.target import NotifyError, Taken, Target, Unknown, parse
from vedette.hub.registry.query import QueryError
from vedette.hub.registry.records import Veiled
from vedette.hub.registry.shelf import selecting

MAX_ROUTES = 100
"""Each is asked about every finding."""

MAX_WINDOW_S = 24 * 3600.0
MAX_SECRET = 1_024
MAX_AUTHORITY = 65_536
"""Characters of certificates in PEM: thirty of them."""

WINDOW_S = 30.0
"""How long findings gather by default: short for a person, long for a rule that begins to fire everywhere."""

SEVERITIES = ("Informational", "Low", "Medium", "High")
SIGNING_PREFIX = "whsec_"
"""How the Standard Webhooks specification marks a signing secret."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def grade(severity: str) -> int:
    """How grave a severity is; one that is not known is told rather than kept back."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


Severity = Literal["Informational", "Low", "Medium", "High"]
Form = Literal["json", "cef", "ocsf", "ecs", "sentinel"]


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which findings a route is told of; an empty part means all.

    severity: the least. types: patterns of alert types, names of recommendations or rule ids. where: a
    condition of the IoT Hub query language on `deviceId` and `tags`. changes: of a later status, too.
    """

    severity: Severity = "Informational"
    types: tuple[str, ...] = ()
    where: str = ""
    about: Literal["alerts", "recommendations", "all"] = "alerts"
    changes: bool = False

    def admits(self, kind: str, severity: str, names: Sequence[str]) -> bool:
        """Whether a finding is wanted, but for its device. kind: `alerts` or `recommendations`."""
        return (
            self.about in ("all", kind)
            and grade(severity) >= grade(self.severity)
            and (not self.types or any(fnmatch.fnmatchcase(n, p) for n in names for p in self.types))
        )

    def concerns(self, device_id: str, tags: Mapping[str, Any]) -> bool:
        """Whether findings about a device are wanted."""
        return not self.where or condition(self.where)({"deviceId": device_id, "tags": tags})


class Route(Veiled, frozen=True, kw_only=True):
    """A route. secret: signs webhooks, or is the password for mail and MQTT.

    authority: certificates (PEM) to trust instead of the system's. window: seconds in which findings gather
    for one message; 0: each is a message of its own. allow_private: a webhook may lead to addresses that are
    not public.
    """

    SHOWN = ("name", "target")

    name: str
    url: str
    secret: str = ""
    authority: str = ""
    form: Form = "json"
    wanted: Wanted = Wanted()
    window: float = WINDOW_S
    allow_private: bool = False
    enabled: bool = True
    created: float = 0.0
    dropped: int = 0

    @property
    def target(self) -> Target:
        """Where it leads."""
        return parse(self.url)


class RouteState(msgspec.Struct, frozen=True):
    """How a route does. waiting: findings in the outbox. error: why the latest unsent message was not."""

    route: Route
    waiting: int
    pending: int
    dead: int
    error: str


def condition(where: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether it holds for a device. Raises NotifyError."""
    try:
        return selecting(where).where
    except QueryError as error:
        raise NotifyError(f"where: {error}") from None


def checked(route: Route) -> Route:
    """A route that can work, with a new signing secret where a webhook lacks one. Raises NotifyError."""
    if not _NAME.fullmatch(route.name):
        raise NotifyError("name: letters, digits, dots, dashes and underscores, at most 64")
    if not 0 <= route.window <= MAX_WINDOW_S:
        raise NotifyError(f"window: 0 to {MAX_WINDOW_S:g} seconds")
    target = parse(route.url)
    if len(route.secret) > MAX_SECRET:
        raise NotifyError(f"secret: longer than {MAX_SECRET} characters")
    if target.kind.tls == "never" and target.kind.way == "webhook" and not route.allow_private:
        raise NotifyError("url: http is not protected on its way; use https, or allow private addresses")
    if target.kind.tls == "never" and target.kind.way != "webhook" and route.secret:
        raise NotifyError(f"secret: would go over {target.scheme} in clear; use the scheme with TLS")
    if route.authority:
        _check_authority(route.authority)
    if route.wanted.where:
        condition(route.wanted.where)
    if target.kind.way == "webhook":
        route = msgspec.structs.replace(route, secret=route.secret or new_secret())
        signing_key(route.secret)
    return route


def new_secret() -> str:
    """A signing secret of 32 random bytes."""
    return SIGNING_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signing_key(secret: str) -> bytes:
    """The bytes of a signing secret. Raises NotifyError."""
    try:
        key = base64.b64decode(secret.removeprefix(SIGNING_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise NotifyError(f"secret: {SIGNING_PREFIX} and 24 to 64 bytes in base64 are needed")
    return key


def _check_authority(pem: str) -> None:
    if len(pem) > MAX_AUTHORITY:
        raise NotifyError(f"authority: longer than {MAX_AUTHORITY} characters")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise NotifyError("authority: no certificates in PEM") from None


def route_of(row: NotifyRouteRow) -> Route:
    """A row as a route."""
    columns = {name: getattr(row, name) for name in Route.__struct_fields__ if name != "wanted"}
    return Route(**columns, wanted=msgspec.json.decode(row.wanted, type=Wanted))


def _columns(route: Route) -> dict[str, Any]:
    columns = {name: getattr(route, name) for name in Route.__struct_fields__ if name != "wanted"}
    return columns | {"wanted": msgspec.json.encode(route.wanted).decode()}


class Routes:
    """The routes of a hub. Every call is one transaction and blocks."""

    def __init__(self, read: sessionmaker[Session], write: sessionmaker[Session]) -> None:
        self._read = read
        self._write = write

    def add(self, route: Route) -> Route:
        """Add a route; the one returned has its signing secret. Raises NotifyError."""
        kept = msgspec.structs.replace(checked(route), created=time.time(), dropped=0)
        with self._write.begin() as session:
            if session.get(NotifyRouteRow, kept.name):
                raise Taken(f"name: there is a route {kept.name} already")
            if (session.scalar(select(func.count()).select_from(NotifyRouteRow)) or 0) >= MAX_ROUTES:
                raise NotifyError(f"{MAX_ROUTES} routes are the most")
            session.add(NotifyRouteRow(**_columns(kept)))
        return kept

    def change(self, route: Route) -> Route:
        """Have a route in place of the one of this name; what waits for that one is kept. Raises NotifyError.

        It stays of its kind, as the messages that wait are of that kind.
        """
        kept = checked(route)
        with self._write.begin() as session:
            row = _row(session, kept.name)
            if kept.target.kind.way != parse(row.url).kind.way:
                raise NotifyError(f"url: {kept.target.scheme} is another kind of route; add one")
            for column, value in _columns(kept).items():
                if column not in ("enabled", "created", "dropped"):
                    setattr(row, column, value)
            return route_of(row)

    def get(self, name: str) -> Route:
        """Raises NotifyError."""
        with self._read.begin() as session:
            return route_of(_row(session, name))

    def set_enabled(self, name: str, enabled: bool) -> Route:
        """Let a route be told, or not; what waits for it is kept. Raises NotifyError."""
        with self._write.begin() as session:
            row = _row(session, name)
            row.enabled = enabled
            return route_of(row)

    def remove(self, name: str) -> None:
        """Forget a route and all that waits for it. Raises NotifyError."""
        with self._write.begin() as session:
            session.delete(_row(session, name))
            for table in (NotifyItemRow, NotifyDeliveryRow):
                session.execute(delete(table).where(table.route == name))

    def list(self) -> Sequence[RouteState]:
        """All routes and how they do, by name."""
        with self._read.begin() as session:
            rows = session.scalars(select(NotifyRouteRow).order_by(NotifyRouteRow.name))
            return [_state(session, row) for row in rows]


def _row(session: Session, name: str) -> NotifyRouteRow:
    row = session.get(NotifyRouteRow, name)
    if row is None:
        raise Unknown(f"{name}: no such route")
    return row


def _state(session: Session, row: NotifyRouteRow) -> RouteState:
    own = NotifyDeliveryRow.route == row.name
    by_state = select(NotifyDeliveryRow.state, func.count()).where(own).group_by(NotifyDeliveryRow.state)
    counts: dict[str, int] = {state: number for state, number in session.execute(by_state)}  # noqa: C416
    waiting = select(func.count()).select_from(NotifyItemRow).where(NotifyItemRow.route == row.name)
    failing = select(NotifyDeliveryRow.error).where(own, NotifyDeliveryRow.state != "sent")
    return RouteState(
        route=route_of(row),
        waiting=session.scalar(waiting) or 0,
        pending=counts.get("pending", 0),
        dead=counts.get("dead", 0),
        error=session.scalar(failing.order_by(NotifyDeliveryRow.created.desc()).limit(1)) or "",
    )
