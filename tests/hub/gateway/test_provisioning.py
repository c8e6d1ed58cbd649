"""Registration (DPS) packet by packet, on both event loops."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from certificates import Pair, issue
from gateway_rig import HOST, Client, Rig, running
from vedette.hub.gateway.certificates import thumbprints
from vedette.hub.registry import AlreadyExists, Draft
from vedette.hub.registry.enrollments import Enrollment, UnknownEnrollment
from vedette.wire.dps import device_key
from vedette.wire.iothub import Identity, signature
from vedette.wire.packets import (
    FAILURE,
    Connack,
    Connect,
    ConnectCode,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
)

SCOPE, ID = "0ne1", "pump-17"
RESPONSES = (("$dps/registrations/res/#", 1),)
REGISTER = "$dps/registrations/PUT/iotdps-register/?$rid=r%201"
ASK = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=x"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


def hello(
    key: str, *, resource: str = f"{SCOPE}/registrations/{ID}", ttl: float = 60, **fields: Any
) -> Connect:
    """A CONNECT as the provisioning SDK sends it."""
    sr, expiry = quote(resource, safe=""), str(int(time.time() + ttl))
    token = f"SharedAccessSignature sr={sr}&sig={quote(signature(key, sr, expiry), safe='')}&se={expiry}"
    user = f"{SCOPE}/registrations/{ID}/api-version=2019-03-31&ClientVersion=test"
    given = {"client_id": ID, "username": user, "password": f"{token}&skn=registration".encode()}
    return Connect(**(given | fields))


@pytest.fixture
def key(rig: Rig) -> str:
    """The key of the device ID, of the group `pumps`."""
    rig.registry.enrollments.add(Enrollment("valves", grouped=True))
    group = rig.registry.enrollments.add(Enrollment("pumps", grouped=True))
    return device_key(group.primary_key, ID)


async def admitted(rig: Rig, key: str) -> Client:
    client = await rig.client()
    client.send(hello(key))
    await client.expect(Connack(ConnectCode.ACCEPTED))
    return client


async def answer(client: Client) -> tuple[str, Any]:
    packet = await client.receive()
    assert isinstance(packet, Publish)
    return packet.topic, msgspec.json.decode(packet.payload)


async def test_a_device_registers_asks_and_is_told(rig: Rig, key: str):
    """Request ids return as they came; the outcome names hub and device."""
    client = await admitted(rig, key)
    client.send(Subscribe(1, (*RESPONSES, ("devices/#", 0))), Pingreq())
    await client.expect(Suback(1, (1, FAILURE)), Pingresp())
    client.send(Publish(ASK))
    topic, said = await answer(client)
    assert (topic, said["errorCode"]) == ("$dps/registrations/res/404/?$rid=2", 404002)
    client.send(Publish(REGISTER, b"{}", 1, 9))
    await client.expect(Puback(9))
    topic, said = await answer(client)
    assert topic == "$dps/registrations/res/202/?$rid=r%201&retry-after=1"
    assert said["status"] == "assigning"
    client.send(Publish(ASK))
    topic, told = await answer(client)
    assert (topic, told["operationId"]) == ("$dps/registrations/res/200/?$rid=2", said["operationId"])
    state = told["registrationState"]
    assert (state["assignedHub"], state["deviceId"], state["status"]) == (HOST, ID, "assigned")
    device = rig.registry.get(Identity(ID))
    assert device is not None
    assert device.primary_key == key


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"resource": f"{SCOPE}/registrations/other"}, ConnectCode.NOT_AUTHORIZED),
        ({"ttl": -1}, ConnectCode.NOT_AUTHORIZED),
        ({"client_id": "other"}, ConnectCode.BAD_CREDENTIALS),
        ({"password": b"secret"}, ConnectCode.BAD_CREDENTIALS),
        ({"password": None}, ConnectCode.BAD_CREDENTIALS),
    ],
    ids=["resource", "expired", "client id", "no token", "no password"],
)
async def test_a_wrong_claim_is_refused(rig: Rig, key: str, wrong: dict[str, Any], code: ConnectCode):
    """Before anything is done."""
    client = await rig.client()
    client.send(hello(key, **wrong))
    await client.expect(Connack(code))
    assert await client.closed()
    assert rig.registry.get(Identity(ID)) is None


async def test_an_own_enrollment_goes_before_groups(rig: Rig, key: str):
    """A device that has one is in no group; disabled, it is kept out."""
    own = rig.registry.enrollments.add(Enrollment(ID, grouped=False, enabled=False))
    for given in (key, own.primary_key):
        client = await rig.client()
        client.send(hello(given))
        await client.expect(Connack(ConnectCode.NOT_AUTHORIZED))
    assert rig.gateway.counters.refused["registration: enrollment is disabled"] == 1


async def test_other_topics_close(rig: Rig, key: str):
    """A registration connection is for nothing else."""
    client = await admitted(rig, key)
    client.send(Publish(f"devices/{ID}/messages/events/"))
    assert await client.closed()
    assert not rig.sink.received


def test_a_device_key_is_derived_as_documented():
    """base64(HMAC-SHA256(group key, registration id)), by `openssl dgst -sha256 -mac HMAC` over "sn-007"."""
    assert device_key("a2V5LW9mLWEtZ3JvdXA=", "sn-007") == "0K32jv4ZAw9dtSU7RkyFmu2fsp8usFWgfKXuiPZOEp8="


def test_a_registered_device_gets_its_key_back(rig: Rig, key: str):
    """Registering again restores the keys and keeps the twin; a device made by hand is left alone."""
    (group,) = [one for one in rig.registry.enrollments.list() if one.name == "pumps"]
    rig.registry.enrol(group, ID)
    rig.registry.patch_desired(Identity(ID), {"rate": 5})
    other = ("MDEyMzQ1Njc4OWFiY2RlZg==",) * 2
    rig.registry.fleet.update(Draft(Identity(ID), other), "*")
    rig.registry.enrol(group, ID)
    entry = rig.registry.fleet.get(Identity(ID))
    assert (entry.device.primary_key, entry.twin.desired) == (key, {"rate": 5})
    with pytest.raises(AlreadyExists):
        rig.registry.enrol(group, "pump")


@pytest.fixture
def factory(rig: Rig) -> Pair:
    """The authority of the group `presses`."""
    authority = issue("factory", ca=True)
    rig.registry.enrollments.add(Enrollment("pumps", grouped=True))
    rig.registry.enrollments.add(Enrollment("presses", grouped=True, certificates=(authority.pem.decode(),)))
    return authority


async def by_certificate(rig: Rig, path: Path, *shown: Pair, name: str = ID) -> Client:
    """A client that applies with certificates, its own first, and no password."""
    client = await rig.client(*shown, path=path)
    user = f"{SCOPE}/registrations/{name}/api-version=2019-03-31&ClientVersion=test"
    client.send(Connect(client_id=name, username=user, password=None))
    return client


async def test_a_certificate_of_the_group_s_authority_makes_a_device(rig: Rig, factory: Pair, tmp_path: Path):
    """Through an authority between; the device has to show this certificate from then on."""
    between = issue("line 1", factory, ca=True)
    own = issue(ID, between)
    client = await by_certificate(rig, tmp_path, own, between)
    await client.expect(Connack(ConnectCode.ACCEPTED))
    client.send(Subscribe(1, RESPONSES), Publish(REGISTER, b"{}"), Publish(ASK))
    await client.expect(Suback(1, (1,)))
    assert [(await answer(client))[1]["status"] for _ in range(2)] == ["assigning", "assigned"]
    profile = rig.registry.fleet.profile(Identity(ID))
    assert profile.authentication == "selfSigned"
    assert profile.primary_thumbprint == thumbprints(own.certificate)[1]
    device = await rig.client(own, path=tmp_path)
    device.send(rig.hello(Identity(ID), password=None))
    await device.expect(Connack(ConnectCode.ACCEPTED))


async def test_a_renewed_certificate_takes_the_place_of_the_old(rig: Rig, factory: Pair, tmp_path: Path):
    """The device keeps its twin, and the connection under the old certificate ends."""
    (group,) = [one for one in rig.registry.enrollments.list() if one.certificates]
    old, new = issue(ID, factory), issue(ID, factory)
    rig.registry.enrol(group, ID, thumbprints(old.certificate)[1])
    rig.registry.patch_desired(Identity(ID), {"rate": 5})
    device = await rig.client(old, path=tmp_path)
    device.send(rig.hello(Identity(ID), password=None))
    await device.expect(Connack(ConnectCode.ACCEPTED))
    client = await by_certificate(rig, tmp_path, new)
    await client.expect(Connack(ConnectCode.ACCEPTED))
    client.send(Subscribe(1, RESPONSES), Publish(REGISTER, b"{}"))
    await client.expect(Suback(1, (1,)))
    assert (await answer(client))[1]["status"] == "assigning"
    assert await device.closed()
    assert rig.registry.fleet.profile(Identity(ID)).primary_thumbprint == thumbprints(new.certificate)[1]
    assert rig.registry.twin(Identity(ID)).desired == {"rate": 5}


async def test_a_wrong_certificate_is_refused(rig: Rig, factory: Pair, tmp_path: Path):
    """Of nobody, of another name, expired, or a group's though the device has an enrollment of its own."""
    own = issue("own", end=1)
    rig.registry.enrollments.add(Enrollment("own", grouped=False, certificates=(own.pem.decode(),)))
    for name, shown in {
        ID: issue(ID),
        "other": issue(ID, factory),
        "late": issue("late", factory, begin=-3, end=-1),
        "own": issue("own", factory),
    }.items():
        client = await by_certificate(rig, tmp_path, shown, name=name)
        await client.expect(Connack(ConnectCode.NOT_AUTHORIZED))
        assert rig.registry.get(Identity(name)) is None
    client = await by_certificate(rig, tmp_path, own, name="own")
    await client.expect(Connack(ConnectCode.ACCEPTED))


