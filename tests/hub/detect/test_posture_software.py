"""Recommendations about software: vulnerabilities and the end of a distribution."""

import pytest
from detect_support import NOW, SHELL, Rig, message, process
from sqlalchemy import func, inspect, select

from vedette.hub.detect.engine import TICK_S
from vedette.hub.findings import findings
from vedette.hub.intel import osv
from vedette.hub.intel.lifecycles import Lifecycle, parts
from vedette.hub.intel.schema import InventoryRow
from vedette.hub.intel.store import Intel, Tally
from vedette.hub.intel.vulnerabilities import of_device
from vedette.hub.lake import Lake
from vedette.hub.posture import Posture, Recommendations
from vedette.hub.posture.software import NEVER
from vedette.hub.registry import Registry
from vedette.hub.registry.schema import OfDevice
from vedette.wire.events import Package, SBoM, SystemInformation
from vedette.wire.iothub import Identity

CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


@pytest.fixture
def known(rig: Rig) -> Recommendations:
    return Recommendations(rig.database)


def package(name: str, version: str, source: str = "") -> Package:
    purl = f"pkg:deb/debian/{name}@{version}?arch=arm64&distro=debian-12"
    return Package(name=name, version=version, source=source, purl=purl)


def advisory(number: int, name: str, fixed: str, vector: str = "") -> bytes:
    rating = f'[{{"type": "CVSS_V3", "score": "{vector}"}}]' if vector else "[]"
    return (
        f'{{"id": "DEBIAN-CVE-2024-{number}", "upstream": ["CVE-2024-{number}"], "severity": {rating},'
        f'"affected": [{{"package": {{"ecosystem": "Debian:12", "name": "{name}"}}, "ranges": [{{"type":'
        f'"ECOSYSTEM", "events": [{{"introduced": "0"}}, {{"fixed": "{fixed}"}}]}}]}}]}}'
    ).encode()


def publish(rig: Rig, *advisories: bytes, name: str = "debian") -> None:
    intel, tally = Intel(rig.database), Tally(100)
    with intel.revision() as revision:
        intel.write(revision, osv.by_package(advisories, tally))
        intel.publish(name, "advisories", "debian.zip", revision, tally)


def states(known: Recommendations) -> dict[str, tuple[str, str]]:
    return {one.name: (one.state, one.severity) for one in known.list()}


def judge_all(rig: Rig) -> None:
    """Judge until every inventory was compared: a step has a bound of time, and takes one at least."""
    worker = rig.worker(posture=Posture())
    rig.judge(worker=worker)
    now = NOW
    while _waiting(rig):
        rig.judge(now := now + TICK_S, worker)


def _waiting(rig: Rig) -> int:
    with rig.database.read.begin() as session:
        return session.scalar(select(func.count()).where(InventoryRow.judged == NEVER)) or 0


OPENSSL = package("libssl3", "3.0.9-1", "openssl")
BASH = package("bash", "5.2.15-2")
VULNERABLE = "IoT_VulnerableSoftware"


async def test_a_vulnerable_package_is_active_until_it_is_fixed(rig: Rig, known: Recommendations):
    """Only what changed travels; the hub has the whole inventory."""
    publish(rig, advisory(1, "openssl", "3.0.10-1", CRITICAL), advisory(2, "bash", "5.0-1"))
    worker = rig.worker(posture=Posture())
    await rig.send(message(SBoM(snapshot_id="a", packages=(OPENSSL, BASH), total=2)))
    rig.judge(worker=worker)
    assert states(known) == {VULNERABLE: ("Active", "High")}
    [one] = known.list()
    assert (one.data["Count"], one.data["BySeverity"]) == (1, {"Critical": 1})
    [shown] = one.data["Vulnerabilities"]
    assert (shown["Cves"], shown["Package"], shown["Version"], shown["Fixed"], shown["Score"]) == (
        ["CVE-2024-1"],
        "openssl",
        "3.0.9-1",
        "3.0.10-1",
        9.8,
    )
    changed = SBoM(
        snapshot_id="b",
        previous_id="a",
        packages=(package("libssl3", "3.0.10-1", "openssl"),),
        removed=(OPENSSL.purl,),
        total=2,
    )
    await rig.send(message(changed, at=NOW + 60))
    rig.judge(NOW + 60, worker)
    assert states(known)[VULNERABLE][0] == "Resolved"
    assert of_device(rig.database, "d1") == []


