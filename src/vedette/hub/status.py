"""How a hub is, from outside: by its files, its lake and its registry, and by asking the process if one runs.

Works while the hub is down and while parts of it cannot be reached: each part tells its own fault. Nothing
here is secret. The registry is opened as by every command, which brings an older one up to date.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import msgspec
from cryptography import x509
from deltalake.exceptions import DeltaError, TableNotFoundError
from sqlalchemy import func, make_url, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from vedette.hub.detect.schema import Database, PositionRow
from vedette.hub.lake.errors import reason
from vedette.hub.lake.storage import Storage
from vedette.hub.lake.tables import RAW_EVENTS, TABLES, Table, live, opened
from vedette.hub.registry import RegistryError
from vedette.hub.registry.hubs import HubRow
from vedette.hub.registry.lease import holdings
from vedette.hub.registry.schema import IdentityRow
from vedette.hub.settings import HubError, HubSettings, HubState
from vedette.hub.tls import RENEWAL_DAYS

ANSWER_S = 5.0
"""How long a hub on this machine may take to answer; one that is busy needs milliseconds."""

ANSWER_BYTES = 1024 * 1024
"""Longest answer that is read; `/metrics` has 10 KB."""

DISK_FREE = 0.05
"""Share of the disk below which there is a problem: time is left to act."""

LAG_S = 300.0
"""How far detection may be behind what was received; it is seconds behind unless it stands still."""

TROUBLES = {
    "maintenance_failing": "maintenance of the lake fails; the hub's log says why",
    "detection_failing": "detection fails; the hub's log says why",
    "retention_held": "the clock has leapt ahead: nothing of the lake expires for a day",
}
"""Metrics of a running hub that are 1 when something is wrong."""

SILENT_S = 90.0
"""Age of a lease, or of a hub's last sign of life, at which its holder is taken for gone: three times the
time after which another process would take over."""


class TableStatus(msgspec.Struct):
    """A table of the lake, by its log. committed: when the latest entry was made, Unix seconds."""

    name: str
    version: int = -1
    committed: float | None = None
    files: int = 0
    bytes: int = 0
    rows: int = 0
    fault: str = ""


class LakeStatus(msgspec.Struct):
    """Where the lake is, and its tables. fault: why it cannot be read."""

    location: str = ""
    tables: list[TableStatus] = []
    fault: str = ""


class HolderStatus(msgspec.Struct):
    """Who does some work, and the age in seconds of its last sign of life."""

    work: str
    holder: str
    token: int
    age: float


class HubProcessStatus(msgspec.Struct):
    """A hub process that entered the registry. age: seconds since its last sign of life."""

    name: str
    role: str
    version: str
    started: float
    age: float


class RegistryStatus(msgspec.Struct):
    """The registry and what stands in it about the hubs. judged: version of the event table, -1 if none."""

    location: str = ""
    devices: int = 0
    connected: int = 0
    hubs: list[HubProcessStatus] = []
    leases: list[HolderStatus] = []
    judged: int = -1
    judged_until: float | None = None
    fault: str = ""


class LocalStatus(msgspec.Struct):
    """The hub process of this machine. waiting: rows whose senders wait. committed: Unix seconds.

    troubles: see TROUBLES.
    """

    address: str
    answers: bool = False
    ready: bool = False
    role: str = ""
    waiting: int = 0
    committed: float | None = None
    connected: int = 0
    troubles: list[str] = []
    fault: str = ""


class DiskStatus(msgspec.Struct):
    """The disk of the state directory, in bytes."""

    path: str
    free: int
    total: int


class HubStatus(msgspec.Struct):
    """All of it. problems: what somebody should look at, most urgent first; empty while all is well.

    behind: commits that detection has not judged. certificate_expires: Unix seconds.
    """

    state: str
    local: LocalStatus
    lake: LakeStatus
    registry: RegistryStatus
    disk: DiskStatus
    behind: int | None = None
    certificate_expires: float | None = None
    problems: list[str] = []


def look(state: HubState, database: Database | None = None) -> HubStatus:
    """How the hub of a state directory is now. Blocks, for some seconds where parts are away.

    database: the hub's, where it is open already. Raises HubError if there is no hub.
    """
    settings = state.load()
    registry = _registry(state, database)
    usage = shutil.disk_usage(state.root)
    status = HubStatus(
        state=str(state.root),
        local=_local(state, settings, registry.hubs),
        lake=_lake(state),
        registry=registry,
        disk=DiskStatus(str(state.root), usage.free, usage.total),
        certificate_expires=_expiry(Path(state.pki)),
    )
    events = next((table for table in status.lake.tables if table.name == RAW_EVENTS.name), None)
    if events and events.version >= 0 and registry.judged >= 0:
        status.behind = max(0, events.version - registry.judged)
    status.problems = [text for text in _problems(status, time.time()) if text]
    return status


def _lake(state: HubState) -> LakeStatus:
    try:
        lake = state.lake
    except HubError as error:
        return LakeStatus(fault=str(error))
    tables = [_table(lake, table) for table in TABLES]
    return LakeStatus(lake.uri, tables, next((table.fault for table in tables if table.fault), ""))


def _table(lake: Storage, table: Table) -> TableStatus:
    status = TableStatus(table.name)
    try:
        known = opened(table.files(lake))
        present = live(known)
        status.version = known.version()
        status.committed = known.history(1)[0]["timestamp"] / 1000
        status.files = len(present)
        status.bytes = sum(file.size for file in present)
        status.rows = sum(file.rows for file in present)
    except TableNotFoundError:
        pass  # a hub makes it when it starts
    except (OSError, DeltaError) as error:
        status.fault = reason(error)
    return status


def _registry(state: HubState, known: Database | None) -> RegistryStatus:
    url, status = state.registry_url, RegistryStatus()
    try:
        status.location = make_url(url).set(query={}).render_as_string(hide_password=True)
        database = known or Database(url)
        try:
            with database.read.begin() as session:
                _fill(status, session, time.time())
        finally:
            if known is None:
                database.close()
    except (RegistryError, SQLAlchemyError) as error:
        status.fault = " ".join(str(error).split())
    return status


def _fill(status: RegistryStatus, session: Session, now: float) -> None:
    """What the registry tells."""
    devices = select(func.count()).select_from(IdentityRow).where(IdentityRow.module_id == "")
    connected = select(func.count()).select_from(IdentityRow).where(IdentityRow.gateway != "")
    status.devices, status.connected = session.scalar(devices) or 0, session.scalar(connected) or 0
    status.hubs = [
        HubProcessStatus(row.name, row.role, row.version, row.started, now - row.seen)
        for row in session.scalars(select(HubRow).order_by(HubRow.name))
    ]
    status.leases = [
        HolderStatus(lease.name, lease.holder, lease.token, now - lease.renewed)
        for lease in holdings(session)
    ]
    if position := session.get(PositionRow, RAW_EVENTS.name):
        status.judged, status.judged_until = position.version, position.watermark


def _local(state: HubState, settings: HubSettings, hubs: Sequence[HubProcessStatus]) -> LocalStatus:
    """Ask the process of this machine on the port under which it entered the registry, else the settings'."""
    here = f"{socket.gethostname()}:"
    ports = [int(hub.name.removeprefix(here)) for hub in hubs if hub.name.startswith(here)]
    address = "127.0.0.1" if settings.bind in ("0.0.0.0", "::") else settings.bind  # noqa: S104
    status = LocalStatus(address)
    for port in [*ports, settings.https_port]:
        status = LocalStatus(f"{address}:{port}")
        try:
            _ask(status, address, port, state.pki)
        except (OSError, HTTPException, ValueError) as error:
            status.fault = str(error) or type(error).__name__
        else:
            break
    return status


