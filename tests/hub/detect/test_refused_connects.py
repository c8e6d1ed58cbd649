"""Attempts to get in with wrong credentials, from the socket to the alert."""

import time
from pathlib import Path

from detect_support import Rig as Detection

from certificates import Pair, issue
from gateway_rig import DEVICE, HOST, MODULE, Rig, running
from vedette.hub.detect.rules import BUILT_IN, load
from vedette.hub.gateway.certificates import thumbprints
from vedette.hub.intake import Intake
from vedette.hub.lake import Lake
from vedette.hub.operations import HUB
from vedette.hub.recorder import Recorder
from vedette.hub.registry import Draft
from vedette.wire.iothub import make_token
from vedette.wire.packets import Connack, ConnectCode

RULES = ("hub_expired_token", "hub_invalid_token", "hub_certificate_mismatch", "hub_certificate_expired")


async def refused(rig: Rig, path: Path) -> None:
    """An expired token, a forged one, another certificate, a device that is not known, an old certificate."""
    thumbprint = thumbprints(issue("other").certificate)[1]
    rig.registry.fleet.update(Draft(DEVICE, authentication="selfSigned", thumbprints=(thumbprint, "")), "*")
    expired = make_token(HOST, MODULE, rig.device().primary_key, now=1e9)
    forged = make_token(HOST, MODULE, "c29tZSBvdGhlciBrZXk=", now=2e9)
    for password in (expired, forged):
        client = await rig.client()
        client.send(rig.hello(password=password.encode()))
        await client.expect(Connack(ConnectCode.NOT_AUTHORIZED))
    old = issue("old", begin=-2, end=-1)
    for client_id in (DEVICE.client_id, "nobody"):
        await refused_certificate(rig, path, issue("whatever"), client_id)
    rig.registry.fleet.update(
        Draft(DEVICE, authentication="selfSigned", thumbprints=(thumbprints(old.certificate)[1], "")), "*"
    )
    await refused_certificate(rig, path, old, DEVICE.client_id)


async def refused_certificate(rig: Rig, path: Path, shown: Pair, client_id: str) -> None:
    """A client that shows this certificate."""
    client = await rig.client(shown, path=path)
    client.send(
        rig.hello(DEVICE, password=None, client_id=client_id, username=f"{HOST}/{client_id}/?api-version=x")
    )
    await client.expect(Connack(ConnectCode.NOT_AUTHORIZED))


async def test_refused_connects_become_alerts(tmp_path: Path):
    """Of an expired token, a forged one, a certificate other than the registered one, and an old one."""
    detection = Detection(tmp_path, load(*(BUILT_IN / f"{name}.yml" for name in RULES), built_in=False))
    lake = Intake(detection.lake)
    await lake.start()
    async with running(tmp_path) as rig:
        recorder = Recorder(rig.gateway.operations, lake.submit)
        await refused(rig, tmp_path)
        await recorder.store()
        await lake.close()
    detection.judge(time.time())
    alerts = {alert.type: alert for alert in detection.found()}
    assert sorted(alerts) == [
        "IoT_Cert_Expired",
        "IoT_Cert_Print_Mismatch",
        "IoT_Expired_SAS_Token",
        "IoT_Invalid_SAS_Token",
    ]
    shown = alerts["IoT_Cert_Print_Mismatch"]
    assert (shown.device_id, shown.entity) == (DEVICE.device_id, "127.0.0.1")
    unknown = Lake(detection.lake).query('HubOperation | where Identity == "nobody" | project DeviceId').rows
    assert unknown == [(HUB.device_id,)]
    detection.database.close()
