"""Devices with certificates: who is let in, purely and over real TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certificates import Pair, issue
from gateway_rig import DEVICE, PATIENCE_S, Rig, running
from vedette.hub.gateway.auth import Refused
from vedette.hub.gateway.certificates import check_certificate, thumbprints
from vedette.hub.registry import AlreadyExists, Device, Draft, Profile
from vedette.hub.registry.authorities import MAX_AUTHORITIES, UnknownAuthority
from vedette.wire.packets import Connack, ConnectCode, Pingreq, Pingresp

BY_AUTHORITY = Profile("certificateAuthority")


def verdict(profile: Profile, *chain: Pair, authorities: tuple[Pair, ...] = (), enabled: bool = True) -> str:
    """`in`, or the reason why not."""
    device = Device(DEVICE, "", "", enabled, "etag", 0)
    known = [authority.certificate for authority in authorities]
    try:
        check_certificate([one.certificate for one in chain], device, profile, known, datetime.now(UTC))
    except Refused as refusal:
        return refusal.reason
    return "in"


NOT_ITS = "certificate: not the identity's"
DIFFERS = "certificate: thumbprint differs"


def test_a_thumbprint_lets_in_its_certificate_alone():
    """SHA-1 or SHA-256, the primary or the secondary one."""
    own, other = issue("anything"), issue("anything")
    for thumbprint in thumbprints(own.certificate):
        for profile in (Profile("selfSigned", thumbprint), Profile("selfSigned", "", thumbprint)):
            assert verdict(profile, own) == "in"
            assert verdict(profile, other, own) == DIFFERS
            assert verdict(profile, own, enabled=False) == "identity: disabled"
    assert verdict(Profile("selfSigned"), own) == DIFFERS
    assert verdict(Profile(), own) == "certificate: the identity has a key"
    assert verdict(Profile("selfSigned")) == "password: missing, and no certificate"


def test_a_chain_has_to_lead_to_a_registered_authority():
    """Directly or through authorities that the client sends; each has to be one, and to be valid."""
    root = issue("root", ca=True)
    middle = issue("middle", root, ca=True)
    own = issue("pump", middle)
    assert verdict(BY_AUTHORITY, own, middle, authorities=(root,)) == "in"
    assert verdict(BY_AUTHORITY, own, authorities=(middle,)) == "in"
    assert verdict(BY_AUTHORITY, own, authorities=(root,)) == NOT_ITS
    assert verdict(BY_AUTHORITY, own, middle) == NOT_ITS
    assert verdict(BY_AUTHORITY, issue("valve", root), authorities=(root,)) == NOT_ITS
    assert verdict(BY_AUTHORITY, issue("pump"), authorities=(root,)) == NOT_ITS
    impostor = issue("root", ca=True)
    assert verdict(BY_AUTHORITY, issue("pump", impostor), authorities=(root,)) == NOT_ITS
    device = issue("valve", root)
    assert verdict(BY_AUTHORITY, issue("pump", device), device, authorities=(root,)) == NOT_ITS
    old = issue("old", root, ca=True, begin=-3, end=-1)
    assert verdict(BY_AUTHORITY, issue("pump", old), old, authorities=(root,)) == NOT_ITS


@pytest.mark.parametrize(("begin", "end"), [(-3, -1), (1, 3)], ids=["expired", "not yet valid"])
def test_a_certificate_has_its_time(begin: int, end: int):
    """Also one that is known by its thumbprint."""
    own = issue("pump", begin=begin, end=end)
    profile = Profile("selfSigned", thumbprints(own.certificate)[0])
    assert verdict(profile, own) == "certificate: expired"


# Over TLS


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path) as made:
        yield made


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_a_self_signed_device_connects(rig: Rig, tmp_path: Path, tls: ssl.TLSVersion):
    """Nobody vouches for it; its thumbprint is registered. Another's certificate is refused at CONNECT."""
    own = issue("whatever")
    thumbprint = thumbprints(own.certificate)[1]
    rig.registry.fleet.update(Draft(DEVICE, authentication="selfSigned", thumbprints=(thumbprint, "")), "*")
    hello = rig.hello(DEVICE, password=None)
    connected = await rig.client(own, path=tmp_path, tls=tls)
    connected.send(hello, Pingreq())
    await connected.expect(Connack(ConnectCode.ACCEPTED), Pingresp())
    stranger = await rig.client(issue("whatever"), path=tmp_path, tls=tls)
    stranger.send(hello)
    await stranger.expect(Connack(ConnectCode.NOT_AUTHORIZED))
    assert await stranger.closed()
    by_key = await rig.client()
    by_key.send(rig.hello(DEVICE))
    await by_key.expect(Connack(ConnectCode.NOT_AUTHORIZED))


async def test_a_device_of_an_authority_connects(rig: Rig, tmp_path: Path):
    """While the authority is registered; its certificate stands in for a registered thumbprint."""
    authority = issue("factory", ca=True)
    own = issue("pump", authority)
    rig.registry.fleet.update(Draft(DEVICE, authentication="certificateAuthority"), "*")
    hello = rig.hello(DEVICE, password=None)
    rig.registry.authorities.add("factory", authority.pem)
    connected = await rig.client(own, path=tmp_path)
    connected.send(hello)
    await connected.expect(Connack(ConnectCode.ACCEPTED))
    rig.registry.authorities.remove("factory")
    late = await rig.client(own, path=tmp_path)
    late.send(hello)
    await late.expect(Connack(ConnectCode.NOT_AUTHORIZED))


async def test_no_password_and_no_certificate_is_no_proof(rig: Rig):
    """It is refused as bad credentials."""
    bare = await rig.client()
    bare.send(rig.hello(DEVICE, password=None))
    await bare.expect(Connack(ConnectCode.BAD_CREDENTIALS))


async def test_what_is_not_tls_is_closed(rig: Rig):
    """Plain bytes get an alert and the end; nothing is kept of them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.gateway.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        await reader.read()
    writer.close()
    await writer.wait_closed()
    assert rig.gateway.counters.connections == 0


def test_authorities_are_kept_and_judged(rig: Rig):
    """Only certificates that may issue others, so many, each name once."""
    authorities = rig.registry.authorities
    factory = issue("factory", ca=True)
    authorities.add("factory", factory.pem)
    assert [one.certificate for one in authorities.list()] == [factory.certificate]
    with pytest.raises(AlreadyExists):
        authorities.add("factory", factory.pem)
    for wrong in (issue("device").pem, b"nonsense"):
        with pytest.raises(ValueError, match="certificate"):
            authorities.add("other", wrong)
    with pytest.raises(UnknownAuthority):
        authorities.remove("other")
    for number in range(1, MAX_AUTHORITIES):
        authorities.add(f"a{number}", factory.pem)
    with pytest.raises(ValueError, match="are allowed"):
        authorities.add("more", factory.pem)
