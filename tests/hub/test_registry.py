"""The registry on SQLite and on PostgreSQL: identities, twins, changes, and several processes at once."""

import base64
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from vedette.hub.registry import (
    AlreadyExists,
    ChangesLost,
    Draft,
    Registry,
    RegistryError,
    TwinError,
    UnknownIdentity,
    rows,
)
from vedette.hub.registry.enrollments import Enrollment
from vedette.hub.registry.records import CHANGES_PAGE
from vedette.hub.registry.twins import MAX_DEPTH, MAX_SECTION_BYTES, checked, merge
from vedette.wire.iothub import Identity

untimed = settings(deadline=None)
"""Examples may take long on a busy machine."""

only_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""For what is SQLite's alone."""

DEVICE, MODULE = Identity("pump"), Identity("pump", "vedette")


@pytest.fixture
def opened(url: str, tmp_path: Path) -> Callable[[], Registry]:
    """Opens the test's registry, once more if need be."""
    return lambda: Registry(url, tmp_path / "registry.key")


@pytest.fixture
def registry(opened: Callable[[], Registry]) -> Iterator[Registry]:
    made = opened()
    made.add(DEVICE)
    made.add(MODULE)
    yield made
    made.close()


# Identities


def test_an_identity_gets_two_keys_of_its_own(registry: Registry):
    """Two random keys of 32 bytes, base64; found again as they were handed out."""
    device = registry.add(Identity("valve"))
    keys = {device.primary_key, device.secondary_key, *(d.primary_key for d in registry.list())}
    assert len(keys) == 4
    assert {len(base64.b64decode(key, validate=True)) for key in keys} == {32}
    assert registry.get(Identity("valve")) == device
    assert device.enabled
    assert not device.connected


def test_given_keys_are_kept(registry: Registry):
    """A device that moves here keeps its keys."""
    keys = tuple(base64.b64encode(bytes([n]) * 20).decode() for n in (1, 2))
    device = registry.add(Identity("old"), keys=(keys[0], keys[1]))
    assert (device.primary_key, device.secondary_key) == keys


@pytest.mark.parametrize("key", ["", "secret!", base64.b64encode(b"short").decode(), "AAAA" * 100])
def test_a_bad_key_is_refused_without_showing_it(registry: Registry, key: str):
    """Not base64, or of a wrong length."""
    with pytest.raises(ValueError, match=r"^key: ") as caught:
        registry.add(Identity("old"), keys=(key, key))
    assert not key or key not in str(caught.value)
    assert registry.get(Identity("old")) is None


@pytest.mark.parametrize(
    "identity", [Identity(""), Identity("a/b"), Identity("a", "b c"), Identity("x" * 129)]
)
def test_a_bad_id_is_refused(registry: Registry, identity: Identity):
    """Ids have the service's alphabet and length."""
    with pytest.raises(ValueError, match="identity"):
        registry.add(identity)


def test_an_identity_is_registered_once(registry: Registry):
    """A second registration is an error, not new keys."""
    with pytest.raises(AlreadyExists, match="pump/vedette"):
        registry.add(MODULE)


def test_a_module_needs_its_device(registry: Registry):
    """No module without a device."""
    with pytest.raises(UnknownIdentity, match="nowhere"):
        registry.add(Identity("nowhere", "vedette"))


def test_removing_a_device_removes_its_modules(registry: Registry):
    """Nothing of it is left, twins included; another device is untouched."""
    registry.add(Identity("pump2"))
    registry.remove(DEVICE)
    assert [device.identity for device in registry.list()] == [Identity("pump2")]
    for identity in (DEVICE, MODULE):
        with pytest.raises(UnknownIdentity):
            registry.twin(identity)


def test_removing_a_module_leaves_its_device(registry: Registry):
    """And a module that is added again starts with an empty twin."""
    registry.patch_desired(MODULE, {"a": 1})
    registry.remove(MODULE)
    assert [device.identity for device in registry.list()] == [DEVICE]
    registry.add(MODULE)
    assert registry.twin(MODULE).desired == {}


