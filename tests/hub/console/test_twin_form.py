"""The form of the twin editor, made from the settings table."""

from vedette.hub.console.twin_form import FIELDS, changed, differences
from vedette.wire.twin import KEYS, Settings, reported_document, settings_from

BY_KEY = {field.key: field for field in FIELDS}


def test_every_setting_is_a_field_with_its_default_bounds_and_help():
    """A setting that is added appears in the form by itself."""
    assert tuple(BY_KEY) == KEYS
    assert all(field.help for field in FIELDS)
    size = BY_KEY["Process_CacheSize"]
    assert (size.kind, size.low, size.high, size.default, size.unit) == ("number", 1, 65_536, 256, "events")
    assert BY_KEY["Process_Disabled"].kind == "switch"
    assert BY_KEY["Process_MessageFrequency"].choices == ("High", "Medium", "Low")
    assert BY_KEY["Process_Mode"].choices == (1, 2, 3, 4)
    assert BY_KEY["FileSystem_Paths"].kind == "text"


def test_what_a_field_is_given_becomes_the_document_that_the_agent_accepts():
    """Whole numbers stay whole, a default that was not set is not written, nothing means the default."""
    size, paths = BY_KEY["Process_CacheSize"], BY_KEY["FileSystem_Paths"]
    assert changed({}, size, 512.0) == {"Process_CacheSize": 512}
    assert changed({}, size, 256.0) == {}
    assert changed({"Process_CacheSize": 512}, size, 256) == {"Process_CacheSize": 256}
    assert changed({"Process_CacheSize": 512, "Other": 1}, size, None) == {"Other": 1}
    assert changed({"FileSystem_Paths": "/etc"}, paths, "") == {}
    assert settings_from(changed({}, paths, "/etc")).filesystem_paths == "/etc"
    assert changed({}, size, 1.5) == {"Process_CacheSize": 1.5}, "for the validation to refuse"


def test_every_desired_setting_is_in_force_refused_with_its_reason_or_pending():
    """As the device reports it."""
    desired = {"Process_CacheSize": 0, "Statistics_Disabled": True, "Process_Mode": 2}
    running = reported_document(Settings(process_mode=2), {})
    assert [(d.key, d.state) for d in differences(desired, running)] == [
        ("Process_CacheSize", "pending"),
        ("Process_Mode", "in force"),
        ("Statistics_Disabled", "pending"),
    ]
    failed = reported_document(Settings(process_mode=2), {"Process_CacheSize": "Expected `int` >= 1"})
    states = {d.key: (d.state, d.reason) for d in differences(desired, failed)}
    assert states["Process_CacheSize"] == ("refused", "Expected `int` >= 1")
    assert states["Statistics_Disabled"][0] == "refused"
    assert states["Process_Mode"][0] == "in force"


def test_a_device_may_report_anything():
    """What is no list of reasons counts as none."""
    odd = {"latest_state": "failed", "latest_invalid_fields": {"x": 1}, "Process_Mode": [1]}
    assert [d.state for d in differences({"Process_Mode": 2}, odd)] == ["refused"]
    assert [d.state for d in differences({"Process_Mode": 2}, {})] == ["pending"]
