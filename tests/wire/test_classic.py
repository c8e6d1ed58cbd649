"""The classic twin object: typed values, ISO 8601 durations, all or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.wire.classic import (
    OBJECT,
    ClassicSettings,
    ConflictingSettings,
    Level,
    classic_from,
    seconds_of,
)
from vedette.wire.twin import InvalidSettings


def desired(**values: object) -> dict[str, object]:
    return {"$version": 3, OBJECT: {key: {"value": value} for key, value in values.items()}}


def refused(document: dict[str, object]) -> dict[str, str]:
    with pytest.raises(InvalidSettings) as caught:
        classic_from(document)
    return caught.value.fields


def test_defaults_are_those_of_the_documented_agent():
    """What a twin without the object means, and what it reports."""
    reported = ClassicSettings().document()[OBJECT]
    assert classic_from({}) == classic_from({OBJECT: None}) == classic_from({OBJECT: {}}) == ClassicSettings()
    priorities = {
        "High": "ListeningPorts LocalUsers Login",
        "Off": "Diagnostic",
        "Low": "ProcessCreate ProcessTerminate ConnectionCreate FirewallConfiguration SystemInformation "
        "ConnectedHardware OSBaseline ConfigurationError DroppedEventsStatistics MessageStatistics",
    }
    expected: dict[str, object] = {
        "highPriorityMessageFrequency": "PT7M",
        "lowPriorityMessageFrequency": "PT5H",
        "snapshotFrequency": "PT13H",
        "maxLocalCacheSizeInBytes": 2_560_000,
        "maxMessageSizeInBytes": 204_800,
    }
    for priority, events in priorities.items():
        expected |= {f"eventPriority{event}": priority for event in events.split()}
    for event in ("ProcessCreate", "ConnectionCreate", "ProcessTerminate"):
        expected |= {f"aggregationEnabled{event}": True, f"aggregationInterval{event}": "PT1H"}
    assert reported == {key: {"value": value} for key, value in expected.items()}


def test_what_is_reported_is_understood():
    """The object in force, sent back as desired, changes nothing."""
    settings = classic_from(desired(snapshotFrequency="P1DT2H", eventPriorityLogin="Off"))
    assert classic_from(settings.document()) == settings
    assert (settings.snapshot_frequency, settings.login) == ("P1DT2H", Level.OFF)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT7M", 420), ("PT5H", 18_000), ("P1W", 604_800), ("P1DT1H1M1.5S", 90_061.5), ("PT90S", 90)],
)
def test_durations_are_iso_8601(text, seconds):
    """Weeks, days, hours, minutes and seconds."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1Y", "P1M", "7M", "PT7", "pt7m", "PT-7M", "PT0S", "P9999W", "PT1H" * 40, "PT٣M"]
)
def test_what_is_no_interval_is_refused(text):
    """Also what ISO 8601 knows but has no fixed length, and what would never end."""
    assert list(refused(desired(snapshotFrequency=text))) == ["snapshotFrequency"]


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_refused(text):
    """Never an error of ours."""
    try:
        seconds = seconds_of(text)
    except ValueError:
        assert list(refused(desired(snapshotFrequency=text))) == ["snapshotFrequency"]
    else:
        assert 1 <= seconds <= 366 * 86_400


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("maxLocalCacheSizeInBytes", 8192, ">= 8193"),
        ("maxMessageSizeInBytes", 8191, ">= 8192"),
        ("maxMessageSizeInBytes", 262_145, "<= 262144"),
        ("maxMessageSizeInBytes", "204800", "Expected `int`"),
        ("eventPriorityLogin", "Medium", "Invalid enum value"),
        ("aggregationEnabledProcessCreate", "true", "Expected `bool`"),
        ("aggregationIntervalProcessCreate", 3600, "Expected `str`"),
        ("noSuchSetting", 1, "unknown setting"),
    ],
)
def test_a_wrong_value_is_refused_with_its_reason(key, value, reason):
    """Each by its name."""
    fields = refused(desired(**{key: value}))
    assert list(fields) == [key]
    assert reason in fields[key]


@pytest.mark.parametrize("entry", [5, "PT7M", [], {}, {"values": 1}])
def test_a_setting_needs_its_value_wrapped(entry):
    """`{"value": …}`, as the service writes it."""
    assert refused({OBJECT: {"snapshotFrequency": entry}}) == {
        "snapshotFrequency": 'not in the form {"value": …}'
    }


def test_every_mistake_is_listed_and_nothing_applies():
    """The right setting in between is not taken either."""
    document = desired(snapshotFrequency="x", eventPriorityLogin="Low", maxMessageSizeInBytes=1)
    assert list(refused(document)) == ["maxMessageSizeInBytes", "snapshotFrequency"]
    assert list(refused({OBJECT: "text"})) == [OBJECT]


def test_contradictions_are_told_apart():
    """Each value is right, but not both."""
    for document in (
        desired(highPriorityMessageFrequency="PT6H"),
        desired(maxLocalCacheSizeInBytes=10_000, maxMessageSizeInBytes=20_000),
    ):
        with pytest.raises(ConflictingSettings):
            classic_from(document)


def test_marks_of_the_service_are_no_settings():
    """Versions, metadata, the mark of a component; null is the default."""
    extra = {"$metadata": {}, "__t": "c", "snapshotFrequency": None}
    assert classic_from({OBJECT: extra}) == ClassicSettings()


def test_collectors_follow():
    """Off means that nothing is collected; what the classic agent did not know is never collected."""
    settings = classic_from(
        desired(
            eventPriorityProcessCreate="Off",
            eventPriorityProcessTerminate="Off",
            eventPriorityDiagnostic="Low",
            maxMessageSizeInBytes=8192,
            maxLocalCacheSizeInBytes=9000,
            snapshotFrequency="PT30S",
        )
    ).settings
    assert settings.process_disabled
    assert not settings.network_disabled
    assert not settings.log_disabled
    assert (settings.sbom_disabled, settings.heartbeat_disabled, settings.filesystem_disabled) == (True,) * 3
    assert (settings.message_bytes, settings.outbox_bytes) == (8192, 9000)
    assert set(settings.intervals.values()) == {30}
