"""OpenTelemetry traces: how long a message takes from PUBLISH to its commit. Off unless configured.

While they are off, a span is a no-op of the API package, which costs microseconds.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace

from vedette import __version__
from vedette.hub.settings import HubError

SERVICE = "vedette-hub"

TRACER = trace.get_tracer("vedette.hub", __version__)
"""Makes spans; they lead nowhere until `exported` says where."""


@contextmanager
def exported(endpoint: str) -> Iterator[None]:
    """Send spans to a collector (OTLP over HTTP) at this URL; nowhere if it is empty.

    What the collector does not take in time is dropped by the exporter, which says so in the log. Sampling is
    set by OpenTelemetry's own `OTEL_TRACES_SAMPLER`. Once in a process. Raises HubError.
    """
    if not endpoint:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise HubError(f"traces: needs the extra [otel]: {error}") from None
    known = {"service.name": SERVICE, "service.version": __version__, "host.name": socket.gethostname()}
    provider = TracerProvider(resource=Resource.create(known), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()
