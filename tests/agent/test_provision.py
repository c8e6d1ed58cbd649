"""A device registers itself: the conversation as a state machine, then for real with the gateway."""

import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support import free_port
from vedette.agent.link import Link
from vedette.agent.provision import (
    ASSIGNMENT,
    Assignment,
    Enrollment,
    NotAssigned,
    Registration,
    provisioned,
    read_enrollment,
)
from vedette.agent.session import ANSWER_S
from vedette.agent.settings import PROVISIONING, LocalError, write_private
from vedette.hub.gateway import Gateway
from vedette.hub.gateway.secure import device_context
from vedette.hub.registry import Registry
from vedette.hub.registry import enrollments as hub_side
from vedette.hub.tls import Pki, ensure_pki
from vedette.wire import dps
from vedette.wire.iothub import make_token, query_of, username

OURS = Enrollment(id_scope="0ne1", registration_id="pump-17", symmetric_key="c2VjcmV0")


def answer(status: int, body: dict[str, Any], rid: int = 1, **query: int) -> tuple[str, bytes]:
    more = "".join(f"&{key.replace('_', '-')}={value}" for key, value in query.items())
    return f"{dps.RESPONSE}{status}/?$rid={rid}{more}", msgspec.json.encode(body)


ASSIGNING = {"operationId": "4.abc", "status": "assigning"}
ASSIGNED = {
    "operationId": "4.abc",
    "status": "assigned",
    "registrationState": {"assignedHub": "hub.example", "deviceId": "pump-north", "status": "assigned"},
}


def test_a_registration_asks_again_when_it_is_told_to():
    """Register, wait as long as asked for, ask for the outcome, be assigned."""
    registration = Registration(OURS)
    request = registration.poll(0.0)
    assert request.topic == "$dps/registrations/PUT/iotdps-register/?$rid=1"
    assert json.loads(request.body) == {"registrationId": "pump-17"}
    assert registration.received(*answer(202, ASSIGNING, retry_after=3), 1.0) is None
    assert registration.poll(3.9) is None
    asking = registration.poll(4.0)
    assert asking.topic.startswith("$dps/registrations/GET/iotdps-get-operationstatus/")
    assert query_of(asking.topic) == {"$rid": "2", "operationId": "4.abc"}
    assigned = registration.received(*answer(200, ASSIGNED, rid=2), 5.0)
    assert assigned == Assignment("0ne1", "pump-17", "hub.example", "pump-north")


def test_a_busy_service_is_asked_again_later():
    """429 and above: the same request, after the pause that it names."""
    registration = Registration(OURS)
    registration.poll(0.0)
    assert registration.received(*answer(429, {}, retry_after=7), 1.0) is None
    assert registration.deadline() == 8.0
    assert "iotdps-register" in registration.poll(8.0).topic


def test_an_answer_that_does_not_come_is_asked_for_again():
    """And one that comes after that is not taken for the new one."""
    registration = Registration(OURS)
    registration.poll(0.0)
    assert registration.poll(ANSWER_S - 1) is None
    assert query_of(registration.poll(ANSWER_S).topic)["$rid"] == "2"
    assert registration.received(*answer(200, ASSIGNED, rid=1), ANSWER_S) is None


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, {"errorCode": 401002, "message": "x"}, r"status 401 \(error 401002\)"),
        (404, {}, "status 404"),
        (200, {"status": "disabled"}, "not assigned"),
        (200, {"status": "failed", "errorCode": 400207}, "error 400207"),
        (200, {"status": "assigned", "registrationState": {"deviceId": "d"}}, "to no hub"),
        (202, {"status": "assigning", "operationId": "a b\r\n"}, "not assigned"),
        (200, {"status": 7}, "not assigned"),
    ],
)
def test_a_refusal_is_told_by_its_numbers(status: int, body: dict[str, Any], reason: str):
    """Texts of the other side go into no log."""
    registration = Registration(OURS)
    registration.poll(0.0)
    with pytest.raises(NotAssigned, match=reason):
        registration.received(*answer(status, body), 1.0)


# Against the gateway


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("pki"), ["127.0.0.1"])


class Hub:
    """A gateway with an enrollment group."""

    def __init__(self, pki: Pki, directory: Path) -> None:
        self.port = free_port()
        self.registry = Registry(f"sqlite:///{directory}/registry.db")
        self.group = self.registry.enrollments.add(hub_side.Enrollment("pumps", grouped=True))
        self.gateway = Gateway(self.registry, self._ignore, host_names=["127.0.0.1"], name="here")
        self.context = device_context(pki.certificate, pki.key)
        self.ca = Path(pki.ca)

    async def _ignore(self, inbound: Any) -> None:
        """Messages are not what this is about."""


