"""Messages of older agents as the intake stores them, in both standards; and what strangers send."""

from collections.abc import Iterator

import ecs_fields
import ocsf_schema
import pytest
import rtos_messages as rtos
from format_samples import raw
from hypothesis import given
from hypothesis import strategies as st
from test_decode_classic import CONNECTION, PROCESS, envelope
from test_decode_classic import PROPERTIES as CLASSIC
from test_decode_classic import event as classic_event
from test_decode_rtos import PROPERTIES as RTOS
from test_decode_rtos import WHOLE

from vedette.hub.decode.classic import EVENTS as CLASSIC_EVENTS
from vedette.hub.formats import EVENTS, RawEvent
from vedette.hub.formats.ocsf_events import _CLASSES
from vedette.hub.formats.values import raw_event
from vedette.hub.intake import Inbound, rows_of
from vedette.wire.events import EVENT_TYPES
from vedette.wire.iothub import Identity

PROBLEMS = {"ocsf": ocsf_schema.problems, "ecs": ecs_fields.problems}


def stored(properties: dict[str, str], body: bytes) -> Iterator[RawEvent]:
    """Events as the intake stores them."""
    for row in rows_of(Inbound(Identity("d1", "m1"), properties, body, rtos.NOON + 5), "mid").events:
        yield raw_event(row._asdict())


@pytest.mark.parametrize("form", EVENTS)
def test_every_payload_of_an_rtos_device_is_accepted(form: str):
    """It knows less of each event than a Linux device."""
    events = list(stored(RTOS, WHOLE))
    assert len({event.name for event in events}) == 7
    assert [found for event in events if (found := PROBLEMS[form](EVENTS[form](event)))] == []


@pytest.mark.parametrize("form", EVENTS)
def test_every_event_of_the_classic_agent_is_accepted(form: str):
    """Its ports and ids are text."""
    known = {"ProcessCreate": PROCESS, "ConnectionCreate": CONNECTION}
    items = [classic_event(name, known.get(name, {})) for name in CLASSIC_EVENTS]
    events = list(stored(CLASSIC, envelope(*items)))
    assert [event.name for event in events] == list(CLASSIC_EVENTS)
    assert [found for event in events if (found := PROBLEMS[form](EVENTS[form](event)))] == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = sorted(
    {key for declared in EVENT_TYPES.values() for key in declared.details} | {"Direction", "Result"}
)


@given(name=st.sampled_from(sorted(_CLASSES)), details=st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_no_value_in_any_field_stops_an_export(name: str, details: dict):
    """A device may store events with keys of any shape; one of them must not cost the others."""
    for make in EVENTS.values():
        make(raw(name, details))
