"""`vedette agent probe`: what this machine offers, which source is used, and what would help."""

from pathlib import Path

import pytest
from spawning import needs_bpf

from vedette.agent.probe import Finding, probe
from vedette.agent.sources import bpf
from vedette.wire.twin import ProcessMode, Settings


def by_source(settings: Settings | None = None, collector: str = "Process") -> dict[str, Finding]:
    return {finding.source: finding for finding in probe(settings) if finding.collector == collector}


@pytest.mark.parametrize("collector", ["Process", "NetworkActivity"])
def test_one_source_at_most_is_used(collector: str):
    """Whatever the machine offers, a collector takes one."""
    used = [finding for finding in by_source(collector=collector).values() if finding.used]
    assert len(used) <= 1
    assert all(finding.available for finding in used)


def test_what_is_missing_has_a_remedy():
    """No finding leaves its reader without a next step."""
    for finding in probe():
        assert finding.detail
        assert finding.available or finding.remedy


class TestOnThisKernel:
    pytestmark = needs_bpf

    def test_the_best_source_is_used_and_the_others_say_why_not(self):
        """In automatic mode that is eBPF."""
        found = by_source()
        assert found["eBPF"].used
        assert "eBPF is better" in found["polling of /proc"].detail

    def test_the_mode_decides(self):
        """What the mode leaves out is available and not used."""
        found = by_source(Settings(process_mode=ProcessMode.POLLING))
        assert found["polling of /proc"].used
        assert "Process_Mode 3 leaves it out" in found["eBPF"].detail

    def test_every_obstacle_is_told_at_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        """Two things missing are two remedies, and the next source is used."""
        monkeypatch.setattr(bpf, "BTF", tmp_path / "vmlinux")
        monkeypatch.setattr(bpf, "KERNEL_FLOOR", (99, 0))
        found = by_source()
        assert not found["eBPF"].available
        assert "run a newer kernel; run a kernel built with CONFIG_DEBUG_INFO_BTF=y" in found["eBPF"].remedy
        assert found["netlink process connector"].used


class TestNetworkActivity:
    pytestmark = needs_bpf

    def test_the_ways_are_tried_on_a_device(self):
        """The first that works is used; of the others is told why not."""
        found = by_source(collector="NetworkActivity")
        assert list(found) == ["eBPF by tcx", "eBPF by packet socket", *list(found)[2:]]
        assert [finding.used for finding in found.values()].count(True) == 1
        others = [finding for finding in found.values() if finding.available and not finding.used]
        assert all("is better" in finding.detail for finding in others)

    def test_without_libbpf_the_capture_is_used(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        """And the remedy is told."""
        monkeypatch.setattr(bpf, "BTF", tmp_path / "vmlinux")
        found = by_source(collector="NetworkActivity")
        assert found["packet capture"].used
        assert "CONFIG_DEBUG_INFO_BTF" in found["eBPF by tcx"].remedy