@pytest.fixture
async def hub(pki: Pki, tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(pki, tmp_path)
    await hub.gateway.start("127.0.0.1", hub.port, hub.context)
    yield hub
    await hub.gateway.close()
    hub.registry.close()


def write(config: Path, hub: Hub, **fields: Any) -> None:
    document = {"endpoint": "127.0.0.1", "port": hub.port, "id_scope": "0ne1", "registration_id": "pump-17"}
    write_private(config / PROVISIONING, json.dumps(document | fields).encode())


@pytest.mark.parametrize("proof", ["group_key", "symmetric_key"])
async def test_a_device_of_a_group_gets_its_identity(hub: Hub, tmp_path: Path, proof: str):
    """With the group's key or its own; what it got opens the hub, and is remembered without the service."""
    group = hub.group.primary_key
    write(tmp_path, hub, **{proof: group if proof == "group_key" else dps.device_key(group, "pump-17")})
    state = tmp_path / "state"
    local = await provisioned(tmp_path, state, ca_file=hub.ca, port=hub.port, patient=False)
    here = local.connection
    assert (here.host, here.identity.client_id) == ("127.0.0.1", "pump-17")

    link = Link("pump-17", stirred=lambda: None, received=lambda topic, body: None)
    token = make_token(here.host, here.identity, here.key, now=time.time())
    await link.open(local.route, user=username(here.host, here.identity), password=token)
    await link.close()

    assert here.key not in (state / ASSIGNMENT).read_text()
    await hub.gateway.close()
    assert await provisioned(tmp_path, state, ca_file=hub.ca, port=hub.port, patient=False) == local


async def test_another_registration_is_made_anew(hub: Hub, tmp_path: Path):
    """An image that was cloned after its first start does not keep the first device's name."""
    write(tmp_path, hub, group_key=hub.group.primary_key)
    await provisioned(tmp_path, tmp_path / "state", ca_file=hub.ca, port=hub.port, patient=False)
    write(tmp_path, hub, group_key=hub.group.primary_key, registration_id="pump-18")
    local = await provisioned(tmp_path, tmp_path / "state", ca_file=hub.ca, port=hub.port, patient=False)
    assert local.connection.identity.device_id == "pump-18"


async def test_a_wrong_key_is_refused_and_not_shown(hub: Hub, tmp_path: Path):
    """`vedette agent check` asks once and tells."""
    write(tmp_path, hub, group_key="aHVudGVyMg==")
    with pytest.raises(LocalError, match=r"pump-17 is not provisioned by 127\.0\.0\.1") as caught:
        await provisioned(tmp_path, tmp_path / "state", ca_file=hub.ca, patient=False)
    assert "aHVudGVyMg" not in str(caught.value)


async def test_a_patient_device_waits_for_its_enrollment(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """The fleet owner may enrol it after it was switched on; the refusal is told once."""
    monkeypatch.setattr("vedette.agent.provision.random.random", lambda: 0.0)
    key = "bGF0ZXIgb24sIGxhdGVyIG9u"
    write(tmp_path, hub, symmetric_key=key)

    class Late(logging.Handler):
        """Enrols the device when the agent has complained."""

        def emit(self, record: logging.LogRecord) -> None:
            if "is not provisioned" in record.getMessage():
                hub.registry.enrollments.add(hub_side.Enrollment("pump-17", grouped=False, primary_key=key))

    handler = Late()
    logging.getLogger("vedette.agent.provision").addHandler(handler)
    try:
        local = await provisioned(tmp_path, tmp_path / "state", ca_file=hub.ca, port=hub.port)
    finally:
        logging.getLogger("vedette.agent.provision").removeHandler(handler)
    assert local.connection.identity.device_id == "pump-17"
    assert caplog.text.count("is not provisioned") == 1


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"id_scope": "s", "registration_id": "r"}, "not exactly one of"),
        ({"id_scope": "s", "symmetric_key": "aHVudGVyMg==", "x509": True}, "not exactly one of"),
        ({"id_scope": "s", "symmetric_key": "hunter2"}, "not base64"),
        ({"id_scope": "s", "group_key": "hunter2"}, "not base64"),
        ({"id_scope": "a b", "group_key": "aHVudGVyMg=="}, "id_scope or registration_id"),
        ({"id_scop": "s"}, "unknown field `id_scop`"),
        ({}, "missing required field `id_scope`"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path: Path, document: dict[str, Any], reason: str):
    """And without its keys."""
    write_private(tmp_path / PROVISIONING, json.dumps(document).encode())
    with pytest.raises(LocalError, match=reason) as caught:
        read_enrollment(tmp_path / PROVISIONING)
    assert PROVISIONING in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "aHVudGVyMg" not in repr(OURS)


def test_a_certificate_may_be_the_proof(tmp_path: Path):
    """No token then; the certificate files must be there."""
    write_private(
        tmp_path / PROVISIONING, b'{"id_scope": "0ne1", "registration_id": "pump-17", "x509": true}'
    )
    enrollment = read_enrollment(tmp_path / PROVISIONING)
    assert (enrollment.x509, enrollment.key) == (True, "")
