"""Prometheus' text format, and logs as JSON."""

import json
import logging
from pathlib import Path

import httpx
from fastapi import FastAPI
from lake_support import intake, message

from gateway_rig import running
from vedette.hub.api import metrics
from vedette.hub.api.metrics import Metric, render
from vedette.hub.guard import Guard
from vedette.hub.limits import HttpLimits
from vedette.hub.logs import JsonLines


async def test_metrics_tell_what_the_hub_did(tmp_path: Path):
    """One family a counter, with its table or reason as label."""
    async with intake(tmp_path / "lake") as stored, running(tmp_path) as rig:
        await stored.submit(message("ls", "id"))
        app = FastAPI()
        app.include_router(metrics.router(rig.gateway, stored))
        app.state.guard = guard = Guard(HttpLimits())
        guard.enter("192.0.2.1")
        guard.refused["request timeout"] += 1
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as client:
            answer = await client.get("/metrics")
    assert answer.headers["content-type"] == metrics.MEDIA_TYPE
    lines = answer.text.splitlines()
    assert "vedette_hub_ready 1" in lines
    assert 'vedette_hub_http_refused_total{reason="request timeout"} 1' in lines
    assert "vedette_hub_http_connections 1" in lines
    assert "vedette_hub_intake_events_total 2" in lines
    assert 'vedette_hub_lake_commits_total{table="raw_events"} 1' in lines
    assert "# TYPE vedette_hub_connections_total counter" in lines


async def test_metrics_are_named_as_prometheus_wants_it(tmp_path: Path):
    """Counters, and they alone, end in `_total`; units are base units; each has a sentence of help, once."""
    async with intake(tmp_path / "lake") as stored, running(tmp_path) as rig:
        app = FastAPI()
        app.include_router(metrics.router(rig.gateway, stored))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as client:
            lines = (await client.get("/metrics")).text.splitlines()
    kinds = dict(line.split()[2:4] for line in lines if line.startswith("# TYPE "))
    helps = [line.split(" ", 3)[2:] for line in lines if line.startswith("# HELP ")]
    assert [name for name, _ in helps] == list(kinds)
    assert all(text.endswith((".", "seconds")) or ";" in text for _, text in helps), helps
    assert all((kind == "counter") == name.endswith("_total") for name, kind in kinds.items())
    assert not [name for name in kinds if name.endswith(("_ms", "_minutes", "_kb", "_percent"))]


def test_labels_are_escaped():
    """Quotes, backslashes and line ends would end the label."""
    text = render([Metric("x", "gauge", "Text.", [({"reason": 'a "b"\\\n'}, 1.5)])])
    assert text.splitlines()[-1] == 'vedette_hub_x{reason="a \\"b\\"\\\\\\n"} 1.5'


def test_a_log_line_is_one_json_object():
    """With the exception, if there is one, and whatever stands in the message."""
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("vedette.hub", logging.ERROR, "", 0, "it %s", ("broke\n",), info)
    line = JsonLines().format(record)
    assert "\n" not in line
    shown = json.loads(line)
    assert (shown["level"], shown["logger"], shown["message"]) == ("ERROR", "vedette.hub", "it broke\n")
    assert "ValueError: two" in shown["exception"]
