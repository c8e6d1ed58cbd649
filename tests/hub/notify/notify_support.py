"""A registry with routes, alerts to tell of, and an HTTPS server that remembers what it was told."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select

from vedette.hub.detect import alerts
from vedette.hub.detect.alerts import Alerts, Finding
from vedette.hub.detect.rules import BUILT_IN, Rule, load
from vedette.hub.detect.schema import Database
from vedette.hub.notify.deliveries import Deliveries
from vedette.hub.notify.routes import Route, Routes, Wanted
from vedette.hub.notify.schema import NotifyItemRow
from vedette.hub.tls import Pki, server_context

NAMES = ("reverse_shell", "usb_connection", "suspicious_useradd", "clear_history")
RULES: dict[str, Rule] = {
    rule.alert: rule for rule in load(*(BUILT_IN / f"{name}.yml" for name in NAMES), built_in=False).rules
}
SHELL, USB, USER_ADDED, HISTORY = (
    *("IoT_ReverseShell", "IoT_USBConnection", "IoT_SuspiciousUseradd", "IoT_ClearHistoryFile"),
)
"""Of severity High, High, Medium and Low."""


class Rig:
    """A registry database and what tells of its alerts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database(url)
        self.routes = Routes(self.database.read, self.database.write)
        self.deliveries = Deliveries(self.database)
        self.alerts = Alerts(self.database)
        self._numbers = itertools.count()

    def route(self, name: str = "r", url: str = "https://hooks.example.net/x", **options: Any) -> Route:
        wanted = {key: options.pop(key) for key in Wanted.__struct_fields__ if key in options}
        return self.routes.add(Route(name=name, url=url, wanted=Wanted(**wanted), **options))

    def alert(self, kind: str = SHELL, device: str = "d1") -> str:
        """Raise a new alert; its id."""
        [raised] = self.raise_all([(kind, device)])
        return raised

    def raise_all(self, wanted: list[tuple[str, str]]) -> list[str]:
        """Raise alerts of (type, device) in one transaction."""
        now = time.time()
        with self.database.write.begin() as session:
            return alerts.record(
                session, [self._finding(RULES[kind], device) for kind, device in wanted], now
            )

    def _finding(self, rule: Rule, device: str) -> Finding:
        number = next(self._numbers)
        seen = {"RawEventName": "Process", "CommandLine": f"command {number}"}
        now = time.time()
        return Finding(rule, device, "agent", f"entity-{number}", now, now, ((f"event-{number}", 2),), seen)

    def outbox(self) -> list[tuple[str, str, str]]:
        """(route, type, change) of what waits."""
        with self.database.read.begin() as session:
            rows = session.scalars(select(NotifyItemRow).order_by(NotifyItemRow.seq))
            return [(row.route, row.type, row.change) for row in rows]

    def close(self) -> None:
        self.database.close()


class Request(NamedTuple):
    """What a webhook was told."""

    path: str
    headers: dict[str, str]
    body: str


class Receiver:
    """An HTTPS server that answers with the status that `answer` gives for each request.

    Where that is empty, it answers when it is released.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.came: asyncio.Queue[Request] = asyncio.Queue()
        self.answer: Callable[[Request], str] = lambda _: "204 No Content"
        self.release = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/hook?key=s3cret"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = (await reader.readexactly(int(headers["content-length"]))).decode()
            request = Request(head[0].split()[1], headers, body)
            self.requests.append(request)
            self.came.put_nowait(request)
            answer = self.answer(request)
            if not answer:
                await self.release.wait()
                answer = "200 OK"
            writer.write(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the other end gave up, which tests of refusals mean it to do
        finally:
            writer.close()


@asynccontextmanager
async def receiving(pki: Pki, host: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    """A receiver on a free port of loopback."""
    receiver = Receiver()
    context = server_context(pki.certificate, pki.key)
    server = await asyncio.start_server(receiver.serve, host, 0, ssl=context)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        receiver.release.set()
        server.close()
        await server.wait_closed()


def authority(pki: Pki) -> str:
    return Path(pki.ca).read_text()
