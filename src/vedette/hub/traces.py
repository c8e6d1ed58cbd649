"""OpenTelemetry traces: how long a message takes from PUBLISH to its commit. Off unless configured.

While they are off, `span` gives the same nothing each time: the API package's own no-op spans were a fifth of
what a busy gateway did.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from vedette import __version__
from vedette.hub.settings import HubError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE = "vedette-hub"

_TRACER = trace.get_tracer("vedette.hub", __version__)
_NOTHING: AbstractContextManager[Span] = nullcontext(trace.INVALID_SPAN)
_on = False


def span(
    name: str, kind: SpanKind = SpanKind.INTERNAL, attributes: Mapping[str, str | int] | None = None
) -> AbstractContextManager[Span]:
    """A span around a piece of work, within the one that is open; it leads nowhere while traces are off."""
    return _TRACER.start_as_current_span(name, kind=kind, attributes=attributes) if _on else _NOTHING


@contextmanager
def through(provider: TracerProvider) -> Iterator[None]:
    """Have spans made by a provider, which is shut down at the end. Once in a process."""
    global _on
    trace.set_tracer_provider(provider)
    _on = True
    try:
        yield
    finally:
        _on = False
        provider.shutdown()


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
    with through(provider):
        yield
