"""Routes: what may be one, and that nobody reads their secrets."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from notify_support import Rig

from vedette.hub.notify.routes import Route, Wanted, checked, signing_key
from vedette.hub.notify.target import NotifyError, parse
from vedette.hub.registry import Registry


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.net/T0/secret", "https://hooks.example.net:443/…"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443/"),
        ("syslog+tls://logs.example.net", "syslog+tls://logs.example.net:6514"),
        ("syslog+udp://192.0.2.1:5514", "syslog+udp://192.0.2.1:5514"),
        ("smtp://u@m.example.net?from=a@x&to=b@y,c@z", "smtp://m.example.net:587 to b@y, c@z"),
        ("mqtts://broker.example.net/plant/alerts", "mqtts://broker.example.net:8883/plant/alerts"),
    ],
)
def test_a_url_says_where_to_and_how(url: str, shown: str):
    """What is shown of it leaves the path of a webhook out: it often is a secret."""
    assert parse(url).shown == shown
    assert "secret" not in repr(parse(url))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("gopher://x", "url: gopher scheme is none of"),
        ("nonsense", "url: no scheme is none of"),
        ("https://", "url: names no host"),
        ("https://u:hunter2@x/", "url: holds a password"),
        ("https://x:hunter2/", "url: host or port cannot be read"),
        ("https://x/\nEvil: 1", "url: only printable ASCII"),
        (f"https://x/{'a' * 3000}", "url: longer than"),
        ("syslog+tcp://x/path", "url: syslog has no path"),
        ("smtp://x?from=a@x", "url: 1 to 50 recipients"),
        ("smtp://x?from=a@x&to=b", "url: 'b' is no mail address"),
        ("smtp://x?from=a@x&to=b@y&cc=z@z", "url: unknown option cc"),
        ("mqtt://x/", "url: a topic"),
        ("mqtt://x/a/%23", "url: a topic"),
    ],
)
def test_a_wrong_url_is_refused_with_its_reason(url: str, reason: str):
    """The text names the field, and never a password."""
    with pytest.raises(NotifyError) as refused:
        parse(url)
    assert str(refused.value).startswith(reason)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "a b"}, "name:"),
        ({"window": -1.0}, "window:"),
        ({"url": "http://x/"}, "url: http is not protected"),
        ({"url": "mqtt://x/t", "secret": "hunter2"}, "secret: would go over mqtt in clear"),
        ({"secret": "hunter2"}, "secret: whsec_"),
        ({"authority": "hunter2"}, "authority: no certificates"),
        ({"wanted": Wanted(where="tags.")}, "where:"),
    ],
)
def test_a_route_that_cannot_work_is_refused(changes: dict, reason: str):
    """When it is made, not when the first alert comes."""
    with pytest.raises(NotifyError) as refused:
        checked(Route(**{"name": "r", "url": "https://x/"} | changes))
    assert str(refused.value).startswith(reason)
    assert "hunter2" not in str(refused.value)


def test_a_webhook_gets_a_signing_secret(rig: Rig):
    """32 random bytes, unless its owner brings one."""
    made = rig.route()
    assert len(signing_key(made.secret)) == 32
    assert rig.routes.get("r").secret == made.secret


def test_secrets_are_sealed_at_rest_and_not_in_what_is_printed(rig: Rig, tmp_path: Path):
    """Neither the database file nor a repr tells URL or password."""
    made = rig.route(url="https://hooks.example.net/T0/hunter2")
    mail = rig.route("m", "smtps://hub@m.example.net?from=a@x.y&to=b@x.y", secret="hunter3")
    rig.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("registry.db*"))
    for secret in ("hunter2", "hunter3", made.secret):
        assert secret.encode() not in stored
        assert secret not in repr(made) + repr(mail)


def test_a_name_is_given_once_and_a_removed_route_leaves_nothing(rig: Rig):
    """What waited for it goes with it."""
    rig.route()
    with pytest.raises(NotifyError, match="there is a route r already"):
        rig.route()
    rig.alert()
    rig.routes.remove("r")
    assert (rig.routes.list(), rig.outbox()) == ([], [])
    with pytest.raises(NotifyError, match="no such route"):
        rig.routes.remove("r")


def test_a_changed_route_keeps_its_secret_and_what_waits(rig: Rig):
    """And whether it is enabled; its kind cannot change, nor can a route that there is not."""
    made = rig.routes.add(Route(name="chat", url="https://hooks.example.net/T0"))
    rig.alert()
    waiting = rig.outbox()
    rig.routes.set_enabled("chat", False)
    wanted = Wanted(severity="High", where="tags.site = 'north'")
    changed = rig.routes.change(replace(made, url="https://other.example.net/", wanted=wanted, window=0))
    assert rig.routes.get("chat") == changed
    assert changed == replace(made, url="https://other.example.net/", wanted=wanted, window=0, enabled=False)
    for wrong, reason in (
        ({"url": "syslog+tls://logs.example.net"}, "url: syslog.tls is another kind of route"),
        ({"window": -1}, "window: "),
        ({"name": "other"}, "other: no such route"),
    ):
        with pytest.raises(NotifyError, match=reason):
            rig.routes.change(replace(made, **wrong))
    assert rig.routes.get("chat") == changed
    assert [route for route, _, _ in waiting] == ["chat"]
    assert rig.outbox() == waiting


def test_who_changed_a_route_is_in_the_audit_log(rig: Rig):
    """Without the URL."""
    rig.route()
    rig.routes.set_enabled("r", False)
    rig.routes.remove("r")
    registry = Registry(rig.url)
    told = [(entry.action, entry.subject, entry.detail) for entry in registry.tokens.audit(10, None)]
    registry.close()
    assert told == [
        ("delete", "notify_routes/r", {}),
        ("update", "notify_routes/r", {"enabled": False}),
        ("create", "notify_routes/r", {}),
    ]
    assert "hooks" not in json.dumps(told)
