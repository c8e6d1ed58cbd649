"""Webhooks over real TLS: signed, judged before they are connected, bounded, never redirected."""

import time

import pytest
from notify_support import Rig, authority, receiving
from standardwebhooks.webhooks import Webhook

from vedette.hub.notify import notifier, probe, webhook
from vedette.hub.notify.message import Message
from vedette.hub.notify.notifier import deliver
from vedette.hub.notify.routes import Route, checked
from vedette.hub.notify.ways import Undelivered
from vedette.hub.tls import Pki

MESSAGE = Message("0123abcd", "title", "High", '{"some":"body"}')


def route(url: str, pki: Pki | None = None, **options: object) -> Route:
    given = {"allow_private": True, "authority": authority(pki) if pki else ""} | options
    return checked(Route(name="r", url=url, **given))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://hooks.example.net/x", "hooks.example.net"),
        ("https://hooks.example.net:8443/x", "hooks.example.net:8443"),
        ("https://[2001:db8::1]/x", "[2001:db8::1]"),
    ],
)
def test_the_host_is_named_as_browsers_do(url: str, host: str):
    """With its port only where that is not the usual one: servers tell sites apart by it."""
    assert ("Host", host) in webhook._headers(route(url), MESSAGE, b"", 0.0)


async def test_a_message_arrives_signed_as_the_specification_says(pki: Pki):
    """Its own library accepts it; the id is the message's."""
    async with receiving(pki) as receiver:
        given = route(receiver.url, pki)
        await deliver(given, MESSAGE)
        [request] = receiver.requests
    assert Webhook(given.secret).verify(request.body, request.headers) == {"some": "body"}
    assert request.headers["webhook-id"] == "0123abcd"
    assert request.headers["content-type"] == "application/json"
    assert request.path == "/hook?key=s3cret"


def test_the_signature_is_that_of_the_specification_s_library():
    """For a fixed secret, id, time and body."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = '{"test": 2432232314}'
    signed = webhook.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body.encode())
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("answer", "reason", "final"),
    [
        ("302 Found\r\nLocation: https://localhost:1/", "status 302: redirects are not followed", True),
        ("404 Not Found", "status 404", True),
        ("410 Gone", "status 410", True),
        ("429 Too Many Requests", "status 429", False),
        ("500 Internal Server Error", "status 500", False),
    ],
)
async def test_an_answer_that_is_no_success_is_none(pki: Pki, answer: str, reason: str, final: bool):
    """Some pass, some never will."""
    async with receiving(pki) as receiver:
        receiver.answer = lambda _: answer
        with pytest.raises(Undelivered) as failed:
            await deliver(route(receiver.url, pki), MESSAGE)
        assert len(receiver.requests) == 1
    assert (failed.value.reason, failed.value.final) == (reason, final)


async def test_a_server_that_does_not_answer_is_given_up(pki: Pki, monkeypatch: pytest.MonkeyPatch):
    """After a time for all of it."""
    monkeypatch.setattr(notifier, "TIMEOUT_S", 0.3)
    async with receiving(pki) as receiver:
        receiver.answer = lambda _: ""
        with pytest.raises(Undelivered, match=r"no answer within 0.3 s"):
            await deliver(route(receiver.url, pki), MESSAGE)


async def test_a_certificate_that_nobody_vouches_for_is_refused(pki: Pki):
    """Nor one of another name; nothing is sent."""
    async with receiving(pki, "127.0.0.2") as receiver:
        with pytest.raises(Undelivered, match="certificate"):
            await deliver(route(receiver.url.replace("localhost", "127.0.0.2")), MESSAGE)
        with pytest.raises(Undelivered, match="certificate"):
            await deliver(route(receiver.url.replace("localhost", "127.0.0.2"), pki), MESSAGE)
        assert receiver.requests == []


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
        *("::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1", "::"),
    ],
)
def test_addresses_inside_are_not_public(address: str):
    """Loopback, private networks, a cloud's metadata, and what hides them."""
    assert not webhook.public(address)


def test_addresses_outside_are_public():
    """Of both families."""
    assert webhook.public("93.184.216.34")
    assert webhook.public("2606:2800:220:1::1")


async def test_a_webhook_leads_to_public_addresses_only(pki: Pki):
    """A name is judged by where it points when it is connected to."""
    async with receiving(pki) as receiver:
        for url in (receiver.url, receiver.url.replace("localhost", "127.0.0.1")):
            with pytest.raises(Undelivered, match="is no public address") as failed:
                await deliver(route(url, pki, allow_private=False), MESSAGE)
            assert failed.value.final
        assert receiver.requests == []


async def test_what_cannot_be_reached_says_why(pki: Pki):
    """Without the path, which may be secret."""
    async with receiving(pki) as receiver:
        gone = receiver.url
    for url in (gone, "https://no-such-name.invalid/s3cret"):
        with pytest.raises(Undelivered) as failed:
            await deliver(route(url, pki), MESSAGE)
        assert not failed.value.final
        assert "s3cret" not in failed.value.reason
        assert failed.value.reason


async def test_a_route_can_be_tried_out(rig: Rig, pki: Pki):
    """A made-up alert that says so; nothing is written down."""
    async with receiving(pki) as receiver:
        given = rig.route(url=receiver.url, allow_private=True, authority=authority(pki), form="ocsf")
        await deliver(given, probe.message(given))
        [request] = receiver.requests
    assert "Test of a notification route" in request.body
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert list(rig.deliveries.list()) == []
