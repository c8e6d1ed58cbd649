"""Who is let in: claims and tokens, without a connection."""

import base64
from urllib.parse import quote, unquote

import pytest

from vedette.hub.gateway.auth import Refused, check, read_claim
from vedette.hub.registry import Device, Policy, Profile
from vedette.wire.iothub import Identity, make_token, signature, username
from vedette.wire.packets import Connect, ConnectCode

HOSTS = {"hub.example", "10.0.0.1"}
PRIMARY, SECONDARY, FOREIGN = (base64.b64encode(bytes([n]) * 32).decode() for n in range(3))
NOW = 1_800_000_000.0
MODULE = Identity("pump 1".replace(" ", "="), "a%41")
"""An identity whose ids need encoding."""


def record(identity: Identity = MODULE, *, enabled: bool = True) -> Device:
    return Device(identity, PRIMARY, SECONDARY, enabled, "etag", NOW)


def connect(token: str, identity: Identity = MODULE, host: str = "hub.example") -> Connect:
    return Connect(identity.client_id, username(host, identity), token.encode())


def token_for(resource: str, key: str = PRIMARY, expiry: str = "1800000100", more: str = "") -> str:
    """A token whose `sr` is sent, and signed, exactly as given."""
    sig = quote(signature(key, resource, expiry), safe="")
    return f"SharedAccessSignature sr={resource}&sig={sig}&se={expiry}{more}"


def verdict(hello: Connect, device: Device | None = None) -> str:
    """`in`, or the reason why not."""
    try:
        claim = read_claim(hello, HOSTS)
        check(claim, device, HOSTS, NOW)
    except Refused as refusal:
        return refusal.reason
    return "in"


@pytest.mark.parametrize("key", [PRIMARY, SECONDARY])
@pytest.mark.parametrize("host", ["hub.example", "HUB.example", "10.0.0.1"])
def test_both_keys_and_all_host_names_serve(host: str, key: str):
    """A token by either key, for any of the hub's names in any spelling, lets in."""
    token = make_token(host, MODULE, key, now=NOW)
    assert verdict(connect(token, host=host), record()) == "in"


@pytest.mark.parametrize(
    "resource",
    [
        f"hub.example/{MODULE.resource}",
        quote(f"hub.example/{MODULE.resource}", safe=""),
        quote(f"hub.example/{MODULE.resource}", safe="").lower(),
        quote(f"hub.example/devices/{MODULE.device_id}/modules/{MODULE.module_id}", safe=""),
        quote(f"hub.example/devices/{MODULE.device_id}", safe=""),
        quote(f"hub.example/{MODULE.resource}/messages", safe=""),
    ],
)
def test_a_resource_may_be_written_in_many_ways(resource: str):
    """Encoded once, twice or not, the device that the module is on, or a path below it."""
    assert verdict(connect(token_for(resource)), record()) == "in"


@pytest.mark.parametrize(
    "resource",
    [
        "hub.example",
        "hub.example/devices",
        "hub.example/devices/other",
        f"hub.example/devices/{MODULE.device_id}/modules/other",
        f"elsewhere/{MODULE.resource}",
        MODULE.resource,
        "",
    ],
)
def test_a_token_for_something_else_does_not_serve(resource: str):
    """Another host, another identity, or no identity at all."""
    assert verdict(connect(token_for(resource)), record()) in {
        "token: made for something else",
        "password: not a token",
    }


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (make_token("hub.example", MODULE, FOREIGN, now=NOW), "token: signature is wrong"),
        (make_token("hub.example", MODULE, PRIMARY, now=NOW, ttl=0), "token: expired"),
        (make_token("hub.example", MODULE, PRIMARY, now=NOW) + "0", "token: signature is wrong"),
        (token_for(f"hub.example/{MODULE.resource}", more="&skn=device"), "token: signature is wrong"),
        (token_for(f"hub.example/{MODULE.resource}", expiry="9" * 13), "password: not a token"),
        (token_for(f"hub.example/{MODULE.resource}", expiry="9" * 5000), "password: not a token"),
        ("SharedAccessSignature sr=a&sig=&se=1", "password: not a token"),
        ("SharedAccessSignature sr=a&sig=%ff%00&se=1", "token: signature is wrong"),
        ("Basic abc", "password: not a token"),
        ("", "password: not a token"),
    ],
)
def test_a_bad_token_is_refused_with_its_reason(token: str, reason: str):
    """Wrong key, expired, altered, a policy's, malformed."""
    assert verdict(connect(token), record()) == reason