def _ask(status: LocalStatus, address: str, port: int, pki: Path) -> None:
    context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    context.check_hostname = False  # it is asked by its address; the private authority vouches for it
    connection = HTTPSConnection(address, port, timeout=ANSWER_S, context=context)
    try:
        connection.request("GET", "/readyz")
        answer = json.loads(_body(connection))
        connection.request("GET", "/metrics")
        metrics = _body(connection).decode()
    finally:
        connection.close()
    status.answers, status.ready = True, answer.get("status") == "ready"
    status.role, status.fault = answer.get("role", ""), answer.get("reason", "")
    status.waiting = int(sum(_values(metrics, "lake_waiting_rows")))
    status.connected = int(sum(_values(metrics, "connected")))
    status.troubles = [text for name, text in TROUBLES.items() if sum(_values(metrics, name))]
    status.committed = max(_values(metrics, "lake_commit_timestamp_seconds"), default=0.0) or None


def _body(connection: HTTPSConnection) -> bytes:
    return connection.getresponse().read(ANSWER_BYTES)


def _values(metrics: str, name: str) -> list[float]:
    """The values of a metric in Prometheus' text format."""
    return [float(text) for text in re.findall(rf"^vedette_hub_{name}(?:{{.*}})? (\S+)$", metrics, re.M)]


def _expiry(pki: Path) -> float | None:
    """When the server's certificate expires; None if there is none that can be read."""
    try:
        certificate = x509.load_pem_x509_certificate((pki / "server.pem").read_bytes())
    except (OSError, ValueError):
        return None
    return certificate.not_valid_after_utc.timestamp()


def _problems(status: HubStatus, now: float) -> Iterator[str]:
    """What is wrong, part by part; empty texts where nothing is."""
    yield status.lake.fault and f"lake: {status.lake.fault}"
    yield status.registry.fault  # begins with its name
    yield from _local_problems(status.local)
    yield from _registry_problems(status, now)
    disk = status.disk
    if disk.free < DISK_FREE * disk.total:
        yield f"disk: {disk.free / disk.total:.1%} of that of {disk.path} is free"
    yield _certificate_problem(status.certificate_expires, now)


def _local_problems(local: LocalStatus) -> Iterator[str]:
    if not local.answers:
        yield f"no hub answers at {local.address}: {local.fault}"
    elif not local.ready:
        yield f"the hub cannot do its work: {local.fault}"
    yield from local.troubles


def _registry_problems(status: HubStatus, now: float) -> Iterator[str]:
    registry = status.registry
    for lease in registry.leases:
        if lease.age > SILENT_S:
            yield f"{lease.work}: {lease.holder} holds the lease, silent for {lease.age:.0f} s"
    for hub in registry.hubs:
        if hub.age > SILENT_S:
            yield f"hub {hub.name}: silent for {hub.age:.0f} s"
    if status.behind and now - (registry.judged_until or now) > LAG_S:
        yield f"detection is {status.behind} commits behind"


def _certificate_problem(expires: float | None, now: float) -> str:
    if expires is None:
        return "certificate: the hub has none that can be read"
    days = (expires - now) / 86_400
    if days >= RENEWAL_DAYS:
        return ""
    what = f"expires in {days:.0f} days" if days > 0 else "has expired"
    return f"certificate: the hub's {what}; a restart renews it"
