"""A device that registers itself (DPS): from `provisioning.json` to a hub, a device id and a key.

`Registration` is the conversation, as a state machine without socket and clock: register, be told to ask
again, ask, be assigned. `provisioned` holds it over a `Link` until it succeeds. The assignment is kept in the
state directory, so that the next start needs no provisioning service. Imported by those who use it only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from vedette.agent.link import Ended, Link
from vedette.agent.notify import keep_watch, notify
from vedette.agent.route import Route
from vedette.agent.session import ANSWER_S, RETRY_S, Backoff, Pace, Publish
from vedette.agent.settings import (
    PROVISIONING,
    Local,
    LocalError,
    make_state,
    read_bounded,
    route_to,
    write_private,
)
from vedette.wire import dps
from vedette.wire.iothub import ConnectionString, DialectError, Identity, decode_key, query_of, valid_id

log = logging.getLogger(__name__)

ASSIGNMENT = "assignment.json"

MIN_WAIT_S = 1.0
MAX_WAIT_S = 300.0
"""Bounds of the pause that a service may ask for."""


class Enrollment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`provisioning.json`. Its repr hides the keys.

    registration_id: the host name if empty. Exactly one proof: symmetric_key (this device's own), group_key
    (from which the device's is made) or x509 (the certificate files beside it). port: None for the
    transport's own.
    """

    id_scope: str
    registration_id: str = ""
    endpoint: str = dps.ENDPOINT
    port: int | None = None
    symmetric_key: str = ""
    group_key: str = ""
    x509: bool = False

    def __repr__(self) -> str:
        """Without the keys."""
        return f"Enrollment({self.id_scope!r}, {self.name!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same for `rich`."""
        return [("id_scope", self.id_scope), ("registration_id", self.name)]

    @property
    def name(self) -> str:
        """The registration id."""
        return self.registration_id or socket.gethostname().split(".")[0].lower()

    @property
    def key(self) -> str:
        """This device's key, base64; empty if it has a certificate instead."""
        return dps.device_key(self.group_key, self.name) if self.group_key else self.symmetric_key


class Assignment(msgspec.Struct, frozen=True):
    """Where a device belongs, and for which registration that was said."""

    id_scope: str
    registration_id: str
    hub: str
    device_id: str


class NotAssigned(Exception):
    """The service will not assign this device as things stand; the text says why and holds no secret."""


class _State(msgspec.Struct, rename="camel"):
    status: str = ""
    assigned_hub: str = ""
    device_id: str = ""


class _Answer(msgspec.Struct, rename="camel"):
    operation_id: str = ""
    status: str = ""
    error_code: int = 0
    registration_state: _State | None = None


class Registration:
    """One registration's conversation, over one connection."""

    def __init__(self, enrollment: Enrollment) -> None:
        self._enrollment = enrollment
        self._operation = ""
        self._rid = 0
        self._due = 0.0

    def deadline(self) -> float:
        """When `poll` has something to send."""
        return self._due

    def poll(self, now: float) -> Publish | None:
        """The request that is due; one that is not answered in time is made again."""
        if now < self._due:
            return None
        self._rid += 1
        self._due = now + ANSWER_S
        if self._operation:
            return Publish(f"{dps.ASK}?$rid={self._rid}&operationId={quote(self._operation, safe='')}", b"")
        body = msgspec.json.encode({"registrationId": self._enrollment.name})
        return Publish(f"{dps.REGISTER}?$rid={self._rid}", body)

    def received(self, topic: str, body: bytes, now: float) -> Assignment | None:
        """Take an answer; the assignment, if this is it. Raises NotAssigned."""
        query = query_of(topic)
        if not topic.startswith(dps.RESPONSE) or query.get("$rid") != str(self._rid):
            return None
        status = topic.removeprefix(dps.RESPONSE).partition("/")[0]
        code = int(status) if status.isascii() and status.isdigit() else 0
        if code >= 429:
            self._due = now + _pause(query, RETRY_S)
            return None
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except msgspec.MsgspecError:
            answer = _Answer()
        if not 200 <= code < 300:
            raise NotAssigned(f"refused with status {code} (error {answer.error_code})")
        return self._progress(answer, now + _pause(query, MIN_WAIT_S))

    def _progress(self, answer: _Answer, next_at: float) -> Assignment | None:
        if answer.status == "assigned" and (state := answer.registration_state):
            if not state.assigned_hub or not valid_id(state.device_id):
                raise NotAssigned("assigned to no hub, or as no device")
            return Assignment(
                self._enrollment.id_scope, self._enrollment.name, state.assigned_hub, state.device_id
            )
        if answer.status != "assigning" or not (self._operation or valid_id(answer.operation_id)):
            raise NotAssigned(f"not assigned (error {answer.error_code})")
        self._operation = self._operation or answer.operation_id
        self._due = next_at
        return None


def _pause(query: dict[str, str], otherwise: float) -> float:
    """Seconds that the service asks for, within bounds."""
    asked = query.get("retry-after", "")
    seconds = float(asked) if asked.isascii() and asked.isdigit() else otherwise
    return min(MAX_WAIT_S, max(MIN_WAIT_S, seconds))


