"""A hub process does one half of the work, says so, and ends cleanly."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_rig import HOST, Hub
from vedette.hub.registry import Registry
from vedette.hub.settings import HubSettings, HubState
from vedette.hub.tls import ensure_pki


@pytest.fixture
def state(tmp_path: Path) -> HubState:
    made = HubState(tmp_path)
    made.save(HubSettings(host_names=(HOST,), bind="127.0.0.1"))
    ensure_pki(made.pki, [HOST])
    return made


@pytest.fixture(params=["gateway", "worker"])
def hub(request: pytest.FixtureRequest, state: HubState) -> Iterator[Hub]:
    made = Hub(request.param, state)
    made.start()
    yield made
    if made.runs:
        made.end(signal.SIGKILL)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_process_has_the_parts_of_its_role_and_leaves_no_trace(hub: Hub):
    """Only a gateway listens for devices, only a worker detects; each is listed while it runs."""
    hub.wait()
    gateway = hub.role == "gateway"
    assert f'"role":"{hub.role}"'.encode() in hub.ask("/healthz")
    assert listens(hub.mqtt) is gateway
    metrics = hub.ask("/metrics")
    assert (b"vedette_hub_connected " in metrics) is gateway
    assert (b"vedette_hub_detection_holder " in metrics) is not gateway
    registry = Registry(hub.state.registry_url)
    [listed] = registry.hubs.list()
    assert (listed.role, listed.name.rpartition(":")[2]) == (hub.role, str(hub.https))
    assert hub.end() == 0
    assert registry.hubs.list() == []
    registry.close()
