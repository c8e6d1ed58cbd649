"""Lists and vulnerabilities over `/api/v1`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_rig import Rig, running

from vedette.hub.registry.tokens import Role


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


async def test_a_list_is_put_asked_and_removed_and_it_is_written_down(rig: Rig):
    """Twice the same is the same; what is no indicator is counted; the audit log tells who did it."""
    wanted = {"entries": ["203.0.113.0/24", "bad.example", "?"], "confidence": 70, "source": "a feed"}
    for _ in range(2):
        made = (await rig.ask("PUT", "/intel/lists/feed", Role.OPERATOR, json=wanted)).json()
    assert (made["entries"], made["refused"]) == (2, {"no address, name, URL or hash": 1})
    assert [one["name"] for one in (await rig.ask("GET", "/intel/lists", Role.ANALYST)).json()] == ["feed"]
    [hit] = (await rig.ask("GET", "/intel/check?value=203.0.113.66", Role.ANALYST)).json()
    assert (hit["list"], hit["value"], hit["confidence"]) == ("feed", "203.0.113.0/24", 70)
    assert (await rig.ask("GET", "/intel/check?value=what", Role.ANALYST)).status_code == 400
    statuses = [
        (await rig.ask("DELETE", "/intel/lists/feed", role)).status_code
        for role in (Role.ANALYST, Role.OPERATOR, Role.OPERATOR)
    ]
    assert statuses == [403, 204, 404]
    log = (await rig.ask("GET", "/audit")).json()
    told = [(one["action"], one["actor"]) for one in log if one["subject"] == "intel_lists/feed"]
    assert told == [(action, "token:operator") for action in ("delete", "update", "create")]


async def test_vulnerabilities_are_listed_like_alerts(rig: Rig):
    """With the columns of their table, of one device or all."""
    answer = (await rig.ask("GET", "/vulnerabilities?device_id=pump", Role.VIEWER)).json()
    assert answer["rows"] == []
    assert answer["columns"][:4] == ["DeviceId", "Advisory", "Cves", "Package"]
