"""The twin settings: strict, all or nothing, every wrong key named, defaults as documented."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.wire.twin import (
    KEYS,
    LATEST_INVALID_FIELDS,
    LATEST_STATE,
    MAX_INTERVAL,
    MICRO_AGENT,
    MIN_INTERVAL,
    InvalidSettings,
    Priority,
    ProcessMode,
    Settings,
    reported_document,
    settings_from,
)


def refused(document: dict[str, object]) -> dict[str, str]:
    """The wrong keys of a document, with their reasons."""
    with pytest.raises(InvalidSettings) as caught:
        settings_from(document)
    return caught.value.fields


MEDIUM = ("Process", "NetworkActivity", "Login")
LOW = (
    "SystemInformation",
    "Baseline",
    "SBoM",
    "Peripheral",
    "FileSystem",
    "Statistics",
    "Heartbeat",
    "LogCollector",
)
CACHED = ("Process", "NetworkActivity", "FileSystem", "Peripheral", "Statistics")
BOARD = ("HardwareVendor", "HardwareModel", "HardwareSerialNumber", "FirmwareVendor", "FirmwareVersion")

DOCUMENTED = {
    "CollectorsCore_PriorityIntervals": "30,120,1440",
    "IothubModule_MessageTimeout": 2880,
    "Process_Mode": 1,
    "Process_PollingInterval": 100_000,
    "NetworkActivity_Devices": "auto",  # documented: eth0, which few devices still have
    "NetworkActivity_PacketBufferSize": 2_097_152,
    "Login_UsePAM": False,
    "FileSystem_Paths": None,
    "FileSystem_Recursive": True,
    "Baseline_GroupsDisabled": "",
    "Baseline_ChecksDisabled": "",
    **{f"{name}_Disabled": False for name in MEDIUM + LOW},
    **{f"{name}_MessageFrequency": "Medium" for name in MEDIUM},
    **{f"{name}_MessageFrequency": "Low" for name in LOW},
    **{f"{name}_CacheSize": 256 for name in CACHED},
    **{f"SystemInformation_{fact}": "" for fact in BOARD},
}


def test_defaults_are_those_of_the_documented_agent():
    """A twin that says nothing gives what the micro agent's documentation promises."""
    settings = settings_from({})
    assert settings == Settings()
    assert {key: settings.document()[key] for key in MICRO_AGENT} == DOCUMENTED
    assert settings.intervals == {Priority.HIGH: 1800, Priority.MEDIUM: 7200, Priority.LOW: 86_400}


def test_every_default_is_valid():
    """The effective configuration, sent back as desired, is accepted and changes nothing."""
    plain = Settings().document()
    assert settings_from(json.loads(json.dumps(plain))) == Settings()
    assert list(plain) == list(KEYS)


def test_a_document_is_applied():
    """Values arrive with their types; what the document does not name keeps its default."""
    settings = settings_from(
        {"Process_CacheSize": 32, "Process_Mode": 2, "Process_MessageFrequency": "High", "$version": 7}
    )
    assert settings.process_cache_size == 32
    assert settings.process_mode is ProcessMode.NETLINK
    assert settings.process_frequency is Priority.HIGH
    assert settings.process_disabled is False


def test_settings_build_on_others():
    """Over a local file, the twin says only what it changes; null returns to the default."""
    local = settings_from({"Process_CacheSize": 32, "Process_Disabled": True})
    both = settings_from({"Process_Disabled": None, "Process_Mode": 3}, onto=local)
    assert (both.process_cache_size, both.process_disabled, both.process_mode) == (32, False, 3)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("Process_CacheSize", 0, ">= 1"),
        ("Process_CacheSize", 65_537, "<= 65536"),
        ("Process_CacheSize", 10**30, "<= 65536"),
        ("Process_CacheSize", "64", "Expected `int`, got `str`"),
        ("Process_CacheSize", 64.0, "Expected `int`, got `float`"),
        ("Process_CacheSize", True, "Expected `int`, got `bool`"),
        ("Process_CacheSize", [64], "Expected `int`, got `array`"),
        ("Process_Disabled", "false", "Expected `bool`, got `str`"),
        ("Process_Disabled", 0, "Expected `bool`, got `int`"),
        ("Process_Mode", 0, "Invalid enum value 0"),
        ("Process_Mode", "1", "Expected `int`, got `str`"),
        ("Process_MessageFrequency", "high", "Invalid enum value 'high'"),
        ("Process_OverflowPolicy", "drop", "Invalid enum value 'drop'"),
        ("CollectorsCore_PriorityIntervals", "30,120", "three numbers"),
        ("CollectorsCore_PriorityIntervals", "30,120,x", "three numbers"),
        ("CollectorsCore_PriorityIntervals", "", "three numbers"),
        ("CollectorsCore_PriorityIntervals", "0,120,1440", "from 0.01"),
        ("CollectorsCore_PriorityIntervals", "nan,nan,nan", "from 0.01"),
        ("CollectorsCore_PriorityIntervals", "30,120,inf", "from 0.01"),
        ("CollectorsCore_PriorityIntervals", "120,30,1440", "High must not be longer"),
        ("CollectorsCore_PriorityIntervals", 30, "Expected `str`, got `int`"),
        ("process_cachesize", 64, "unknown setting"),
        ("process_cache_size", 64, "unknown setting"),
        ("Nonsense", None, "unknown setting"),
        ("ms_iotn:urn_azureiot_Security_SecurityAgentConfiguration", {}, "unknown setting"),
    ],
)
def test_a_wrong_value_is_refused_with_its_reason(key, value, reason):
    """No conversion, no guess, no silence."""
    fields = refused({key: value})
    assert list(fields) == [key]
    assert reason in fields[key]


