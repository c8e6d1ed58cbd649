"""Alerts, recommendations and events in the forms that other systems read. Pure: values in, values out.

`FINDINGS` names the forms of alerts and recommendations, `EVENTS` those of raw events. Each form is a module,
whose docstring names the standard and its version. docs/notifications.md is the user's side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from vedette.hub.detect.alerts import Alert
from vedette.hub.formats import cef, ecs, ecs_events, ocsf, ocsf_events, ours, sentinel
from vedette.hub.formats.values import RawEvent
from vedette.hub.posture import Recommendation

__all__ = ["EVENTS", "FINDINGS", "FindingForm", "Notable", "RawEvent"]

Notable: TypeAlias = Alert | Recommendation
"""What people are told of."""

FindingForm = Literal["json", "cef", "ocsf", "ecs", "sentinel"]

FINDINGS: Mapping[FindingForm, Callable[[Notable], Any]] = {
    "json": ours.finding,
    "cef": cef.finding,
    "ocsf": ocsf.finding,
    "ecs": ecs.finding,
    "sentinel": sentinel.finding,
}
"""Form → what it makes of a finding: a JSON object, of CEF a line of text."""

EVENTS: Mapping[Literal["ocsf", "ecs"], Callable[[RawEvent], dict[str, Any]]] = {
    "ocsf": ocsf_events.event,
    "ecs": ecs_events.event,
}
"""Form → what it makes of a raw event: a JSON object."""
