"""How the hub itself is: what it stores, whether detection keeps up, its disk, certificate and processes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cryptography import x509

from vedette.hub.console import parts
from vedette.hub.console.backend import Backend, call
from vedette.hub.console.parts import Tone, count
from vedette.hub.console.questions import Row
from vedette.hub.detect.schema import PositionRow
from vedette.hub.lake.tables import RAW_EVENTS
from vedette.hub.tls import RENEWAL_DAYS

LAG_S = 60.0
"""Detection that is further behind than this is worth a remark: a batch takes a second."""

LEAST_FREE = 0.1
"""Share of the disk below which it is worth a remark."""

ALIVE_S = 60.0
"""A process that has shown no sign for so long is taken for gone; it shows one every five seconds."""

NEWEST = """SELECT epoch(max(TimeGenerated)) AS Newest, count(*) AS Events,
(SELECT count(*) FROM dead_letters WHERE TimeGenerated > now()::TIMESTAMP - INTERVAL 1 DAY) AS Unread
FROM raw_events WHERE EventDate >= (now() - INTERVAL 1 DAY)::DATE
AND TimeGenerated > now()::TIMESTAMP - INTERVAL 1 DAY"""


class Sign(NamedTuple):
    """One thing, how it is, and the tone of that."""

    name: str
    state: str
    tone: Tone
    detail: str


async def signs(backend: Backend, row: Row) -> Sequence[Sign]:
    """All that can be told. row: the answer to NEWEST."""
    return [*_lake(row), *await call(lambda: list(_kept(backend, row)))]


def show(found: Sequence[Sign]) -> None:
    """A line each."""
    for sign in found:
        with parts.block("sign"):
            parts.text(sign.name)
            parts.text(sign.detail, "dim")
            parts.badge(sign.state, sign.tone)


def _lake(row: Row) -> Iterator[Sign]:
    newest = f"newest {parts.ago(row['Newest'], time.time())}" if row["Newest"] else "nothing in 24 h"
    yield Sign("Event lake", "ok", "good", f"{count(row['Events'])} events in 24 h, {newest}")
    unread = int(row["Unread"])
    if unread:
        yield Sign("Unreadable messages", count(unread), "warn", "kept with the reason, in dead_letters")


def _kept(backend: Backend, row: Row) -> Iterator[Sign]:
    yield from _detection(backend, row["Newest"])
    yield from _disk(backend)
    yield from _certificate(backend)
    now = time.time()
    for hub in backend.registry.hubs.list():
        alive = now - hub.seen < ALIVE_S
        about = f"{hub.role}, version {hub.version}, since {parts.moment(hub.started)} UTC"
        yield Sign(f"Process {hub.name}", "runs" if alive else "silent", "good" if alive else "bad", about)


def _detection(backend: Backend, newest: Any) -> Iterator[Sign]:
    with backend.database.read.begin() as session:
        position = session.get(PositionRow, RAW_EVENTS.name)
        judged = position.watermark if position else None
    if judged is None:
        yield Sign("Detection", "has not begun", "warn", "")
        return
    behind = max(0.0, float(newest or judged) - judged)
    late = behind > LAG_S
    detail = f"{behind:.0f} s behind the newest event" if behind >= 1 else "has judged the newest event"
    yield Sign("Detection", "behind" if late else "ok", "warn" if late else "good", detail)


def _disk(backend: Backend) -> Iterator[Sign]:
    usage = shutil.disk_usage(backend.state.root)
    scarce = usage.free < LEAST_FREE * usage.total
    detail = f"{parts.size(usage.free)} of {parts.size(usage.total)} free"
    yield Sign("Disk of the state", "scarce" if scarce else "ok", "bad" if scarce else "good", detail)


def _certificate(backend: Backend) -> Iterator[Sign]:
    try:
        text = (backend.state.pki / "server.pem").read_bytes()
        until = x509.load_pem_x509_certificate(text).not_valid_after_utc
    except (OSError, ValueError) as error:
        yield Sign("Certificate", "unreadable", "bad", str(error))
        return
    soon = until.timestamp() - time.time() < RENEWAL_DAYS * 86_400
    detail = f"valid until {until:%Y-%m-%d}" + ("; a restart renews it" if soon else "")
    yield Sign("Certificate", "ends soon" if soon else "ok", "warn" if soon else "good", detail)