def test_every_wrong_key_is_listed():
    """An operator sees all mistakes at once, in order; the right key in between applies not either."""
    document = {"Zebra": 1, "Process_CacheSize": -1, "Process_Mode": 2, "Process_Disabled": "no"}
    fields = refused(document)
    assert list(fields) == ["Process_CacheSize", "Process_Disabled", "Zebra"]
    with pytest.raises(InvalidSettings, match=r"Process_CacheSize: .*; Process_Disabled: .*; Zebra: unknown"):
        settings_from(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=10), JSON, max_size=6))
def test_any_document_is_settings_or_a_list_of_mistakes(document):
    """Whatever stands in a twin: valid settings that report as they were asked, or every mistake named."""
    try:
        effective = settings_from(document).document()
    except InvalidSettings as error:
        mistakes = error.fields
    else:
        mistakes = {}
        for key, value in document.items():
            assert key.startswith("$") or value is None or effective[key] == value
    for key, value in document.items():
        if key in mistakes:
            assert refused({key: value}) == {key: mistakes[key]}
        else:
            settings_from({key: value})


@given(st.lists(st.floats(MIN_INTERVAL, MAX_INTERVAL), min_size=3, max_size=3).map(sorted))
def test_intervals_are_read_in_minutes(minutes):
    """Three rising numbers, decimals allowed, become seconds."""
    text = ", ".join(map(repr, minutes))
    intervals = settings_from({"CollectorsCore_PriorityIntervals": text}).intervals
    for priority, value in zip(Priority, minutes, strict=True):
        assert math.isclose(intervals[priority], 60 * value)


def test_settings_cannot_be_changed_in_place():
    """A configuration is one value; a change makes another."""
    with pytest.raises(AttributeError):
        Settings().process_cache_size = 1


def test_success_is_reported_in_full():
    """The twin shows what is in force, and that the latest change was taken."""
    settings = settings_from({"Process_CacheSize": 32})
    report = reported_document(settings, {})
    assert report == settings.document() | {LATEST_STATE: "success", LATEST_INVALID_FIELDS: []}
    assert json.loads(msgspec.json.encode(report)) == report


def test_a_refusal_is_reported_with_its_reasons():
    """The configuration in force stays in the report, beside what was wrong with the change."""
    report = reported_document(
        Settings(), {"Zebra": "unknown setting", "Process_Mode": "Invalid enum value 9"}
    )
    assert report[LATEST_STATE] == "failed"
    assert report[LATEST_INVALID_FIELDS] == ["Process_Mode: Invalid enum value 9", "Zebra: unknown setting"]
    assert report["Process_Mode"] == 1


def test_a_report_fits_into_a_twin():
    """The service takes 32 KB of reported properties, keys without dots, dollars and spaces."""
    assert len(msgspec.json.encode(reported_document(Settings(), {}))) < 32_768 / 2
    assert not [key for key in KEYS if set(key) & set(". $")]


@pytest.mark.parametrize(
    "document",
    [
        {f"k{number}": number for number in range(3_000)},
        {"Process_MessageFrequency": "\N{COLLISION SYMBOL}" * 4_000},
        {f"{number:02}" + "\N{COLLISION SYMBOL}" * 250: number for number in range(30)},
    ],
    ids=["many", "a long value", "long keys"],
)
def test_a_refusal_fits_into_a_twin(document):
    """However wrong the document was; how much is not told is told."""
    wrong = refused(document)
    reported = reported_document(Settings(), wrong)
    assert len(json.dumps(reported, ensure_ascii=False).encode()) < 32_768
    told = reported["latest_invalid_fields"]
    assert max(map(len, told)) < 4_096
    assert told[-1] == f"and {len(wrong) - 25} more" or len(told) == len(wrong)