async def test_what_was_found_about_a_device_goes_with_it(rig: Rig, known: Recommendations):
    """Inventory, vulnerabilities, recommendations, and score; another device keeps its own."""
    publish(rig, advisory(1, "openssl", "3.0.10-1"))
    registry = Registry(rig.url)
    for device in ("d1", "d2"):
        registry.add(Identity(device))
        software = SBoM(snapshot_id="a", packages=(OPENSSL,), total=1)
        await rig.send(message(software, process(SHELL), device=device))
    judge_all(rig)
    alerts = rig.types()
    registry.remove(Identity("d1"))
    registry.close()
    with rig.database.read.begin() as session:
        for table in OfDevice.__subclasses__():
            assert "d1" not in set(session.scalars(select(inspect(table).c.device_id))), table
    assert set(known.scores()) == {"d2"}
    assert [(one.name, one.devices) for one in known.fleet()] == [(VULNERABLE, 1)]
    assert [len(of_device(rig.database, device)) for device in ("d1", "d2")] == [0, 1]
    assert rig.types() == alerts, "what happened has happened"


async def test_the_fleet_view_is_as_grave_as_its_worst_device(rig: Rig, known: Recommendations):
    """One device has a critical vulnerability, others have less."""
    publish(rig, advisory(1, "openssl", "3.0.10-1", CRITICAL), advisory(2, "bash", "5.3-1"))
    for device, installed in (("d1", BASH), ("d2", OPENSSL), ("d3", BASH)):
        await rig.send(message(SBoM(snapshot_id="a", packages=(installed,), total=1), device=device))
    judge_all(rig)
    assert sorted(one.severity for one in known.list()) == ["High", "Medium", "Medium"]
    assert [(one.severity, one.devices) for one in known.fleet()] == [("High", 3)]


async def test_a_newer_import_resolves_and_raises(rig: Rig, known: Recommendations):
    """Without a word from the device; and where no advisories are left nothing is said to be weak."""
    worker = rig.worker(posture=Posture())
    await rig.send(message(SBoM(snapshot_id="a", packages=(OPENSSL, BASH), total=2)))
    rig.judge(worker=worker)
    assert (states(known), known.scores()) == ({}, {})
    seen = []
    for minute, advisories in enumerate(
        (
            [advisory(1, "openssl", "3.0.10-1"), advisory(2, "bash", "6.0-1", CRITICAL)],
            [advisory(1, "openssl", "3.0.10-1")],
            [advisory(1, "openssl", "3.0.8-1")],
            [advisory(1, "openssl", "3.0.11-1")],
        ),
        1,
    ):
        publish(rig, *advisories)
        rig.judge(NOW + 60 * minute, worker)
        seen.append(states(known)[VULNERABLE])
    assert seen == [("Active", "High"), ("Active", "Medium"), ("Resolved", "Medium"), ("Active", "Medium")]
    Intel(rig.database).remove("debian")
    rig.judge(NOW + 600, worker)
    assert states(known)[VULNERABLE][0] == "Resolved"


