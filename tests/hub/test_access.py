"""API tokens and the log of changes: what is kept of a secret, who is let in, and who did what."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import issue
from vedette.hub.detect.schema import Database
from vedette.hub.registry import AlreadyExists, Draft, Registry, TwinChange, UnknownIdentity, audit
from vedette.hub.registry.audit import HUB, acting_as
from vedette.hub.registry.enrollments import Enrollment
from vedette.hub.registry.tokens import Role
from vedette.hub.registry.users import Users
from vedette.wire.iothub import Identity

DEVICE = Identity("pump")


@pytest.fixture
def registry(url: str, tmp_path: Path) -> Iterator[Registry]:
    made = Registry(url, tmp_path / "registry.key")
    yield made
    made.close()


def told(registry: Registry) -> list[tuple[str, str, str, dict[str, object]]]:
    """All changes, the oldest first."""
    return [(e.actor, e.action, e.subject, e.detail) for e in reversed(registry.tokens.audit(1000))]


def test_a_token_is_known_by_its_text(registry: Registry):
    """And by nothing near it."""
    grant, text = registry.tokens.add("backup", Role.ANALYST)
    assert registry.tokens.check(text, 0.0) == grant
    assert (grant.name, grant.role, grant.expires) == ("backup", Role.ANALYST, None)
    other = registry.tokens.add("other", Role.ADMIN)[1]
    for wrong in ("", "x", text[:-1], text + "x", text[:21] + other[21:], text.upper()):
        assert registry.tokens.check(wrong, 0.0) is None


def test_a_token_is_not_in_the_database(registry: Registry):
    """Only what tells whether it is the right one."""
    text = registry.tokens.add("backup", Role.VIEWER)[1]
    with registry._engine.connect() as connection:
        stored = str(connection.exec_driver_sql("SELECT * FROM tokens").all())
    assert text.split("_", 2)[2] not in stored


def test_a_token_ends(registry: Registry):
    """When it expires, and when it is removed."""
    text = registry.tokens.add("guest", Role.VIEWER, expires=100.0)[1]
    assert registry.tokens.check(text, 99.9)
    assert registry.tokens.check(text, 100.0) is None
    registry.tokens.remove("guest")
    assert registry.tokens.check(text, 0.0) is None
    with pytest.raises(UnknownIdentity, match="guest"):
        registry.tokens.remove("guest")


def test_names_of_tokens_are_unique_and_plain(registry: Registry):
    """They stand in the log of changes."""
    registry.tokens.add("b", Role.VIEWER)
    registry.tokens.add("a", Role.VIEWER)
    assert [grant.name for grant in registry.tokens.list()] == ["a", "b"]
    with pytest.raises(AlreadyExists):
        registry.tokens.add("a", Role.ADMIN)
    for name in ("", "a b", "x" * 65, "a\n"):
        with pytest.raises(ValueError, match="name"):
            registry.tokens.add(name, Role.VIEWER)


def test_every_change_is_put_down_to_whoever_made_it(registry: Registry):
    """Identities, desired properties, tags, policies and tokens; by whichever way they were changed."""
    with acting_as("token:ops"):
        registry.add(DEVICE)
        registry.patch_desired(DEVICE, {"a": 1, "b": 2})
        registry.patch_desired(DEVICE, {"b": 3})
        registry.set_enabled(DEVICE, False)
        registry.tokens.add("new", Role.VIEWER)
    with acting_as("policy:service"):
        registry.fleet.create(Draft(Identity("valve")))
        registry.fleet.patch_twin(Identity("valve"), TwinChange(tags={"site": "north"}))
        registry.fleet.delete(Identity("valve"))
    registry.remove(DEVICE)
    assert told(registry) == [
        ("token:ops", "create", "identities/pump", {}),
        ("token:ops", "update", "twins/pump", {"desired": ["a", "b"]}),
        ("token:ops", "update", "twins/pump", {"desired": ["b"]}),
        ("token:ops", "update", "identities/pump", {"enabled": False}),
        ("token:ops", "create", f"tokens/{registry.tokens.list()[0].id}", {}),
        ("policy:service", "create", "identities/valve", {}),
        ("policy:service", "update", "profiles/valve", {"tags": ["site"]}),
        ("policy:service", "delete", "identities/valve", {}),
        (HUB, "delete", "identities/pump", {}),
    ]


def test_who_is_trusted_to_vouch_for_devices_is_put_down(registry: Registry):
    """Authorities, and enrollments with their certificates."""
    factory = issue("factory", ca=True).pem
    with acting_as("command:0"):
        registry.authorities.add("factory", factory)
        registry.enrollments.add(Enrollment("pumps", grouped=True, certificates=(factory.decode(),)))
        registry.enrollments.remove("pumps", grouped=True)
        registry.authorities.remove("factory")
    assert [(who, what, subject) for who, what, subject, _ in told(registry)] == [
        ("command:0", "create", "authorities/factory"),
        ("command:0", "create", "enrollments/True/pumps"),
        ("command:0", "delete", "enrollments/True/pumps"),
        ("command:0", "delete", "authorities/factory"),
    ]


def test_users_are_put_down_too(url: str, tmp_path: Path):
    """They come and go through another door to the same database."""
    database = Database(f"{url}?key_file={tmp_path / 'registry.key'}")
    users = Users(database.read, database.write)
    with acting_as("user:admin"):
        users.ensure_admin()
        users.add("guest", Role.VIEWER)
        users.remove("guest")
    with database.read.begin() as session:
        told = [(entry.actor, entry.action, entry.subject) for entry in audit.entries(session, 9, None)]
    database.close()
    assert told == [
        ("user:admin", "delete", "users/guest"),
        ("user:admin", "create", "users/guest"),
        ("user:admin", "create", "users/admin"),
    ]


def test_what_devices_do_by_themselves_is_no_change(registry: Registry):
    """Reported properties and subscriptions would drown what people do."""
    registry.add(DEVICE)
    before = told(registry)
    registry.patch_reported(DEVICE, {"a": 1})
    registry.set_subscriptions(DEVICE, {"x"})
    assert told(registry) == before


def test_keys_are_not_put_down(registry: Registry):
    """That they changed is."""
    device = registry.add(DEVICE)
    keys = (device.secondary_key, device.primary_key)
    registry.fleet.update(Draft(DEVICE, keys=keys), "*")
    assert told(registry)[-1][3] == {"primary_key": "changed", "secondary_key": "changed"}


def test_a_change_that_fails_is_not_put_down(registry: Registry):
    """The entry is in the transaction of the change."""
    registry.add(DEVICE)
    before = told(registry)
    with pytest.raises(AlreadyExists):
        registry.add(DEVICE)
    with pytest.raises(ValueError, match="key"):
        registry.patch_desired(DEVICE, {"a.b": 1})
    assert told(registry) == before


def test_the_log_is_read_in_pages_and_is_bounded(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    """The newest first; the oldest go."""
    monkeypatch.setattr(audit, "AUDIT_KEPT", 3)
    for number in range(6):
        registry.add(Identity(f"d{number}"))
    page = registry.tokens.audit(2)
    assert [entry.subject for entry in page] == ["identities/d5", "identities/d4"]
    rest = registry.tokens.audit(100, page[-1].seq)
    assert [entry.subject for entry in rest] == ["identities/d3", "identities/d2"]
