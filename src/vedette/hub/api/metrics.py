"""`/metrics`: the hub's counters in Prometheus' text format, and `/readyz`'s question in one place.

Labels are reasons and table names, which are fixed texts: no device can add a series. Nothing here is secret,
and nobody has to sign in to read it; who may reach the port may.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from fastapi import APIRouter, Request, Response

from vedette import __version__
from vedette.hub.api.access import Access
from vedette.hub.detect.engine import Detection, Judged
from vedette.hub.gateway import Gateway
from vedette.hub.guard import Guard
from vedette.hub.intake import Intake
from vedette.hub.lake import Maintenance
from vedette.hub.lake.maintain import Maintained
from vedette.hub.notify.notifier import Notifier, Told

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


class Metric(msgspec.Struct, frozen=True):
    """One metric: its name without `vedette_hub_`, its kind, what it means, and (labels, value) pairs."""

    name: str
    kind: str
    help: str
    samples: Sequence[tuple[Labels, float]]


def router(
    gateway: Gateway | None,
    intake: Intake | None,
    maintenance: Maintenance | None = None,
    detection: Detection | None = None,
    notifier: Notifier | None = None,
    *,
    access: Access | None = None,
) -> APIRouter:
    """The route. None: this process has no such part."""
    routes = APIRouter(include_in_schema=False)
    began = time.time()

    @routes.get("/metrics")
    async def metrics(request: Request) -> Response:
        """What the hub has done since it started, and how it is."""
        metrics = [*_of_process(began)]
        metrics += _of_gateway(gateway) if gateway else ()
        metrics += _of_intake(intake) if intake else ()
        metrics += _of_maintenance(maintenance.state) if maintenance else ()
        metrics += _of_detection(detection.state) if detection else ()
        metrics += _of_notifier(notifier.state) if notifier else ()
        metrics += _of_access(access) if access else ()
        metrics += _of_guard(guard) if (guard := getattr(request.app.state, "guard", None)) else ()
        return Response(render(metrics), 200, None, MEDIA_TYPE)

    return routes


def render(metrics: list[Metric]) -> str:
    """The text of an exposition."""
    return "".join(line + "\n" for metric in metrics for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    name = f"vedette_hub_{metric.name}"
    yield f"# HELP {name} {metric.help}"
    yield f"# TYPE {name} {metric.kind}"
    for labels, value in metric.samples:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{shown}}} {value:.17g}" if shown else f"{name} {value:.17g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _of_process(began: float) -> Iterator[Metric]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield _gauge("info", "The running program; always 1.", 1, version=__version__)
    yield _gauge("start_time_seconds", "When this process began, Unix seconds.", began)
    yield _counter("cpu_seconds_total", "Processor time of this process.", usage.ru_utime + usage.ru_stime)
    yield _gauge("resident_peak_bytes", "Largest resident memory so far.", usage.ru_maxrss * 1024)


def _of_gateway(gateway: Gateway) -> Iterator[Metric]:
    counters = gateway.counters
    yield _gauge("connected", "Identities that are connected.", gateway.connections)
    yield _counter("connections_total", "Connections that were opened.", counters.connections)
    yield _counter("messages_total", "Device-to-cloud messages that came.", counters.messages)
    yield _counter("message_bytes_total", "Their payloads.", counters.bytes)
    yield _counter("messages_durable_total", "Messages of these that are in the lake.", counters.durable)
    yield _by_reason("connections_refused_total", "Connections that were not let in.", counters.refused)
    yield _by_reason("connections_ended_total", "Connections that were, by what ended them.", counters.ended)
    yield _by_reason("throttled_total", "Messages and requests beyond a limit.", counters.throttled)
    lost = gateway.registry.messages.lost
    yield _by_reason("device_messages_lost_total", "Messages to devices that were dropped.", lost)
    usage = gateway.meter.usage(time.time())
    yield _gauge("daily_units", "Message units of all gateways since midnight UTC.", usage.units)
    yield _gauge("daily_units_allowed", "The daily quota of message units; 0: none.", usage.allowed)


def _of_access(access: Access) -> Iterator[Metric]:
    yield _by_reason("service_refused_total", "Service API requests that were not let in.", access.refused)


def _of_guard(guard: Guard) -> Iterator[Metric]:
    yield _gauge("http_connections", "Connections to the HTTPS port, without WebSockets.", guard.connections)
    yield _by_reason("http_refused_total", "HTTP clients that were cut off or refused.", guard.refused)


def _of_intake(intake: Intake) -> Iterator[Metric]:
    counters = intake.counters
    yield _gauge("ready", "1 if messages can be made durable.", not intake.fault)
    yield _counter("intake_events_total", "Events that were stored.", counters.events)
    yield _counter("intake_duplicates_total", "Messages that had been stored before.", counters.duplicates)
    yield _counter("intake_dead_letters_total", "Messages not read whole.", counters.dead_letters)
    yield _gauge("tail_readers", "Live tails that are being read.", intake.tail.readers)
    tables = {"raw_events": intake.commits, "dead_letters": intake.dead_commits}
    for name, kind, text, field in (
        ("lake_commits_total", "counter", "Commits to the lake.", "commits"),
        ("lake_commit_failures_total", "counter", "Commits that failed; devices send again.", "failures"),
        ("lake_rows_total", "counter", "Rows that were committed.", "rows"),
        ("lake_waiting_rows", "gauge", "Rows whose senders wait for a commit.", "waiting"),
        ("lake_commit_seconds", "gauge", "Duration of the latest commit.", "last_seconds"),
        ("lake_commit_timestamp_seconds", "gauge", "When the latest commit was made, Unix seconds.", "last"),
    ):
        samples = [({"table": table}, float(getattr(state, field))) for table, state in tables.items()]
        yield Metric(name, kind, text, samples)


def _of_maintenance(state: Maintained) -> Iterator[Metric]:
    yield _counter("lake_merges_total", "Merges of small files.", state.merges)
    yield _counter("lake_files_merged_total", "Files that were merged.", state.merged_files)
    yield _counter("lake_files_expired_total", "Files that retention removed.", state.expired_files)
    yield _gauge("maintenance_holder", "1 if this process is the one that maintains the lake.", state.holder)
    yield _gauge("retention_held", "1 if nothing expires because the clock has leapt.", bool(state.held))
    yield _gauge("maintenance_failing", "1 if the latest turn of maintenance failed.", bool(state.failing))


def _of_detection(state: Judged) -> Iterator[Metric]:
    yield _gauge("detection_holder", "1 if this process is the one that judges.", state.holder)
    yield _counter("detection_events_total", "Events that were judged.", state.events)
    yield _counter("detection_alerts_total", "Alerts that were raised.", state.alerts)
    yield _gauge("detection_failing", "1 if the latest attempt to judge failed.", bool(state.failing))


def _of_notifier(state: Told) -> Iterator[Metric]:
    yield _counter("notify_sent_total", "Messages that were delivered.", state.sent)
    yield _counter("notify_failures_total", "Attempts at a message that failed.", state.failures)
    yield _gauge("notify_failing", "Routes whose latest attempt failed.", len(state.failing))


def _counter(name: str, text: str, value: float, **labels: str) -> Metric:
    return Metric(name, "counter", text, [(labels, value)])


def _gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    return Metric(name, "gauge", text, [(labels, value)])


def _by_reason(name: str, text: str, counts: Mapping[str, int]) -> Metric:
    return Metric(
        name, "counter", text, [({"reason": reason}, float(n)) for reason, n in sorted(counts.items())]
    )