def test_disabling_speaks_for_modules_and_changes_the_etag(registry: Registry):
    """A module may connect only if both it and its device may."""
    before = registry.get(DEVICE)
    after = registry.set_enabled(DEVICE, False)
    assert before is not None
    assert before.etag != after.etag
    assert [registry.get(identity).enabled for identity in (DEVICE, MODULE)] == [False, False]  # type: ignore[union-attr]
    registry.set_enabled(DEVICE, True)
    registry.set_enabled(MODULE, False)
    assert [registry.get(identity).enabled for identity in (DEVICE, MODULE)] == [True, False]  # type: ignore[union-attr]


def test_pages_of_a_list_join(registry: Registry):
    """Each page begins behind the last identity of the one before."""
    for name in ("a", "pump.1", "z"):
        registry.add(Identity(name))
    whole = [device.identity for device in registry.list()]
    assert whole == sorted(whole)
    pages, after = [], None
    while page := registry.list(2, after):
        pages += [device.identity for device in page]
        after = page[-1].identity
    assert pages == whole


@pytest.mark.parametrize("call", ["remove", "twin"])
def test_what_is_not_there_is_named(registry: Registry, call: str):
    """The error names the identity."""
    with pytest.raises(UnknownIdentity, match="ghost/m"):
        getattr(registry, call)(Identity("ghost", "m"))
    with pytest.raises(UnknownIdentity, match="ghost/m"):
        registry.patch_desired(Identity("ghost", "m"), {})
    with pytest.raises(UnknownIdentity, match="ghost/m"):
        registry.set_subscriptions(Identity("ghost", "m"), {"x"})


def test_records_show_no_key(registry: Registry):
    """Any of them can be logged, and printed with `rich` or within another record."""
    device, policy = registry.get(DEVICE), registry.policies.get("service")
    assert device is not None
    assert policy is not None
    key = device.primary_key
    group = Enrollment("g", grouped=True, primary_key=key, secondary_key=key)
    draft = Draft(DEVICE, (key, key))
    for record in (device, policy, group, draft, registry.fleet.get(DEVICE)):
        for shown in (repr(record), pretty_repr(record), pretty_repr([record], max_width=20)):
            assert "primary_key" not in shown
            assert not any(secret in shown for secret in (key, device.secondary_key, policy.primary_key))