def test_enrollments_are_kept_listed_and_removed(rig: Rig):
    """Names of groups and of registrations do not meet; wrong ones are refused."""
    enrollments = rig.registry.enrollments
    group = enrollments.add(Enrollment("a", grouped=True))
    own = enrollments.add(Enrollment("a", grouped=False, device_id="b"))
    assert list(enrollments.list()) == [own, group]
    assert group.primary_key not in repr(group)
    with pytest.raises(AlreadyExists):
        enrollments.add(Enrollment("a", grouped=True))
    with pytest.raises(ValueError, match="no device id"):
        enrollments.add(Enrollment("c", grouped=True, device_id="b"))
    with pytest.raises(ValueError, match="key"):
        enrollments.add(Enrollment("c", grouped=True, primary_key="short"))
    device, authority = issue("d").pem.decode(), issue("ca", ca=True).pem.decode()
    for wrong in ((device,), ("nonsense",), (authority,) * 3):
        with pytest.raises(ValueError, match="certificate"):
            enrollments.add(Enrollment("c", grouped=True, certificates=wrong))
    with pytest.raises(ValueError, match="either keys or certificates"):
        enrollments.add(Enrollment("c", False, "aHVudGVyMg==", certificates=(device,)))
    by_certificate = enrollments.add(Enrollment("c", grouped=False, certificates=(device, authority)))
    assert enrollments.get("c", grouped=False) == by_certificate
    enrollments.remove("c", grouped=False)
    enrollments.add(Enrollment("c", grouped=False, certificates=(device,)))
    enrollments.remove("a", grouped=True)
    with pytest.raises(UnknownEnrollment):
        enrollments.get("a", grouped=True)
    assert enrollments.get("a", grouped=False) == own