async def register(enrollment: Enrollment, route: Route) -> Assignment:
    """One attempt, over a connection of its own. Raises Ended or NotAssigned."""
    loop = asyncio.get_running_loop()
    stirred = asyncio.Event()
    answers: list[tuple[str, bytes]] = []

    def received(topic: str, body: bytes) -> None:
        answers.append((topic, body))

    link = Link(enrollment.name, stirred=stirred.set, received=received, filters=[f"{dps.RESPONSE}#"])
    registration = Registration(enrollment)
    key, scope = enrollment.key, enrollment.id_scope
    token = dps.make_token(scope, enrollment.name, key, now=time.time()) if key else None
    try:
        await link.open(route, user=dps.username(scope, enrollment.name), password=token)
        while True:
            link.tick(loop.time())
            if link.subscribed and (request := registration.poll(loop.time())):
                link.publish(request.topic, request.body, qos=0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(link.deadline(), registration.deadline() or float("inf"))):
                    await stirred.wait()
            stirred.clear()
            while answers:
                if assignment := registration.received(*answers.pop(0), loop.time()):
                    return assignment
    finally:
        await link.close()


class Finder(msgspec.Struct, frozen=True, kw_only=True):
    """Finds where a device belongs. Called, it asks the service once; raises LocalError.

    ca_file, port: of the hub, and of the service unless the enrollment says otherwise.
    """

    enrollment: Enrollment
    config: Path
    state: Path
    ca_file: Path | None = None
    port: int | None = None

    @property
    def route(self) -> Route:
        """To the service. Raises LocalError."""
        return self._route_to(self.enrollment.endpoint, self.enrollment.port or self.port)

    async def __call__(self) -> Local:
        """Register, and keep the assignment."""
        route = self.route
        try:
            return self._keep(await register(self.enrollment, route))
        except (Ended, NotAssigned) as error:
            raise LocalError(f"{self.enrollment.name} is not provisioned by {route}: {error}") from None

    async def insist(self) -> Local:
        """Register until it succeeds; say each new reason once. To the service manager we run."""
        notify("READY=1\nSTATUS=registering with the provisioning service")
        watch = asyncio.create_task(keep_watch())
        backoff, told, route = Backoff(Pace(), random.random), "", self.route
        try:
            while True:
                try:
                    return self._keep(await register(self.enrollment, route))
                except (Ended, NotAssigned) as error:
                    refused = isinstance(error, NotAssigned) or error.kind == "refused"
                    if str(error) != told:
                        told = str(error)
                        log.warning("%s is not provisioned by %s: %s", self.enrollment.name, route, error)
                    await asyncio.sleep(backoff.after(lasted=0.0, refused=refused))
        finally:
            watch.cancel()

    def kept(self) -> Local | None:
        """As it was told last, if that was for this registration."""
        assignment = _kept(self.state / ASSIGNMENT)
        ours = (self.enrollment.id_scope, self.enrollment.name)
        if assignment is None or (assignment.id_scope, assignment.registration_id) != ours:
            return None
        return self._local(assignment)

    def _keep(self, assignment: Assignment) -> Local:
        log.info("%s is %s at %s", self.enrollment.name, assignment.device_id, assignment.hub)
        write_private(self.state / ASSIGNMENT, msgspec.json.encode(assignment))
        return self._local(assignment)

    def _local(self, assignment: Assignment) -> Local:
        key, x509 = self.enrollment.key, self.enrollment.x509
        return Local(
            connection=ConnectionString(assignment.hub, Identity(assignment.device_id), key, x509),
            route=self._route_to(assignment.hub, self.port),
            state=self.state,
            find_hub=self,
        )

    def _route_to(self, address: str, port: int | None) -> Route:
        return route_to(address, self.config, ca_file=self.ca_file, port=port, x509=self.enrollment.x509)


async def provisioned(
    config: Path, state: Path, *, ca_file: Path | None = None, port: int | None = None, patient: bool = True
) -> Local:
    """What the agent needs, by an assignment that is kept or made now. Raises LocalError.

    patient: try until it succeeds; else once.
    """
    enrollment = read_enrollment(config / PROVISIONING)
    make_state(state)
    finder = Finder(enrollment=enrollment, config=config, state=state, ca_file=ca_file, port=port)
    return finder.kept() or await (finder.insist() if patient else finder())


def read_enrollment(path: Path) -> Enrollment:
    """`provisioning.json`. Raises LocalError naming file and field, never a value."""
    try:
        enrollment = msgspec.json.decode(read_bounded(path), type=Enrollment)
        _judge(enrollment)
    except (OSError, ValueError) as error:
        raise LocalError(f"{path}: {error}") from None
    if path.stat().st_mode & 0o077 and not enrollment.x509:
        log.warning("%s can be read by others; chmod 600 it", path)
    return enrollment


def _judge(enrollment: Enrollment) -> None:
    proofs = [enrollment.symmetric_key, enrollment.group_key, enrollment.x509]
    if sum(map(bool, proofs)) != 1:
        raise ValueError("not exactly one of symmetric_key, group_key and x509")
    if not valid_id(enrollment.id_scope) or not valid_id(enrollment.name):
        raise DialectError("id_scope or registration_id holds a character that ids may not")
    if not enrollment.x509:
        decode_key(enrollment.key)


def _kept(path: Path) -> Assignment | None:
    try:
        return msgspec.json.decode(read_bounded(path), type=Assignment)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read, registering again: %s", path, error)
        return None