@only_sqlite
def test_a_database_error_shows_no_key(registry: Registry, url: str):
    """Statements appear in the database layer's errors, values do not."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as raw:
        raw.execute("CREATE TRIGGER no BEFORE INSERT ON identities BEGIN SELECT RAISE(ABORT, 'full'); END")
    raw.close()
    key = base64.b64encode(b"k" * 32).decode()
    with pytest.raises(Exception, match="full") as caught:
        registry.add(Identity("other"), keys=(key, key))
    assert key not in str(caught.value)


# Connection state


def test_activity_is_recorded_in_one_go(registry: Registry):
    """When somebody was heard of; who is gone is passed over."""
    registry.record({MODULE: 5.0, Identity("ghost"): 5.0})
    assert registry.get(MODULE).last_activity == 5.0  # type: ignore[union-attr]


def test_subscriptions_are_kept_and_replaced(registry: Registry):
    """They belong to one identity, and an unknown one has none."""
    registry.set_subscriptions(MODULE, {"b", "a"})
    registry.set_subscriptions(MODULE, ["a", "c"])
    assert registry.subscriptions(MODULE) == {"a", "c"}
    assert registry.subscriptions(DEVICE) == frozenset()
    assert registry.subscriptions(Identity("ghost")) == frozenset()


# Twins

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("abä☃", max_size=4),
    lambda below: st.dictionaries(st.sampled_from("abc"), below, max_size=3) | st.lists(below, max_size=2),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def model(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name in patch:
        if patch[name] is None:
            if name in result:
                del result[name]
        else:
            result[name] = model(result.get(name), patch[name])
    return result


@untimed
@given(documents, documents)
def test_merge_is_that_of_the_standard(target: dict[str, Any], patch: dict[str, Any]):
    """For any two documents, and neither is changed by it."""
    copies = repr((target, patch))
    assert merge(target, patch) == model(target, patch)
    assert repr((target, patch)) == copies


def test_versions_count_patches(registry: Registry):
    """Each patch of a section raises its version by one, and only its."""
    registry.patch_desired(MODULE, {"a": {"b": 1, "c": 2}})
    registry.patch_desired(MODULE, {"a": {"b": None}, "$version": 99, "$metadata": {}})
    registry.patch_reported(MODULE, {"x": [1, None]})
    assert registry.twin(MODULE).document() == {
        "desired": {"a": {"c": 2}, "$version": 3},
        "reported": {"x": [1, None], "$version": 2},
    }


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {"a": 1}


@pytest.mark.parametrize(
    ("patch", "field", "reason"),
    [
        ({"a.b": 1}, "a.b", "key holds"),
        ({"a": {"$b": 1}}, "a.$b", "key holds"),
        ({"a": [{"x y": 1}]}, "a[0].x y", "key holds"),
        ({"a\x07": 1}, "a\x07", "key holds"),
        ({"": 1}, "", "key is empty"),
        ({"k" * 1025: 1}, "k" * 256, "key is empty or longer"),
        ({"a": "x" * 4097}, "a", "text longer"),
        ({"a": "ä" * 2049}, "a", "text longer"),
        ({"a": {"b": ["x" * 4097]}}, "a.b[0]", "text longer"),
        (nested(MAX_DEPTH + 1), ".".join("a" * MAX_DEPTH), "deeper"),
        ({str(n): "x" * 4000 for n in range(9)}, "", "allowed"),
    ],
)
def test_a_patch_that_may_not_stand_is_refused(
    registry: Registry, patch: dict[str, Any], field: str, reason: str
):
    """Field and reason are named, and neither twin nor version changes."""
    before = registry.twin(MODULE)
    for call in (registry.patch_desired, registry.patch_reported):
        with pytest.raises(TwinError) as caught:
            call(MODULE, patch)
        assert caught.value.field == field
        assert reason in caught.value.reason
    assert registry.twin(MODULE) == before
    assert registry.last_change() == 0


def test_limits_are_limits(registry: Registry):
    """What is exactly as deep and as long as allowed passes."""
    registry.patch_desired(MODULE, nested(MAX_DEPTH))
    registry.patch_desired(MODULE, {"s": "x" * 4096, "k" * 1024: 1})


def test_a_section_cannot_grow_by_small_patches(registry: Registry):
    """The limit is on the whole section; what does not fit is refused and the rest stays."""
    for n in range(7):
        registry.patch_reported(MODULE, {str(n): "x" * 4096})
    with pytest.raises(TwinError, match=f"{MAX_SECTION_BYTES} allowed"):
        registry.patch_reported(MODULE, {"8": "x" * 4096, "9": "x"})
    assert len(registry.twin(MODULE).reported) == 7


@untimed
@given(st.dictionaries(st.text(max_size=5), values, max_size=3))
def test_checked_keys_hold_nothing_forbidden(patch: dict[str, Any]):
    """Whatever passes has no key that the service would refuse."""
    try:
        kept = checked(patch)
    except TwinError:
        return
    assert all(key and not set(key) & set(".$ ") for key in kept)


# Changes


def test_a_feed_tells_what_others_wrote(registry: Registry, opened: Callable[[], Registry]):
    """From its start on, each change once and in order, by whichever process."""
    registry.patch_desired(MODULE, {"before": 1})
    feed = registry.feed()
    assert not feed.poll()
    other = opened()
    other.patch_desired(MODULE, {"a": 1})
    registry.patch_desired(DEVICE, {"b": None})
    told = feed.poll()
    assert [(c.identity, c.version, c.patch) for c in told] == [
        (MODULE, 3, {"a": 1}),
        (DEVICE, 2, {"b": None}),
    ]
    assert not feed.poll()
    other.remove(DEVICE)
    assert {(c.identity, c.patch) for c in feed.poll()} == {(DEVICE, None), (MODULE, None)}
    other.close()
    feed.close()


def test_a_feed_tells_long_lists_in_pages(registry: Registry):
    """More changes than a page holds come with the next calls, without another write."""
    feed = registry.feed()
    count = CHANGES_PAGE + 3
    for n in range(count):
        registry.patch_desired(MODULE, {"n": n})
    assert [len(feed.poll()) for _ in range(3)] == [CHANGES_PAGE, 3, 0]
    feed.close()


def test_the_change_log_is_bounded_and_says_what_it_lost(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    """A reader that was away for too long is told so, once, and then goes on."""
    monkeypatch.setattr(rows, "CHANGES_KEPT", 5)
    feed = registry.feed()
    for n in range(7):
        registry.patch_desired(MODULE, {"n": n})
    with pytest.raises(ChangesLost):
        feed.poll()
    assert not feed.poll()
    registry.patch_desired(MODULE, {"n": 8})
    assert [change.patch for change in feed.poll()] == [{"n": 8}]
    assert len(registry.changes(3)) == 5
    feed.close()


# The database


@only_sqlite
def test_all_files_are_their_owners_alone(registry: Registry, tmp_path: Path):
    """The database and what SQLite puts beside it have mode 0600, whatever the umask is."""
    before = os.umask(0)
    try:
        other = Registry(f"sqlite:///{tmp_path / 'open.db'}")
        other.add(DEVICE)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        other.close()
    finally:
        os.umask(before)
    assert len(modes) == 8
    assert set(modes.values()) == {0o600}


@only_sqlite
def test_commits_reach_the_disk(registry: Registry):
    """WAL with full synchronisation: what was handed out survives power loss."""
    with registry._engine.connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        ]
    assert pragmas == ["wal", 2]


def test_state_is_found_again(registry: Registry, opened: Callable[[], Registry]):
    """A registry that is opened again holds what was written."""
    registry.patch_desired(MODULE, {"a": 1})
    before = registry.get(MODULE), registry.twin(MODULE)
    registry.close()
    again = opened()
    assert (again.get(MODULE), again.twin(MODULE)) == before
    again.close()


def test_memory_is_not_a_registry():
    """Several connections and processes share one: it needs a file."""
    with pytest.raises(RegistryError, match="file"):
        Registry("sqlite://")


WRITER = """
import sys
from pathlib import Path
from vedette.hub.registry import Registry
from vedette.wire.iothub import Identity
url, key, name, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
registry = Registry(url, Path(key))
print("ready", flush=True)
sys.stdin.readline()
for n in range(count):
    registry.patch_desired(Identity("pump", "vedette"), {name: n, "last": name})
    registry.add(Identity(f"{name}-{n}"))
registry.close()
"""


def test_processes_write_at_the_same_time(registry: Registry, url: str, tmp_path: Path):
    """No update is lost, no version given twice, every change is told once: two processes and this one."""
    count = 20
    feed = registry.feed()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(tmp_path / "registry.key"), name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("left", "right")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    told = []
    while any(writer.poll() is None for writer in writers):
        registry.patch_reported(MODULE, {"n": len(told)})
        told += feed.poll()
    while changes := feed.poll():
        told += changes
    assert [writer.communicate() and writer.returncode for writer in writers] == [0, 0]
    twin = registry.twin(MODULE)
    assert twin.desired_version == 1 + 2 * count
    assert (twin.desired["left"], twin.desired["right"]) == (count - 1, count - 1)
    assert [change.version for change in told] == list(range(2, 2 + 2 * count))
    assert len(registry.list(1000)) == 2 + 2 * count
    feed.close()
