"""Weak cipher suites, from the handshake to the recommendation."""

import ssl
import time
from pathlib import Path

import pytest
from detect_support import Rig as Detection

from gateway_rig import MODULE, Rig, running
from vedette.hub.intake import Intake
from vedette.hub.posture import Posture, Recommendations
from vedette.hub.posture.transport import strong
from vedette.hub.recorder import Recorder
from vedette.wire.packets import Connack, ConnectCode

RTOS_SUITE = "ECDHE-RSA-AES128-SHA256"
"""The only one that the clients of some small devices have (CBC)."""


@pytest.mark.parametrize(
    ("version", "suite", "good"),
    [
        ("TLSv1.3", "TLS_AES_256_GCM_SHA384", True),
        ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", True),
        ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305", True),
        ("TLSv1.2", RTOS_SUITE, False),
        ("TLSv1.2", "AES128-GCM-SHA256", False),
        ("TLSv1.1", "ECDHE-RSA-AES128-GCM-SHA256", False),
    ],
)
def test_a_good_suite_has_forward_secrecy_and_authenticated_encryption(version: str, suite: str, good: bool):
    """And TLS 1.2 at least."""
    assert strong(version, suite) is good


async def connect(rig: Rig, tls: ssl.TLSVersion, ciphers: str = "") -> None:
    client = await rig.client(tls=tls, ciphers=ciphers)
    client.send(rig.hello(clean=True))
    await client.expect(Connack(ConnectCode.ACCEPTED, session_present=False))


async def test_a_device_with_a_weak_suite_is_told_until_it_has_a_better_one(tmp_path: Path):
    """What it agreed on with the hub counts."""
    detection = Detection(tmp_path)
    known = Recommendations(detection.database)
    worker = detection.worker(posture=Posture())
    lake = Intake(detection.lake)
    await lake.start()
    states = []
    async with running(tmp_path) as rig:
        recorder = Recorder(rig.gateway.operations, lake.submit)
        for tls, ciphers in ((ssl.TLSVersion.TLSv1_2, RTOS_SUITE), (ssl.TLSVersion.TLSv1_3, "")):
            await connect(rig, tls, ciphers)
            await recorder.store()
            detection.judge(time.time(), worker)
            [one] = known.list(name="IoT_VulnerableTLSCipherSuite")
            states.append((one.device_id, one.state, one.data["CipherSuite"]))
    await lake.close()
    detection.database.close()
    assert states == [(MODULE.device_id, "Active", RTOS_SUITE), (MODULE.device_id, "Resolved", RTOS_SUITE)]
