"""Trying a route out: a made-up alert that says so, delivered at once and written down nowhere."""

from __future__ import annotations

import time
import uuid

from vedette.hub.detect.alerts import Alert
from vedette.hub.notify.message import Item, Message, compose
from vedette.hub.notify.routes import Route

TYPE = "IoT_NotificationTest"
DEVICE = "no-device"


def message(route: Route) -> Message:
    """What a route gets to see when it is tried out."""
    now = time.time()
    alert = Alert(
        id=str(uuid.uuid4()),
        type=TYPE,
        rule_id="",
        title="Test of a notification route",
        severity="Informational",
        status="Active",
        device_id=DEVICE,
        module_id="",
        entity="",
        start=now,
        end=now,
        created=now,
        updated=now,
        count=1,
        hits=1,
        description="Somebody tries out whether notifications arrive here. Nothing has happened.",
        remediation=("Nothing is to be done.",),
        tactics=(),
        techniques=(),
        subtechniques=(),
        evidence=(),
    )
    return compose(route, uuid.uuid4().hex, [Item(alert.severity, TYPE, DEVICE, now)], [alert])