async def test_an_inventory_in_parts_is_judged_when_it_is_whole(rig: Rig, known: Recommendations):
    """And a change whose predecessor never came waits for the next whole one."""
    publish(rig, advisory(1, "openssl", "3.0.10-1"))
    worker = rig.worker(posture=Posture())
    halves = [
        SBoM(snapshot_id="a", part=n, parts=2, packages=(p,), total=2) for n, p in ((1, OPENSSL), (2, BASH))
    ]
    await rig.send(message(halves[0]))
    rig.judge(worker=worker)
    assert states(known) == {}
    await rig.send(message(halves[1]))
    rig.judge(NOW + 30, worker)
    assert states(known)[VULNERABLE][0] == "Active"
    lost = SBoM(snapshot_id="c", previous_id="b", removed=(OPENSSL.purl,), total=1)
    await rig.send(message(lost, at=NOW + 60))
    rig.judge(NOW + 60, worker)
    assert states(known)[VULNERABLE][0] == "Active"


async def test_vulnerabilities_are_a_table_beside_the_others(rig: Rig):
    """To be asked by severity, package and CVE in KQL."""
    publish(rig, advisory(1, "openssl", "3.0.10-1", CRITICAL), advisory(2, "bash", "6.0-1"))
    await rig.send(message(SBoM(snapshot_id="a", packages=(OPENSSL, BASH), total=2)))
    rig.judge(worker=rig.worker(posture=Posture()))
    lake = Lake(rig.lake, findings(rig.database))
    result = lake.query(
        "SoftwareVulnerability | where Cves has 'CVE-2024-1'"
        " | project DeviceId, Package, Severity, FixedVersion"
    )
    assert result.rows == [("d1", "openssl", "Critical", "3.0.10-1")]


def system(distribution: str, described: str) -> SystemInformation:
    return SystemInformation(os_dist=distribution, os_version=described, agent_version="1")


DEBIAN = "Debian GNU/Linux"


async def test_distributions_past_their_end_are_told(rig: Rig, known: Recommendations):
    """By the table of ours; one that it does not know is not judged."""
    described = {
        "old": (DEBIAN, "Debian GNU/Linux 10 (buster)"),
        "new": (DEBIAN, "Debian GNU/Linux 12 (bookworm)"),
        "old-lts": ("Ubuntu", "Ubuntu 20.04.6 LTS"),
        "new-lts": ("Ubuntu", "Ubuntu 24.04.1 LTS"),
        "old-edge": ("Alpine Linux", "Alpine Linux v3.15"),
        "old-pi": ("Raspbian GNU/Linux", "Raspbian GNU/Linux 9 (stretch)"),
        "own": ("Home Brew Linux", "Home Brew Linux 1"),
    }
    await rig.send(*(message(system(*told), device=name) for name, told in described.items()))
    rig.judge(worker=rig.worker(posture=Posture()))
    found = known.list(name="IoT_EndOfLifeDistribution")
    assert {one.device_id for one in found} == {"old", "old-lts", "old-edge", "old-pi"}
    assert all(one.data["Ends"] < "2026" and one.data["Source"] for one in found)
    assert known.scores().keys() == described.keys() - {"own"}


async def test_an_upgrade_or_imported_dates_resolve_the_end_of_life(rig: Rig, known: Recommendations):
    """An owner who pays for longer maintenance says so."""
    worker = rig.worker(posture=Posture())
    old = system(DEBIAN, "Debian GNU/Linux 10 (buster)")
    await rig.send(message(old), message(old, device="d2"))
    rig.judge(worker=worker)
    assert [one.state for one in known.list()] == ["Active", "Active"]
    entry = {"distribution": DEBIAN, "version": "10", "ends": "2029-06-30", "source": "contract"}
    intel, tally = Intel(rig.database), Tally(10)
    with intel.revision() as revision:
        intel.write(revision, parts([Lifecycle(**entry)], tally))
        intel.publish("ours", "lifecycles", "ours.json", revision, tally)
    upgraded = system(DEBIAN, "Debian GNU/Linux 12 (bookworm)")
    await rig.send(message(upgraded, at=NOW + 60), message(old, device="d2", at=NOW + 60))
    rig.judge(NOW + 60, worker)
    assert {one.device_id: one.state for one in known.list()} == {"d1": "Resolved", "d2": "Resolved"}
