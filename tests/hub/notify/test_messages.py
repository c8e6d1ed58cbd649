"""What a message says: a finding as it is, or a digest that counts all and shows the gravest."""

import json
import re

import msgspec
import pytest
from format_samples import recommendation
from notify_support import Rig

from vedette.hub.notify import message
from vedette.hub.notify.message import Item, compose
from vedette.hub.notify.routes import Route


def found(rig: Rig, number: int) -> tuple[list[Item], list]:
    rig.raise_all([("IoT_ReverseShell" if i % 2 else "IoT_ClearHistoryFile", f"d{i}") for i in range(number)])
    alerts = list(rig.alerts.list(limit=number))
    return [Item(a.severity, a.type, a.device_id, a.created) for a in alerts], alerts


def route(url: str = "https://x/", **options: object) -> Route:
    return Route(name="r", url=url, **options)


@pytest.mark.parametrize("form", ["json", "ocsf", "ecs", "sentinel"])
def test_without_a_window_a_finding_is_sent_as_it_is(rig: Rig, form: str):
    """The document of the form and nothing around it: what a SIEM takes."""
    items, [alert] = found(rig, 1)
    made = compose(route(form=form, window=0), "id", items, [alert])
    keys = {"json": "kind", "ocsf": "class_uid", "ecs": "ecs", "sentinel": "SystemAlertId"}
    assert keys[form] in json.loads(made.body)
    assert made.title == f"Low: {alert.title} on d0"


def test_a_digest_counts_all_and_shows_the_gravest_first(rig: Rig):
    """However many there are: its size is bounded."""
    items, alerts = found(rig, 80)
    made = compose(route(), "id", items, alerts)
    digest = json.loads(made.body)
    assert (digest["id"], digest["count"], digest["devices"]) == ("id", 80, 80)
    assert digest["severities"] == {"High": 40, "Low": 40}
    assert digest["types"] == {"IoT_ReverseShell": 40, "IoT_ClearHistoryFile": 40}
    assert len(digest["findings"]) == message.SHOWN
    assert digest["omitted"] == 30
    severities = [one["severity"] for one in digest["findings"]]
    assert severities == sorted(severities)
    assert (made.severity, made.title) == ("High", "80 findings on 80 devices")


@pytest.mark.parametrize("url", ["syslog+udp://x", "syslog+tcp://x", "mqtt://x/t", "https://x/"])
@pytest.mark.parametrize("form", ["json", "cef", "ocsf"])
@pytest.mark.parametrize("window", [0, 30])
def test_no_message_is_longer_than_its_way_allows(rig: Rig, url: str, form: str, window: int):
    """Evidence is left out first; each line counts for itself, as syslog sends it."""
    items, alerts = found(rig, 1 if window == 0 else 40)
    long = tuple({"CommandLine": "x" * 30_000} for _ in range(10))
    alerts = [msgspec.structs.replace(alert, evidence=long) for alert in alerts]
    given = route(url, form=form, window=window)
    limit = message.UDP_BYTES if "udp" in url else message.BYTES[given.target.kind.way]
    made = compose(given, "id", items, alerts)
    assert max(len(line.encode()) for line in made.body.split("\n")) <= limit
    assert len(made.body) > 100


def test_a_digest_in_cef_is_a_line_that_counts_and_a_line_each(rig: Rig):
    """A receiver of lines needs no parser for digests."""
    items, alerts = found(rig, 3)
    lines = compose(route("syslog+tcp://x", form="cef"), "id", items, alerts).body.split("\n")
    assert len(lines) == 4
    assert "|VedetteDigest|3 findings on 3 devices|8|" in lines[0]
    assert " cnt=3 " in lines[0]


def test_mail_is_a_text_for_people(rig: Rig):
    """What, where, how often, what to do, and how to look it up."""
    items, alerts = found(rig, 2)
    mail = compose(route("smtp://x?from=a@x.y&to=b@x.y"), "id", items, [*alerts, recommendation()])
    for text in (
        "2 findings on 2 devices",
        "High: 1",
        "What to do:",
        "vedette alerts show",
        "PermitRootLogin",
    ):
        assert text in mail.body


def test_what_is_gone_is_counted_and_not_shown(rig: Rig):
    """An alert may have been removed since."""
    items, _ = found(rig, 2)
    digest = json.loads(compose(route(), "id", items, []).body)
    assert (digest["count"], digest["omitted"], digest["findings"]) == (2, 2, [])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", digest["first"])