def test_only_the_holder_of_a_key_learns_that_an_identity_is_disabled():
    """To everyone else a disabled identity looks like any other."""
    ours, theirs = (make_token("hub.example", MODULE, key, now=NOW) for key in (PRIMARY, FOREIGN))
    assert verdict(connect(ours), record(enabled=False)) == "identity: disabled"
    assert verdict(connect(theirs), record(enabled=False)) == "token: signature is wrong"


def test_an_unknown_identity_looks_like_a_wrong_key_from_outside():
    """The CONNACK does not tell which of the two it was."""
    claim = read_claim(connect(make_token("hub.example", MODULE, FOREIGN, now=NOW)), HOSTS)
    codes = set()
    for device in (None, record()):
        with pytest.raises(Refused) as caught:
            check(claim, device, HOSTS, NOW)
        codes.add(caught.value.code)
    assert codes == {ConnectCode.NOT_AUTHORIZED}


DEVICE_POLICY, READ_POLICY = (Policy(name, FOREIGN, FOREIGN) for name in ("device", "registryRead"))


@pytest.mark.parametrize(
    ("policy", "resource", "reason"),
    [
        (DEVICE_POLICY, "hub.example", "in"),
        (DEVICE_POLICY, f"hub.example/{MODULE.resource}", "in"),
        (DEVICE_POLICY, "hub.example/devices/other", "token: made for something else"),
        (DEVICE_POLICY, "other.example", "token: made for something else"),
        (READ_POLICY, "hub.example", "token: its policy is not for devices"),
        (None, "hub.example", "token: signature is wrong"),
    ],
)
def test_a_policys_holder_speaks_for_any_device(policy: Policy | None, resource: str, reason: str):
    """If the policy is for devices; for the whole hub or a part of it, whatever the device's own proof is."""
    token = token_for(resource, FOREIGN, more=f"&skn={policy.name if policy else 'none'}")
    claim = read_claim(connect(token), HOSTS)
    for profile in (Profile(), Profile("selfSigned")):
        try:
            check(claim, record(), HOSTS, NOW, profile=profile, policy=policy)
            found = "in"
        except Refused as refusal:
            found = refusal.reason
        assert found == reason


def test_a_key_does_not_stand_in_for_a_certificate():
    """An identity that has a certificate is not let in by the key it had before."""
    claim = read_claim(connect(make_token("hub.example", MODULE, PRIMARY, now=NOW)), HOSTS)
    with pytest.raises(Refused, match="has a certificate"):
        check(claim, record(), HOSTS, NOW, profile=Profile("selfSigned"))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"client_id": "a b"}, "client id: malformed"),
        ({"client_id": "a/"}, "client id: malformed"),
        ({"username": None}, "user name: names another host"),
        ({"username": "evil.example/pump/"}, "user name: names another host"),
        ({"username": "hub.example/other/"}, "user name: does not name the client id"),
        ({"username": "hub.example/pumpkin"}, "user name: does not name the client id"),
        ({"password": b"\xfe"}, "password: not a token"),
    ],
)
def test_a_claim_has_to_be_consistent(changed: dict[str, object], reason: str):
    """Client id, user name and password speak of the same identity on this host."""
    fields = {"client_id": "pump", "username": "hub.example/pump/?api-version=1", "password": b"x"}
    assert verdict(Connect(**(fields | changed))) == reason


@pytest.mark.parametrize(
    "tail", ["", "/", "/?api-version=2021-04-12&DeviceClientType=x", "/api-version=2018-06-30"]
)
def test_old_and_new_user_names_are_read(tail: str):
    """With and without a query, as clients of all ages write it."""
    identity = Identity("pump")
    token = make_token("hub.example", identity, PRIMARY, now=NOW)
    hello = Connect("pump", f"hub.example/pump{tail}", token.encode())
    assert verdict(hello, record(identity)) == "in"


def test_refusals_and_claims_show_no_secret():
    """What may be logged holds no signature."""
    token = make_token("hub.example", MODULE, PRIMARY, now=NOW)
    claim = read_claim(connect(token), HOSTS)
    assert unquote(token.partition("sig=")[2].partition("&")[0]) not in repr(claim)
