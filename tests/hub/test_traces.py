"""Traces: a message from PUBLISH to its commit; off unless configured."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lake_support import intake, message
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway_rig import MODULE, running
from vedette.hub import traces
from vedette.hub.settings import HubError
from vedette.wire.iothub import encode_properties
from vedette.wire.packets import Puback, Publish


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """A process has one provider for good, so all tests here share it."""
    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    with traces.through(provider):
        yield made


async def test_a_message_is_traced_from_publish_to_commit(exporter: InMemorySpanExporter, tmp_path: Path):
    """Decoding and commit are parts of one trace, which ends before the PUBACK leaves."""
    async with intake(tmp_path / "lake") as lake, running(tmp_path) as rig:
        rig.gateway._sink = lake.submit
        sent = message("ls", "id", mid="m-1")
        topic = MODULE.events_topic + encode_properties(sent.properties.items())
        client = await rig.connected()
        client.send(Publish(topic, sent.body, 1, 1))
        await client.expect(Puback(1))
    spans: dict[str, ReadableSpan] = {span.name: span for span in exporter.get_finished_spans()}
    whole = spans["PUBLISH"]
    assert whole.context is not None
    assert dict(whole.attributes or {}) == {"device.id": "pump/vedette", "message.bytes": len(sent.body)}
    for name in ("decode", "commit"):
        parent = spans[name].parent
        assert parent is not None
        assert parent.span_id == whole.context.span_id
    assert dict(spans["decode"].attributes or {}) == {"message.id": "m-1", "message.events": 2}


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    """Configured without the extra, a hub says which; not configured, nothing is needed."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with traces.exported(""):
        pass
    with pytest.raises(HubError, match=r"extra \[otel\]"), traces.exported("http://127.0.0.1:4318/v1/traces"):
        pass
